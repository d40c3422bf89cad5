"""The command ``packtivity map``: one task for many parameter sets."""

from __future__ import annotations

from typing import Any

import click

from packtivity.cli import many, options
from packtivity.cli.command import command


@command(
    "packtivity-map",
    many.scan,
    many.over,
    options.read,
    many.mapwrite,
    many.mapbackend,
    many.table,
    options.timeout,
    options.retries,
    options.document,
    options.strict,
    options.validate,
    options.verbosity,
    options.quiet,
    options.spec,
    options.parfiles,
    options.version,
    prepares=True,
)
def map_(**given: Any) -> None:
    """Run the task that SPEC describes once for each parameter set.

    Sets come from --over, from ranges given with -p, or from both: each with each. Each runs in a directory of its
    own in --write, numbered in order. Run the same command again and it goes on where it stopped: what has succeeded
    with the same spec and parameters is not run again, what an engine still runs is waited for.

    The exit code is 6 if a task has failed; the table says which and why.
    """
    from packtivity.cli.mapping import run_map

    code = run_map(given)
    if code:
        raise click.exceptions.Exit(code)
