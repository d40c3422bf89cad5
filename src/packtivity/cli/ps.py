"""The command ``packtivity ps``: this user's detached tasks on this machine."""

from __future__ import annotations

from time import localtime, strftime
from typing import TYPE_CHECKING, Any

from packtivity.backends.engines.local import LocalBackend, LocalProxy, Queue
from packtivity.backends.task_files import TaskFiles
from packtivity.cli.terminal import say, say_json
from packtivity.printable import printable

if TYPE_CHECKING:
    from packtivity.backends.status import TaskStatus
    from packtivity.backends.task_files import Entry
    from packtivity.cli.declarations import PsOptions
    from packtivity.errors import PacktivityError

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
    entries = {task_id: files.read(task_id) for task_id in ids}
    listed = [task_id for task_id, entry in entries.items() if entry is None or entry.engine == "local"]
    proxies = {
        task_id: LocalProxy(task_id, queue.host)
        for task_id in listed
        if (entry := entries[task_id]) is not None and entry.ending is None
    }
    statuses = dict(zip(proxies, LocalBackend().statuses([*proxies.values()]), strict=True))
    found = [_task(task_id, entries[task_id], statuses.get(task_id)) for task_id in listed]
    return sorted(found, key=lambda task: _ORDER.get(task["status"], 2))


def _task(task_id: str, entry: Entry | None, status: TaskStatus | PacktivityError | None) -> dict[str, Any]:
    ending = entry.ending if entry is not None else None
    about = entry.about if entry is not None else {}
    return {
        "id": task_id,
        "status": getattr(ending or status, "status", "unknown"),
        "submitted": entry.submitted if entry is not None else None,
        "name": about.get("name") or "",
        "workdir": about.get("workdir") or "",
    }
