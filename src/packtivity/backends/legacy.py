"""What an earlier version of this package has left of tasks, for their proxies: read, never written or given away again.

A release later nobody has such proxies any more, and this goes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from packtivity import settings
from packtivity.backends.observe import from_answer
from packtivity.backends.task_files import read_mapping
from packtivity.errors import ProxyError
from packtivity.files import read_json
from packtivity.record import is_outcome

if TYPE_CHECKING:
    from packtivity.backends.proxies import TaskProxy
    from packtivity.backends.status import TaskStatus

_FOLDERS = ("done", "active", "queue")


def record_of(proxy: TaskProxy) -> str | None:
    """Return where the record of a task is that is not known to be the asker's own; None where nobody knows."""
    if proxy.record is not None:
        return proxy.record
    path = _celery_ticket(proxy).get("record") or _spooled(proxy, "done").get("record")
    return path if isinstance(path, str) and path.endswith(f".{proxy.task_id}.outcome.json") else None


def ending_of(proxy: TaskProxy) -> TaskStatus | None:
    """Return how a task went that its engine does not know; None where nothing is known.

    :raises ProxyError: it was given to an earlier version, which is not there any more.
    """
    found = _spooled(proxy, "done")
    if is_outcome(found):
        return replace(from_answer(found), verified=False)
    path = record_of(proxy)
    ticket = path is not None and read_json(path.removesuffix(".outcome.json") + ".task.json") is not None
    if ticket or _celery_ticket(proxy) or any(_spooled(proxy, folder) for folder in _FOLDERS):
        raise ProxyError(
            f"the task {proxy.task_id} was given to an earlier version of packtivity, which had not run it to its end",
            hint="Submit it again.",
        )
    return None


def _spooled(proxy: TaskProxy, folder: str) -> dict[str, Any]:
    """Return the file of a detached task in one of the folders of its machine."""
    if proxy.place_name != "host":
        return {}
    return read_mapping(f"{settings.state_dir()}/local/{proxy.place}/{folder}/{proxy.task_id}")


def _celery_ticket(proxy: TaskProxy) -> dict[str, Any]:
    """Return what the client of a Celery task noted of it."""
    return read_mapping(f"{settings.state_dir()}/tickets/{proxy.task_id}.json")
