"""Where the installed programs begin, and what holds until there is something that may be disturbed.

Until code that is not ours runs, the garbage collector is off, and an interrupt ends the process at once: a command
lives for a tenth of a second, half of which are imports. They make no garbage, yet the collector would go through all
of it several times; and in the midst of one there is nobody yet who could make a message of ``KeyboardInterrupt``.
"""

from __future__ import annotations

import gc
import os

# Built in; importing signal would take time in which an interrupt is still a traceback.
from _signal import SIGINT, default_int_handler, getsignal, signal  # type: ignore[import-not-found]

_begun = False


def _end(*_: object) -> None:
    os._exit(130)


def listen() -> None:
    """Let an interrupt be ``KeyboardInterrupt`` from now on: there is something to be undone, or told."""
    if getsignal(SIGINT) is _end:
        signal(SIGINT, default_int_handler)


def hand_over() -> None:
    """Let code of tasks, plug-ins and backends follow: it may make garbage, and has to hear of interrupts.

    Does nothing in a program of somebody else's that calls a command.
    """
    if _begun and not gc.isenabled():
        gc.freeze()
        gc.enable()
        listen()


def finish() -> None:
    """Let an interrupt end the process at once: nothing has begun, or everything is done and told."""
    if _begun and getsignal(SIGINT) is default_int_handler:
        signal(SIGINT, _end)


def _begin() -> None:
    global _begun  # noqa: PLW0603 - collector and signals are state of the process
    _begun = True
    finish()
    gc.disable()


def run() -> None:
    """Be ``packtivity-run``."""
    _begin()
    from packtivity.cli import runcli

    runcli()


def validate() -> None:
    """Be ``packtivity-validate``."""
    _begin()
    from packtivity.cli import validatecli

    validatecli()


def checkproxy() -> None:
    """Be ``packtivity-checkproxy``."""
    _begin()
    from packtivity.cli import checkproxy as command

    command()


def util() -> None:
    """Be ``packtivity-util``."""
    _begin()
    from packtivity.cli import utilcli

    utilcli()


def worker() -> None:
    """Be ``packtivity-worker``."""
    _begin()
    from packtivity.cli.worker import worker as command

    command()


def main() -> None:
    """Be ``packtivity``."""
    _begin()
    from packtivity.cli.main import main as command

    command()
