"""The commands ``packtivity shell`` and ``packtivity-util shell``: a task's interpreter, where and how it would run."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Any

from packtivity.cli import start
from packtivity.cli.inputs import container_choices, load_spec, load_state, start_logging, warn_of_container_options
from packtivity.cli.lock import supervision
from packtivity.cli.parameters import getinit_data
from packtivity.cli.run import show_warning
from packtivity.cli.terminal import say
from packtivity.errors import EnvironmentUnavailable, UsageError
from packtivity.handlers.config import ExecutionConfig, packconfig
from packtivity.handlers.container import tool_for
from packtivity.handlers.execution_handlers import plan
from packtivity.runtimes import process
from packtivity.runtimes.shell_lines import ascii_line, launch_by_hand
from packtivity.runtimes.supervise import attach_container, write_files
from packtivity.task import build_env, finalize_inputs

if TYPE_CHECKING:
    from packtivity.cli.declarations import ShellLineOptions, ShellOptions
    from packtivity.types import Execution, State


def open_shell(options: ShellOptions) -> int:
    """Carry out ``packtivity shell`` and return its exit code.

    :raises PacktivityError: the task cannot be planned, runs nothing, or no container tool works here.
    """
    start_logging(options.verbosity)
    state, config = load_state(options), _config(options)
    spec = load_spec(options)
    warn_of_container_options(spec, options)
    execution = _plan(spec, options, state, config)
    if execution is None:
        raise UsageError("this task runs nothing that a shell could be opened in")
    start.allow_interrupts()
    state.ensure()
    if execution.image is None:
        code = process.attach(execution.argv, execution.workdir)
    else:
        code = attach_container(*tool_for(execution, config), supervision(config.container_config))
    return code if code >= 0 else 128 - code


def show_shell_line(options: ShellLineOptions) -> None:
    """Carry out ``packtivity-util shell``.

    For Docker the line begins as upstream 0.17.1's: ``docker run --rm -i -t --cidfile …``.

    :raises PacktivityError: the task cannot be planned, runs nowhere, or no container tool works here.
    """
    spec = load_spec(options)
    environment = (spec["environment"] or {}).get("environment_type")
    state, config = load_state(options), _config(options)
    warn_of_container_options(spec, options)
    if environment == "localproc-env":
        getinit_data(options.parfiles, options.parameter)
        state.ensure()
        interpreter = (spec["process"] or {}).get("interpreter", "sh")
        workdir = shlex.quote(state.readwrite[0] if state.readwrite else ".")
        # Clients give the line to a shell, or after shlex.split to the operating system.
        say(ascii_line(("sh", "-c", f"cd {workdir} && exec {interpreter}")))
        return
    if environment != "docker-encapsulated":
        raise EnvironmentUnavailable(
            f"no shell can be opened in the environment {environment or 'null'!r}",
            hint="It works for docker-encapsulated and localproc-env.",
        )
    execution = _plan(spec, options, state, config)
    if execution is None:
        raise UsageError("this task only publishes")
    runtime, execution = tool_for(execution, config)
    state.ensure()
    write_files(execution)
    cidfile = f"{state.metadir}/test-{os.urandom(4).hex()}.cid" if state.metadir else None
    say(ascii_line(runtime.run_argv(execution, launch_by_hand(runtime, execution, cidfile=cidfile))))


def _config(options: ShellOptions | ShellLineOptions) -> ExecutionConfig:
    return ExecutionConfig({"containers": container_choices(options)}, warn=show_warning)


def _plan(
    spec: dict[str, Any], options: ShellOptions | ShellLineOptions, state: State, config: ExecutionConfig
) -> Execution | None:
    """Plan the task's interpreter for a person; None if the task runs nothing."""
    if not (spec["environment"] and spec["process"]):
        return None
    parameters, _ = finalize_inputs(getinit_data(options.parfiles, options.parameter), state)
    environment = build_env(spec["environment"], parameters, state, packconfig())
    return plan(config, environment, state, {"interactive": spec["process"].get("interpreter", "sh")})
