"""Ending runs from another thread or, by a file, from another process or machine, and when their claim is lost."""

from __future__ import annotations

import os
import select
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Literal, Self, TypeAlias

from packtivity import claims, signals
from packtivity.errors import TaskCancelled
from packtivity.files import is_file

if TYPE_CHECKING:
    from collections.abc import Callable


Why: TypeAlias = Literal["cancelled", "abandoned", "leaving"]
"""Why a run is to end: somebody has asked for that; another runner is to run it; or its runner has to go, and whoever sends
that away may have signalled the task's processes, too: then neither a failure nor a success is the task's own."""


def note_end(interrupt: BaseException, path: str | None) -> None:
    """Say in an interrupt that the task was ended, and where its output is.

    :param path: of the log, if there is one.
    """
    interrupt.add_note("The task was ended." + (f" Its output: {path}" if path else ""))


class Cancellation:
    """Lets another thread end runs: give it to :func:`packtivity.runtimes.process.run`, call :meth:`cancel` from anywhere, any number of times.

    Used with ``with``, it is cancelled and given back at the end of the block, which no run may outlast.
    """

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        self._lock = threading.Lock()
        self._asked = False

    def fileno(self) -> int:
        """Return a descriptor that is readable once cancelled."""
        return self._read

    def why(self) -> Why | None:
        """Return why the run is to end; None as long as it is not."""
        return "cancelled" if self._asked else None

    @property
    def cancelled(self) -> bool:
        """Whether the run is to end."""
        return self.why() is not None

    def gives_back(self, error: BaseException) -> bool:
        """Return whether a run has ended so because its runner has to go, and is to be run again by another one."""
        why = self.why()
        return why == "leaving" or (why == "abandoned" and isinstance(error, (TaskCancelled, KeyboardInterrupt)))

    def gives_up(self, waited: float) -> bool:  # noqa: ARG002 - for subclasses
        """Return whether to stop waiting, after so many seconds, for another run of the same task to end."""
        return self.cancelled

    def cancel(self) -> None:
        """Cancel every run that watches this."""
        self._asked = True
        self._wake()

    def _wake(self) -> None:
        """Make the descriptor readable."""
        with self._lock:
            if self._write >= 0:
                os.close(self._write)
                self._write = -1

    def close(self) -> None:
        """Cancel and give the descriptor back; may be called again."""
        self.cancel()
        if self._read >= 0:
            os.close(self._read)
            self._read = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    __del__ = close


_INTERVAL = 0.25
"""Seconds between looks for a file."""


class CancelFile(Cancellation):
    """A file whose appearance cancels a task; use as a context.

    :param path: the file; None for a task that nobody else can cancel.
    :param patience: seconds to wait for another run of the same task to end; for ever by default.
    """

    def __init__(self, path: str | None, patience: float | None = None) -> None:
        super().__init__()
        self._leaving = self._impatient = False
        self.path, self._patience = path, patience
        self._over = threading.Event()

    def leave(self, number: int, *_: object) -> None:
        """End the run because its runner has to go; a signal handler, which only notes that."""
        signals.remember(number)
        self._leaving = True

    def why(self) -> Why | None:
        """Return why the run is to end; whoever asks for the end of the task comes before its runner."""
        if self._asked or (self.path is not None and is_file(self.path)):
            return "cancelled"
        return "leaving" if self._leaving else "abandoned" if self._impatient else None

    def gives_back(self, error: BaseException) -> bool:
        """Return whether a run is to be made again, also because an interrupt has ended it and not the file."""
        return super().gives_back(error) or (isinstance(error, KeyboardInterrupt) and self.why() != "cancelled")

    def gives_up(self, waited: float) -> bool:
        """Return whether to stop waiting for another run of the task, and do something else meanwhile."""
        self._impatient = self._patience is not None and waited > self._patience
        return self.cancelled

    def _look(self) -> None:
        while not self._over.wait(_INTERVAL):
            if self.cancelled:
                self._wake()
                return

    def __enter__(self) -> Self:
        threading.Thread(target=self._look, name="packtivity-cancel", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.close()


class Heartbeat(Cancellation):
    """Says that a runner lives, where file locks do not work, until it is closed; ends the task when its claim is lost.

    Another runner then runs the task again. See :mod:`packtivity.claims`.

    :param beat: says so once; false when the claim is somebody else's.
    :param given: what else may end the task.
    :ivar lost: whether the claim has been lost.
    """

    def __init__(self, beat: Callable[[], bool], given: Cancellation | None = None) -> None:
        super().__init__()
        self._beat, self._last = beat, time.monotonic()
        self._given = given or Cancellation()
        self._over, self.lost = threading.Event(), False
        self._either = select.epoll()
        for descriptor in (self._read, self._given.fileno()):
            self._either.register(descriptor, select.EPOLLIN | select.EPOLLHUP)
        for act in (self._run, self._watch):  # the first may be held up by the file system for as long as that likes
            threading.Thread(target=act, name="packtivity-heartbeat", daemon=True).start()

    def _run(self) -> None:
        while not self._over.wait(claims.BEAT):
            with suppress(OSError):  # the file system may be back in time
                if not self._beat():
                    self._lose()
                elif not self._is_late():
                    self._last = time.monotonic()

    def _watch(self) -> None:
        while not self._over.wait(claims.BEAT):
            if self._is_late():
                self._lose()

    def _is_late(self) -> bool:
        return time.monotonic() - self._last >= claims.LOST

    def _lose(self) -> None:
        if not self._over.is_set():
            self.lost = True
            self._over.set()
            self._wake()

    def fileno(self) -> int:
        """Return a descriptor that is readable once the task is to end."""
        return self._either.fileno()

    def why(self) -> Why | None:
        """Return why the task is to end."""
        given = self._given.why()
        return "abandoned" if self.lost and given != "leaving" else given

    def gives_back(self, error: BaseException) -> bool:
        """Return whether a run that has ended with an error is to be made again."""
        return super().gives_back(error) or self._given.gives_back(error)

    def gives_up(self, waited: float) -> bool:
        """Return whether to stop waiting for another run."""
        return self.lost or self._given.gives_up(waited)

    def cancel(self) -> None:
        """Ask for the end."""
        self._given.cancel()

    def close(self) -> None:
        """Say it no more, and watch no more; what was given stays as it is."""
        self._over.set()
        self._wake()
        self._either.close()
        if self._read >= 0:
            os.close(self._read)
            self._read = -1

    __del__ = close
