"""Signals: what they do to this process, and to the tasks that it runs.

A signal that ends a command or worker is what the task gets first (:data:`received`), and one that does not, SIGUSR1 or
SIGUSR2, is passed on to the tasks that run (:func:`passed_on`). Programs of others keep the handlers that they have.
"""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


def _known(*names: str) -> tuple[signal.Signals, ...]:
    return tuple(signal.Signals[name] for name in names if name in signal.Signals.__members__)


ENDING = _known("SIGTERM", "SIGHUP", "SIGQUIT", "SIGXCPU", "SIGALRM", "SIGPWR")
"""Signals other than SIGINT by which systems and people ask a program to end."""

_FORWARDED = _known("SIGUSR1", "SIGUSR2")

received: int | None = None
"""The signal that is ending what this process runs; None for a cancellation by other means."""

receivers: set[Callable[[int], object]] = set()
"""What sends a signal to a task, for each that runs."""


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


_held: list[int] | None = None


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Put off ``KeyboardInterrupt`` until the block ends, so that no process is started and lost."""
    global _held  # noqa: PLW0603 - signals are of the process
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _held = came = []
    try:
        with handled((signal.SIGINT,), lambda number, _: came.append(number), signal.default_int_handler):
            yield
    finally:
        _held = None
        if came:
            raise KeyboardInterrupt


@contextmanager
def like_interrupts(handler: Callable[..., object] | None = None) -> Iterator[None]:
    """Inside the block, the first of SIGINT and :data:`ENDING` raises ``KeyboardInterrupt``; later ones but SIGINT do nothing.

    They would end this program alone: the task is in a session of its own. SIGUSR1 and SIGUSR2 are passed on to tasks.

    :param handler: handles them in place of :func:`interrupt`.
    """
    global received
    ends, received = handler or interrupt, None
    with (
        handled((signal.SIGINT,), ends, signal.default_int_handler),
        handled(ENDING, ends),
        handled(_FORWARDED, pass_on),
    ):
        yield


def interrupt(number: int, _: object = None) -> None:
    """Raise ``KeyboardInterrupt`` for the first signal, and for each SIGINT; later while a process could be lost."""
    if not remember(number) and number != signal.SIGINT:
        return
    if _held is None:
        raise KeyboardInterrupt
    _held.append(number)


def remember(number: int) -> bool:
    """Note what is ending this process; false when something else is doing that already."""
    global received
    is_first, received = received is None, received or number
    return is_first


def pass_on(number: int, _: object = None) -> None:
    """Send a signal to the tasks that run; in a thread, because who handles a signal may hold a lock that is needed."""

    def send() -> None:
        for receiver in tuple(receivers):
            with suppress(OSError):
                receiver(number)

    threading.Thread(target=send, name="packtivity-signal", daemon=True).start()
