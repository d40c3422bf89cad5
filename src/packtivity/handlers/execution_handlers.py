"""Runs a job in its environment: one function for each environment type.

Signature, as in upstream 0.17.1: ``(config, environment, state, job, metadata)``. An executor returns when the job
has succeeded and raises when it has not.
"""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Any

from packtivity import notes
from packtivity.errors import StateError
from packtivity.handlers.endings import check, ending
from packtivity.registry import Registry
from packtivity.runtimes import process
from packtivity.runtimes.plan import plan_local, shell_argv
from packtivity.settings import caller_environment
from packtivity.tasklog import run_log, step_log

if TYPE_CHECKING:
    from collections.abc import Callable
    from logging import Logger
    from types import ModuleType

    from packtivity.handlers.config import ExecutionConfig
    from packtivity.types import Completed, Execution, Job, Metadata, Part, State

    Executor = Callable[[ExecutionConfig, Part, State | None, Job, Metadata | None], Any]

__all__ = ["check", "command_argv", "ending", "execute", "executor", "handlers", "plan", "script_argv"]

executor: Registry[Executor] = Registry("executor for environment", "packtivity.executors")
handlers = executor.table


def command_argv(environment: Part, job: Job, log: Logger) -> tuple[list[str], None, bool]:
    """Return argv, standard input (None) and whether a terminal is wanted, for a command (upstream 0.17.1)."""
    log.debug("command: %s", job["command"])
    argv, _ = shell_argv({"command": job["command"]}, environment)
    return list(argv), None, False


def script_argv(environment: Part, job: Job, log: Logger) -> tuple[list[str], str, bool]:
    """Return argv, standard input (the script) and whether a terminal is wanted, for a script (upstream 0.17.1)."""
    log.debug("script is:\n%s", job["script"])
    argv, _ = shell_argv({"script": job["script"], "interpreter": job["interpreter"]}, environment)
    return list(argv), job["script"], False


def __getattr__(name: str) -> Any:
    """Give the names that plug-ins of upstream 0.17.1 import to run containers in their own way (PEP 562)."""
    if name not in {"race_spec", "docker_execution_cmdline"}:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_containers(), name)


def _containers() -> ModuleType:
    """Import what runs containers: as much as all the rest, and a plain process needs none of it."""
    from packtivity.handlers import container

    return container


def plan(
    config: ExecutionConfig, environment: Part, state: State | None, job: Job, step: Logger | None = None
) -> Execution | None:
    """Return what the executor of this environment would run; None when it would run nothing.

    :param step: a log that warnings go to as well.
    :raises EnvironmentUnavailable: the environment is not there.
    """
    kind = environment["environment_type"]
    if "instructions" in job:
        return None
    if kind == "localproc-env":
        return plan_local(job, environment, state, config, caller_environment() if config.clean_env else None)
    if kind == "docker-encapsulated":
        planned: Execution = _containers().plan(config, environment, state, job, step)
        return planned
    return None


def execute(
    execution: Execution, config: ExecutionConfig, state: State | None, metadata: Metadata | None
) -> Completed | None:
    """Run what was planned, output going to the log of the topic ``run``; log and run nothing when it is a dry run.

    :raises EnvironmentUnavailable: no container tool works here, the image cannot be had, or the tool fails.
    :raises TaskFailed: it ended with an exit code other than 0.
    :raises TaskTimeout: it ran longer than it may.
    :raises StateError: the work directory cannot be made, or a log not written.
    """
    with step_log(config, metadata, state) as step:
        _log_execution(step, execution)
        if config.dry_run():
            step.info("dry run: not run" + (f" in {execution.image}" if execution.image else ""))
            return None
        out_of_memory, advice = False, ""
        if execution.image is None:
            completed, written = _run_process(execution, config, state, metadata)
        else:
            completed, written, out_of_memory, advice = _containers().run(execution, config, state, metadata, step)
        notes.current().completed = completed
        step.info(
            "%s after %.3f s (CPU %.3f s, %soutput %d bytes)",
            ending(completed.returncode),
            completed.ended - completed.started,
            completed.cpu,
            "" if completed.max_rss is None else f"memory {completed.max_rss / 1e6:.1f} MB, ",
            completed.output_bytes,
        )
        check(execution, completed, written, out_of_memory=out_of_memory, advice=advice)
        return completed


def _log_execution(step: Logger, execution: Execution) -> None:
    """Log what is about to run; values of variables are left out."""
    notes.current().execution = execution
    step.info("running: %s", shlex.join(execution.argv))
    if execution.stdin:
        step.debug("standard input:\n%s", execution.stdin.decode("utf-8", "replace"))
    if execution.workdir:
        step.debug("in directory: %s", execution.workdir)
    if not execution.inherit_env or execution.env:
        kind = "added to the caller's environment" if execution.inherit_env else "clean environment"
        step.debug("%s: %s", kind, ", ".join(sorted(execution.env)) or "nothing")


def _run_process(
    execution: Execution, config: ExecutionConfig, state: State | None, metadata: Metadata | None
) -> tuple[Completed, str | None]:
    """Run a plain process; returns how it ended, and the path of the log."""
    if execution.workdir is not None:
        mkdir_p(execution.workdir)
    with run_log(config, metadata, state) as log:
        completed = process.run(
            execution,
            log=log,
            reporter=config.reporter,
            grace=config.grace,
            cancel=config.cancel,
            keep=notes.current().held,
            noted=True,
        )
        return completed, None if log is None else log.path


def mkdir_p(path: str) -> None:
    """Make a directory and those above it; one that exists is fine.

    :raises StateError: it cannot be made, or something else is in its place.
    """
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise StateError.of(error, f"directory {path} cannot be made: {error.strerror}") from error


# --- executors -------------------------------------------------------------------------------------------------


@executor("localproc-env")
@executor("docker-encapsulated")
@executor("manual-instructions-env")
def run(config: ExecutionConfig, environment: Part, state: State | None, job: Job, metadata: Metadata | None) -> None:
    """Run a plain process in the first read-write directory, which is made when it is missing, or a container, or ask a person.

    :raises EnvironmentUnavailable: no container tool works here, the image cannot be had, or there is nobody to ask.
    :raises TaskFailed: it ended with an exit code other than 0, or the person reports a failure.
    :raises TaskTimeout: it ran longer than ``config.timeout``.
    """
    with step_log(config, metadata, state) as log:
        planned = plan(config, environment, state, job, log)
        if planned is not None:
            execute(planned, config, state, metadata)
            return
        from packtivity.handlers.manual import carry_out  # the door to a person

        if config.dry_run():
            log.info("dry run: a person is not asked to carry out the step")
            return
        log.info("a person carries out the step")
        carry_out(job, environment, state, config.interaction)
        log.info("the person says that it is done")


@executor("noop-env")
def noop_env(
    config: ExecutionConfig,
    environment: Part,  # noqa: ARG001 - an executor's signature
    state: State | None,
    job: Job,
    metadata: Metadata | None,
) -> None:
    """Run nothing, and log what would be run."""
    with step_log(config, metadata, state) as log:
        log.info("state is: %s", state)
        log.info("would be running this job: %s", job)


@executor("test-env")
def test_process(
    config: ExecutionConfig, environment: Part, state: State | None, job: Job, metadata: Metadata | None
) -> None:
    """Run nothing; the environment of that name has always been there for tests of plug-ins."""
    with step_log(config, metadata, state) as log:
        log.info("a complicated test environment")
        log.info("job:  %s", job)
        log.info("env:  %s", environment)
        log.info("state %s", state)
