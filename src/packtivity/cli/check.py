"""The command ``packtivity-checkproxy``: how submitted tasks went. What it asks is in :mod:`packtivity.cli.asking`."""

from __future__ import annotations

import sys

import click

from packtivity.cli import many, options, start
from packtivity.cli.command import command

_FILES = click.argument(
    "jsonfiles", nargs=-1, required=True, metavar="JSONFILE...", type=click.Path(dir_okay=False, readable=False)
)


@command(
    "packtivity-checkproxy",
    _FILES,
    many.wait,
    many.wait_timeout,
    many.logs,
    many.follow,
    many.cancel,
    options.document_format,
    options.debug,
    options.version,
    prepares=True,
)
def checkproxy(
    jsonfiles: tuple[str, ...],
    wait: bool,
    timeout: float | None,
    logs: bool,
    follow: bool,
    cancel: bool,
    format: str,
) -> None:
    """Ask how submitted tasks went, from any process and as often as you like.

    JSONFILE is what packtivity-run --async wrote (proxy.json). Printed are the lines "ready: True|False", when it is
    ready "successful: True|False", and when it was successful "result: JSON". Why a task failed is told on standard
    error. With --format json, what --follow prints goes there, too.

    \b
    Exit codes:
       0  every task has succeeded
       6  a task has failed or was cancelled
      75  a task is not over yet, and none has failed
      12  a task is not known, or a file is no proxy
    """
    from packtivity.cli.asking import Questions

    start.hand_over()
    questions = Questions(jsonfiles)
    if cancel:
        questions.cancel()
    if follow:
        questions.follow(timeout, sys.stderr if format == "json" else sys.stdout)
    elif wait or timeout is not None:
        questions.wait(timeout)
    questions.ask()
    questions.tell(as_json=format == "json", logs=logs)
    code = questions.exit_code()
    if code:
        raise click.exceptions.Exit(code)
