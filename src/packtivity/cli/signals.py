"""SIGTERM, SIGHUP and SIGQUIT end a task the way Ctrl-C does: the task first, then the command."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

received: int | None = None
"""The signal that is ending this command, when it is not SIGINT."""


@contextmanager
def like_interrupts() -> Iterator[None]:
    """Inside the block, the first SIGTERM, SIGHUP or SIGQUIT does what SIGINT does; the ones after it do nothing.

    All of them would end this program alone: the task is in a session of its own, out of the terminal's reach.
    The handler of SIGINT is asked instead of raising here, because the code that starts processes puts that one off
    for the moment in which a process would be started and lost. A signal that was ignored stays ignored (nohup).
    """
    import signal

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)}
    for number, handler in before.items():
        if handler is signal.SIG_DFL:
            signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is signal.SIG_DFL:
                signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    import signal

    global received  # noqa: PLW0603 - signals are state of the process
    if received is not None:
        return
    received = number
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler):
        raise KeyboardInterrupt
    handler(signal.SIGINT, frame)
