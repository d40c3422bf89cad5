"""The command ``packtivity ps``: this user's detached tasks on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from packtivity.cli import options
from packtivity.cli.command import command
from packtivity.cli.printing import say, say_json
from packtivity.printable import printable

if TYPE_CHECKING:
    from packtivity.backends.task_files import Entry

_ALL = click.option("-a", "--all", "everything", is_flag=True, help="List tasks that are over, too.")


@command("packtivity-ps", _ALL, options.document_format, options.debug, options.version)
def ps(everything: bool, format: str) -> None:
    """List the tasks that the backend local runs for you on this machine, and those that wait."""
    found = _tasks(everything=everything)
    if format == "json":
        say_json(found)
        return
    for task in found:
        line = f"{task['id']}  {task['status']!s:9}  {_time(task['submitted'])}  {task['name']}  {task['workdir']}"
        say(printable(line))


def _tasks(*, everything: bool) -> list[dict[str, Any]]:
    """Return the tasks that run, those that wait and, if wanted, those that are over."""
    from packtivity.backends.engines.local import LocalBackend, LocalProxy, Queue
    from packtivity.backends.task_files import TaskFiles

    files, queue = TaskFiles(), Queue()
    ids = files.ids() if everything else queue.names()
    entries = {task_id: files.read(task_id) for task_id in ids}
    listed = [task_id for task_id, entry in entries.items() if entry is None or entry.engine == "local"]
    proxies = {
        task_id: LocalProxy(task_id, queue.host)
        for task_id in listed
        if (entry := entries[task_id]) is not None and entry.ending is None
    }
    answers = dict(zip(proxies, LocalBackend().statuses([*proxies.values()]), strict=True))
    found = [_task(task_id, entries[task_id], answers.get(task_id)) for task_id in listed]
    order = {"running": 0, "waiting": 1, "lost": 1, "unclear": 1}
    return sorted(found, key=lambda task: order.get(task["status"], 2))


def _task(task_id: str, entry: Entry | None, answer: Any) -> dict[str, Any]:
    ending = entry.ending if entry is not None else None
    about = entry.about if entry is not None else {}
    return {
        "id": task_id,
        "status": getattr(ending or answer, "status", "unknown"),
        "submitted": entry.submitted if entry is not None else None,
        "name": about.get("name") or "",
        "workdir": about.get("workdir") or "",
    }


def _time(seconds: Any) -> str:
    from time import localtime, strftime

    return strftime("%Y-%m-%d %H:%M:%S", localtime(seconds)) if isinstance(seconds, (int, float)) else "-"
