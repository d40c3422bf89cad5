"""Options of the commands that deal with many tasks: ``map`` and ``checkproxy``."""

from __future__ import annotations

import click

from packtivity.cli.options import BackendString, Directory, Duration, File

over = click.option(
    "--over",
    type=File(directory=False),
    default=None,
    help="File of parameter sets: JSON lines (.jsonl), or CSV with a line of names and values read as YAML.",
)
scan = click.option(
    "-p",
    "--parameter",
    multiple=True,
    metavar="NAME=YAML",
    help="Give one parameter; NAME=1..100 or NAME=0..1..0.1 (with a step) gives each value of a range in turn. "
    "Repeatable.",
)
mapwrite = click.option(
    "-w",
    "--write",
    default="map",
    show_default=True,
    type=Directory(nameless=True),
    help="Directory that has a work directory for each parameter set.",
)
mapbackend = click.option(
    "-b",
    "--backend",
    default="multiproc:auto",
    show_default=True,
    type=BackendString(),
    help="Where the tasks run; see packtivity-run.",
)
table = click.option(
    "--table",
    default=None,
    type=File(directory=False),
    help="Write the table of results here: .csv or .json. By default it is results.csv in --write.",
)
wait = click.option("--wait", is_flag=True, help="Wait until every task is over.")
wait_timeout = click.option(
    "--timeout",
    type=Duration(),
    default=None,
    help="Wait no longer than this: seconds, or 90s, 5m, 2h, 1h30m. The tasks go on.",
)
logs = click.option("--logs", is_flag=True, help="Print what the task printed, too.")
follow = click.option("--follow", is_flag=True, help="Print what the task prints until it is over.")
cancel = click.option("--cancel", is_flag=True, help="End tasks that are not over.")
