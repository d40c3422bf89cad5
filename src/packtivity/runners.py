"""Describes processes that run tasks, so that no other process is taken for them, on any machine and at any time.

And finds and ends the processes that have inherited a lock from a runner that died. Anybody who may read a file can lock
it, and pass the descriptor on. So a process is ended only if it must have inherited the lock from the runner that the file
names: the one who took the lock is gone, the process is of our own user (or the lock was taken by that runner), and it
began after the runner did.
"""

from __future__ import annotations

import fcntl
import os
import signal
import time
from contextlib import suppress
from functools import cache
from threading import Event
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def runner(pid: int | None = None) -> dict[str, Any]:
    """Return what identifies a process: its id, when it began, the boot of the machine, and the host."""
    start = began(pid) if pid is not None else _own_start(os.getpid())
    return {"pid": os.getpid() if pid is None else pid, "began": start, "boot": _boot(), "host": _host()}


@cache
def _own_start(pid: int) -> str:  # which is read twice for each task, and takes a tenth of a short one
    return began(pid)


@cache
def _host() -> str:
    return os.uname().nodename


@cache
def _boot() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return os.uname().nodename


def pids() -> list[int]:
    """Return the ids of all processes that the system shows; none where there is no ``/proc``."""
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []


def stat_fields(pid: int) -> list[bytes]:
    """Return what proc(5) says of a process after its name; nothing when there is none, or it is a zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return []
    return [] if fields[0] in b"ZX" else fields


def began(pid: int) -> str:
    """Return when a process began, in ticks since the machine did; empty when there is none, or it is a zombie."""
    fields = stat_fields(pid)
    return fields[19].decode() if fields else ""


def is_alive(found: Any) -> bool | None:
    """Return whether a process that :func:`runner` described lives; None when it was on another machine."""
    if not isinstance(found, dict) or not isinstance(found.get("pid"), int) or found["pid"] <= 0:
        return None
    if found.get("host") != _host():
        return None
    if found.get("boot") != _boot():
        return False  # the machine has been started anew since
    start = began(found["pid"])
    return bool(start) and start == found.get("began")


def is_of_this_boot(state: Mapping[str, Any]) -> bool:
    """Return whether the runner that wrote a state file ran on this machine as it is up now."""
    found = state.get("runner")
    return isinstance(found, dict) and (found.get("host"), found.get("boot")) == (_host(), _boot())


# --- ending them -----------------------------------------------------------------------------------------------


def end(find: Callable[[], list[int]], is_one: Callable[[int], bool], grace: float) -> int:
    """End processes: ``TERM``, then ``KILL`` for those that are left.

    :param find: returns those that live.
    :param is_one: looked at for each when nobody else can have its number any more.
    :param grace: seconds between the signals, and to wait after the last.
    :returns: how many there were.
    """
    first = living = find()
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in living:
            _send(pid, number, is_one)
        living = _until_gone(find, grace) if living else []
    return len(first)


def _until_gone(find: Callable[[], list[int]], seconds: float) -> list[int]:
    """Wait for processes that are not our children, polling ever less often; return those that are left."""
    deadline, pause, idle = time.monotonic() + seconds, 0.0005, Event()
    while (living := find()) and time.monotonic() < deadline:
        idle.wait(pause)
        pause = min(pause * 2, 0.05)
    return living


def _send(pid: int, number: signal.Signals, is_one: Callable[[int], bool]) -> None:
    """Send a signal to a process (or group), and not to another one that gets its number meanwhile; it may be gone already."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    except (AttributeError, OSError):  # not Linux 5.3, or a sandbox forbids it
        descriptor = -1
    try:
        if is_one(pid):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number) if descriptor < 0 else signal.pidfd_send_signal(descriptor, number)
    finally:
        if descriptor >= 0:
            os.close(descriptor)


# --- what has inherited a lock ---------------------------------------------------------------------------------


MARK = os.O_RDONLY | os.O_APPEND
"""How the descriptor is opened that tasks inherit, and no other one of a state file."""

_NO_FILES = ("/dev/", "/proc/", "/sys/", "/memfd:")


def end_heirs(descriptor: int, runner: Mapping[str, Any], grace: float, *, locked: bool = True) -> int:
    """End the processes that have inherited a lock.

    :param descriptor: of the locked file.
    :param runner: who took it, as the file says.
    :param grace: seconds between ``TERM`` and ``KILL``, and to wait after that.
    :param locked: false where there are no locks: then all count that have inherited a descriptor with :data:`MARK`.
    :returns: how many there were.
    """
    status = os.fstat(descriptor)

    def heirs() -> list[int]:
        takers = {pid: _taker(pid, status, locked) for pid in pids() if pid > 1 and pid != os.getpid()}
        if any(pid == taker for pid, taker in takers.items()):
            return []
        return [pid for pid, taker in takers.items() if taker >= 0 and _is_heir(pid, taker, runner)]

    return end(heirs, lambda pid: pid in heirs(), grace)


def _is_heir(pid: int, taker: int, runner: Mapping[str, Any]) -> bool:
    if _user(pid) != os.getuid() and (not taker or taker != runner.get("pid")):
        return False
    begun, earliest = began(pid), str(runner.get("began"))
    return not (begun.isdigit() and earliest.isdigit() and int(begun) < int(earliest))


def _user(pid: int) -> int | None:
    """Return the real user id of a process."""
    with suppress(OSError, ValueError, IndexError), open(f"/proc/{pid}/status", "rb") as file:
        for line in file:
            if line.startswith(b"Uid:"):
                return int(line.split()[1])
    return None


def _taker(pid: int, status: os.stat_result, locked: bool) -> int:
    """Return which process took the lock that a process has on a file.

    :returns: 0 when it is gone or unknown; -1 when the process has no descriptor of the file that counts.
    """
    folder = f"/proc/{pid}/fd"
    with suppress(OSError):
        for name in os.listdir(folder):
            with suppress(OSError):
                place = os.readlink(f"{folder}/{name}")
                if not place.startswith("/") or place.startswith(_NO_FILES):
                    continue
                taker = _taker_of(f"/proc/{pid}/fdinfo/{name}", status.st_ino, locked)
                if taker >= 0 and os.path.samestat(os.stat(f"{folder}/{name}"), status):
                    return taker
    return -1


def _taker_of(described: str, inode: int, locked: bool) -> int:
    """Return the process that took the lock on a descriptor (proc(5)); see :func:`_taker`.

    Where there are no locks, or the system does not say who has one, all descriptors with :data:`MARK` count.
    """
    with open(described, "rb") as file:
        lines = [line.split() for line in file]
    if not (locked and tells_locks()):
        flags = next((int(words[1], 8) for words in lines if words[:1] == [b"flags:"]), 0)
        return 0 if flags & (MARK | os.O_ACCMODE) == MARK else -1
    for words in lines:
        # lock:	1: FLOCK  ADVISORY  WRITE 4711 fe:00:123456 0 EOF
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
