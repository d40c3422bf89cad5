"""Runs ``docker-encapsulated`` environments: logs, errors and the note on what was run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from packtivity import notes
from packtivity.errors import TaskFailed
from packtivity.files import write_json
from packtivity.runtimes import supervise
from packtivity.runtimes.choose import choose
from packtivity.runtimes.plan import plan_container

if TYPE_CHECKING:
    from collections.abc import Mapping

    from packtivity.runtimes.base import Runtime
    from packtivity.types import JSON, Completed, Execution


def plan(config: Any, environment: Mapping[str, Any], state: Any, job: JSON) -> Execution:
    """Plan a container and add the credentials of the caller that it asks for.

    :raises EnvironmentUnavailable: a credential that it asks for has expired.
    """
    from packtivity.runtimes.credentials import with_credentials
    from packtivity.runtimes.resources import not_applied, understand

    execution = plan_container(job, environment, state, config)
    resources, warn = understand(environment.get("resources") or []), getattr(config, "warn", None)
    warning = not_applied(resources, execution)
    if warning is not None and warn is not None:
        warn(warning)
    return with_credentials(execution, resources, warn)


def container_line(execution: Execution, config: Any) -> str:
    """Return a shell line that runs a planned container by hand.

    :raises EnvironmentUnavailable: no container tool works here, or it cannot do what is asked.
    """
    from packtivity.runtimes import shell_lines

    return shell_lines.container_line(choose(config.container_config.runtime()), execution)


def execute_container(execution: Execution, config: Any, state: Any, metadata: Any) -> Completed | None:
    """Run a planned container, its output going to the log of the topic ``run``.

    :raises EnvironmentUnavailable: no container tool works here, the image cannot be had, or the tool fails.
    :raises TaskFailed: the task ended with an exit code other than 0.
    :raises TaskTimeout: it ran longer than it may.
    """
    from packtivity.handlers.execution_handlers import check, log_completed, log_execution
    from packtivity.tasklog import run_log, step_log

    with step_log(config, metadata, state) as step:
        log_execution(step, execution)
        if config.dry_run():
            step.info("dry run: not run in %s", execution.image)
            return None
        runtime = choose(config.container_config.runtime())
        watch = _supervision(config, metadata, state, step)
        with run_log(config, metadata, state, "run") as log:
            ended = supervise.run_container(runtime, execution, log, watch)
            written = log.path if log is not None else None
        _log_image(step, runtime, ended)
        log_completed(step, ended.completed)
        _keep(runtime, ended, state, metadata)
        _refuse_out_of_memory(runtime, execution, ended, written)
        check(execution, ended.completed, written)
        return ended.completed


def _supervision(config: Any, metadata: Any, state: Any, step: Any) -> supervise.Supervision:
    from packtivity.tasklog import run_log

    return supervise.Supervision(
        say=step.info,
        pull_log=lambda: run_log(config, metadata, state, "pull"),
        reporter=config.reporter,
        cancel=getattr(config, "cancel", None),
        grace=config.grace,
        policy=config.container_config.pull_policy(),
        locked=config.container_config.locked(),
    )


def _log_image(step: Any, runtime: Runtime, ended: supervise.Ended) -> None:
    import shlex

    digest = ended.image.digest or ended.image.identifier or "without a digest"
    notes.current().image = ended.image.note()
    step.info("image: %s (%s) with %s", ended.image.reference, digest, runtime.name)
    step.debug("container command: %s", shlex.join(ended.argv))


def _keep(runtime: Runtime, ended: supervise.Ended, state: Any, metadata: Any) -> None:
    """Write down beside the logs what was run, all at once."""
    from packtivity.logfiles import log_path

    log = log_path(metadata, state, "run")
    if log is None or not os.path.isdir(os.path.dirname(log)):
        return
    path = log.removesuffix(".run.log") + ".container.json"
    image = ended.image
    note = {
        "image": image.reference,
        "digest": image.digest or None,
        "identifier": image.identifier or None,
        "runtime": runtime.name,
        "exit_code": ended.completed.returncode,
        "started": ended.completed.started,
        "ended": ended.completed.ended,
    }
    write_json(path, note)


def _refuse_out_of_memory(runtime: Runtime, execution: Execution, ended: supervise.Ended, written: str | None) -> None:
    if not supervise.is_out_of_memory(runtime, execution, ended):
        return
    notes.current().out_of_memory = True
    limit = execution.limits.memory
    of = f" of {limit / 2**20:.0f} MiB" if limit else ""
    raise TaskFailed(
        f"the task ran out of memory{of} and was killed" + (f"\nAll output: {written}" if written else ""),
        returncode=ended.completed.returncode,
        command=execution.argv,
        output=ended.completed.tail.decode("utf-8", "replace"),
        log=written,
        hint="Give it more (--memory)." if limit else "Run it on a machine with more memory.",
    )
