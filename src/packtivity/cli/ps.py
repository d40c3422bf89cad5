"""The command ``packtivity ps``: this user's detached tasks on this machine."""

from __future__ import annotations

from time import localtime, strftime
from typing import TYPE_CHECKING, Any

from packtivity.backends.engines.local import LocalBackend, LocalProxy, Queue
from packtivity.backends.task_files import TaskFiles
from packtivity.cli.terminal import say, say_json
from packtivity.printable import printable

if TYPE_CHECKING:
    from packtivity.cli.declarations import PsOptions

_ORDER = {"running": 0, "waiting": 1, "lost": 1, "unclear": 1}


def list_tasks(options: PsOptions) -> None:
    """Carry out ``packtivity ps``."""
    found = tasks(everything=options.everything)
    if options.format == "json":
        say_json(found)
        return
    for task in found:
        submitted = task["submitted"]
        is_known = isinstance(submitted, (int, float))
        when = strftime("%Y-%m-%d %H:%M:%S", localtime(submitted)) if is_known else "-"
        say(printable(f"{task['id']}  {task['status']!s:9}  {when}  {task['name']}  {task['workdir']}"))


def tasks(*, everything: bool) -> list[dict[str, Any]]:
    """Return the tasks that run, those that wait and, if wanted, those that are over."""
    files, queue = TaskFiles(), Queue()
    ids = files.ids() if everything else queue.names()
    entries = {task_id: entry for task_id in ids if (entry := files.read(task_id)) is None or entry.engine == "local"}
    going_on = [task_id for task_id, entry in entries.items() if entry is not None and entry.ending is None]
    proxies = [LocalProxy(task_id, queue.host) for task_id in going_on]
    statuses = dict(zip(going_on, LocalBackend().statuses(proxies), strict=True))
    found = []
    for task_id, entry in entries.items():
        about = entry.about if entry is not None else {}
        found.append(
            {
                "id": task_id,
                "status": getattr((entry and entry.ending) or statuses.get(task_id), "status", "unknown"),
                "submitted": entry.submitted if entry is not None else None,
                "name": about.get("name") or "",
                "workdir": about.get("workdir") or "",
            }
        )
    return sorted(found, key=lambda task: _ORDER.get(task["status"], 2))
