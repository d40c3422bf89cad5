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
import select
from contextlib import suppress
from threading import Event
from typing import TYPE_CHECKING, Any

from packtivity import files, heartbeat
from packtivity.claims import (
    SUFFIX,
    content,
    content_of,
    end_holders,
    end_orphans,
    end_orphans_in,
    is_held,
    is_held_by,
    is_orphan,
    of_task,
    read,
    said,
)
from packtivity.errors import TaskCancelled
from packtivity.files import (
    is_named,
    open_file,
    open_folder,
    parsed,
    try_lock,
    unwritable,
    write_at,
)
from packtivity.holders import MARK
from packtivity.runners import is_alive, runner

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from packtivity.types import JSON

__all__ = [
    "SUFFIX",
    "Lease",
    "attempt",
    "end_holders",
    "end_orphans",
    "end_orphans_in",
    "is_alive",
    "is_held",
    "is_held_by",
    "of_task",
    "read",
    "runner",
    "said",
    "take",
]

_POLL = (0.01, 0.5)
"""Seconds between looks at a lock that somebody has: at first, and at most."""


class Lease:
    """A state file that is locked by us.

    :ivar descriptor: what the lock hangs on, for reading only where locks can be had so.
    :ivar held: what every process of the task has to inherit.
    :ivar left: what the file said when it was found, None unless a runner died with it.
    :ivar token: where there are no locks, what the file says as long as it is ours; see :mod:`packtivity.heartbeat`.
    """

    def __init__(self, path: str, folder: int, descriptor: int, writer: int, token: str | None) -> None:
        self.path, self.token = path, token
        self.descriptor = descriptor
        self._folder, self._writer = folder, writer
        self._parent = os.lstat(os.path.dirname(os.path.dirname(path)) or ".")
        self._gone = False
        self._name = os.path.basename(path)
        self._size = os.fstat(writer).st_size
        self.left = parsed(content(writer, self._size))
        self._all_gone, self._somebody = os.pipe()

    @property
    def held(self) -> tuple[int, ...]:
        """Return the descriptors that every process of the task has to inherit."""
        return (self.descriptor, self._somebody)

    def write(self, state: Mapping[str, Any]) -> None:
        """Say how the task is.

        :raises StateError: it cannot be written.
        """
        said = {**state, "runner": runner(), **({"token": self.token} if self.token else {})}
        try:
            if not self.is_ours():
                raise FileExistsError(errno.EEXIST, "another runner has taken the task over")
            self._fill(json.dumps(said).encode())
        except OSError as error:
            raise unwritable(self.path, error) from error

    def is_ours(self) -> bool:
        """Return whether nobody else has taken it over, which only happens where there are no locks."""
        if self.token is None:
            return True
        with suppress(OSError):
            return heartbeat.token_in(content_of(self.path)) in (self.token, None)
        return True

    def beat(self) -> bool:
        """Say that its runner lives; false when somebody else has taken it over.

        :raises OSError: that cannot be said, because the file is not there, for example.
        """
        found = heartbeat.token_in(content_of(self.path))
        if found is None:
            raise FileNotFoundError(errno.ENOENT, "the claim says nothing", self.path)
        if found == self.token:
            os.utime(self.path, follow_symlinks=False)  # by name, because the lease may be given back meanwhile
        return found == self.token

    def become(
        self,
        content: bytes,
        path: str,
        also: str | None = None,
        *,
        sync: bool,
        renew: bool = True,
        stays: Callable[[], bool] | None = None,
    ) -> bool:
        """Put another file in the place of the state file, which is there as a whole or not at all; the lock is kept.

        It is a new file, which no process but this one has ever had open. Only after a short task (neither ``sync`` nor
        ``renew``) it may be the state file itself, if nobody else can have a way to it: that costs a fraction.

        :param path: in the directory of the state file.
        :param also: a name of its own that it gets first.
        :param sync: force it to disk before it gets a name; see :func:`packtivity.files.write_whole`.
        :param renew: make a new file in any case.
        :param stays: asked whether what has the first of the names is to keep it; nothing is written then.
        :returns: whether it was written.
        :raises StateError: it cannot be written, or it could not be found by its path.
        """
        names = tuple(os.path.basename(name) for name in (also, path) if name)
        try:
            self._keep_place()
            new = renew or sync or self.token or (stays is not None and stays()) or not self._is_ours_alone()
            if new or not self._renamed(content, names):
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

    def _is_ours_alone(self) -> bool:
        """Return whether the file has its name and no other one, and nobody else has a descriptor of it.

        Who has inherited one has our pipe open, too. One who has closed that on purpose can only read, and who may
        open the file anew could do that to any other one that we make.
        """
        if self._gone or self.descriptor == self._writer:
            return False
        if self._somebody >= 0:
            os.close(self._somebody)
            self._somebody = -1
        poller = select.poll()
        poller.register(self._all_gone, 0)
        return bool(poller.poll(0)) and self._is_named(self._name)

    def _is_named(self, *names: str) -> bool:
        """Return whether these are all the names of the file."""
        own = os.fstat(self._writer)
        try:
            found = [os.stat(name, dir_fd=self._folder, follow_symlinks=False) for name in names]
        except FileNotFoundError:
            return False
        return own.st_nlink == len(names) and all(os.path.samestat(own, each) for each in found)

    def _renamed(self, content: bytes, names: tuple[str, ...]) -> bool:
        """Make the state file itself into the other file; false when somebody has come in between."""
        self._fill(content)
        first, *others = names
        with suppress(FileNotFoundError):
            os.unlink(first, dir_fd=self._folder)
        with suppress(FileNotFoundError):
            os.rename(self._name, first, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        with suppress(OSError):  # no hard links here, for example
            for name in others:
                files.give_name(self._writer, name, self._folder)
        self._gone = self._is_named(*names)
        return self._gone

    def _fill(self, content: bytes) -> None:
        view, at = memoryview(content), 0
        while at < len(content):
            at += os.pwrite(self._writer, view[at:], at)
        if len(content) < self._size:
            os.ftruncate(self._writer, len(content))
        self._size = len(content)

    def _take_away(self) -> None:
        """Take the file away, or what the task has put in its place; not another one that somebody runs the task by."""
        if self._gone or not self.is_ours():
            return
        self._gone = True
        with suppress(OSError):
            if is_named(self._writer, self._name, self._folder) or not is_held(self.path):
                os.unlink(self._name, dir_fd=self._folder)

    def leave(self) -> None:
        """Free the lock and let the file stay, for the next runner to find."""
        for descriptor in {self.descriptor, self._writer, self._folder, self._all_gone, self._somebody} - {-1}:
            os.close(descriptor)
        self.descriptor = self._writer = self._folder = self._all_gone = self._somebody = -1

    def give_back(self) -> None:
        """Take the file away and free the lock, even if a process that the task has left behind inherited it."""
        if self.descriptor < 0:
            return
        self._take_away()
        with suppress(OSError):
            fcntl.flock(self.descriptor, fcntl.LOCK_UN)
        self.leave()


def take(path: str, *, cancelled: Callable[[], bool] = bool, waiting: Callable[[JSON], None] | None = None) -> Lease:
    """Return the lease on a state file, waiting while another runner has it.

    :param cancelled: asked while waiting.
    :param waiting: called once, with what the file says, when there is somebody to wait for.
    :raises TaskCancelled: it was cancelled.
    :raises StateError: the file cannot be made.
    """
    lease = attempt(path)
    if lease is not None:
        return lease
    pause, idle, seen = _POLL[0], Event(), 0
    while True:
        state = read(path)
        if waiting is not None:
            waiting(state)
            waiting = None
        seen = seen + 1 if is_orphan(state) else 0
        if seen >= 4:  # who has just got the lock has not said so yet
            end_holders(path)
        if cancelled():
            raise TaskCancelled("the task was cancelled while it waited for another run of it to end")
        idle.wait(pause)
        lease = attempt(path)
        if lease is not None:
            return lease
        pause = min(pause * 1.5, _POLL[1])


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
        descriptor, left, token = _locked(writer, opened), None, None
        if descriptor is None:
            left, token = said(writer), heartbeat.new_token()
            descriptor = _claimed(path, writer, token, opened, is_new=is_new)
        # else the one who had it took the file away in between
        if descriptor >= 0 and is_named(writer, name, opened[0]):
            lease = Lease(path, opened[0], descriptor, writer, token)
            lease.left = left or lease.left
            return lease
    except OSError as error:
        _close(opened)
        raise unwritable(path, error) from error
    _close(opened)
    return None


def _close(opened: list[int]) -> None:
    for descriptor in opened:
        os.close(descriptor)


def _open(name: str, folder: int) -> tuple[int, bool]:
    """Open a state file, and say whether it was made for that."""
    for _ in range(9):  # whoever had it may take it away in between
        try:
            return os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666, dir_fd=folder), True
        except FileExistsError:
            with suppress(FileNotFoundError):
                return open_file(name, os.O_RDWR, folder), False  # a task may have made a link to another file
    raise FileNotFoundError(errno.ENOENT, "other programs keep creating and deleting it")


def _locked(writer: int, opened: list[int]) -> int | None:
    """Lock a file by a descriptor for reading, which goes to the list; -1 when somebody else has it, None without locks.

    NFS gives locks only to who may write.
    """
    with suppress(OSError):
        reader = os.open(f"/proc/self/fd/{writer}", os.O_RDONLY | os.O_CLOEXEC)
        opened.append(reader)
        with suppress(OSError):
            return _reading(try_lock(reader, fcntl.LOCK_EX), reader)
        os.close(opened.pop())
    return _reading(try_lock(writer, fcntl.LOCK_EX), writer)


def _reading(is_ours: bool | None, descriptor: int) -> int | None:
    return None if is_ours is None else descriptor if is_ours else -1


def _claimed(path: str, writer: int, token: str, opened: list[int], *, is_new: bool) -> int:
    """Have a claim where there are no locks, and return what tasks inherit; -1 when somebody else has it."""
    while len(opened) > 2:
        os.close(opened.pop())
    if not is_new and not _taken_over(path, writer, token):
        return -1
    with suppress(OSError):
        opened.append(os.open(f"/proc/self/fd/{writer}", MARK | os.O_CLOEXEC))
    return opened[-1]


def _taken_over(path: str, writer: int, token: str) -> bool:
    """Take over the claim of a runner that does not live any more, where there are no locks; takes seconds."""
    if not heartbeat.is_stale(path, writer):
        return False
    claim = json.dumps({**said(writer), "runner": runner(), "token": token}).encode()
    os.ftruncate(writer, os.pwrite(writer, claim, 0))
    Event().wait(heartbeat.SETTLE)
    return heartbeat.token_in(content_of(path)) == token
