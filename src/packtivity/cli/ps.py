"""The command ``packtivity ps``: this user's detached tasks on this machine."""

from __future__ import annotations

from typing import Any

import click

from packtivity.cli import options
from packtivity.cli.command import command
from packtivity.cli.printing import say, say_json
from packtivity.printable import printable

_ALL = click.option("-a", "--all", "everything", is_flag=True, help="List tasks that are over, too.")


@command("packtivity-ps", _ALL, options.document_format, options.debug, options.version)
def ps(everything: bool, format: str) -> None:
    """List the tasks that the backend local runs for you on this machine, and those that wait."""
    from packtivity.backends.local import LocalBackend

    LocalBackend().supervise()
    found = _tasks(everything)
    if format == "json":
        say_json(found)
        return
    for task in found:
        line = f"{task['id']}  {task['status']!s:9}  {_time(task['submitted'])}  {task['name']}  {task['workdir']}"
        say(printable(line))


def _tasks(everything: bool) -> list[dict[str, Any]]:
    from packtivity.backends.spool import ACTIVE, DONE, QUEUE, Spool

    spool = Spool()
    folders = ((ACTIVE, "running"), (QUEUE, "waiting"), *(((DONE, ""),) if everything else ()))
    return [_task(spool, name, status) for folder, status in folders for name in spool.names(folder)]


def _task(spool: Any, name: str, status: str) -> dict[str, Any]:
    from packtivity.backends.spool import mapping

    entry = spool.entry(name)
    task = mapping(entry.get("task"))
    readwrite = mapping(task.get("state")).get("readwrite")
    workdir = mapping(readwrite[0]).get("path") if readwrite and isinstance(readwrite, list) else None
    return {
        "id": name,
        "status": entry.get("status") or status or "unknown",
        "submitted": entry.get("submitted"),
        "name": mapping(task.get("metadata")).get("name") or entry.get("name") or "",
        "workdir": workdir or str(entry.get("record") or "").partition("/_packtivity/")[0],
    }


def _time(seconds: Any) -> str:
    from time import localtime, strftime

    return strftime("%Y-%m-%d %H:%M:%S", localtime(seconds)) if isinstance(seconds, (int, float)) else "-"
