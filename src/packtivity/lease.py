"""The right to run a task: whoever has locked its state file runs it, and nobody else does.

The lock (flock) hangs on a descriptor that every process of the task inherits. So it is held as long as anything of
the task lives, even when the program that started it was killed, and it is free the moment everything is gone. What
is left of a task whose runner is dead is ended by the next one who wants to run it.

The file itself says what is known of a running task. One that is there and not locked is of a runner that died.

A task can do what it likes to the directory: move the file away, put another one or a link in its place. So what we
have opened we know by its descriptor, and what is to be found by name is first looked at.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from contextlib import suppress
from threading import Event
from typing import TYPE_CHECKING, Any

from packtivity import claims, files, runners
from packtivity.errors import TaskCancelled
from packtivity.files import is_named, open_file, open_folder, try_lock, unwritable, write_at

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


_POLL = (0.01, 0.5)
"""Seconds between looks at a lock that somebody has: at first, and at most."""


class Lease:
    """A state file that is locked by us.

    :ivar descriptor: what the lock hangs on, and every process of the task has to inherit; for reading only where locks can
        be had so.
    :ivar left: what the file said when it was found, nothing unless a runner died with it.
    :ivar token: where there are no locks, what the file says as long as it is ours; see :mod:`packtivity.claims`.
    """

    def __init__(
        self, path: str, folder: int, descriptor: int, writer: int, token: str | None, left: dict[str, Any]
    ) -> None:
        self.path, self.descriptor, self.token, self.left = path, descriptor, token, left
        self._folder, self._writer = folder, writer
        self._parent = os.lstat(os.path.dirname(os.path.dirname(path)) or ".")
        self._gone = False
        self._name = os.path.basename(path)

    def write(self, state: Mapping[str, Any]) -> None:
        """Say how the task is.

        :raises StateError: it cannot be written.
        """
        said = {**state, "runner": runners.runner(), **({"token": self.token} if self.token else {})}
        try:
            if not self.is_ours():
                raise FileExistsError(errno.EEXIST, "another runner has taken the task over")
            content = json.dumps(said).encode()
            os.ftruncate(self._writer, os.pwrite(self._writer, content, 0))
        except OSError as error:
            raise unwritable(self.path, error) from error

    def is_ours(self) -> bool:
        """Return whether nobody else has taken it over, which only happens where there are no locks."""
        if self.token is None:
            return True
        with suppress(OSError):
            return claims.said_at(self.path).get("token") in (self.token, None)
        return True

    def beat(self) -> bool:
        """Say that its runner lives; false when somebody else has taken it over.

        :raises OSError: that cannot be said, because the file is not there, for example.
        """
        found = claims.said_at(self.path).get("token")
        if found is None:
            raise FileNotFoundError(errno.ENOENT, "the claim says nothing", self.path)
        if found == self.token:
            os.utime(self.path, follow_symlinks=False)  # by name, because the lease may be given back meanwhile
        return bool(found == self.token)

    def become(
        self,
        content: bytes,
        path: str,
        also: str | None = None,
        *,
        sync: bool,
        stays: Callable[[], bool] | None = None,
    ) -> bool:
        """Put another file in the place of the state file, which is there as a whole or not at all; the lock is kept.

        It is a new file, which no process but this one has ever had open.

        :param path: in the directory of the state file.
        :param also: a name of its own that it gets first.
        :param sync: force it to disk before it gets a name; see :func:`packtivity.files.write_whole`.
        :param stays: asked whether what has the first of the names is to keep it; nothing is written then.
        :returns: whether it was written.
        :raises StateError: it cannot be written, or it could not be found by its path.
        """
        names = tuple(os.path.basename(name) for name in (also, path) if name)
        try:
            self._keep_place()
            write_at(self._folder, names, content, sync=sync, stays=stays)
        except files.Stays:
            return False
        except OSError as error:
            raise unwritable(path, error) from error
        self._take_away()
        return True

    def _keep_place(self) -> None:
        """See that the directory is where it was. One that the task has removed with everything else is made again.

        :raises OSError: something else is in its place, or above it.
        """
        path = os.path.dirname(self.path)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(self._folder), os.lstat(path)):
                return
        parent = os.path.dirname(path) or "."
        if not os.path.samestat(self._parent, os.lstat(parent)):
            raise NotADirectoryError(errno.ENOTDIR, f"{parent} has been replaced by another directory", parent)
        folder = open_folder(path)
        os.close(self._folder)
        self._folder = folder

    def _take_away(self) -> None:
        """Take the file away, or what the task has put in its place; not another one that somebody runs the task by."""
        if self._gone or not self.is_ours():
            return
        self._gone = True
        with suppress(OSError):
            if is_named(self._writer, self._name, self._folder) or not claims.is_held(self.path):
                os.unlink(self._name, dir_fd=self._folder)

    def leave(self) -> None:
        """Free the lock and let the file stay, for the next runner to find."""
        for descriptor in {self.descriptor, self._writer, self._folder} - {-1}:
            os.close(descriptor)
        self.descriptor = self._writer = self._folder = -1

    def give_back(self) -> None:
        """Take the file away and free the lock, even if a process that the task has left behind inherited it."""
        if self.descriptor < 0:
            return
        self._take_away()
        with suppress(OSError):
            fcntl.flock(self.descriptor, fcntl.LOCK_UN)
        self.leave()


def take(path: str, *, cancelled: Callable[[], bool] = bool) -> Lease:
    """Return the lease on a state file, waiting while another runner has it.

    :param cancelled: asked while waiting.
    :raises TaskCancelled: it was cancelled.
    :raises StateError: the file cannot be made.
    """
    pause, idle = _POLL[0], Event()
    while (lease := attempt(path)) is None:
        claims.end_orphans(path)
        if cancelled():
            raise TaskCancelled("the task was cancelled while it waited for another run of it to end")
        idle.wait(pause)
        pause = min(pause * 1.5, _POLL[1])
    return lease


def attempt(path: str) -> Lease | None:
    """Return the lease on a state file; None when somebody has it.

    :raises StateError: the file cannot be made.
    """
    name = os.path.basename(path)
    opened: list[int] = []
    try:
        opened.append(open_folder(os.path.dirname(path)))
        writer, is_new = _open(name, opened[0])
        opened.append(writer)
        is_ours, left, token = _lock(writer, opened), claims.said(writer), None
        if is_ours is None:
            token = os.urandom(8).hex()
            is_ours = is_new or _taken_over(path, writer, token)
        # else the one who had it took the file away in between
        if is_ours and is_named(writer, name, opened[0]):
            lease = Lease(path, opened[0], opened[-1], writer, token, left)
            opened.clear()
            return lease
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        for each in opened:
            os.close(each)
    return None


def _open(name: str, folder: int) -> tuple[int, bool]:
    """Open a state file, and say whether it was made for that."""
    for _ in range(9):  # whoever had it may take it away in between
        try:
            return os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666, dir_fd=folder), True
        except FileExistsError:
            with suppress(FileNotFoundError):
                return open_file(name, os.O_RDWR, folder), False  # a task may have made a link to another file
    raise FileNotFoundError(errno.ENOENT, "other programs keep creating and deleting it")


def _lock(writer: int, opened: list[int]) -> bool | None:
    """Lock a file; false when somebody else has it, None where there are no locks.

    :param opened: gets the descriptor for reading that the lock hangs on, where locks can be had so.
    """
    with suppress(OSError):
        opened.append(os.open(f"/proc/self/fd/{writer}", runners.MARK | os.O_CLOEXEC))
        with suppress(OSError):
            return try_lock(opened[-1], fcntl.LOCK_EX)
        os.close(opened.pop())  # NFS gives locks only to who may write
    return try_lock(writer, fcntl.LOCK_EX)


def _taken_over(path: str, writer: int, token: str) -> bool:
    """Take over the claim of a runner that does not live any more, where there are no locks; takes seconds."""
    if not claims.is_stale(path, writer):
        return False
    claim = json.dumps({**claims.said(writer), "runner": runners.runner(), "token": token}).encode()
    os.ftruncate(writer, os.pwrite(writer, claim, 0))
    Event().wait(claims.SETTLE)
    return claims.said_at(path).get("token") == token
