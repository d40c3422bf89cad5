"""Makes sure that what we start ends with us, even when we are killed by ``SIGKILL``.

Before a container tool starts, a small shell program (``reaper.sh``) in a session of its own reads
from a pipe that only we hold. When the pipe closes without a last word, it kills the tool's process group, removes the
container until it stays removed, and deletes the private folder of the run. A signal that we live through closes the
same pipe, so there is one way to the end. The tool itself starts through a short shell program that first writes
down its process id and when it began; the reaper leaves a mark in the folder before it looks, so a tool that comes too
late does not start. The folder is named beside the task's lock: :func:`await_end` lets the next runner of the task wait
until all is cleaned up.

A reaper reads the name of a container, that its private folder is created, and then ``done``; when its input ends in
between, it cleans up. After ``done`` it waits for the next name: a process that runs many tasks starts as many reapers
as it has tasks at the same time.

Other users of the machine may write beside the folder, name processes as they like, and get the number of a process that
has ended. So a process is ended only if it began when the one did that has written its number into the folder, or is
of this user and was begun since.
"""

from __future__ import annotations

import atexit
import os
import re
import select
import shutil
import threading
from contextlib import suppress
from pathlib import Path
from stat import S_ISDIR
from threading import Event
from time import monotonic
from typing import IO, Self, TypeAlias

from packtivity import folders, notes, settings
from packtivity.errors import StateError
from packtivity.runtimes import process

Kind: TypeAlias = tuple[str, tuple[str, ...], bool, dict[str, str]]
"""What reapers must have in common to be interchangeable."""

# Field 22 of the process's line in proc(5); where there is no such thing, what ps tells.
_STARTER = """
began() {
  { read -r line </proc/$$/stat; } 2>/dev/null || { ps -o lstart= -p $$; return; }
  set -- ${line##*) }
  echo "${20}"
}
[ -O "$0" ] && began >"$0/born" && echo "$$" >"$0/pid" && [ ! -e "$0/end" ] && exec "$@"
"""
_NAME = re.compile(r"packtivity-[0-9a-f]{16}")

_PATIENCE = 15.0


class Cleanup:
    """Use as a context: what is started through :meth:`argv` inside the block is gone after it, whatever happens.

    :param name: of the container; no two are alike.
    :param remove: arguments that remove it; empty when killing the processes is enough.
    :param base: directory that the private folder is made in.
    :raises StateError: the private folder cannot be created, or its name not be noted beside the task's lock.
    """

    def __init__(self, name: str, remove: tuple[str, ...] = (), base: str | None = None) -> None:
        self.name = name
        self.folder = os.path.join(base or settings.temporary_dir(), name)
        self._remove = remove
        self._reaper: Reaper | None = None
        self._place = -1

    def __enter__(self) -> Self:
        base, name = os.path.split(self.folder)
        # First, so that the folder is watched from the moment it exists.
        self._reaper = take(name, base, self._remove)
        try:
            self._place = folders.make_own(self.folder)
            status = os.fstat(self._place)
            self._reaper.made(status.st_ino, status.st_uid)
        except BaseException as error:
            self.release()
            if not isinstance(error, OSError):
                raise
            raise StateError(
                f"the private folder {self.folder} cannot be made: {error.strerror}",
                hint="Set TMPDIR to another directory.",
            ) from error
        try:
            publish = notes.current().publish
            if publish is not None:
                publish(folder=self.folder)
        except BaseException:
            self.release()
            raise
        return self

    def argv(self, argv: tuple[str, ...]) -> tuple[str, ...]:
        """Return what to start in place of ``argv``."""
        return ("sh", "-c", _STARTER, self.folder, *argv)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Dismiss the reaper when all went well; else let it clean up, and wait until nothing is left."""
        if kind is None:
            self.release()
        else:
            self.cut()

    def release(self) -> None:
        """End when nothing but the private folder is left to remove."""
        if self._reaper is not None:
            if self._place >= 0:
                _empty(self._place)
                with suppress(OSError):
                    os.rmdir(self.folder)
            self._reaper.done()
        self._let_go()

    def cut(self) -> None:
        """Let the reaper end everything; return as soon as it finds nothing more, or after ten seconds."""
        if self._reaper is not None:
            self._reaper.clear()
        self._let_go()

    def _let_go(self) -> None:
        self._reaper = None
        if self._place >= 0:
            os.close(self._place)
            self._place = -1


def await_end(folder: str, patience: float = _PATIENCE) -> bool:
    """Wait until what a dead runner of this machine had started is cleaned up.

    :param folder: its private folder.
    :param patience: seconds to wait at most: the reaper may have been killed as well.
    :returns: whether all is gone.
    """
    idle, until = Event(), monotonic() + patience
    while _is_private(folder):
        if monotonic() > until:
            return False
        idle.wait(0.05)
    return True


def _is_private(folder: str) -> bool:
    """Return whether there is a folder of ours with that name: the content of a lock file may be forged."""
    if not (os.path.isabs(folder) and _NAME.fullmatch(os.path.basename(folder))):
        return False
    try:
        status = os.lstat(folder)
    except (OSError, ValueError):
        return False
    return S_ISDIR(status.st_mode) and folders.is_private(status)


def new_name() -> str:
    """Return a name for a container that nothing else has."""
    return f"packtivity-{os.urandom(8).hex()}"


def _empty(place: int) -> None:
    """Remove what is in a private folder: usually nothing but small files.

    :param place: a descriptor of it; its name may lead elsewhere.
    """
    try:
        for name in os.listdir(place):
            os.unlink(name, dir_fd=place)
    except OSError:
        _open_up(place)
        for name in os.listdir(place):
            with suppress(OSError):
                os.unlink(name, dir_fd=place)
            shutil.rmtree(name, ignore_errors=True, dir_fd=place)


def _open_up(place: int) -> None:
    """Make read-only directories, such as those of Go's modules, writable so that they can be emptied."""
    for _, names, _, above in os.fwalk(".", dir_fd=place):
        for name in names:
            with suppress(OSError):
                if S_ISDIR(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode):
                    os.chmod(name, 0o700, dir_fd=above)


# --- the reaper ------------------------------------------------------------------------------------------------

_PROGRAM = (Path(__file__).parent / "reaper.sh").read_text("utf-8")
_REAPER_PATIENCE = 10.0
_MOST_SPARE = 8

_spare: list[Reaper] = []
_living: set[Reaper] = set()


class Reaper:
    """A running reaper; :func:`take` returns one."""

    def __init__(self, kind: Kind) -> None:
        base, remove, named, environment = self.kind = kind
        argv = ("sh", "-c", _PROGRAM, base, "yes" if named else "", *remove)
        self._helper = process.start_helper(argv, environment)
        _living.add(self)

    def watch(self, name: str) -> bool:
        """Send it the name of a container; false when it has been killed."""
        return self._say(name)

    def made(self, inode: int, owner: int) -> bool:
        """Send it that the private folder exists; false when it has been killed."""
        return self._say(f"made {inode} {owner}")

    def done(self) -> None:
        """Dismiss it without a clean-up, and keep it for the next container."""
        if self._say("done") and len(_spare) < _MOST_SPARE:
            _spare.append(self)
        else:
            self.end()

    def clear(self) -> None:
        """Let it clean up; return as soon as it finds nothing more, or after ten seconds."""
        output = self._hang_up()
        if output is None:
            return
        poller = select.poll()  # which, unlike select, takes descriptors of any number
        poller.register(output, select.POLLIN)
        if poller.poll(_REAPER_PATIENCE * 1000):
            os.read(output.fileno(), 64)
        output.close()
        # It may look a while longer for a container that a daemon was about to create; there is no need to wait for that.
        threading.Thread(target=self._helper.wait, daemon=True).start()

    def end(self) -> None:
        """End one that has nothing to clean up."""
        output = self._hang_up()
        if output is not None:
            output.close()
        self._helper.wait()

    def disown(self) -> None:
        """Close our ends of its pipes in a forked process: only the process that started it may hold them."""
        output = self._hang_up()
        if output is not None:
            output.close()
        self._helper.returncode = 0  # not our child: nothing to wait for

    def _say(self, word: str) -> bool:
        try:
            return self._helper.stdin is not None and bool(self._helper.stdin.write(f"{word}\n".encode()))
        except BrokenPipeError:
            return False

    def _hang_up(self) -> IO[bytes] | None:
        _living.discard(self)
        if self._helper.stdin is not None:
            self._helper.stdin.close()
        return self._helper.stdout


def take(name: str, base: str, remove: tuple[str, ...]) -> Reaper:
    """Return a reaper that watches over the container ``name`` and its private folder ``base/name``.

    :param remove: arguments that remove the container; empty when killing the processes is enough.
    :raises EnvironmentUnavailable: there is no ``sh``.
    """
    named = remove[-1:] == (name,)
    kind = (base, remove[:-1] if named else remove, named, settings.caller_environment())
    while (spare := _take_spare(kind)) is not None:
        if spare.watch(name):
            return spare
        spare.end()
    reaper = Reaper(kind)
    reaper.watch(name)
    return reaper


def _take_spare(kind: Kind) -> Reaper | None:
    for reaper in tuple(_spare):
        if reaper.kind == kind:
            with suppress(ValueError):  # another thread has just taken it
                _spare.remove(reaper)
                return reaper
    return None


def _end_spare() -> None:
    while _spare:
        _spare.pop().end()


def _in_forked_child() -> None:
    """Close the parent's pipes, whose end no reaper would see as long as we live."""
    _spare.clear()
    for reaper in list(_living):
        reaper.disown()


atexit.register(_end_spare)
os.register_at_fork(after_in_child=_in_forked_child)
