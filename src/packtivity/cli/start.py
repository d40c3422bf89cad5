"""Where the installed programs begin, and what signals do to them.

SIGINT ends a program with exit code 130 and without a word until there is something to undo or to report, and again
after that. In between it is ``KeyboardInterrupt``, and SIGTERM, SIGHUP and SIGQUIT end a task the way SIGINT does: the
task first, then the command.
"""

from __future__ import annotations

import os
import signal
import sys
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from types import FrameType

received: int | None = None
"""The signal that is ending this command, when it is not SIGINT."""

_is_program = False


def _exit_silently(*_: object) -> None:
    raise SystemExit(128 + signal.SIGINT)


def allow_interrupts() -> None:
    """Let SIGINT be ``KeyboardInterrupt`` from now on: there is something to undo or to report."""
    if signal.getsignal(signal.SIGINT) is _exit_silently:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def exit_on_interrupt() -> None:
    """Let SIGINT end the program silently: nothing has begun, or everything is done and reported.

    Does nothing in somebody else's program that calls a command.
    """
    if _is_program and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _exit_silently)


def like_interrupts() -> AbstractContextManager[None]:
    """Inside the block, the first SIGTERM, SIGHUP or SIGQUIT does what SIGINT does; the ones after it do nothing.

    All of them would end this program alone: the task is in a session of its own, out of the terminal's reach.
    """
    from packtivity.runtimes.cancellation import handled  # which every run imports

    return handled((signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT), _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Call the handler of SIGINT, which the code that starts processes replaces while one could be lost."""
    global received  # noqa: PLW0603 - signals are state of the process
    if received is not None:
        return
    received = number
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler):
        raise KeyboardInterrupt
    handler(signal.SIGINT, frame)


def _start(name: str) -> None:
    """Import the declarations only when an interrupt is no traceback any more, and call one.

    In UTF-8 mode: commands, file names and logs are the same bytes in every locale. Python itself turns it on in the locale C.
    """
    global _is_program  # noqa: PLW0603 - signals are state of the process
    _is_program = True
    exit_on_interrupt()
    if sys.getfilesystemencoding() != "utf-8" and "utf8" not in sys._xoptions:
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606 - ourselves
    getattr(import_module("packtivity.cli.declarations"), name)()


# The programs.
main = partial(_start, "main")
run = partial(_start, "runcli")
validate = partial(_start, "validatecli")
checkproxy = partial(_start, "checkproxy")
util = partial(_start, "utilcli")
worker = partial(_start, "worker")
