"""The command ``packtivity completion``: what a shell sources to complete all our commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from click.shell_completion import ShellComplete, get_completion_class

if TYPE_CHECKING:
    from packtivity.cli.declarations import CompletionOptions

PROGRAMS = (
    "packtivity",
    "packtivity-run",
    "packtivity-validate",
    "packtivity-checkproxy",
    "packtivity-util",
    "packtivity-worker",
)


def show_script(options: CompletionOptions) -> None:
    """Carry out ``packtivity completion``."""
    click.echo(script(options.shell))


def script(shell: str) -> str:
    """Return the completion script for all our programs.

    :param shell: ``bash``, ``zsh`` or ``fish``.
    """
    made = get_completion_class(shell) or ShellComplete
    parts = []
    for program in PROGRAMS:
        variable = f"_{program.replace('-', '_')}_COMPLETE".upper()
        # Of the base class: that of bash starts a bash to ask for its version.
        parts.append(ShellComplete.source(made(click.Command(program), {}, program, variable)))
    return "\n".join(parts)
