"""Ending runs from another thread, putting interrupts off, and saying what has become of a run that was interrupted."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterator


class Cancellation:
    """Lets another thread end runs: give it to :func:`packtivity.runtimes.process.run`, call :meth:`cancel` from anywhere, any number of times.

    Used with ``with``, it is cancelled and given back at the end of the block, which no run may outlast.

    :ivar abandoned: whether a run ends because its runner goes away, and is to be run again by another one.
    """

    abandoned: bool = False

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        self._lock = threading.Lock()
        self.cancelled = False

    def fileno(self) -> int:
        """Return a descriptor that is readable once cancelled."""
        return self._read

    def gives_up(self, waited: float) -> bool:  # noqa: ARG002 - for subclasses
        """Return whether to stop waiting, after so many seconds, for another run of the same task to end."""
        return self.cancelled

    def cancel(self) -> None:
        """Ask every run that watches this to end."""
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
