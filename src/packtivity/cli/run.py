"""The command ``packtivity-run``: its options. What it does is in :mod:`packtivity.cli.running`."""

from __future__ import annotations

from typing import Any

from packtivity.cli import options
from packtivity.cli.command import command


@command(
    "packtivity-run",
    options.task,
    options.backend,
    options.asyncwait,
    options.proxyfile,
    options.outfile,
    options.timeout,
    options.retries,
    options.clean_env,
    options.pass_env,
    options.container,
    options.locked,
    options.lockfile,
    options.print_command,
    options.dry_run,
    options.quiet,
    options.version,
    prepares=True,
)
def runcli(**given: Any) -> None:
    """Run the task that SPEC describes and print what it publishes.

    Parameters come from PARFILES (YAML or JSON mappings, later ones win; - is standard input) and from -p.
    The task's output goes to _packtivity/packtivity_syncbackend.run.log in the work directory.

    \b
    Printed on standard output when it is not a terminal:
      <TypedLeafs: {...}> (prepublished)  if the result is known before running
      <TypedLeafs: {...}> (post-run)      the result then
      <TypedLeafs: {...}>                 the result otherwise
      proxy-json {...}                    with --async, in place of the result

    With --async the exit code says whether the task was submitted, not how it goes; packtivity-checkproxy does.
    """
    from packtivity.cli.running import run

    run(given)
