"""The objects of a task, as the API takes them: a Job, and a ConfigMap with its files. Pure functions.

What a pod runs is planned by the rules of every other container tool; :func:`plan_pod` adds what only Kubernetes needs.
"""

from __future__ import annotations

import base64
import posixpath
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from packtivity.errors import ConfigurationError, EnvironmentUnavailable, ParameterError
from packtivity.runtimes.base import CONTAINER_HOME
from packtivity.runtimes.containers import plan_container
from packtivity.runtimes.images import locked_reference, packed_name, parse
from packtivity.runtimes.resources import Resources, container_resources, deadline, refuse_unreadable, understand
from packtivity.spec.image_names import is_path, is_uri
from packtivity.spec.resources import RESOURCES, as_mapping
from packtivity.types import Mount

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from packtivity.backends.engines.kubernetes.options import Options
    from packtivity.handlers.config import ExecutionConfig
    from packtivity.types import JSON, Execution, Job, Part, State

Object = dict[str, Any]

DOMAIN = "packtivity.readthedocs.io"
KEY, TASK, NAME = f"{DOMAIN}/key", f"{DOMAIN}/task", f"{DOMAIN}/name"
"""A label (the same for the same task) and two annotations (the task's id; the name of its logs)."""

MANAGED = "app.kubernetes.io/managed-by"
CONTAINER = "payload"
STDIN = "/packtivity/stdin"
_FROM_FILE = 'exec "$@" < "$0"'
_MOST_BYTES = 1_000_000  # of all files together; a ConfigMap may have 1 MiB
_NOT_WORTH_IT = [126, 127]  # exit codes that come again when the same task is tried again
_NOBODY_IN_PARTICULAR = 1000  # who tasks run as when root submits them into a directory of root's
_PULL = {"missing": "IfNotPresent", "always": "Always", "never": "Never"}


# --- what is planned -------------------------------------------------------------------------------------------


class Caller(NamedTuple):
    """Who submits; ``owner`` is the user id that the work directory belongs to."""

    uid: int
    gid: int
    name: str
    owner: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """What a pod runs.

    :ivar execution: as for any container, with a deadline in whole seconds; its mounts are the directories of the state,
        by where they are in the volume, its files those of ``par_mounts``, by their paths inside.
    :ivar resources: what the spec asks for that is mounted.
    :ivar amounts: ``requests`` and ``limits``.
    :ivar user: user and group id; None for the image's own user.
    :ivar login: how the user is called inside.
    """

    execution: Execution
    resources: Resources
    amounts: Mapping[str, Mapping[str, str]]
    user: tuple[int, int] | None
    login: str
    config: ExecutionConfig


def plan_pod(job: Job, environment: Part, state: State, config: ExecutionConfig, options: Options, who: Caller) -> Plan:
    """Plan the pod of a task.

    :param environment: built, as its handler returns it.
    :raises EnvironmentUnavailable: it is nothing that a pod can run.
    :raises ParameterError: a value cannot be passed to a pod.
    """
    kind, asked = environment["environment_type"], environment.get("resources") or []
    if kind != "docker-encapsulated" or "instructions" in job:
        raise EnvironmentUnavailable(
            f"Kubernetes runs containers only, and the environment is {kind}",
            hint="Use another backend, or give the spec an image (docker-encapsulated).",
        )
    refuse_unreadable(asked, [name for name in RESOURCES if name.startswith("kubernetes_")])
    execution, spec = plan_container(job, environment, state, config), as_mapping(asked)
    if execution.network not in (None, "host"):
        raise EnvironmentUnavailable(
            f"Kubernetes cannot give a pod the network {execution.network!r}",
            hint="Let the cluster's administrators make a NetworkPolicy; --network host is possible.",
        )
    directories = [(path, False) for path in state.readwrite]
    directories += [(path, True) for path in state.readonly if path not in state.readwrite]
    contents = [content for _, content in execution.files]
    places = [str(mount["mountpath"]) for mount in environment.get("par_mounts") or []]
    for path in (*(path for path, _ in directories), *places):
        if not posixpath.isabs(path) or any(character in path for character in ":\0"):
            raise ParameterError(
                f"the path {path!r} cannot be mounted in a pod", hint="It has to be absolute, without a colon in it."
            )
    planned = replace(
        execution,
        image=image_for(str(execution.image), config.container_config.locked()),
        mounts=tuple(Mount(sub_path(path, options.path_base), path, readonly) for path, readonly in directories),
        files=tuple(zip(places, contents, strict=True)),
        timeout=deadline(execution.timeout, spec),
    )
    amounts = container_resources(options.resource_opts, spec, execution.limits)
    user = user_for(execution.user or options.run_as_user, who)
    return Plan(planned, understand(asked), amounts, user, who.name, config)


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


def image_for(image: str, locked: Mapping[str, str] | None) -> str:
    """Return what nodes are to pull, by its full name: a short one may mean another registry to a node than to Docker.

    :raises EnvironmentUnavailable: it is nothing that nodes can pull, or not in the lock file.
    """
    pulled = packed_name(image) if is_path(image) else None if is_uri(image) else image
    if pulled is None:
        what = f"the folder or file {image}" if is_path(image) else image
        raise EnvironmentUnavailable(f"Kubernetes cannot run {what}", hint="Push the image to a registry.")
    return str(parse(pulled)) if locked is None else locked_reference(pulled, locked)


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


# --- what is sent ----------------------------------------------------------------------------------------------


def make_job(plan: Plan, options: Options, name: str, key: str, about: Mapping[str, str]) -> Object:
    """Return the Job of a task.

    :param about: annotations.
    :raises ParameterError: something in it is no text, or its files are more than a ConfigMap takes.
    """
    metadata, retries = {"labels": _labels(options, key), "annotations": dict(about)}, plan.config.retries
    rule = {"containerName": CONTAINER, "operator": "In", "values": _NOT_WORTH_IT}
    spec = _known(
        backoffLimit=retries,
        ttlSecondsAfterFinished=options.ttl,
        template={"metadata": metadata, "spec": _pod(plan, options, list(_volumes(plan, options, name)))},
        podFailurePolicy={"rules": [{"action": "FailJob", "onExitCodes": rule}]} if retries else None,
    )
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, **metadata}, "spec": spec}


def make_files(plan: Plan, options: Options, name: str, key: str, uid: str) -> Object | None:
    """Return the ConfigMap with a task's input and files, which goes when its Job goes; None when it needs none.

    :param uid: of the Job.
    :raises ParameterError: they are more than a ConfigMap takes.
    """
    files = _files(plan)
    if not files:
        return None
    text, binary = {}, {}
    for part, (_, content) in files.items():
        try:
            text[part] = content.decode("utf-8")
        except UnicodeDecodeError:
            binary[part] = base64.b64encode(content).decode("ascii")
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": uid}
    metadata = {"name": name, "labels": _labels(options, key), "ownerReferences": [owner]}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": text, "binaryData": binary}


def _labels(options: Options, key: str) -> dict[str, str]:
    return {"component": "yadage", **options.resource_labels, MANAGED: "packtivity", KEY: key}


def _files(plan: Plan) -> dict[str, tuple[str, bytes]]:
    """Return the files of a task by their keys in its ConfigMap: absolute path inside, and content."""
    files = {"stdin": (STDIN, plan.execution.stdin)} if plan.execution.stdin else {}
    files |= {f"par-mount-{at}": each for at, each in enumerate(plan.execution.files)}
    size = sum(len(content) for _, content in files.values())
    if size > _MOST_BYTES:
        raise ParameterError(
            f"script and par_mounts have {size} bytes together, and a pod can be given {_MOST_BYTES}",
            hint="Put what is long into a file of the state, and read it from there.",
        )
    return files


def literal(text: str) -> str:
    """Return what Kubernetes makes ``text`` of, which replaces ``$(NAME)`` and ``$$`` in arguments and variables.

    :raises ParameterError: it is not text but bytes of another encoding.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ParameterError(f"{text!r} cannot be passed to a pod: it is not UTF-8") from None
    return text.replace("$", "$$")


def _known(**parts: JSON) -> Object:
    """Return a part of an object without what is None."""
    return {name: value for name, value in parts.items() if value is not None}


def _pod(plan: Plan, options: Options, volumes: list[_Volume]) -> Object:
    user: Object = {} if plan.user is None else {"runAsUser": plan.user[0], "runAsGroup": plan.user[1]}
    if plan.user and plan.user[0]:  # this fits the Pod Security Standard "restricted"
        user |= {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    passwords = [{"name": each} if isinstance(each, str) else each for each in options.secrets.get("hepimgcred") or []]
    pod = _known(
        restartPolicy="Never",
        terminationGracePeriodSeconds=max(1, round(plan.config.grace)),
        activeDeadlineSeconds=plan.execution.timeout,
        enableServiceLinks=False,
        shareProcessNamespace=True,  # so that signals reach the task, and its orphans are waited for
        hostNetwork=True if plan.execution.network == "host" else None,
        securityContext=user,
        serviceAccountName=options.svcaccount or None,
        automountServiceAccountToken=None if options.svcaccount else False,
        imagePullSecrets=passwords or None,
        initContainers=[_kinit(options)] if options.inject_krb else None,
        containers=[_container(plan, volumes)],
        volumes=[{"name": each.name, **each.source} for each in volumes],
    )
    return {**pod, **options.pod_spec}


def _container(plan: Plan, volumes: list[_Volume]) -> Object:
    execution, unprivileged = plan.execution, {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    argv = (("sh", "-c", _FROM_FILE, STDIN) if execution.stdin else ()) + execution.argv
    variables: Object = {} if plan.user is None else {"HOME": CONTAINER_HOME, "USER": plan.login}
    for volume in volumes:
        variables |= volume.variables
    return _known(
        name=CONTAINER,
        image=execution.image,
        imagePullPolicy=_PULL[plan.config.container_config.pull_policy()],
        command=[literal(part) for part in argv],
        env=_variables({**variables, **execution.env}),
        workingDir=execution.workdir,
        resources=plan.amounts,
        securityContext=unprivileged if plan.user and plan.user[0] else None,
        volumeMounts=[{"name": volume.name, **mount} for volume in volumes for mount in volume.mounts],
    )


def _variables(variables: Mapping[str, str | Object]) -> list[Object]:
    """Return variables as the API takes them; a mapping says where the value comes from."""
    return [
        {"name": name, **({"value": literal(value)} if isinstance(value, str) else {"valueFrom": value})}
        for name, value in variables.items()
    ]


# --- what is mounted: state, files, CVMFS, credentials ---------------------------------------------------------

_CREDENTIALS = "/packtivity-credentials"
_TICKETS = "/tmp/kerberos"  # noqa: S108 - inside a pod; upstream's place
_KINIT = 'printf "%s\\n" "$KRBPASSWORD" | kinit "$KRBUSERNAME@CERN.CH"'
_KRB_SECRET = "statesecret"  # noqa: S105 - the name of one, as in upstream 0.17.1
_KERBEROS: dict[str, str | Object] = {
    "KRB5CCNAME": f"FILE:{_TICKETS}/tmp_kt",  # noqa: S108
    "KRBUSERNAME": {"secretKeyRef": {"name": _KRB_SECRET, "key": "username"}},
}
_PASSWORD = {"secretKeyRef": {"name": _KRB_SECRET, "key": "password"}}
_KINDS = {  # credentials: the variable that names the file, its key in the Secret, what stands before its path
    "kerberos": ("KRB5CCNAME", "krb5cc", "FILE:"),
    "voms_proxy": ("X509_USER_PROXY", "x509up", ""),
    "token": ("BEARER_TOKEN_FILE", "token", ""),
}


class _Volume(NamedTuple):
    """A volume of a pod; where its container sees it, and the variables that go with it, from Secrets where they are mappings."""

    name: str
    source: Object
    mounts: list[Object]
    variables: Mapping[str, str | Object] = {}


def _volumes(plan: Plan, options: Options, name: str) -> Iterator[_Volume]:
    """Yield the volumes of a pod; ``name`` is that of the ConfigMap with the task's files."""
    if plan.execution.mounts:
        yield _state(plan, options)
    files = _files(plan)
    if files:
        mounts = [{"mountPath": path, "subPath": key, "readOnly": True} for key, (path, _) in files.items()]
        yield _Volume("files", {"configMap": {"name": name, "defaultMode": 0o444}}, mounts)
    if plan.resources.cvmfs:
        yield from _cvmfs(options)
    if plan.resources.authentication:  # the script that gets tickets, and nothing else of its Secret (upstream 0.17.1)
        folder, _, file = plan.execution.env.get("KRB_SETUP_SCRIPT", "").rpartition("/")
        item = {"key": "getkrb.sh", "path": file or "getkrb.sh", "mode": 0o755}
        yield _secret("hepauth", options.secrets["hepauth"], item, folder or "/recast_auth")
    yield from _credentials(plan.resources, options.secrets)
    if options.inject_krb:
        yield _Volume("kerberos-data", {"emptyDir": {}}, [{"mountPath": _TICKETS}], _KERBEROS)


def _state(plan: Plan, options: Options) -> _Volume:
    claim = options.state_type == "claim"
    source = _claim(options.claim_name, readonly=False) if claim else {"hostPath": {"path": options.claim_name}}
    mounts = [
        _known(
            mountPath=each.destination,
            subPath=each.source or None,
            readOnly=each.readonly or None,
            mountPropagation=options.mount_propagation,
        )
        for each in ((Mount("", options.path_base),) if options.collapse_state else plan.execution.mounts)
    ]
    return _Volume("state", source, mounts)


def _cvmfs(options: Options) -> Iterator[_Volume]:
    if options.cvmfs_type != "claims":
        on_nodes = options.cvmfs_type == "hostPath"
        source = {"hostPath": {"path": "/cvmfs"}} if on_nodes else _claim("cvmfs", readonly=True)
        mount = {"mountPath": "/cvmfs", "readOnly": True, "mountPropagation": "HostToContainer"}
        yield _Volume("cvmfs", source, [mount])
        return
    for repository in options.cvmfs_repos:
        name = repository.replace(".", "").replace("-", "")
        yield _Volume(name, _claim(name, readonly=True), [{"mountPath": f"/cvmfs/{repository}", "readOnly": True}])


def _credentials(resources: Resources, secrets: Mapping[str, Any]) -> Iterator[_Volume]:
    """Yield the credentials that the task asks for and the deployment has; a token goes with any."""
    wanted = {"kerberos": resources.kerberos, "voms_proxy": resources.voms_proxy or resources.rucio}
    wanted["token"] = any(wanted.values())
    for kind, (variable, key, scheme) in _KINDS.items():
        if wanted[kind] and secrets.get(kind):
            folder = f"{_CREDENTIALS}/{kind}"
            item = {"key": key, "path": key, "mode": 0o444}
            volume = _secret(f"credential-{kind.replace('_', '-')}", secrets[kind], item, folder)
            yield volume._replace(variables={variable: f"{scheme}{folder}/{key}"})


def _secret(name: str, secret: str, item: Object, folder: str) -> _Volume:
    source = {"secret": {"secretName": secret, "items": [item]}}
    return _Volume(name, source, [{"mountPath": folder, "readOnly": True}])


def _kinit(options: Options) -> Object:
    """Return the container that gets a ticket with the password of a Secret before the task begins."""
    return {
        "name": "makecc",
        "image": options.krb_image,
        "command": ["sh", "-c", _KINIT],
        "env": _variables({**_KERBEROS, "KRBPASSWORD": _PASSWORD}),
        "volumeMounts": [{"name": "kerberos-data", "mountPath": _TICKETS}],
    }


def _claim(name: str, *, readonly: bool) -> Object:
    return {"persistentVolumeClaim": {"claimName": name, "readOnly": readonly}}
