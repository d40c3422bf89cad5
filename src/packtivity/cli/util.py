"""The commands ``packtivity-util pubtest`` and ``packtivity-util shell``."""

from __future__ import annotations

from typing import Any

from packtivity.cli import options
from packtivity.cli.command import command
from packtivity.cli.printing import say


@command("pubtest", options.task, options.backend)
def pubtest(**given: Any) -> None:
    """Print what the task would publish, as far as that is known before running it.

    Printed is the same line as by packtivity-run, or "None" if it is not known.
    """
    from packtivity.cli.inputs import TaskOptions, find_backend, start_logging

    task = TaskOptions(given)
    start_logging(task.verbosity)
    _, backend = find_backend(given["backend"])
    say(str(backend.prepublish(task.load_spec(), task.load_parameters(), task.load_state())))


@command("shell", options.task, options.backend, options.container)
def shell(**given: Any) -> None:
    """Print one line that opens the task's interpreter where and how the task would run.

    Run it with: eval "$(packtivity-util shell SPEC)"
    """
    from packtivity.cli.inputs import TaskOptions
    from packtivity.cli.shellline import interactive
    from packtivity.errors import EnvironmentUnavailable

    task = TaskOptions(given)
    spec = task.load_spec()
    environment = (spec["environment"] or {}).get("environment_type")
    if environment not in ("localproc-env", "docker-encapsulated"):
        raise EnvironmentUnavailable(
            f"no shell can be opened in the environment {environment or 'null'!r}",
            hint="It works for docker-encapsulated and localproc-env.",
        )
    state = task.load_state()
    if environment == "docker-encapsulated":
        from packtivity.cli.shellline import in_container

        say(in_container(task, state, given))
        return
    task.load_parameters()
    state.ensure()
    process = spec["process"] or {}
    say(interactive(process.get("interpreter", "sh"), state.readwrite[0] if state.readwrite else "."))
