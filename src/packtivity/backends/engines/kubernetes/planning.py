"""Decides what a task's pod runs: pure functions, the rules being those of every other container tool."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from packtivity.errors import ConfigurationError, EnvironmentUnavailable, ParameterError
from packtivity.runtimes.containers import plan_container
from packtivity.runtimes.images import is_path, is_uri, locked_reference, packed_name
from packtivity.runtimes.resources import Resources, container_resources, deadline, objects, understand

if TYPE_CHECKING:
    from collections.abc import Mapping

    from packtivity.backends.engines.kubernetes.options import Options
    from packtivity.types import JSON, Execution, State

_NOBODY_IN_PARTICULAR = 1000
"""Who tasks run as when root submits them into a directory of root's."""

_PULL = {"missing": "IfNotPresent", "always": "Always", "never": "Never"}


@dataclass(frozen=True, slots=True)
class Caller:
    """Who submits.

    :ivar owner: user id that the work directory belongs to.
    """

    uid: int
    gid: int
    name: str
    owner: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """What a pod runs.

    :ivar execution: program, input, variables, image and work directory.
    :ivar resources: what the spec asks for that is mounted.
    :ivar amounts: ``requests`` and ``limits``.
    :ivar seconds: how long it may run, whole seconds; None for no limit.
    :ivar user: user and group id; None for the image's own user.
    :ivar pull: ``imagePullPolicy``.
    :ivar readwrite, readonly: absolute paths of the state's directories.
    :ivar par_mounts: absolute path inside, and content.
    :ivar login: how the user is called inside.
    :ivar grace: whole seconds between the signals TERM and KILL.
    :ivar retries: how often it is tried again.
    """

    execution: Execution
    resources: Resources
    amounts: Mapping[str, Mapping[str, str]]
    seconds: int | None
    user: tuple[int, int] | None
    pull: str
    readwrite: tuple[str, ...]
    readonly: tuple[str, ...]
    par_mounts: tuple[tuple[str, bytes], ...]
    login: str
    grace: int
    retries: int


def plan_pod(
    job: JSON, environment: Mapping[str, Any], state: State, config: Any, options: Options, who: Caller
) -> Plan:
    """Plan the pod of a task.

    :param environment: built, as its handler returns it.
    :param config: an :class:`~packtivity.handlers.config.ExecutionConfig`.
    :raises EnvironmentUnavailable: it is nothing that a pod can run.
    :raises ParameterError: a value cannot be passed to a pod.
    """
    kind = environment["environment_type"]
    if kind != "docker-encapsulated" or "instructions" in job:
        raise EnvironmentUnavailable(
            f"Kubernetes runs containers only, and the environment is {kind}",
            hint="Use another backend, or give the spec an image (docker-encapsulated).",
        )
    execution = plan_container(job, environment, state, config)
    _check_network(execution)
    spec = objects(environment.get("resources") or [])
    contents = [content for _, content in execution.files]
    places = [str(mount["mountpath"]) for mount in environment.get("par_mounts") or []]
    return Plan(
        execution=replace(execution, image=image_for(execution, config), mounts=(), files=()),
        resources=understand(environment.get("resources") or []),
        amounts=container_resources(options.resource_opts, spec, execution.limits),
        seconds=deadline(execution.timeout, spec),
        user=user_for(execution.user or options.run_as_user, who),
        pull=_PULL[config.container_config.pull_policy()],
        readwrite=tuple(map(_mountable, state.readwrite)),
        readonly=tuple(_mountable(path) for path in state.readonly if path not in state.readwrite),
        par_mounts=tuple(zip(map(_mountable, places), contents, strict=True)),
        login=who.name,
        grace=max(1, round(config.grace)),
        retries=config.retries,
    )


def user_for(told: str | None, who: Caller) -> tuple[int, int] | None:
    """Return user and group id of a task; None for the image's own. Nobody is root without having been told to be.

    :param told: ``UID``, ``UID:GID``, ``caller`` or ``image``, by whoever may say so; None when nobody did.
    """
    if told == "image":
        return None
    if told not in (None, "caller"):
        uid, _, gid = told.partition(":")
        return int(uid), int(gid or who.gid or uid)
    uid_ = who.uid or who.owner or _NOBODY_IN_PARTICULAR
    return uid_, who.gid or uid_


def image_for(execution: Execution, config: Any) -> str:
    """Return what nodes are to pull.

    :raises EnvironmentUnavailable: it is nothing that nodes can pull, or not in the lock file.
    """
    image = str(execution.image)
    if is_path(image):
        packed = packed_name(image)
        if packed is None:
            raise EnvironmentUnavailable(
                f"Kubernetes cannot run the folder or file {image}", hint="Push the image to a registry."
            )
        image = packed
    elif is_uri(image):
        raise EnvironmentUnavailable(f"Kubernetes cannot run {image}", hint="Push the image to a registry.")
    return locked_reference(image, config.container_config.locked())


def _check_network(execution: Execution) -> None:
    if execution.network not in (None, "host"):
        raise EnvironmentUnavailable(
            f"Kubernetes cannot give a pod the network {execution.network!r}",
            hint="Let the cluster's administrators make a NetworkPolicy; --network host is possible.",
        )


def _mountable(path: str) -> str:
    if not posixpath.isabs(path) or any(character in path for character in ":\0"):
        raise ParameterError(
            f"the path {path!r} cannot be mounted in a pod", hint="It has to be absolute, without a colon in it."
        )
    return path


def sub_path(path: str, base: str) -> str:
    """Return where a directory is in the volume; empty for the whole volume.

    :param base: how the top of the volume is called here.
    :raises ConfigurationError: it is not in there.
    """
    relative = posixpath.relpath(path, base)
    if relative == ".." or relative.startswith("../"):
        raise ConfigurationError(
            f"the directory {path} is not in the volume of the cluster, whose top is {base} here",
            hint="Set YADAGE_K8S_PATHBASE (or path_base) to where the volume is mounted, and work below it.",
        )
    return "" if relative == "." else relative
