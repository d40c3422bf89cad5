"""Where the installed programs begin: with the garbage collector off, and then the command.

A command lives for a tenth of a second, and a tenth of that would go into looking for garbage in what has just been
imported. :mod:`packtivity.cli.command` turns the collector on before code that is not ours runs.
"""

from __future__ import annotations

import gc

gc.disable()


def run() -> None:
    """Be ``packtivity-run``."""
    from packtivity.cli import runcli

    runcli()


def validate() -> None:
    """Be ``packtivity-validate``."""
    from packtivity.cli import validatecli

    validatecli()


def checkproxy() -> None:
    """Be ``packtivity-checkproxy``."""
    from packtivity.cli import checkproxy as command

    command()


def util() -> None:
    """Be ``packtivity-util``."""
    from packtivity.cli import utilcli

    utilcli()


def worker() -> None:
    """Be ``packtivity-worker``."""
    from packtivity.cli.worker import worker as command

    command()


def main() -> None:
    """Be ``packtivity``."""
    from packtivity.cli.main import main as command

    command()
