"""Runs ``docker-encapsulated`` environments; and the names that plug-ins written for upstream 0.17.1 import for that."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Any

from packtivity import notes
from packtivity.errors import TaskFailed
from packtivity.files import write_json
from packtivity.handlers.running import check, log_completed, log_execution
from packtivity.logfiles import log_path, safe_name
from packtivity.runtimes import supervise
from packtivity.runtimes.base import Launch
from packtivity.runtimes.choose import choose, named
from packtivity.runtimes.containers import options, plan_container
from packtivity.runtimes.credentials import with_credentials
from packtivity.runtimes.resources import not_applied, understand
from packtivity.tasklog import run_log, step_log
from packtivity.types import Execution, Mount

if TYPE_CHECKING:
    from collections.abc import Mapping
    from logging import Logger

    from packtivity.handlers.config import ExecutionConfig
    from packtivity.runtimes.base import Runtime
    from packtivity.types import Completed, Job, Metadata, Part, State


def plan(config: ExecutionConfig, environment: Part, state: State | None, job: Job) -> Execution:
    """Plan a container and add the credentials of the caller that it asks for.

    :raises EnvironmentUnavailable: a credential that it asks for has expired.
    """
    execution = plan_container(job, environment, state, config)
    resources, warn = understand(environment.get("resources") or []), config.warn
    warning = not_applied(resources, execution)
    if warning is not None and warn is not None:
        warn(warning)
    return with_credentials(execution, resources, warn)


def execute_container(
    execution: Execution, config: ExecutionConfig, state: State | None, metadata: Metadata | None
) -> Completed | None:
    """Run a planned container, its output going to the log of the topic ``run``.

    :raises EnvironmentUnavailable: no container tool works here, the image cannot be had, or the tool fails.
    :raises TaskFailed: the task ended with an exit code other than 0.
    :raises TaskTimeout: it ran longer than it may.
    """
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


def _supervision(
    config: ExecutionConfig, metadata: Metadata | None, state: State | None, step: Logger
) -> supervise.Supervision:
    return supervise.Supervision(
        say=step.info,
        pull_log=lambda: run_log(config, metadata, state, "pull"),
        reporter=config.reporter,
        cancel=config.cancel,
        grace=config.grace,
        policy=config.container_config.pull_policy(),
        locked=config.container_config.locked(),
    )


def _log_image(step: Logger, runtime: Runtime, ended: supervise.Ended) -> None:
    digest = ended.image.digest or ended.image.identifier or "without a digest"
    notes.current().image = ended.image.note()
    step.info("image: %s (%s) with %s", ended.image.reference, digest, runtime.name)
    step.debug("container command: %s", shlex.join(ended.argv))


def _keep(runtime: Runtime, ended: supervise.Ended, state: State | None, metadata: Metadata | None) -> None:
    """Write down beside the logs what was run, all at once."""
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


# --- for plug-ins ----------------------------------------------------------------------------------------------


def race_spec(config: ExecutionConfig, state: State | None, environment: Part, log: Logger, job: Job) -> dict[str, Any]:
    """Return what is to be run, as upstream 0.17.1 described it; files for ``par_mounts`` are written.

    :returns: ``{mounts, image, workdir, argv, stdin, tty, env}``.
    """
    execution = plan_container(job, environment, state, config)
    supervise.write_files(execution)
    log.debug("container image: %s", execution.image)
    return {
        "mounts": [_mount(mount) for mount in execution.mounts],
        "image": execution.image,
        "workdir": execution.workdir,
        "argv": list(execution.argv),
        "stdin": None if execution.stdin is None else execution.stdin.decode("utf-8", "surrogateescape"),
        "tty": execution.tty,
        "env": [{"name": name, "value": value} for name, value in execution.env.items()],
    }


def _mount(mount: Mount) -> dict[str, Any]:
    document = {
        "type": mount.kind,
        "source": mount.source,
        "destination": mount.destination,
        "readonly": mount.readonly,
    }
    return {**document, "propagation": mount.propagation} if mount.destination.startswith("/cvmfs") else document


def docker_execution_cmdline(
    config: ExecutionConfig, state: State, log: Logger, metadata: Metadata | None, race_spec: Mapping[str, Any]
) -> str:
    """Return the ``docker run …`` line for a :func:`race_spec`, quoted so that a shell can split it again."""
    stdin = race_spec["stdin"]
    execution = Execution(
        argv=tuple(race_spec["argv"]),
        stdin=stdin.encode("utf-8", "surrogateescape") if stdin else None,
        workdir=race_spec["workdir"],
        env={entry["name"]: entry["value"] for entry in race_spec.get("env", ())},
        image=race_spec["image"],
        mounts=tuple(
            Mount(m["source"], m["destination"], m["readonly"], m["type"], m.get("propagation"))
            for m in race_spec["mounts"]
        ),
        tty=race_spec["tty"],
        options=options(config.container_config),
    )
    cidfile = f"{state.metadir}/{safe_name(metadata)}.cid"
    if os.path.exists(cidfile):
        log.warning("cid file %s is there already, and docker will refuse to write it", cidfile)
    return shlex.join(named("docker").run_argv(execution, Launch(race_spec["image"], cidfile=cidfile)))
