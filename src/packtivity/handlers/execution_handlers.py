"""Runs a job in its environment: one function for each environment type.

Signature, as in upstream 0.17.1: ``(config, environment, state, job, metadata)``. An executor returns when the job
has succeeded and raises when it has not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from packtivity import notes
from packtivity.registry import Registry
from packtivity.runtimes.plan import plan_local, shell_argv

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from packtivity.types import JSON, Completed, Execution

    Executor = Callable[[Any, Mapping[str, Any], Any, Any, Any], Any]

executor: Registry[Executor] = Registry("executor for environment", "packtivity.executors")
handlers = executor.table

_TAIL_LINES = 20
_SHOWN = 200


def command_argv(environment: Mapping[str, Any], job: Mapping[str, Any], log: Any) -> tuple[list[str], None, bool]:
    """Return argv, standard input (None) and whether a terminal is wanted, for a command (upstream 0.17.1)."""
    log.debug("command: %s", job["command"])
    argv, _ = shell_argv({"command": job["command"]}, environment)
    return list(argv), None, False


def script_argv(environment: Mapping[str, Any], job: Mapping[str, Any], log: Any) -> tuple[list[str], str, bool]:
    """Return argv, standard input (the script) and whether a terminal is wanted, for a script (upstream 0.17.1)."""
    log.debug("script is:\n%s", job["script"])
    argv, _ = shell_argv({"script": job["script"], "interpreter": job["interpreter"]}, environment)
    return list(argv), job["script"], False


def race_spec(config: Any, state: Any, environment: Mapping[str, Any], log: Any, job: JSON) -> dict[str, Any]:
    """Return what a container would run, as a document (upstream 0.17.1)."""
    from packtivity.handlers.racespec import race_spec

    return race_spec(config, state, environment, log, job)


def docker_execution_cmdline(config: Any, state: Any, log: Any, metadata: Any, race_spec: Mapping[str, Any]) -> str:
    """Return the ``docker run …`` line for a :func:`race_spec` (upstream 0.17.1)."""
    from packtivity.handlers.racespec import docker_execution_cmdline

    return docker_execution_cmdline(config, state, log, metadata, race_spec)


def plan(config: Any, environment: Mapping[str, Any], state: Any, job: JSON) -> Execution | None:
    """Return what the executor of this environment would run; None when it would run nothing.

    :raises EnvironmentUnavailable: the environment is not there.
    """
    kind = environment["environment_type"]
    if kind == "localproc-env" and not _is_manual(job, environment):
        return _plan_local(config, environment, state, job)
    if kind == "docker-encapsulated":
        from packtivity.handlers import container

        return container.plan(config, environment, state, job)
    return None


# --- executors -------------------------------------------------------------------------------------------------


@executor("localproc-env")
def localproc_env(config: Any, environment: Mapping[str, Any], state: Any, job: JSON, metadata: Any) -> None:
    """Run a plain process in the first read-write directory, which is made when it is missing.

    :raises TaskFailed: it ended with an exit code other than 0.
    :raises TaskTimeout: it ran longer than ``config.timeout``.
    """
    if _is_manual(job, environment):
        _carry_out(config, environment, state, job, metadata)
    else:
        execute(_plan_local(config, environment, state, job), config, state, metadata)


@executor("docker-encapsulated")
def docker_enc_handler(config: Any, environment: Mapping[str, Any], state: Any, job: JSON, metadata: Any) -> None:
    """Run a container.

    :raises EnvironmentUnavailable: no container tool works here, or the image cannot be had.
    :raises TaskFailed: the task ended with an exit code other than 0.
    :raises TaskTimeout: it ran longer than ``config.timeout``.
    """
    if _is_manual(job, environment):
        _carry_out(config, environment, state, job, metadata)
    else:
        from packtivity.handlers import container

        container.execute_container(container.plan(config, environment, state, job), config, state, metadata)


@executor("noop-env")
def noop_env(config: Any, environment: Mapping[str, Any], state: Any, job: JSON, metadata: Any) -> None:  # noqa: ARG001
    """Run nothing, and say in the step log what."""
    from packtivity.tasklog import step_log

    with step_log(config, metadata, state) as log:
        log.info("state is: %s", state)
        log.info("would be running this job: %s", job)


@executor("manual-instructions-env")
def manual_env(config: Any, environment: Mapping[str, Any], state: Any, job: JSON, metadata: Any) -> None:
    """Ask a person to do it.

    :raises EnvironmentUnavailable: nobody is there to ask.
    :raises TaskFailed: the person reports a failure.
    """
    _carry_out(config, environment, state, job, metadata)


@executor("test-env")
def test_process(config: Any, environment: Mapping[str, Any], state: Any, job: JSON, metadata: Any) -> None:
    """Run nothing; the environment of that name has always been there for tests of plug-ins."""
    from packtivity.tasklog import step_log

    with step_log(config, metadata, state) as log:
        log.info("a complicated test environment")
        log.info("job:  %s", job)
        log.info("env:  %s", environment)
        log.info("state %s", state)


def _is_manual(job: JSON, environment: Mapping[str, Any]) -> bool:
    return "instructions" in job or environment["environment_type"] == "manual-instructions-env"


def _carry_out(config: Any, environment: Mapping[str, Any], state: Any, job: JSON, metadata: Any) -> None:
    from packtivity.handlers.manual import carry_out
    from packtivity.tasklog import step_log

    with step_log(config, metadata, state) as log:
        if config.dry_run():
            log.info("dry run: a person is not asked to carry out the step")
            return
        log.info("a person carries out the step")
        carry_out(job, environment, state, config.interaction)
        log.info("the person says that it is done")


def _plan_local(config: Any, environment: Mapping[str, Any], state: Any, job: JSON) -> Execution:
    from packtivity.settings import caller_environment

    return plan_local(job, environment, state, config, caller_environment() if config.clean_env else None)


# --- running an execution --------------------------------------------------------------------------------------


def execute(execution: Execution, config: Any, state: Any, metadata: Any, topic: str = "run") -> Completed | None:
    """Run what was planned, output going to the log of ``topic``; log and run nothing when it is a dry run.

    :raises TaskFailed: it ended with an exit code other than 0.
    :raises TaskTimeout: it ran longer than it may.
    :raises StateError: the work directory cannot be made, or a log not written.
    """
    from packtivity.logfiles import mkdir_p
    from packtivity.tasklog import run_log, step_log

    with step_log(config, metadata, state) as step:
        log_execution(step, execution)
        if config.dry_run():
            step.info("dry run: not run")
            return None
        if execution.workdir is not None and execution.image is None:
            mkdir_p(execution.workdir)
        from packtivity.runtimes import process

        with run_log(config, metadata, state, topic) as log:
            try:
                completed = process.run(
                    execution,
                    log=log,
                    reporter=config.reporter,
                    grace=config.grace,
                    cancel=config.cancel,
                    keep=notes.current().held,
                    noted=True,
                )
            except KeyboardInterrupt as interrupt:
                process.note_end(interrupt, None if log is None else log.path)
                raise
            written = log.path if log is not None else None
        log_completed(step, completed)
        check(execution, completed, written)
        return completed


def log_execution(step: Any, execution: Execution) -> None:
    """Say in the step log what is about to run; values of variables are not shown."""
    import shlex

    notes.current().execution = execution
    step.info("running: %s", shlex.join(execution.argv))
    if execution.stdin:
        step.debug("standard input:\n%s", execution.stdin.decode("utf-8", "replace"))
    if execution.workdir:
        step.debug("in directory: %s", execution.workdir)
    if not execution.inherit_env or execution.env:
        kind = "added to the caller's environment" if execution.inherit_env else "clean environment"
        step.debug("%s: %s", kind, ", ".join(sorted(execution.env)) or "nothing")


def log_completed(step: Any, completed: Completed) -> None:
    """Say in the step log how a run ended and what it took."""
    notes.current().completed = completed
    step.info(
        "%s after %.3f s (CPU %.3f s, memory %.1f MB, output %d bytes)",
        ending(completed.returncode),
        completed.ended - completed.started,
        completed.cpu,
        completed.max_rss / 1e6,
        completed.output_bytes,
    )


def ending(returncode: int) -> str:
    """Say in words how a process ended: ``exit code 3``, ``killed by SIGKILL``."""
    if returncode >= 0:
        return f"exit code {returncode}"
    import signal

    try:
        return f"killed by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"killed by signal {-returncode}"


def check(execution: Execution, completed: Completed, written: str | None) -> None:
    """Raise what says that a run failed; return when it did not.

    :param written: absolute path of the log with all output.
    :raises TaskFailed: it ended with an exit code other than 0.
    :raises TaskTimeout: it ran longer than it may.
    """
    if completed.returncode == 0 and not completed.timed_out:
        return
    from packtivity.errors import TaskFailed, TaskTimeout

    last = _last_lines(completed.tail)
    where = f"\nAll output: {written}" if written else ""
    shown = f"\nLast output:\n{_indented(last)}" if last else "\nIt wrote no output."
    if completed.timed_out:
        raise TaskTimeout(
            f"the task was ended because it ran longer than {execution.timeout:g} s: {_short(execution)}{shown}{where}",
            hint="Give it more time, or look at what it was waiting for.",
        )
    raise TaskFailed(
        f"the task failed with {ending(completed.returncode)}: {_short(execution)}{shown}{where}",
        returncode=completed.returncode,
        command=execution.argv,
        output=last,
        log=written,
        hint=_advice(completed.returncode),
    )


def _short(execution: Execution) -> str:
    """Name what ran in one line: the command itself, or the interpreter with the first line of its script."""
    argv = execution.argv
    text = argv[2] if argv[:2] == ("sh", "-c") and len(argv) == 3 else " ".join(argv)
    lines = text.strip().splitlines() or [""]
    line = _printable(lines[0]) + (" …" if len(lines) > 1 else "")
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…"


def _last_lines(tail: bytes) -> str:
    return "\n".join(map(_printable, tail.decode("utf-8", "replace").splitlines()[-_TAIL_LINES:]))


def _printable(line: str) -> str:
    return "".join(c if c.isprintable() or c == "\t" else "�" for c in line)


def _indented(text: str) -> str:
    return "\n".join(f"  | {line}" for line in text.splitlines())


_ADVICE = {
    126: "The shell found the program but could not run it: is it executable?",
    127: "The shell did not find the program: is it installed, and on the PATH?",
    -9: "Nothing but the system or a person does that; often memory ran out.",
}


def _advice(returncode: int) -> str:
    return _ADVICE.get(returncode, "")
