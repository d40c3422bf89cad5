"""The command ``packtivity``, under which all others are found too."""

from __future__ import annotations

import click

from packtivity.cli import options
from packtivity.cli.command import Group

_UTIL = {
    "pubtest": ("packtivity.cli.util:pubtest", "Print what a task would publish, without running it."),
    "shell": ("packtivity.cli.util:shell", "Print the shell line that opens a task's environment."),
}
_COMMANDS = {
    "run": ("packtivity.cli.run:runcli", "Run a task and print what it publishes."),
    "map": ("packtivity.cli.map:map_", "Run a task for many parameter sets."),
    "validate": ("packtivity.cli.validate:validatecli", "Check a spec, and parameters for it."),
    "describe": ("packtivity.cli.describe:describe", "Print what a task needs and what it publishes."),
    "example": ("packtivity.cli.describe:example", "Write a parameter file to fill in."),
    "shell": ("packtivity.cli.containers:shell", "Open a shell where and how a task would run."),
    "lock": ("packtivity.cli.containers:lock", "Write down the digest of a task's container image."),
    "doctor": ("packtivity.cli.containers:doctor", "Say which container tools work here."),
    "checkproxy": ("packtivity.cli.check:checkproxy", "Ask how submitted tasks went."),
    "ps": ("packtivity.cli.ps:ps", "List your detached tasks on this machine."),
    "worker": ("packtivity.cli.worker:worker", "Run a task that comes as one JSON document."),
    "util": ("packtivity.cli.main:util", "Try out parts of a task: pubtest, shell."),
    "completion": ("packtivity.cli.completion:completion", "Print the completion script for bash, zsh or fish."),
}


@options.version
@click.group("packtivity", cls=Group, lazy=_COMMANDS)
def main() -> None:
    """Run scientific tasks that must stay runnable for decades.

    A task is described by a spec (YAML): what to run, the environment it runs in, and what it publishes as JSON.
    """


@options.version
@click.group("packtivity-util", cls=Group, lazy=_UTIL)
def util() -> None:
    """Try out parts of a task without running it."""
