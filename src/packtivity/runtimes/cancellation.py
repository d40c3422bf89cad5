"""Ending runs from another thread or, by a file, from another process or machine; and holding interrupts back."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from packtivity.errors import TaskCancelled
from packtivity.files import is_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


class Cancellation:
    """Lets another thread end runs: give it to :func:`packtivity.runtimes.process.run`, call :meth:`cancel` from anywhere, any number of times.

    Used with ``with``, it is cancelled and given back at the end of the block, which no run may outlast.

    :ivar abandoned: whether a run ends because its runner goes away, and is to be run again by another one.
    :ivar signalled: whether whoever sends the runner away may have signalled the task's processes, too: then neither a failure
        nor a success is the task's own.
    """

    abandoned: bool = False
    signalled: bool = False

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        self._lock = threading.Lock()
        self.cancelled = False

    def fileno(self) -> int:
        """Return a descriptor that is readable once cancelled."""
        return self._read

    def gives_back(self, error: BaseException) -> bool:
        """Return whether a run has ended so because its runner has to go, and is to be run again by another one."""
        return self.signalled or (self.abandoned and isinstance(error, (TaskCancelled, KeyboardInterrupt)))

    def gives_up(self, waited: float) -> bool:  # noqa: ARG002 - for subclasses
        """Return whether to stop waiting, after so many seconds, for another run of the same task to end."""
        return self.cancelled

    def cancel(self) -> None:
        """Cancel every run that watches this."""
        with self._lock:
            if not self.cancelled:
                self.cancelled = True
                os.close(self._write)

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


def note_end(interrupt: BaseException, path: str | None) -> None:
    """Say in an interrupt that the task was ended, and where its output is.

    :param path: of the log, if there is one.
    """
    interrupt.add_note("The task was ended." + (f" Its output: {path}" if path else ""))


@contextmanager
def handled(numbers: Iterable[int], handler: Callable[..., None]) -> Iterator[None]:
    """Let signals that would end this process be handled inside the block; one that was ignored stays so (nohup)."""
    ours = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Put off ``KeyboardInterrupt`` until the block ends, so that no process is started and lost."""
    default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not default or threading.current_thread() is not threading.main_thread():
        yield
        return
    came = False

    def note(*_: object) -> None:
        nonlocal came
        came = True

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if came:
            raise KeyboardInterrupt


# --- by a file -------------------------------------------------------------------------------------------------

_INTERVAL = 0.25
"""Seconds between looks."""


class CancelFile(Cancellation):
    """A file whose appearance cancels a task; use as a context.

    :param path: the file; None for a task that nobody else can cancel.
    :param patience: seconds to wait for another run of the same task to end; for ever by default.
    """

    def __init__(self, path: str | None, patience: float | None = None) -> None:
        self._leaving = self._impatient = False
        super().__init__()
        self.path, self._patience = path, patience

    def leave(self, *_: object) -> None:
        """End the run because its runner has to go; a signal handler, which only notes that."""
        self._leaving = True

    def _is_wanted(self) -> bool:
        """Return whether nobody has asked for the end of the task."""
        return not (self._asked or (self.path is not None and is_file(self.path)))

    @property
    def signalled(self) -> bool:  # type: ignore[override]
        """Whether the runner has to go, and nobody has asked for the end of the task."""
        return self._leaving and self._is_wanted()

    @property
    def cancelled(self) -> bool:
        """Whether the run is to end."""
        return self._leaving or not self._is_wanted()

    @cancelled.setter
    def cancelled(self, asked: bool) -> None:
        self._asked = asked

    @property
    def abandoned(self) -> bool:  # type: ignore[override]
        """Whether the runner has to go, or does not wait any longer, and nobody has asked for the end of the task."""
        return (self._leaving or self._impatient) and self._is_wanted()

    def gives_back(self, error: BaseException) -> bool:
        """Return whether a run is to be made again, also because an interrupt has ended it and not the file."""
        return super().gives_back(error) or (isinstance(error, KeyboardInterrupt) and self._is_wanted())

    def gives_up(self, waited: float) -> bool:
        """Return whether to stop waiting for another run of the task, and do something else meanwhile."""
        self._impatient = self._patience is not None and waited > self._patience
        return self.cancelled or self._impatient

    def cancel(self) -> None:
        """Cancel every run that watches this."""
        with self._lock:
            if not self._asked:
                self._asked = True
                os.close(self._write)

    def __enter__(self) -> Self:
        _watcher.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        _watcher.discard(self)
        self.close()


class _Watcher:
    """One thread that looks for the files of all tasks of this process; it sleeps while there are none."""

    def __init__(self) -> None:
        self._watched: set[CancelFile] = set()
        self._some = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, each: CancelFile) -> None:
        with self._lock:
            self._watched.add(each)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._look, name="packtivity-cancel", daemon=True)
                self._thread.start()
        self._some.set()

    def discard(self, each: CancelFile) -> None:
        with self._lock:
            self._watched.discard(each)

    def _look(self) -> None:
        idle = threading.Event()
        while self._some.wait():
            idle.wait(_INTERVAL)
            with self._lock:
                for each in [each for each in self._watched if each.cancelled]:
                    each.cancel()
                    self._watched.discard(each)
                if not self._watched:
                    self._some.clear()


_watcher = _Watcher()
