"""Signals: their names, and handlers that this process has for a while."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
"""Signals by which people and systems ask a program to end."""


def name_of(number: int, unknown: str = "SIG") -> str:
    """Return ``SIGKILL`` for 9; of a signal without a name, ``unknown`` and its number."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"{unknown}{number}"


def nothing(*_: object) -> None:
    """Handle a signal by doing nothing; unlike an ignored signal, it is not inherited."""


def reset() -> None:
    """Undo what whoever started this program may have done to it: SIGCHLD ignored, so that the kernel throws away how
    children end, and signals blocked. Signals that end programs stay ignored where they are (nohup).

    For programs of ours, in the main thread; in somebody else's program that is not for us to decide.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


@contextmanager
def handled(
    numbers: Iterable[int], handler: Callable[..., object], before: Callable[..., object] | int = signal.SIG_DFL
) -> Iterator[None]:
    """Let signals be handled inside the block; outside the main thread, which alone can do that, nothing changes.

    :param before: what handles a signal now; others are left alone, such as those that are ignored (nohup).
    """
    is_main = threading.current_thread() is threading.main_thread()
    taken = [number for number in numbers if is_main and signal.getsignal(number) is before]
    for number in taken:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, before)


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Put off ``KeyboardInterrupt`` until the block ends, so that no process is started and lost."""
    came: list[int] = []
    try:
        with handled((signal.SIGINT,), lambda number, _: came.append(number), signal.default_int_handler):
            yield
    finally:
        if came:
            raise KeyboardInterrupt
