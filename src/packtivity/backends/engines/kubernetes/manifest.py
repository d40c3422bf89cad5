"""The objects of a task, as the API takes them: a Job, and a ConfigMap with its files. Pure functions."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from packtivity.backends.engines.kubernetes.volumes import Volumes
from packtivity.errors import ParameterError
from packtivity.runtimes.base import CONTAINER_HOME

if TYPE_CHECKING:
    from collections.abc import Mapping

    from packtivity.backends.engines.kubernetes.options import Options
    from packtivity.backends.engines.kubernetes.planning import Plan
    from packtivity.types import JSON

DOMAIN = "packtivity.readthedocs.io"
KEY, TASK, NAME = f"{DOMAIN}/key", f"{DOMAIN}/task", f"{DOMAIN}/name"
"""A label (the same for the same task) and two annotations (the task's id; the name of its logs)."""

MANAGED = "app.kubernetes.io/managed-by"
CONTAINER = "payload"
STDIN = "/packtivity/stdin"
_FROM_FILE = 'exec "$@" < "$0"'
_MOST_BYTES = 1_000_000
"""Of all files together; a ConfigMap may have 1 MiB."""

_NOT_WORTH_IT = [126, 127]
"""Exit codes that come again when the same task is tried again."""

Object = dict[str, Any]


def labels(options: Options, key: str) -> dict[str, str]:
    """Return the labels of all objects of a task."""
    return {"component": "yadage", **options.resource_labels, MANAGED: "packtivity", KEY: key}


def make_job(plan: Plan, options: Options, name: str, key: str, about: Mapping[str, str]) -> Object:
    """Return the Job of a task.

    :param about: annotations.
    :raises ParameterError: something in it is no text.
    """
    metadata = {"labels": labels(options, key), "annotations": dict(about)}
    volumes = Volumes(plan, options, name)
    spec: Object = {
        "backoffLimit": plan.retries,
        "ttlSecondsAfterFinished": options.ttl,
        "template": {"metadata": metadata, "spec": _pod(plan, options, volumes)},
    }
    if plan.retries:
        rule = {"containerName": CONTAINER, "operator": "In", "values": _NOT_WORTH_IT}
        spec["podFailurePolicy"] = {"rules": [{"action": "FailJob", "onExitCodes": rule}]}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, **metadata}, "spec": spec}


def make_files(plan: Plan, options: Options, name: str, key: str, uid: str) -> Object | None:
    """Return the ConfigMap with a task's input and files, which goes when its Job goes; None when it needs none.

    :param uid: of the Job.
    :raises ParameterError: they are more than a ConfigMap takes.
    """
    files = contents(plan)
    if not files:
        return None
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": uid}
    text, binary = {}, {}
    for key_, content in files.items():
        try:
            text[key_] = content.decode("utf-8")
        except UnicodeDecodeError:
            binary[key_] = base64.b64encode(content).decode("ascii")
    metadata = {"name": name, "labels": labels(options, key), "ownerReferences": [owner]}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": text, "binaryData": binary}


def contents(plan: Plan) -> dict[str, bytes]:
    """Return the files of a task by their keys in its ConfigMap.

    :raises ParameterError: they are more than a ConfigMap takes.
    """
    files = {"stdin": plan.execution.stdin} if plan.execution.stdin else {}
    files.update({f"par-mount-{at}": content for at, (_, content) in enumerate(plan.par_mounts)})
    size = sum(map(len, files.values()))
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


def _pod(plan: Plan, options: Options, volumes: Volumes) -> Object:
    pod: Object = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": plan.grace,
        "enableServiceLinks": False,
        "shareProcessNamespace": True,  # so that signals reach the task, and its orphans are waited for
        "securityContext": security(plan.user),
        "containers": [_container(plan, volumes)],
        "volumes": volumes.volumes,
        **(
            {"serviceAccountName": options.svcaccount}
            if options.svcaccount
            else {"automountServiceAccountToken": False}
        ),
    }
    if plan.seconds is not None:
        pod["activeDeadlineSeconds"] = plan.seconds
    if plan.execution.network == "host":
        pod["hostNetwork"] = True
    if options.secrets.get("hepimgcred"):
        pod["imagePullSecrets"] = [_named(secret) for secret in options.secrets["hepimgcred"]]
    if options.inject_krb:
        pod["initContainers"] = [volumes.kerberos_container()]
    return {**pod, **options.pod_spec}


def _named(secret: JSON) -> JSON:
    return {"name": secret} if isinstance(secret, str) else secret


def security(user: tuple[int, int] | None) -> Object:
    """Return the ``securityContext`` of a pod; an ordinary user's fits the Pod Security Standard "restricted"."""
    if user is None:
        return {}
    uid, gid = user
    found: Object = {"runAsUser": uid, "runAsGroup": gid}
    return {**found, "runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}} if uid else found


def _container(plan: Plan, volumes: Volumes) -> Object:
    execution = plan.execution
    argv = (("sh", "-c", _FROM_FILE, STDIN) if execution.stdin else ()) + execution.argv
    home = {} if plan.user is None else {"HOME": CONTAINER_HOME, "USER": plan.login}
    variables = {**home, **volumes.variables, **execution.env}
    container: Object = {
        "name": CONTAINER,
        "image": execution.image,
        "imagePullPolicy": plan.pull,
        "command": [literal(part) for part in argv],
        "env": [{"name": name, "value": literal(value)} for name, value in variables.items()]
        + volumes.secret_variables,
        "resources": plan.amounts,
        "volumeMounts": volumes.mounts,
    }
    if execution.workdir is not None:
        container["workingDir"] = execution.workdir
    if plan.user and plan.user[0]:
        container["securityContext"] = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    return container
