"""Makes sure that what we start ends with us, even when we end by ``SIGKILL``.

Before a container tool starts, a small shell program (:mod:`~packtivity.runtimes.reaper`) in a session of its own reads
from a pipe that only we hold. When the pipe closes without a last word, it kills the tool's process group, removes the
container until it stays removed, and deletes the private folder of the run. A signal that we live through closes the
same pipe, so there is one way to the end. The tool itself starts through a one-line shell program that first writes
down its process id; the reaper renames the folder before it looks, so a tool that comes too late cannot start. The
folder is named beside the task's lock: :func:`await_end` lets the next runner of the task wait until all is cleared away.
"""

from __future__ import annotations

import os
from typing import Self

from packtivity import facts, settings
from packtivity.errors import StateError
from packtivity.runtimes import reaper

_STARTER = 'echo "$$" >"$0/pid" && exec "$@"'

_PATIENCE = 15.0
_USUAL = frozenset({"pid", "cid", "monitor"})


class Lifeline:
    """Use as a context: what is started through :meth:`argv` inside the block is gone after it, come what may.

    :param name: of the container; no two are alike.
    :param remove: arguments that remove it; empty when killing the processes is enough.
    :param base: directory that the private folder is made in.
    :raises StateError: there is no room for the private folder, or to say where it is.
    """

    def __init__(self, name: str, remove: tuple[str, ...] = (), base: str | None = None) -> None:
        self.name = name
        self.folder = os.path.join(base or settings.temporary_dir(), name)
        self._remove = remove
        self._reaper: reaper.Reaper | None = None

    def __enter__(self) -> Self:
        base, name = os.path.split(self.folder)
        # first, so that there is no moment in which the folder is nobody's
        self._reaper = reaper.take(name, base, self._remove)
        try:
            os.mkdir(self.folder, 0o700)
        except OSError as error:
            self.release()
            raise StateError(
                f"the private folder {self.folder} cannot be made: {error.strerror}",
                hint="Set TMPDIR to another place.",
            ) from error
        try:
            facts.tell(folder=self.folder)
        except BaseException:
            self.release()
            raise
        return self

    def argv(self, argv: tuple[str, ...]) -> tuple[str, ...]:
        """Return what to start in place of ``argv``."""
        return ("sh", "-c", _STARTER, self.folder, *argv)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Let the reaper go when all went well; else let it do its work, and wait until nothing is left to see."""
        if kind is None:
            self.release()
        else:
            self.cut()

    def release(self) -> None:
        """End without anything to clear away but the private folder."""
        if self._reaper is not None:
            _remove_tree(self.folder)
            self._reaper.done()
            self._reaper = None

    def cut(self) -> None:
        """Let the reaper end everything; return as soon as it sees nothing more, or after ten seconds."""
        if self._reaper is not None:
            self._reaper.clear()
            self._reaper = None


def await_end(folder: str, patience: float = _PATIENCE) -> bool:
    """Wait until what a dead runner of this machine had started is cleared away.

    :param folder: its private folder.
    :param patience: seconds to wait at most: the reaper may have been killed as well.
    :returns: whether all is gone.
    """
    from threading import Event
    from time import monotonic

    idle, until = Event(), monotonic() + patience
    while os.path.lexists(folder) or os.path.lexists(f"{folder}{reaper.GRAVE}"):
        if monotonic() > until:
            return False
        idle.wait(0.05)
    return True


def new_name() -> str:
    """Return a name for a container that nothing else has."""
    return f"packtivity-{os.urandom(8).hex()}"


def _remove_tree(folder: str) -> None:
    """Remove a folder, which usually has nothing but small files in it."""
    try:
        with os.scandir(folder) as entries:
            for path in [entry.path for entry in entries]:
                os.unlink(path)
        os.rmdir(folder)
    except OSError:
        import shutil

        _open_up(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _open_up(folder: str) -> None:
    """Make directories ours to empty again, such as those of Go's modules, which nobody may write to."""
    from contextlib import suppress

    for place, names, _ in os.walk(folder):
        for path in (f"{place}/{name}" for name in names):
            if not os.path.islink(path):
                with suppress(OSError):
                    os.chmod(path, 0o700)
