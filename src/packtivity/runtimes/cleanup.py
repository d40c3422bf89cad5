"""Makes sure that what we start ends with us, even when we are killed by ``SIGKILL``.

Before a container tool starts, a small shell program (:mod:`~packtivity.runtimes.reaper`) in a session of its own reads
from a pipe that only we hold. When the pipe closes without a last word, it kills the tool's process group, removes the
container until it stays removed, and deletes the private folder of the run. A signal that we live through closes the
same pipe, so there is one way to the end. The tool itself starts through a short shell program that first writes
down its process id and when it began; the reaper leaves a mark in the folder before it looks, so a tool that comes too
late does not start. The folder is named beside the task's lock: :func:`await_end` lets the next runner of the task wait
until all is cleared away.
"""

from __future__ import annotations

import os
import re
import shutil
from contextlib import suppress
from stat import S_ISDIR
from threading import Event
from time import monotonic
from typing import Self

from packtivity import folders, notes, settings
from packtivity.errors import StateError
from packtivity.runtimes import reaper

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
        self._reaper: reaper.Reaper | None = None
        self._place = -1

    def __enter__(self) -> Self:
        base, name = os.path.split(self.folder)
        # First, so that the folder is watched from the moment it exists.
        self._reaper = reaper.take(name, base, self._remove)
        try:
            self._place = folders.make_own(self.folder)
            found = os.fstat(self._place)
            self._reaper.made(found.st_ino, found.st_uid)
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
        found = os.lstat(folder)
    except (OSError, ValueError):
        return False
    return S_ISDIR(found.st_mode) and folders.is_private(found)


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
