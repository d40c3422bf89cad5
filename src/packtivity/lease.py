"""The right to run a task: whoever has locked its state file runs it, and nobody else does.

The lock (flock) hangs on a descriptor that every process of the task inherits. So it is held as long as anything of
the task lives, even when the program that started it was killed, and it is free the moment everything is gone. What
is left of a task whose runner is dead is ended by the next one who wants to run it.

The file itself says what is known of a running task. One that is there and not locked is of a runner that died.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import time
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any

from packtivity.errors import StateError, TaskCancelled
from packtivity.files import lock, name_also, read_json, rename, write_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from packtivity.types import JSON

SUFFIX = ".state.json"
"""What names of state files end with."""

_POLL = (0.01, 0.5)
"""Seconds between looks at a lock that somebody has: at first, and at most."""


class Lease:
    """A state file that is locked by us.

    :ivar descriptor: what the lock hangs on.
    :ivar left: what the file said when it was found, None unless a runner died with it.
    """

    def __init__(self, path: str, descriptor: int, left: JSON) -> None:
        self.path = path
        self.descriptor = descriptor
        self.left = left
        self._gone = False
        self._size = os.fstat(descriptor).st_size

    def write(self, state: Mapping[str, Any]) -> None:
        """Say how the task is.

        :raises StateError: it cannot be written.
        """
        content = json.dumps({**state, "runner": runner()}).encode()
        try:
            self._fill(content)
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def become(self, content: bytes, path: str, also: str | None = None, *, sync: bool) -> None:
        """Make the state file into another file that is there as a whole or not at all; the lock is kept.

        A file that is renamed costs a fraction of one that is made and another one that is taken away: ext4 looks
        through all that were taken away lately before it makes a new one.

        :param also: a name of its own that it gets first.
        :param sync: force it to disk before it gets a name; see :func:`packtivity.files.write_whole`.
        :raises StateError: it cannot be written.
        """
        if self._gone:  # something went wrong after it had got its first name
            for name in filter(None, (also, path)):
                write_whole(name, content, sync=sync)
            return
        try:
            self._fill(content)
            if sync:
                os.fsync(self.descriptor)
            rename(self.path, also or path, sync=sync or also is not None)
        except OSError as error:
            raise _unwritable(also or path, error) from error
        self._gone = True
        if also is not None:
            name_also(also, path, content, sync=sync)

    def _fill(self, content: bytes) -> None:
        view, at = memoryview(content), 0
        while at < len(content):
            at += os.pwrite(self.descriptor, view[at:], at)
        if len(content) < self._size:
            os.ftruncate(self.descriptor, len(content))
        self._size = len(content)

    def leave(self) -> None:
        """Free the lock and let the file stay, for the next runner to find."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def give_back(self) -> None:
        """Take the file away and free the lock, even if a process that the task has left behind inherited it."""
        if self.descriptor < 0:
            return
        if not self._gone:
            with suppress(OSError):
                os.unlink(self.path)
        with suppress(OSError):
            fcntl.flock(self.descriptor, fcntl.LOCK_UN)
        os.close(self.descriptor)
        self.descriptor = -1


def take(path: str, *, cancelled: Callable[[], bool] = bool, waiting: Callable[[JSON], None] | None = None) -> Lease:
    """Return the lease on a state file, waiting while another runner has it.

    :param cancelled: asked while waiting.
    :param waiting: called once, with what the file says, when there is somebody to wait for.
    :raises TaskCancelled: it was cancelled.
    :raises StateError: the file cannot be made.
    """
    lease = _try(path)
    if lease is not None:
        return lease
    from threading import Event

    pause, idle, seen = _POLL[0], Event(), 0
    while True:
        state = read(path)
        if waiting is not None:
            waiting(state)
            waiting = None
        seen = seen + 1 if _is_orphan(state) else 0
        if seen >= 4:  # who has just got the lock has not said so yet
            end_holders(path)
        if cancelled():
            raise TaskCancelled("the task was cancelled while it waited for another run of it to end")
        idle.wait(pause)
        lease = _try(path)
        if lease is not None:
            return lease
        pause = min(pause * 1.5, _POLL[1])


def _try(path: str) -> Lease | None:
    descriptor = _open(path)
    try:
        # else the one who had it took the file away in between
        ours = lock(descriptor) and _is_same(descriptor, path)
    except OSError as error:
        os.close(descriptor)
        raise _unwritable(path, error) from error
    if not ours:
        os.close(descriptor)
        return None
    return Lease(path, descriptor, _parsed(_content(descriptor)))


def _open(path: str) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC  # a task may have made a link to another file
    try:
        try:
            return os.open(path, flags, 0o666)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            return os.open(path, flags, 0o666)
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: str, error: OSError) -> StateError:
    return StateError(
        f"{path} cannot be written: {error.strerror}", hint="Is the disk full, or the directory read-only?"
    )


def _is_same(descriptor: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _content(descriptor: int) -> bytes:
    size = os.fstat(descriptor).st_size
    return os.read(descriptor, size) if size else b""


def _parsed(content: bytes) -> JSON:
    try:
        return json.loads(content) if content else None
    except (ValueError, RecursionError):
        return None  # its writer died in the middle


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
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


def of_task(record: str, task_id: str) -> str | None:
    """Return the path of the state file of a task, which lies where its record belongs; None when there is none."""
    folder = os.path.dirname(record)
    try:
        names = os.listdir(folder) if folder else []
    except OSError:
        return None
    for name in names:
        if name.endswith(".state.json") and (read(f"{folder}/{name}") or {}).get("id") == task_id:
            return f"{folder}/{name}"
    return None


# --- who runs it -----------------------------------------------------------------------------------------------


def runner(pid: int | None = None) -> dict[str, Any]:
    """Return what tells a process apart from every other one, on this machine and until it is started anew."""
    pid = os.getpid() if pid is None else pid
    began = _began(pid) if pid != os.getpid() else _own_began(pid)
    return {"pid": pid, "began": began, "boot": _boot(), "host": _host()}


@cache
def _host() -> str:
    return os.uname().nodename


@cache
def _boot() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return os.uname().nodename


@cache
def _own_began(pid: int) -> str:
    return _began(pid)


def _began(pid: int) -> str:
    """Return when a process began, in ticks since the machine did; empty when there is none, or only its corpse."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in b"ZX" else fields[19].decode()


def is_alive(found: Any) -> bool | None:
    """Return whether a process that :func:`runner` described lives; None when it was on another machine."""
    if not isinstance(found, dict) or not isinstance(found.get("pid"), int) or found["pid"] <= 0:
        return None
    if found.get("host") != _host():
        return None
    if found.get("boot") != _boot():
        return False  # the machine has been started anew since
    began = _began(found["pid"])
    return bool(began) and began == found.get("began")


def is_of_this_boot(state: Mapping[str, Any]) -> bool:
    """Return whether the runner that wrote a state file ran on this machine as it is up now."""
    found = state.get("runner")
    return isinstance(found, dict) and (found.get("host"), found.get("boot")) == (_host(), _boot())


def _is_orphan(state: JSON) -> bool:
    return isinstance(state, dict) and is_alive(state.get("runner")) is False


def end_orphans(path: str) -> None:
    """End what is left of a task whose runner was killed; one whose runner lives, or is elsewhere, goes on."""
    if _is_orphan(read(path)):
        end_holders(path)


def end_orphans_in(folder: str) -> list[str]:
    """End what is left of tasks whose runners were killed, by the state files of a folder.

    :returns: the state files that are held all the same: of tasks that somebody still runs.
    """
    try:
        found = [f"{folder}/{name}" for name in os.listdir(folder) if name.endswith(SUFFIX)]
    except OSError:
        return []
    held = [path for path in found if is_held(path)]
    for path in held:
        if all(_is_still_an_orphan(path, pause) for pause in (0, 0.01, 0.02)):
            end_holders(path)
    return [path for path in held if is_held(path)]


def _is_still_an_orphan(path: str, pause: float) -> bool:
    from threading import Event

    Event().wait(pause)  # who has just got the lock has not said so yet
    return _is_orphan(read(path))


def end_holders(path: str, grace: float = 1.0) -> int:
    """End every process but this one that has the lock of ``path``: what is left of a task whose runner was killed.

    Who has the file open without its lock, because he asks how the task is or waits for it, is left alone.

    :returns: how many there were.
    """
    found = living = _holders(path)
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in living:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
        living = _until_gone(path, grace)
    return len(found)


def _until_gone(path: str, seconds: float) -> list[int]:
    from threading import Event

    deadline, idle = time.monotonic() + seconds, Event()
    while (living := _holders(path)) and time.monotonic() < deadline:
        idle.wait(0.01)
    return living


def _holders(path: str) -> list[int]:
    real, own = os.path.realpath(path), os.getpid()
    try:
        numbers = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []
    return [number for number in numbers if number != own and _has_lock(number, real)]


def _has_lock(pid: int, path: str) -> bool:
    folder = f"/proc/{pid}/fd"
    with suppress(OSError):
        for name in os.listdir(folder):
            with suppress(OSError):
                if os.readlink(f"{folder}/{name}") == path and _is_locked(f"/proc/{pid}/fdinfo/{name}"):
                    return True
    return False


def _is_locked(described: str) -> bool:
    """Return whether a lock hangs on a descriptor; where the system does not say that of any, it does."""
    if not _tells_locks():
        return True
    with open(described, "rb") as file:
        return b"FLOCK" in file.read()


@cache
def _tells_locks() -> bool:
    """Return whether the system says of descriptors that they are locked: Linux does since 4.1."""
    try:
        with open(os.memfd_create("lock"), "wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            with open(f"/proc/self/fdinfo/{file.fileno()}", "rb") as described:
                return b"FLOCK" in described.read()
    except (AttributeError, OSError):
        return False
