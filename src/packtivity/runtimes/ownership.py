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
import sys
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from stat import S_IMODE, S_ISDIR, S_IXUSR
from typing import TYPE_CHECKING

from packtivity import files, folders, settings
from packtivity.errors import PacktivityError
from packtivity.runtimes import acl, give_back
from packtivity.runtimes.containers import inside
from packtivity.statecontexts.posixfs_context import METADIR
from packtivity.types import Limits, Mount

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from packtivity.runtimes.base import Host, Runtime
    from packtivity.runtimes.give_back import Report, Survey
    from packtivity.types import Completed, Execution

    RunHelper = Callable[[Execution], Completed]

_FOLDER = "/.packtivity"
"""Where a helper container has the program that gives files back."""


@dataclass(frozen=True, slots=True)
class Lent:
    """A file or directory that a task may write to for a while.

    :ivar access: its access control list as it was, in hexadecimal; None for none.
    :ivar was: its mode as it was, and ``now``, as it is while it is lent.
    """

    path: str
    device: int
    inode: int
    was: int
    now: int
    access: str | None


@dataclass(frozen=True, slots=True)
class Loan:
    """What one task has borrowed, as it is kept in the state directory."""

    tops: list[str]
    task: int
    before: Survey
    lent: list[Lent] = field(default_factory=list)


def task_uid(runtime: Runtime, execution: Execution, image_uid: Callable[[], int]) -> int | None:
    """Return the user of this machine that the task is; ``None`` where what it writes is the caller's at once.

    :param image_uid: returns the user id of the image's own user, which is asked of the tool only where it matters.
    """
    user, host = execution.user, runtime.host
    if not runtime.changes_user or host.rootless or user == "caller":
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
    tops = _writable(execution)
    helper = _Helper(runtime, execution, run, say)
    _finish_interrupted(tops, runtime.host, helper)
    loan = Loan(tops, task, give_back.survey(tops, runtime.host.uid), _plan(tops, runtime.host) if task else [])
    with _kept(loan) as path:
        try:
            for lent in loan.lent:
                _lend(lent, task)
            has_lists = all(acl.is_known(top) for top in tops)
            yield execution if has_lists else replace(execution, group=runtime.host.gid)
        finally:
            # Who borrowed the same directories goes on writing to them: the last one takes back what all have borrowed.
            if any(_others(path, tops)):
                _give_back(loan, runtime.host, helper)
            else:
                _finish(loan, runtime.host, helper)
                _finish_interrupted(tops, runtime.host, helper)


# --- lending ---------------------------------------------------------------------------------------------------


def _plan(tops: list[str], host: Host) -> list[Lent]:
    """Return what is to be lent: the directories, and what the caller has in them and has not closed to all others."""
    found = []
    for path in (path for top in tops for path in _contents(top, host)):
        with suppress(OSError):
            status = os.stat(path, follow_symlinks=False)
            if status.st_uid != host.uid:
                continue
            stored = acl.read(path)
            now = S_IMODE(status.st_mode) | _rights(status.st_mode) << 3
            access = None if stored is None else stored.hex()
            found.append(Lent(path, status.st_dev, status.st_ino, S_IMODE(status.st_mode), now, access))
    return found


def _rights(mode: int) -> int:
    return 7 if S_ISDIR(mode) or mode & S_IXUSR else 6


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
    """Give a name of what was lent that leads to nothing else, whatever has taken its place since."""
    descriptor = os.open(lent.path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if (status.st_dev, status.st_ino) == (lent.device, lent.inode):
            yield f"/proc/self/fd/{descriptor}"
        else:
            yield os.devnull + "/replaced"  # leads nowhere
    finally:
        os.close(descriptor)


def _lend(lent: Lent, task: int) -> None:
    """Let a user write to it by an access control list; by its group, where the file system knows no lists."""
    with suppress(OSError), _opened(lent) as path:
        mode = os.stat(path).st_mode
        stored = None if lent.access is None else bytes.fromhex(lent.access)
        try:
            acl.write(path, acl.allowing(stored, mode, {task: _rights(mode)}))
        except OSError as error:
            if error.errno == errno.ENOTSUP:
                os.chmod(path, lent.now)


def _take_back(lent: Lent) -> None:
    with suppress(OSError), _opened(lent) as path:
        as_lent = S_IMODE(os.stat(path).st_mode) == lent.now
        acl.write(path, None if lent.access is None else bytes.fromhex(lent.access))
        if as_lent:  # else the task has changed it on purpose
            os.chmod(path, lent.was)


def _writable(execution: Execution) -> list[str]:
    """Return the read-write directories, as they are called in here and in the task."""
    location = settings.current().workdir_location
    return [
        mount.destination
        for mount in execution.mounts
        if mount.kind == "bind" and not mount.readonly and inside(mount.source, location) == mount.destination
    ]


# --- giving back -----------------------------------------------------------------------------------------------


def _finish_interrupted(tops: list[str], host: Host, helper: _Helper) -> None:
    for path, loan in _interrupted(tops):
        _finish(loan, host, helper)
        with suppress(OSError):
            os.unlink(path)


def _finish(loan: Loan, host: Host, helper: _Helper) -> None:
    for lent in reversed(loan.lent):
        _take_back(lent)
    _give_back(loan, host, helper)


def _give_back(loan: Loan, host: Host, helper: _Helper) -> None:
    tops = [top for top in loan.tops if os.path.isdir(top)]
    request: give_back.Request = {
        "tops": tops, "before": loan.before, "task": loan.task, "uid": host.uid, "gid": host.gid
    }  # fmt: skip
    if next(give_back.foreign(tops, loan.before, host.uid), None) is not None:
        helper.report(give_back.give_back(request) if host.uid == 0 else helper.by_root(request), loan.task)


@dataclass(frozen=True, slots=True)
class _Helper:
    """Root, in a container of the task's image that runs this machine's Python: nothing of the image is trusted or needed."""

    runtime: Runtime
    execution: Execution
    run: RunHelper
    say: Callable[[str], None]

    def by_root(self, request: give_back.Request) -> Report | None:
        """Give files back as root of a container; ``None`` where that does not work."""
        argv, mounts = _own_python()
        mounted = {mount.destination for mount in self.execution.mounts if mount.destination in request["tops"]}
        helper = replace(
            self.execution,
            argv=argv[1:],
            options=(*self.execution.options, f"--entrypoint={argv[0]}"),
            stdin=json.dumps(request).encode(),
            mounts=(*(m for m in self.execution.mounts if m.destination in mounted), *mounts),
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
        done = self.run(helper)
        with suppress(ValueError, IndexError):
            report: Report = json.loads(done.tail.splitlines()[-1])
            return report
        return None

    def report(self, report: Report | None, task: int) -> None:
        """Say what has not become the caller's."""
        if report is None:
            self.say(f"what the task made could not be given back: it belongs to user {task}; try --user caller")
            return
        for path in report["removed"][:10]:
            self.say(f"{path} was a device node and has been removed")
        if report["left"]:
            named = ", ".join(report["left"][:3])
            self.say(f"{len(report['left'])} files still belong to others ({named}); --user caller avoids that")


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
def _kept(loan: Loan) -> Iterator[str]:
    """Keep what is lent in the state directory, locked, for as long as the block lasts; where it can be kept."""
    path, descriptor = "", -1
    with suppress(OSError, PacktivityError):
        key = hashlib.sha256(repr(loan.tops).encode()).hexdigest()[:16]
        path = os.path.join(folders.state("loans"), f"{key}-{os.urandom(4).hex()}.json")
        files.write_json(path, asdict(loan), mode=0o600)
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield path
    finally:
        others = path and any(_others(path, loan.tops))
        if path and not others:
            with suppress(OSError):
                os.unlink(path)
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


def _others(path: str, tops: list[str]) -> Iterator[str]:
    return (other for other, _, runs in _loans(tops) if runs and other != path)


def _interrupted(tops: list[str]) -> list[tuple[str, Loan]]:
    return [(path, loan) for path, loan, runs in _loans(tops) if not runs]
