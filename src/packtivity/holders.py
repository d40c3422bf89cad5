"""Finds and ends the processes that have inherited a lock from a runner that died.

Anybody who may read a file can lock it, and pass the descriptor on. So a process is ended only if it must have inherited
the lock from the runner that the file names: the one who took the lock is gone, the process is of our own user (or
the lock was taken by that runner), and it began after the runner did.
"""

from __future__ import annotations

import fcntl
import os
import signal
import time
from contextlib import suppress
from functools import cache
from threading import Event
from typing import TYPE_CHECKING, Any, NamedTuple

from packtivity.runners import began

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Holder(NamedTuple):
    """A process that has a descriptor of a locked file.

    :ivar taker: process id of the one who took the lock, 0 when it is gone; None when the system does not say.
    """

    pid: int
    taker: int | None


MARK = os.O_RDONLY | os.O_APPEND
"""How the descriptor is opened that tasks inherit where there are no locks, and no other descriptor of a claim."""

_NO_FILES = ("/dev/", "/proc/", "/sys/", "/memfd:")


def end(descriptor: int, runner: Mapping[str, Any], grace: float, *, locked: bool = True) -> int:
    """End the processes that have inherited a lock.

    :param descriptor: of the locked file.
    :param runner: who took it, as the file says.
    :param grace: seconds between ``TERM`` and ``KILL``, and to wait after that.
    :param locked: false where there are no locks: then all count that have inherited a descriptor with :data:`MARK`.
    :returns: how many there were.
    """
    status = os.fstat(descriptor)

    def heirs() -> list[int]:
        found = _holders(status, locked)
        if any(holder.taker == holder.pid for holder in found):
            return []
        return [holder.pid for holder in found if _is_heir(holder, runner)]

    first = living = heirs()
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in living:
            send(pid, number, lambda pid=pid: pid in heirs())  # type: ignore[misc]
        living = _until_gone(heirs, grace)
    return len(first)


def _until_gone(heirs: Callable[[], list[int]], seconds: float) -> list[int]:
    deadline, idle = time.monotonic() + seconds, Event()
    while (living := heirs()) and time.monotonic() < deadline:
        idle.wait(0.01)
    return living


def send(pid: int, number: signal.Signals, is_still_meant: Callable[[], bool]) -> None:
    """Send a signal to a process, and not to another one that gets its number meanwhile; it may be gone already.

    :param is_still_meant: looked at when nobody else can have the number any more.
    """
    if pid <= 1:
        return
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    except (AttributeError, OSError):  # not Linux 5.3, or a sandbox forbids it
        descriptor = -1
    try:
        if is_still_meant():
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number) if descriptor < 0 else signal.pidfd_send_signal(descriptor, number)
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _is_heir(holder: Holder, runner: Mapping[str, Any]) -> bool:
    if holder.pid <= 1 or holder.pid == os.getpid():
        return False
    ours = _user(holder.pid) == os.getuid()
    if not ours and (not holder.taker or holder.taker != runner.get("pid")):
        return False
    begun, earliest = began(holder.pid), str(runner.get("began"))
    return not (begun.isdigit() and earliest.isdigit() and int(begun) < int(earliest))


def _user(pid: int) -> int | None:
    """Return the real user id of a process."""
    with suppress(OSError, ValueError, IndexError), open(f"/proc/{pid}/status", "rb") as file:
        for line in file:
            if line.startswith(b"Uid:"):
                return int(line.split()[1])
    return None


def _holders(status: os.stat_result, locked: bool) -> list[Holder]:
    try:
        numbers = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []
    own = os.getpid()
    found = (_holder(number, status, locked) for number in numbers if number != own)
    return [holder for holder in found if holder is not None]


def _holder(pid: int, status: os.stat_result, locked: bool) -> Holder | None:
    folder = f"/proc/{pid}/fd"
    with suppress(OSError):
        for name in os.listdir(folder):
            with suppress(OSError):
                place = os.readlink(f"{folder}/{name}")
                if not place.startswith("/") or place.startswith(_NO_FILES):
                    continue
                described = f"/proc/{pid}/fdinfo/{name}"
                taker = _taker(described, status.st_ino) if locked else _marked(described)
                if taker != -1 and os.path.samestat(os.stat(f"{folder}/{name}"), status):
                    return Holder(pid, taker)
    return None


def _marked(described: str) -> int | None:
    """Return None for a descriptor that was opened with :data:`MARK`, else -1."""
    with open(described, "rb") as file:
        flags = next((int(line.split()[1], 8) for line in file if line.startswith(b"flags:")), 0)
    return None if flags & (MARK | os.O_ACCMODE) == MARK else -1


def _taker(described: str, inode: int) -> int | None:
    """Return the process that took the lock on a descriptor (proc(5)); -1 when it has none, None when the system does not say."""
    if not tells_locks():
        return None
    with open(described, "rb") as file:
        for line in file:
            # lock:	1: FLOCK  ADVISORY  WRITE 4711 fe:00:123456 0 EOF
            words = line.split()
            if words[:1] == [b"lock:"] and b"FLOCK" in words and words[-3].endswith(b":%d" % inode):
                return int(words[-4])
    return -1


@cache
def tells_locks() -> bool:
    """Return whether the system says of descriptors that they are locked: Linux does since 4.1."""
    try:
        with open(os.memfd_create("lock"), "wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            with open(f"/proc/self/fdinfo/{file.fileno()}", "rb") as described:
                return b"FLOCK" in described.read()
    except (AttributeError, OSError):
        return False
