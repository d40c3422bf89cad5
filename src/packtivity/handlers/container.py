"""Runs ``docker-encapsulated`` environments; and the names that plug-ins written for upstream 0.17.1 import for that."""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from packtivity import notes, settings
from packtivity.errors import EnvironmentUnavailable, ParameterError
from packtivity.files import write_json
from packtivity.runtimes import supervise
from packtivity.runtimes.base import Launch
from packtivity.runtimes.choose import choose, named
from packtivity.runtimes.containers import SETUP_SCRIPT, absent, auth_mount, for_tool, options, plan_container
from packtivity.runtimes.credentials import with_credentials
from packtivity.runtimes.resources import not_applied, refuse_unreadable, understand
from packtivity.spec.diagnostics import dotted, locate
from packtivity.spec.resources import findings
from packtivity.tasklog import log_path, run_log, safe_name
from packtivity.types import Diagnostic, Execution, Mount

if TYPE_CHECKING:
    from collections.abc import Mapping
    from logging import Logger

    from packtivity.handlers.config import ExecutionConfig
    from packtivity.runtimes.base import Runtime
    from packtivity.types import Completed, Job, Metadata, Part, State


def plan(
    config: ExecutionConfig, environment: Part, state: State | None, job: Job, step: Logger | None = None
) -> Execution:
    """Plan a container and add the credentials of the caller that it asks for.

    What it asks for and is not here is left out, with a warning: the task may do without (upstream 0.17.1 lets it run).

    :param step: a log that warnings go to as well.
    :raises EnvironmentUnavailable: something is not here, and warnings are errors.
    :raises ParameterError: the same, and it is about the spec; or a limit of the spec is to hold that cannot be read.
    """
    warn, containers = partial(_warn, config, step), config.container_config
    asked = environment.get("resources") or []
    refuse_unreadable(asked, containers.limits_of_spec())
    execution, resources = plan_container(job, environment, state, config), understand(asked)
    for finding in findings(asked):
        warn(locate(finding, None))
    warning, directory = not_applied(resources, execution), auth_mount(containers)
    if warning is not None:
        warn(warning)
    for mount in absent(execution, containers):
        execution = _without(execution, mount)
        if mount != directory:
            hint = "Install CVMFS, or say where it is: PACKTIVITY_CVMFS_LOCATION, or PACKTIVITY_CVMFS_SOURCE=voldriver."
            message = f"the task asks for CVMFS, and there is no {mount.source} here; it runs without"
            warn(Diagnostic("warning", "cvmfs-missing", message, hint=hint))
    return with_credentials(execution, resources, directory, warn)


def _warn(config: ExecutionConfig, step: Logger | None, diagnostic: Diagnostic) -> None:
    if config.strict:
        where = f"{dotted(diagnostic.path)}: " if diagnostic.path else ""
        kind = ParameterError if diagnostic.path else EnvironmentUnavailable
        raise kind(f"{where}{diagnostic.message}", hint=diagnostic.hint or diagnostic.expected)
    if step is not None:
        step.warning("%s", diagnostic.message)
    if config.warn is not None and diagnostic not in config.warned:  # once, however many attempts and tasks there are
        config.warned.add(diagnostic)
        config.warn(diagnostic)


def _warn_of_files(config: ExecutionConfig, step: Logger, message: str) -> None:
    """Tell of files that have not become the caller's; no error even when warnings are, because the task has run."""
    step.warning("%s", message)
    if config.warn is not None:
        config.warn(Diagnostic("warning", "files-not-given-back", message))


def tool_for(
    execution: Execution, config: ExecutionConfig, step: Logger | None = None, runtime: Runtime | None = None
) -> tuple[Runtime, Execution]:
    """Return the container tool to use, and what it is to run.

    :param runtime: the tool, where it is known.
    :raises EnvironmentUnavailable: no container tool works here.
    """
    runtime = runtime or choose(config.container_config.runtime())
    return runtime, for_tool(execution, runtime, partial(_warn, config, step), config.container_config.user())


def _without(execution: Execution, mount: Mount) -> Execution:
    """Leave out a mount, and the variable that names a script in it."""
    script = execution.env.get(SETUP_SCRIPT, "")
    env = {name: value for name, value in execution.env.items() if name != SETUP_SCRIPT}
    return replace(
        execution,
        mounts=tuple(other for other in execution.mounts if other != mount),
        env=env if script.startswith(f"{mount.destination}/") else execution.env,
    )


def run(
    execution: Execution, config: ExecutionConfig, state: State | None, metadata: Metadata | None, step: Logger
) -> tuple[Completed, str | None, bool, str]:
    """Run a planned container, its output going to the log of the topic ``run``.

    :returns: how it ended, the path of that log, whether it was killed because memory ran out, and what may be wrong.
    :raises EnvironmentUnavailable: no container tool works here, the image cannot be had, or the tool fails.
    """
    runtime, execution = tool_for(execution, config, step)
    watch = supervise.Supervision(
        say=step.info,
        pull_log=lambda: run_log(config, metadata, state, "pull"),
        reporter=config.reporter,
        cancel=config.cancel,
        grace=config.grace,
        policy=config.container_config.pull_policy(),
        locked=config.container_config.locked(),
        warn=partial(_warn_of_files, config, step),
    )
    with run_log(config, metadata, state, "run") as log:
        ended = supervise.run_container(runtime, execution, log, watch)
        written = log.path if log is not None else None
    image, out_of_memory = ended.image, supervise.is_out_of_memory(runtime, execution, ended)
    notes.current().image = image.note()
    if out_of_memory:
        notes.current().out_of_memory = True
    digest = image.digest or image.identifier or "without a digest"
    step.info("image: %s (%s) with %s", image.reference, digest, runtime.name)
    step.debug("container command: %s", shlex.join(ended.argv))
    _keep(runtime, ended, state, metadata)
    return ended.completed, written, out_of_memory, _home_advice(runtime, execution, ended)


def _keep(runtime: Runtime, ended: supervise.Ended, state: State | None, metadata: Metadata | None) -> None:
    """Write down beside the logs what was run, all at once."""
    log, image = log_path(metadata, state, "run"), ended.image
    if log is None or not os.path.isdir(os.path.dirname(log)):
        return
    note = {
        "image": image.reference,
        "digest": image.digest or None,
        "identifier": image.identifier or None,
        "runtime": runtime.name,
        "exit_code": ended.completed.returncode,
        "started": ended.completed.started,
        "ended": ended.completed.ended,
    }
    write_json(log.removesuffix(".run.log") + ".container.json", note)


_USES_HOME = re.compile(r"(^|[\s=:'\"(;&|])~(/|\s|$)|\$\{?HOME\b", re.MULTILINE)
_COMPLAINTS = ("denied", "no such file", "can't open", "cannot", "not found", "read-only")


def _home_advice(runtime: Runtime, execution: Execution, ended: supervise.Ended) -> str:
    """Return why ``~`` cannot be read, where a task that failed uses it and complains of a file in its home."""
    if ended.completed.returncode == 0:
        return ""
    other = runtime.other_home(execution, settings.caller_environment())
    text = "\n".join((*execution.argv, (execution.stdin or b"").decode("utf-8", "replace")))
    if other is None or not _USES_HOME.search(text):
        return ""
    home, reason = other
    lines = ended.completed.tail.decode("utf-8", "replace").lower().splitlines()
    complains = any(f"{home.lower()}/" in line and any(word in line for word in _COMPLAINTS) for line in lines)
    return f"~ is not readable here because {reason}; try --user image." if complains else ""


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
