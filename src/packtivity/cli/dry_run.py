"""What ``packtivity-run --print-command`` and ``--dry-run`` and ``packtivity-util pubtest`` print; none runs anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from packtivity.cli.inputs import Target, Task, load_spec, load_state, start_logging
from packtivity.cli.parameters import getinit_data
from packtivity.cli.terminal import say
from packtivity.errors import UsageError
from packtivity.handlers.container import container_line
from packtivity.runtimes.shell_lines import shell_line
from packtivity.task import Run

if TYPE_CHECKING:
    from packtivity.cli.declarations import PubtestOptions


def show_plan(task: Task, target: Target, *, brief: bool) -> None:
    """Print what would run, and unless ``brief`` also where, and what would be published.

    :raises UsageError: this backend does not run what it is given by itself, so what runs is not known here.
    """
    backend = target.backend
    if not (hasattr(backend, "pack_config") and hasattr(backend, "exec_config")):
        raise UsageError(
            f"what a {type(backend).__name__} would run is not known here", hint="Try it with -b defaultsync."
        )
    run = Run(task.spec, task.parameters, task.state, None, backend.pack_config, backend.exec_config)
    execution = run.plan()
    line = None
    if execution is not None:
        line = shell_line(execution) if execution.image is None else container_line(execution, backend.exec_config)
    if brief:
        if line is None:
            raise UsageError(f"nothing is run by this task: {_why_nothing(task.spec)}")
        say(line)
        return
    say(f"would run: {line or f'nothing ({_why_nothing(task.spec)})'}")
    for path in task.state.readwrite:
        say(f"would write in: {path}")
    known = backend.prepublish(task.spec, task.parameters, task.state)
    say(f"would publish: {known if known is not None else 'what is only known after the run'}")


def _why_nothing(spec: dict[str, Any]) -> str:
    if not (spec["process"] and spec["environment"]):
        return "it only publishes"
    return f"{spec['process'].get('process_type')} in {spec['environment'].get('environment_type')}"


def show_published(options: PubtestOptions) -> None:
    """Carry out ``packtivity-util pubtest``."""
    start_logging(options.verbosity)
    backend = Target.named(options.backend).backend
    parameters = getinit_data(options.parfiles, options.parameter)
    say(str(backend.prepublish(load_spec(options), parameters, load_state(options))))
