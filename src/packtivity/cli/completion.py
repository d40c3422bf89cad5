"""The command ``packtivity completion``: what a shell sources to complete all our commands."""

from __future__ import annotations

import click

from packtivity.cli import options
from packtivity.cli.command import command

PROGRAMS = (
    "packtivity",
    "packtivity-run",
    "packtivity-validate",
    "packtivity-checkproxy",
    "packtivity-util",
    "packtivity-worker",
)


def script(shell: str) -> str:
    """Return the completion script for all our programs.

    :param shell: ``bash``, ``zsh`` or ``fish``.
    """
    from click.shell_completion import ShellComplete, get_completion_class

    made = get_completion_class(shell)
    if made is None:
        raise ValueError(f"no completion for {shell!r}")
    parts = []
    for program in PROGRAMS:
        variable = f"_{program.replace('-', '_')}_COMPLETE".upper()
        # Of the base class: that of bash starts a bash to ask for its version.
        parts.append(ShellComplete.source(made(click.Command(program), {}, program, variable)))
    return "\n".join(parts)


@command("completion", click.argument("shell", type=click.Choice(["bash", "zsh", "fish"])), options.debug)
def completion(shell: str) -> None:
    """Print the completion script for a shell.

    To use it now and in future shells, put into the shell's start-up file:

    \b
      bash   eval "$(packtivity completion bash)"
      zsh    eval "$(packtivity completion zsh)"      (after compinit)
      fish   packtivity completion fish | source
    """
    click.echo(script(shell))
