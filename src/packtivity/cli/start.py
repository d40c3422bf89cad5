"""Where the installed programs begin, and what signals do to them.

SIGINT ends a program with exit code 130 and without a word until there is something to undo or to report, and again
after that. In between it is ``KeyboardInterrupt``, and SIGTERM and its like end a task the way SIGINT does: the task
first, which gets the same signal, then the command.
"""

from __future__ import annotations

import os
import signal
import sys
from functools import partial
from importlib import import_module

from packtivity.signals import like_interrupts, reset

__all__ = ["allow_interrupts", "exit_on_interrupt", "like_interrupts"]


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


def _start(name: str) -> None:
    """Import the declarations only when an interrupt is no traceback any more, and call one.

    In UTF-8 mode: commands, file names and logs are the same bytes in every locale. Python itself turns it on in the locale C.
    """
    global _is_program  # noqa: PLW0603 - signals are state of the process
    _is_program = True
    reset()
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
