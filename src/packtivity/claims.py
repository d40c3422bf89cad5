"""What state files of tasks say, to whoever looks: who runs a task, and what is left of one whose runner is dead.

See :mod:`packtivity.lease` for who writes them.

Where file locks do not work, as on Lustre without ``flock``, who has a claim says every few seconds that he lives. Each claim
says whose it is by a token. Whoever wants to take it over waits until his own clock has seen no change of it for :data:`STALE`
seconds, writes a token of his own, and has it if that is still there after :data:`SETTLE` seconds (Fischer's algorithm). A
runner that could not say for :data:`LOST` seconds that it lives, or finds another token, ends its task. So no two run at once
as long as clocks run at the same speed and a runner is not stopped (``SIGSTOP``) while its task goes on.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from threading import Event
from typing import TYPE_CHECKING, Any

from packtivity import runners
from packtivity.files import closing_fd, open_to_read, parsed, try_lock

if TYPE_CHECKING:
    from packtivity.types import JSON

SUFFIX = ".state.json"
"""What names of state files end with."""

BEAT, LOST, STALE, SETTLE = 10.0, 30.0, 60.0, 5.0
"""Seconds; see above."""

_LARGEST = 1 << 16
"""Bytes of a state file; ours have a few hundred."""

_seen: dict[str, tuple[tuple[int, ...], float]] = {}


def said(descriptor: int) -> dict[str, Any]:
    """Return what an open state file says; nothing when it says nothing, or is larger than one can be."""
    size = os.fstat(descriptor).st_size
    found = parsed(os.pread(descriptor, size, 0) if 0 < size <= _LARGEST else b"")
    return found if isinstance(found, dict) else {}


def said_at(path: str) -> dict[str, Any]:
    """Return the same for a state file that another machine may have changed.

    :raises OSError: it cannot be read.
    """
    with closing_fd(open_to_read(path)) as descriptor:
        return said(descriptor)


def read(path: str) -> dict[str, Any] | None:
    """Return what a state file says; None when there is none, or it says nothing."""
    try:
        return said_at(path) or None
    except OSError:
        return None


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
    return not is_stale(path, descriptor) if is_free is None else not is_free


def is_stale(path: str, descriptor: int) -> bool:
    """Return whether this process has seen for :data:`STALE` seconds that nobody has changed a claim.

    :param descriptor: of the claim, which was opened just now: a network's file system looks at it then.
    """
    found, now = os.fstat(descriptor), time.monotonic()
    as_it_is = (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)
    if _seen.get(path, (None,))[0] != as_it_is:
        _seen[path] = as_it_is, now
    return now - _seen[path][1] >= STALE


def _state_files(folder: str) -> list[str]:
    """Return the paths of the state files in a directory; nothing when it is not there, or a link."""
    try:
        with closing_fd(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)) as descriptor:
            return [f"{folder}/{name}" for name in os.listdir(descriptor) if name.endswith(SUFFIX)]
    except OSError:
        return []


def of_task(record: str, task_id: str) -> str | None:
    """Return the path of the state file of a task, which lies where its record belongs; None when there is none."""
    paths = _state_files(os.path.dirname(record))
    return next((path for path in paths if (read(path) or {}).get("id") == task_id), None)


# --- what is left of it ----------------------------------------------------------------------------------------


def is_orphan(state: JSON) -> bool:
    """Return whether the runner that a state file names is known to be dead."""
    return isinstance(state, dict) and runners.is_alive(state.get("runner")) is False


def end_orphans(path: str) -> None:
    """End what is left of a task whose runner was killed; one whose runner lives, or is elsewhere, goes on."""
    for pause in (0, 0.01, 0.02):  # who has just got the lock has not said so yet
        Event().wait(pause)
        if not is_orphan(read(path)):
            return
    end_holders(path)


def end_orphans_in(folder: str) -> list[str]:
    """End what is left of tasks whose runners were killed, by the state files of a folder.

    :returns: the state files that are held all the same: of tasks that somebody still runs.
    """
    held = [path for path in _state_files(folder) if is_held(path)]
    for path in held:
        end_orphans(path)
    return [path for path in held if is_held(path)]


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
        return runners.end_heirs(descriptor, found if isinstance(found, dict) else {}, grace, locked=locked)
