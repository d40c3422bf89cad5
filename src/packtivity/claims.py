"""What state files of tasks say, to whoever looks: who runs a task, and what is left of one whose runner is dead.

See :mod:`packtivity.lease` for who writes them.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from threading import Event
from typing import TYPE_CHECKING, Any

from packtivity import heartbeat, holders
from packtivity.errors import StateError
from packtivity.files import closing_fd, open_to_read, parsed, read_json, try_lock
from packtivity.runners import is_alive

if TYPE_CHECKING:
    from packtivity.types import JSON

SUFFIX = ".state.json"
"""What names of state files end with."""

_LARGEST = 1 << 16
"""Bytes of a state file; ours have a few hundred."""


def content_of(path: str) -> bytes:
    """Return what is in a state file that another machine may have changed.

    :raises OSError: it cannot be read.
    """
    with closing_fd(open_to_read(path)) as descriptor:
        return content(descriptor, os.fstat(descriptor).st_size)


def content(descriptor: int, size: int) -> bytes:
    """Return what is in an open state file; nothing when it is larger than one can be."""
    return os.pread(descriptor, size, 0) if 0 < size <= _LARGEST else b""


def said(descriptor: int) -> dict[str, Any]:
    """Return what an open state file says; nothing when it says nothing."""
    found = parsed(content(descriptor, os.fstat(descriptor).st_size))
    return found if isinstance(found, dict) else {}


def read(path: str) -> JSON:
    """Return what a state file says; None when there is none, or it says nothing."""
    try:
        found = read_json(path)
    except StateError:
        return None
    return found if isinstance(found, dict) else None


def is_held(path: str) -> bool:
    """Return whether somebody, a runner or what is left of its task, has the lock of a state file."""
    try:
        descriptor = open_to_read(path)
    except OSError:
        return False
    with closing_fd(descriptor):
        return is_held_by(descriptor, path)


def is_held_by(descriptor: int, path: str) -> bool:
    """Return the same for a state file that was opened just now."""
    try:
        is_free = try_lock(descriptor, fcntl.LOCK_SH)
    except OSError:
        return True
    return not heartbeat.is_stale(path, descriptor) if is_free is None else not is_free


def _names_in(folder: str) -> list[str]:
    """Return what is in a directory; nothing when it is not there, or a link."""
    try:
        with closing_fd(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)) as descriptor:
            return os.listdir(descriptor)
    except OSError:
        return []


def of_task(record: str, task_id: str) -> str | None:
    """Return the path of the state file of a task, which lies where its record belongs; None when there is none."""
    folder = os.path.dirname(record)
    for name in _names_in(folder) if folder else ():
        if name.endswith(SUFFIX) and (read(f"{folder}/{name}") or {}).get("id") == task_id:
            return f"{folder}/{name}"
    return None


# --- what is left of it ----------------------------------------------------------------------------------------


def is_orphan(state: JSON) -> bool:
    """Return whether the runner that a state file names is known to be dead."""
    return isinstance(state, dict) and is_alive(state.get("runner")) is False


def end_orphans(path: str) -> None:
    """End what is left of a task whose runner was killed; one whose runner lives, or is elsewhere, goes on."""
    if is_orphan(read(path)):
        end_holders(path)


def end_orphans_in(folder: str) -> list[str]:
    """End what is left of tasks whose runners were killed, by the state files of a folder.

    :returns: the state files that are held all the same: of tasks that somebody still runs.
    """
    held = [path for name in _names_in(folder) if name.endswith(SUFFIX) and is_held(path := f"{folder}/{name}")]
    for path in held:
        if all(_is_still_an_orphan(path, pause) for pause in (0, 0.01, 0.02)):
            end_holders(path)
    return [path for path in held if is_held(path)]


def _is_still_an_orphan(path: str, pause: float) -> bool:
    Event().wait(pause)  # who has just got the lock has not said so yet
    return is_orphan(read(path))


def end_holders(path: str, grace: float = 1.0) -> int:
    """End every process but this one that has the lock of ``path``: what is left of a task whose runner was killed.

    Who has the file open without its lock, because he asks how the task is or waits for it, is left alone. So is
    everybody when the one who took the lock still has it: what the file says of its runner may be forged.

    :returns: how many there were.
    """
    try:
        descriptor = open_to_read(path)
    except OSError:
        return 0
    with closing_fd(descriptor):
        found = said(descriptor).get("runner")
        locked = try_lock(descriptor, fcntl.LOCK_SH) is not None
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        return holders.end(descriptor, found if isinstance(found, dict) else {}, grace, locked=locked)
