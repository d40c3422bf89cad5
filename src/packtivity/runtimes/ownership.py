"""Lets a task write as another user than the caller, and gives what it made back to the caller afterwards.

Only where a daemon or root runs containers: there the user of an image is a user of this machine. Rootless Podman
maps the user inside to the caller, and Apptainer's tasks are the caller: nothing is to be done there.

What is lent and what was there before is kept in the caller's state directory for as long as the task runs, so that the
next task in a directory finishes what was interrupted.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import struct
import sys
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from stat import S_IMODE, S_ISDIR, S_IXUSR
from time import time
from typing import TYPE_CHECKING

from packtivity import files, folders, settings
from packtivity.errors import PacktivityError
from packtivity.runtimes import give_back
from packtivity.runtimes.containers import inside, outside
from packtivity.statecontexts.posixfs_context import METADIR
from packtivity.types import Limits, Mount

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from packtivity.runtimes.base import Host, Runtime
    from packtivity.runtimes.give_back import Report, Survey
    from packtivity.types import Completed, Execution

    RunHelper = Callable[[Execution], Completed]


@dataclass(frozen=True, slots=True)
class Lent:
    """A file or directory that a task may write to for a while.

    :ivar mode: type and permissions as they were.
    :ivar access: its access control list as it was, in hexadecimal; None for none.
    """

    path: str
    device: int
    inode: int
    mode: int
    access: str | None

    @property
    def rights(self) -> int:
        """Return what the task may do: 4 read, 2 write, 1 enter or execute."""
        return 7 if S_ISDIR(self.mode) or self.mode & S_IXUSR else 6

    @property
    def group_mode(self) -> int:
        """Return its permissions when they are lent to its group."""
        return S_IMODE(self.mode) | self.rights << 3

    @property
    def stored(self) -> bytes | None:
        """Return its access control list as it was."""
        return None if self.access is None else bytes.fromhex(self.access)


@dataclass(frozen=True, slots=True)
class Loan:
    """What one task has borrowed, and when (seconds since the epoch), as it is kept in the state directory."""

    tops: list[str]
    task: int
    before: Survey
    lent: list[Lent] = field(default_factory=list)
    began: float = field(default_factory=time)


def task_uid(runtime: Runtime, execution: Execution, image_uid: Callable[[], int]) -> int | None:
    """Return the user of this machine that the task is; ``None`` where what it writes is the caller's at once.

    :param image_uid: returns the user id of the image's own user, which is asked of the tool only where it matters.
    """
    user, host = execution.user, runtime.host
    if runtime.is_child or host.rootless or user == "caller":
        return None
    uid = image_uid() if execution.as_image_says else int(str(user).partition(":")[0])
    return None if uid == host.uid else uid


@contextmanager
def shared(
    runtime: Runtime, execution: Execution, task: int | None, run: RunHelper, say: Callable[[str], None]
) -> Iterator[Execution]:
    """Let the task's user write in the read-write directories, and give back what it made when the block is over.

    Yields what to run: where the file system knows no access control lists, the task is in the caller's group.

    :param task: as :func:`task_uid` returned it.
    :param run: runs an execution in the task's image.
    :raises StateError: a directory cannot be read.
    """
    if task is None:
        yield execution
        return
    tops, host = _writable(execution), runtime.host
    helper = _Helper(host, execution, run, say)
    helper.finish_interrupted(tops)
    try:
        with (
            give_back.surveyed(tops, host.uid) as before,
            _kept(Loan(tops, task, before, _plan(tops, host) if task else [])) as (loan, path),
        ):
            try:
                has_lists = {_lend(lent, task) for lent in loan.lent}
                yield replace(execution, group=host.gid) if False in has_lists else execution
            finally:
                # Who borrowed the same directories goes on writing to them: the last one takes back what all have borrowed.
                if not path:
                    helper.finish_interrupted(tops, loan)
                elif _has_others(path, tops):
                    helper.return_files(loan, is_last=False)
    finally:
        helper.finish_interrupted(tops)


# --- lending ---------------------------------------------------------------------------------------------------


def _plan(tops: list[str], host: Host) -> list[Lent]:
    """Return what is to be lent: the directories, and what the caller has in them and has not closed to all others."""
    found = []
    for path in (path for top in tops for path in _contents(top, host)):
        with suppress(OSError):
            status, access = os.stat(path, follow_symlinks=False), None
            if status.st_uid == host.uid:
                with suppress(OSError):  # it has no list
                    access = os.getxattr(path, ACCESS, follow_symlinks=False).hex()
                found.append(Lent(path, status.st_dev, status.st_ino, status.st_mode, access))
    return found


def _contents(top: str, host: Host) -> Iterator[str]:
    yield top
    waiting = [top]
    while waiting:
        with suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                found = entry.stat(follow_symlinks=False)
                kept = found.st_uid != host.uid or not found.st_mode & 0o077 or entry.name == METADIR
                if kept or not (entry.is_dir(follow_symlinks=False) or entry.is_file(follow_symlinks=False)):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                yield entry.path


@contextmanager
def _opened(lent: Lent) -> Iterator[str]:
    """Give a name of what was lent that leads to nothing else, whatever has taken its place since.

    :raises OSError: something else has taken its place.
    """
    descriptor = os.open(lent.path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if (status.st_dev, status.st_ino) != (lent.device, lent.inode):
            raise FileNotFoundError(errno.ENOENT, "something else is in its place", lent.path)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _lend(lent: Lent, task: int) -> bool:
    """Let a user write to it by an access control list; by its group, and return false, where there are no lists."""
    with suppress(OSError), _opened(lent) as path:
        try:
            os.setxattr(path, ACCESS, allowing(lent.stored, lent.mode, task, lent.rights))
        except OSError as error:
            if error.errno == errno.ENOTSUP:
                os.chmod(path, lent.group_mode)
                return False
    return True


def _take_back(lent: Lent) -> None:
    with suppress(OSError), _opened(lent) as path:
        as_lent = S_IMODE(os.stat(path).st_mode) == lent.group_mode
        if lent.stored is not None:
            os.setxattr(path, ACCESS, lent.stored)
        else:
            with suppress(OSError):  # the file system knows no lists
                os.removexattr(path, ACCESS)
        if as_lent:  # else the task has changed it on purpose
            os.chmod(path, S_IMODE(lent.mode))


def _writable(execution: Execution) -> list[str]:
    """Return the read-write directories, as they are called in here and in the task."""
    location = settings.current().workdir_location
    return [
        mount.destination
        for mount in execution.mounts
        if mount.kind == "bind" and not mount.readonly and inside(mount.source, location) == mount.destination
    ]


# --- access control lists --------------------------------------------------------------------------------------

# Read and written as extended attributes, so that no tool has to be installed for them. The format is that of Linux
# (linux/posix_acl_xattr.h): a version, then a tag, rights and an id for each entry, sorted.
ACCESS = "system.posix_acl_access"
_VERSION, _NOBODY = 2, 0xFFFFFFFF
_USER_OBJ, _USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 1, 2, 4, 8, 16, 32
_HEADER, _ENTRY = struct.Struct("<I"), struct.Struct("<HHI")


def entries(stored: bytes) -> dict[tuple[int, int], int]:
    """Return the rights in a list, by tag and by user or group id."""
    return {(tag, who): rights for tag, rights, who in _ENTRY.iter_unpack(stored[_HEADER.size :])}


def allowing(stored: bytes | None, mode: int, user: int, rights: int) -> bytes:
    """Return a list that gives a user rights and changes nothing for anybody else.

    :param stored: the list as it is; without one it is made of the file's ``mode``.
    """
    own, group, other = (mode >> shift & 7 for shift in (6, 3, 0))
    known = (
        entries(stored)
        if stored
        else {(_USER_OBJ, _NOBODY): own, (_GROUP_OBJ, _NOBODY): group, (_OTHER, _NOBODY): other}
    )
    known[_USER, user] = known.get((_USER, user), 0) | rights
    known[_MASK, _NOBODY] = 0
    for (tag, _), given in known.items():
        if tag in (_USER, _GROUP_OBJ, _GROUP):
            known[_MASK, _NOBODY] |= given
    packed = (_ENTRY.pack(tag, given, who) for (tag, who), given in sorted(known.items()))
    return _HEADER.pack(_VERSION) + b"".join(packed)


# --- giving back -----------------------------------------------------------------------------------------------

_FOLDER = "/.packtivity"
"""Where a helper container has the program that gives files back."""


@dataclass(frozen=True, slots=True)
class _Helper:
    """Gives back as root: of this machine, or in a container; of its image nothing is trusted or needed."""

    host: Host
    execution: Execution
    run: RunHelper
    say: Callable[[str], None]

    def finish_interrupted(self, tops: list[str], *own: Loan) -> None:
        """Take back what was lent and give back what was made, once no task with these directories runs any more."""
        if _has_others("", tops):
            return
        idle = [(path, loan) for path, loan, _ in _loans(tops)]
        # A later loan has noted what an earlier one had lent: the latest is taken back first.
        loans = sorted((*own, *(loan for _, loan in idle)), key=lambda loan: loan.began, reverse=True)
        for lent in (lent for loan in loans for lent in reversed(loan.lent)):
            _take_back(lent)
        for loan in loans:
            self.return_files(loan)
        for path, _ in idle:
            with suppress(OSError):
                os.unlink(path)

    def return_files(self, loan: Loan, *, is_last: bool = True) -> None:
        """Give back what the task made, and say what has not become the caller's, unless somebody else tries later."""
        tops = [top for top in loan.tops if os.path.isdir(top)]
        if next(give_back.foreign(tops, loan.before, self.host.uid), None) is None:
            return
        request: give_back.Request = {
            "tops": tops, "before": loan.before, "task": loan.task, "uid": self.host.uid, "gid": self.host.gid
        }  # fmt: skip
        mounts = tuple(Mount(outside(top, settings.current().workdir_location), top) for top in tops)
        is_root = self.host.uid == 0
        report = give_back.give_back(request) if is_root else _by_root(self.execution, self.run, request, mounts)
        if report is None:
            self.say(f"what the task made could not be given back: it belongs to user {loan.task}; try --user caller")
            return
        if report["removed"]:
            self.say(f"device nodes that the task made have been removed: {', '.join(report['removed'][:10])}")
        if report["left"] and is_last:
            count, named = len(report["left"]), ", ".join(report["left"][:3])
            self.say(f"{count} files still belong to others ({named}); --user caller avoids that")


def hand_over(task: int, host: Host, execution: Execution, run: RunHelper, paths: list[str]) -> None:
    """Make a task the owner of copies in a private folder: libraries take a grid proxy only from its owner.

    Where that does not work, they may be read by all who reach them: in that folder, nobody but the task.

    :param run: runs an execution in the task's image.
    """
    if paths and host.uid == 0:
        give_back.give_files(paths, task)
    elif paths:
        folder = os.path.dirname(paths[0])
        _by_root(execution, run, {"files": paths, "uid": task}, (Mount(folder, folder),))
    for path in paths:
        if os.stat(path).st_uid != task:
            os.chmod(path, 0o644)


def _by_root(
    execution: Execution, run: RunHelper, request: Mapping[str, object], mounts: tuple[Mount, ...]
) -> Report | None:
    """Give files as root of a container; ``None`` where that does not work."""
    argv, own = _own_python()
    helper = replace(
        execution,
        argv=argv[1:],
        options=(*execution.options, f"--entrypoint={argv[0]}"),
        stdin=json.dumps(request).encode(),
        mounts=(*mounts, *own),
        env={},
        pass_env=(),
        files=(),
        user="0:0",
        workdir="/",
        network="none",
        limits=Limits(),
        timeout=300.0,
        tty=False,
    )
    done = run(helper)
    with suppress(ValueError, IndexError):
        report: Report = json.loads(done.tail.splitlines()[-1])
        return report
    return None


def _own_python() -> tuple[tuple[str, ...], tuple[Mount, ...]]:
    """Return how to start this Python in a container, by the dynamic loader and libraries of this machine."""
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
        mapped = {line.split(maxsplit=5)[5].rstrip("\n") for line in maps if "/" in line}
    found = {os.path.basename(path): path for path in sorted(mapped) if ".so" in path and "/lib" in path}
    # A program names a library by the first part of its version only: libz.so.1, which is libz.so.1.2.13.
    libraries = {re.sub(r"(\.so\.\d+)\..*", r"\1", name): path for name, path in found.items()} | found
    loader = next((name for name in libraries if name.startswith(("ld-linux", "ld-musl", "ld64"))), "")
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    python = f"{_FOLDER}/python/bin/{version}"
    places = {
        python: os.path.realpath(sys.executable),
        f"{_FOLDER}/python/lib/{version}": os.path.dirname(os.path.realpath(os.__file__)),
        f"{_FOLDER}/give_back.py": os.path.realpath(give_back.__file__),
        **{f"{_FOLDER}/lib/{name}": path for name, path in libraries.items() if name.startswith(("lib", "ld"))},
    }
    mounts = tuple(Mount(source, destination, readonly=True) for destination, source in places.items())
    call = ("--library-path", f"{_FOLDER}/lib", python, "-I", "-S", f"{_FOLDER}/give_back.py")
    return (f"{_FOLDER}/lib/{loader}", *call), mounts


# --- what is kept ----------------------------------------------------------------------------------------------


@contextmanager
def _kept(loan: Loan) -> Iterator[tuple[Loan, str]]:
    """Keep what is lent in the state directory, locked, for as long as the block lasts; where it can be kept."""
    path, descriptor = "", -1
    with suppress(OSError, PacktivityError):
        key = hashlib.sha256(repr(loan.tops).encode()).hexdigest()[:16]
        path = os.path.join(folders.state("loans"), f"{key}-{os.urandom(4).hex()}.json")
        files.write_json(path, asdict(loan), mode=0o600)
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield loan, path
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _loans(tops: list[str]) -> Iterator[tuple[str, Loan, bool]]:
    """Yield the loans of some of these directories, with their files and whether their task still runs."""
    with suppress(OSError, PacktivityError):
        folder = folders.state("loans", make=False)
        for name in sorted(os.listdir(folder)):
            path = os.path.join(folder, name)
            with suppress(OSError, ValueError, TypeError, KeyError), open(path, encoding="utf-8") as file:
                document = json.load(file)
                loan = Loan(**{**document, "lent": [Lent(**lent) for lent in document["lent"]]})
                if set(loan.tops) & set(tops):
                    yield path, loan, not files.lock(file.fileno())


def _has_others(path: str, tops: list[str]) -> bool:
    return any(runs and other != path for other, _, runs in _loans(tops))
