"""Plans containers: pure functions from job, environment, state and configuration to an execution.

Image, mounts, arguments, standard input and variables are those of upstream 0.17.1, except that read-only
directories are read-only, ``env`` is set, and a tag or digest that the image has already is kept.
"""

from __future__ import annotations

import json
import os
import posixpath
import shlex
from dataclasses import replace
from typing import TYPE_CHECKING

from packtivity import settings
from packtivity.errors import ConfigurationError, ParameterError
from packtivity.runtimes.base import check_variables
from packtivity.runtimes.plan import shell_argv
from packtivity.runtimes.resources import Resources, understand
from packtivity.spec.image_names import full_image
from packtivity.types import Diagnostic, Execution, Mount

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from packtivity.runtimes.base import Runtime
    from packtivity.types import ContainerConfig, Job, Part, RunConfig, State

SETUP_SCRIPT = "KRB_SETUP_SCRIPT"
"""The variable with a script in the directory of credentials (upstream 0.17.1)."""

PAR_MOUNT_FILE = "_yadage_parmount_{}.txt"


def plan_container(job: Job, environment: Part, state: State | None, config: RunConfig) -> Execution:
    """Plan a container.

    :param environment: a built ``docker-encapsulated`` environment: ``par_mounts`` have their ``mountcontent``.
    :param config: an :class:`~packtivity.handlers.config.ExecutionConfig`.
    :raises ParameterError: the image has no usable name, or a value cannot be passed to a process.
    :raises ConfigurationError: a container setting cannot be used.
    """
    containers = config.container_config
    resources = understand(environment.get("resources") or [])
    interactive = job.get("interactive")
    argv, stdin = shell_argv(job, environment) if interactive is None else (tuple(shlex.split(interactive)), None)
    par_mounts = _par_mounts(environment, state)
    location = containers.workdir_location()
    return Execution(
        argv=argv,
        stdin=stdin,
        workdir=_workdir(environment),
        env=_variables(environment, resources, containers),
        inherit_env=False,
        image=full_image(str(environment["image"]), environment.get("imagetag")),
        mounts=(
            *_state_mounts(state, location),
            *(Mount(outside(path, location), inside) for path, inside, _ in par_mounts),
            *_resource_mounts(resources, containers),
        ),
        timeout=config.timeout,
        files=tuple((path, content) for path, _, content in par_mounts),
        user=containers.user() or (None if resources.uid is None else str(resources.uid)),
        network=containers.network(),
        limits=containers.limits(resources.limits),
        tty=interactive is not None,
        unpacked=resources.unpacked,
        options=options(containers),
        image_dirs=containers.image_dirs(),
    )


def image_of(environment: Part) -> tuple[str | None, bool]:
    """Return the image of an environment, and whether an unpacked copy is preferred; ``None`` when it has no image.

    :raises ParameterError: it has no usable name.
    """
    if environment.get("environment_type") != "docker-encapsulated":
        return None, False
    unpacked = understand(environment.get("resources") or []).unpacked
    return full_image(str(environment["image"]), environment.get("imagetag")), unpacked


def _workdir(environment: Part) -> str | None:
    workdir = environment.get("workdir")
    if workdir is not None and not posixpath.isabs(workdir):
        raise ParameterError(
            f"environment.workdir: {workdir!r} is not an absolute path", hint="{workdir} stands for the work directory."
        )
    return workdir


def _variables(environment: Part, resources: Resources, containers: ContainerConfig) -> dict[str, str]:
    variables: dict[str, str] = {}
    if resources.authentication:
        variables[SETUP_SCRIPT] = posixpath.join(containers.auth_targetdir(), "getkrb.sh")
    for name, value in (environment.get("env") or {}).items():
        variables[name] = value if isinstance(value, str) else json.dumps(value)
    check_variables(variables)
    return variables


def outside(path: str, location: str | None) -> str:
    """Return how a daemon outside calls ``path``, with ``PACKTIVITY_WORKDIR_LOCATION`` being ``inside:outside``.

    :raises ConfigurationError: the setting is not of that form.
    """
    return _moved(path, *_ends(location))


def inside(path: str, location: str | None) -> str:
    """Return how ``path``, which a daemon outside understands, is called in here."""
    here, there = _ends(location)
    return _moved(path, there, here)


def _ends(location: str | None) -> tuple[str, str]:
    if not location:
        return "", ""
    here, colon, there = location.partition(":")
    if not (colon and here and there):
        raise ConfigurationError(f"PACKTIVITY_WORKDIR_LOCATION: {location!r} is not of the form inside:outside")
    return here.rstrip("/"), there.rstrip("/")


def _moved(path: str, start: str, other: str) -> str:
    return other + path[len(start) :] if start and (path == start or path.startswith(start + "/")) else path


def _state_mounts(state: State | None, location: str | None) -> list[Mount]:
    return [
        Mount(outside(os.path.abspath(path), location), path, readonly)
        for paths, readonly in (((state.readwrite, False), (state.readonly, True)) if state else ())
        for path in paths
    ]


def _par_mounts(environment: Part, state: State | None) -> list[tuple[str, str, bytes]]:
    """Return the files to write for ``par_mounts``: path here, path inside, content."""
    mounts = environment.get("par_mounts") or []
    if mounts and (state is None or not state.readwrite):
        raise ParameterError("environment.par_mounts: there is no read-write directory to keep their files in")
    folder = os.path.abspath(state.readwrite[0]) if mounts and state else ""
    return [
        (f"{folder}/{PAR_MOUNT_FILE.format(at)}", str(mount["mountpath"]), str(mount["mountcontent"]).encode())
        for at, mount in enumerate(mounts)
    ]


def _resource_mounts(resources: Resources, containers: ContainerConfig) -> Iterator[Mount]:
    source = containers.cvmfs_source()
    if resources.cvmfs and source == "external":
        yield Mount(containers.cvmfs_location(), "/cvmfs", True, "bind", containers.cvmfs_propagation())
    elif resources.cvmfs and source == "voldriver":
        yield from (Mount(name, f"/cvmfs/{name}", True, "volume") for name in containers.cvmfs_repos())
    elif resources.cvmfs:
        raise ConfigurationError(
            f"PACKTIVITY_CVMFS_SOURCE: {source!r} is no way to mount CVMFS", hint="There are: external, voldriver."
        )
    if resources.authentication:
        yield auth_mount(containers)


def absent(execution: Execution, containers: ContainerConfig) -> list[Mount]:
    """Return what of CVMFS and the directory of credentials would be mounted and is not here.

    Where a daemon elsewhere runs containers (``PACKTIVITY_WORKDIR_LOCATION``), nobody knows here.
    """
    places = () if containers.workdir_location() else ("/cvmfs", containers.auth_targetdir())
    return [
        mount
        for mount in execution.mounts
        if mount.kind == "bind" and mount.destination in places and not os.path.exists(mount.source)
    ]


def auth_mount(containers: ContainerConfig) -> Mount:
    """Return the mount of the directory of credentials: read-only, unlike upstream's."""
    return Mount(containers.auth_location(), containers.auth_targetdir(), readonly=True)


def options(containers: ContainerConfig) -> tuple[str, ...]:
    """Return the further arguments of ``PACKTIVITY_DOCKER_CMD_MOD``.

    :raises ConfigurationError: its quotes do not match.
    """
    return _words("PACKTIVITY_DOCKER_CMD_MOD", containers.container_runtime_modifier())


def for_tool(
    execution: Execution, runtime: Runtime, warn: Callable[[Diagnostic], None], user: str | None = None
) -> Execution:
    """Give a tool the further arguments of its own setting; one tool's arguments mean something else to another.

    :param user: the user that was asked for; a tool that always takes the caller warns of any other.
    :raises ConfigurationError: the quotes in the setting do not match.
    """
    if runtime.own_options == "PACKTIVITY_DOCKER_CMD_MOD":
        return execution
    own = runtime.own_options
    if execution.options:
        message = f"PACKTIVITY_DOCKER_CMD_MOD is for docker and podman; {runtime.name} does not get it"
        hint = f"What {runtime.name} is to get: {own}." if own else f"There is no such setting for {runtime.name}."
        warn(Diagnostic("warning", "option-ignored", message, hint=hint))
    is_taken = user in (None, "caller") or (user == "image" and own)
    if not is_taken and str(user).partition(":")[0] != str(runtime.host.uid):
        message = f"--user {user} has no effect, because {runtime.name} runs tasks as you"
        warn(Diagnostic("warning", "option-ignored", message, hint="Docker and Podman run tasks as other users."))
    return replace(execution, options=_words(own, settings.current().apptainer_cmd_mod) if own else ())


def _words(setting: str, text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise ConfigurationError(f"{setting}: {text!r} cannot be split: {error}") from None
