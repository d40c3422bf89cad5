"""What ``packtivity-run --print-script``, ``--print-command`` and ``--dry-run`` and ``packtivity-util pubtest`` print.

None runs anything or needs anything that would: no container tool, no daemon, no image.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from packtivity.cli.errors import warn
from packtivity.cli.inputs import Target, Task, load_spec, load_state, start_logging
from packtivity.cli.parameters import getinit_data
from packtivity.cli.terminal import is_terminal, say, show
from packtivity.errors import UsageError
from packtivity.handlers.config import packconfig
from packtivity.handlers.container import tool_for
from packtivity.runtimes.choose import shown
from packtivity.runtimes.process import check_arguments
from packtivity.runtimes.shell_lines import container_line, shell_line
from packtivity.task import Run, acquire_job_env, finalize_inputs

if TYPE_CHECKING:
    from packtivity.cli.declarations import PubtestOptions, RunOptions
    from packtivity.types import Execution


def show_plan(task: Task, target: Target, options: RunOptions) -> None:
    """Print what the options ask for: the script, the command, or all that would happen.

    :raises UsageError: this backend does not run what it is given by itself, so what runs is not known here.
    """
    backend = target.backend
    if options.print_script:
        _show_script(task, getattr(backend, "pack_config", None) or packconfig())
        return
    if not (hasattr(backend, "pack_config") and hasattr(backend, "exec_config")):
        raise UsageError(
            f"what a {type(backend).__name__} would run is not known here", hint="Try it with -b defaultsync."
        )
    run = Run(task.spec, task.parameters, task.state, None, backend.pack_config, backend.exec_config)
    execution = run.plan()
    if execution:
        check_arguments(execution)
    nothing = "" if execution else _why_nothing(task.spec)
    if options.print_command and not execution:
        raise UsageError(f"nothing is run by this task: {nothing}")
    line = _line(execution, run) if execution else f"nothing ({nothing})"
    if options.print_command:
        say(line)
        return
    say(f"would run: {line}")
    for path in task.state.readwrite:
        say(f"would write in: {path}")
    known = backend.prepublish(task.spec, task.parameters, task.state)
    say(f"would publish: {known if known is not None else 'what is only known after the run'}")


def _show_script(task: Task, config: packconfig) -> None:
    parameters, state = finalize_inputs(task.parameters, task.state)
    job, _ = acquire_job_env(task.spec, parameters, state, None, config)
    text = (job or {}).get("script", (job or {}).get("command"))
    if not isinstance(text, str):
        raise UsageError(f"this task has no script or command: {_why_nothing(task.spec)}")
    # A file or a program gets exactly what the interpreter would, a person what a terminal does not act on.
    (say if is_terminal(sys.stdout) else show)(text.removesuffix("\n"))


def _line(execution: Execution, run: Run) -> str:
    if execution.image is None:
        return shell_line(execution)
    runtime, is_usable = shown(run.exec_config.container_config.runtime())
    if not is_usable:
        warn("no container tool works here (see packtivity doctor); this is what would be run with Docker")
    return container_line(*tool_for(execution, run.exec_config, runtime=runtime))


def _why_nothing(spec: dict[str, Any]) -> str:
    process, environment = spec["process"], spec["environment"]
    if not (process and environment):
        return "it only publishes"
    return f"{process.get('process_type')} in {environment.get('environment_type')}"


def show_published(options: PubtestOptions) -> None:
    """Carry out ``packtivity-util pubtest``."""
    start_logging(options.verbosity)
    backend = Target.named(options.backend).backend
    parameters = getinit_data(options.parfiles, options.parameter)
    say(str(backend.prepublish(load_spec(options), parameters, load_state(options))))
