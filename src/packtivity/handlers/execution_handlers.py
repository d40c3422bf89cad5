"""Runs a job in its environment: one function for each environment type.

Signature, as in upstream 0.17.1: ``(config, environment, state, job, metadata)``. An executor returns when the job
has succeeded and raises when it has not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from packtivity.handlers.running import check, ending, execute
from packtivity.registry import Registry
from packtivity.runtimes.plan import plan_local, shell_argv
from packtivity.settings import caller_environment
from packtivity.tasklog import step_log

if TYPE_CHECKING:
    from collections.abc import Callable
    from logging import Logger
    from types import ModuleType

    from packtivity.handlers.config import ExecutionConfig
    from packtivity.types import Execution, Job, Metadata, Part, State

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


def plan(config: ExecutionConfig, environment: Part, state: State | None, job: Job) -> Execution | None:
    """Return what the executor of this environment would run; None when it would run nothing.

    :raises EnvironmentUnavailable: the environment is not there.
    """
    kind = environment["environment_type"]
    if kind == "localproc-env" and not _is_manual(job, environment):
        return _plan_local(config, environment, state, job)
    if kind == "docker-encapsulated":
        planned: Execution = _containers().plan(config, environment, state, job)
        return planned
    return None


# --- executors -------------------------------------------------------------------------------------------------


@executor("localproc-env")
def localproc_env(
    config: ExecutionConfig, environment: Part, state: State | None, job: Job, metadata: Metadata | None
) -> None:
    """Run a plain process in the first read-write directory, which is made when it is missing.

    :raises TaskFailed: it ended with an exit code other than 0.
    :raises TaskTimeout: it ran longer than ``config.timeout``.
    """
    if _is_manual(job, environment):
        _carry_out(config, environment, state, job, metadata)
    else:
        execute(_plan_local(config, environment, state, job), config, state, metadata)


@executor("docker-encapsulated")
def docker_enc_handler(
    config: ExecutionConfig, environment: Part, state: State | None, job: Job, metadata: Metadata | None
) -> None:
    """Run a container.

    :raises EnvironmentUnavailable: no container tool works here, or the image cannot be had.
    :raises TaskFailed: the task ended with an exit code other than 0.
    :raises TaskTimeout: it ran longer than ``config.timeout``.
    """
    if _is_manual(job, environment):
        _carry_out(config, environment, state, job, metadata)
    else:
        _containers().execute_container(config, environment, state, job, metadata)


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


@executor("manual-instructions-env")
def manual_env(
    config: ExecutionConfig, environment: Part, state: State | None, job: Job, metadata: Metadata | None
) -> None:
    """Ask a person to do it.

    :raises EnvironmentUnavailable: there is nobody to ask.
    :raises TaskFailed: the person reports a failure.
    """
    _carry_out(config, environment, state, job, metadata)


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


def _is_manual(job: Job, environment: Part) -> bool:
    return "instructions" in job or environment["environment_type"] == "manual-instructions-env"


def _carry_out(
    config: ExecutionConfig, environment: Part, state: State | None, job: Job, metadata: Metadata | None
) -> None:
    from packtivity.handlers.manual import carry_out  # the door to a person

    with step_log(config, metadata, state) as log:
        if config.dry_run():
            log.info("dry run: a person is not asked to carry out the step")
            return
        log.info("a person carries out the step")
        carry_out(job, environment, state, config.interaction)
        log.info("the person says that it is done")


def _plan_local(config: ExecutionConfig, environment: Part, state: State | None, job: Job) -> Execution:
    return plan_local(job, environment, state, config, caller_environment() if config.clean_env else None)
