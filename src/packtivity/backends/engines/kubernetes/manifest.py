"""The objects of a task, as the API takes them: a Job, and a ConfigMap with its files. Pure functions."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from packtivity.backends.engines.kubernetes.planning import sub_path
from packtivity.errors import ParameterError
from packtivity.runtimes.base import CONTAINER_HOME

if TYPE_CHECKING:
    from collections.abc import Mapping

    from packtivity.backends.engines.kubernetes.options import Options
    from packtivity.backends.engines.kubernetes.planning import Plan
    from packtivity.runtimes.resources import Resources
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
    :raises ParameterError: something in it is no text, or its files are more than a ConfigMap takes.
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
    files = files_of(plan)
    if not files:
        return None
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": uid}
    text, binary = {}, {}
    for key_, (_, content) in files.items():
        try:
            text[key_] = content.decode("utf-8")
        except UnicodeDecodeError:
            binary[key_] = base64.b64encode(content).decode("ascii")
    metadata = {"name": name, "labels": labels(options, key), "ownerReferences": [owner]}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": text, "binaryData": binary}


def files_of(plan: Plan) -> dict[str, tuple[str, bytes]]:
    """Return the files of a task by their keys in its ConfigMap: absolute path inside, and content.

    :raises ParameterError: they are more than a ConfigMap takes.
    """
    files = {"stdin": (STDIN, plan.execution.stdin)} if plan.execution.stdin else {}
    files |= {f"par-mount-{at}": each for at, each in enumerate(plan.par_mounts)}
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


def _pod(plan: Plan, options: Options, volumes: Volumes) -> Object:
    pod: Object = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": plan.grace,
        "enableServiceLinks": False,
        "shareProcessNamespace": True,  # so that signals reach the task, and its orphans are waited for
        "securityContext": security(plan.user),
        "containers": [_container(plan, volumes)],
        "volumes": volumes.volumes,
    }
    if options.svcaccount:
        pod["serviceAccountName"] = options.svcaccount
    else:
        pod["automountServiceAccountToken"] = False
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


# --- what is mounted: state, files, CVMFS, credentials ---------------------------------------------------------

_CREDENTIALS = "/packtivity-credentials"
_TICKETS = "/tmp/kerberos"  # noqa: S108 - inside a pod; upstream's place
_TICKET = f"FILE:{_TICKETS}/tmp_kt"  # noqa: S108
_KRB_SECRET = "statesecret"  # noqa: S105 - the name of one, as in upstream 0.17.1
_KINIT = 'printf "%s\\n" "$KRBPASSWORD" | kinit "$KRBUSERNAME@CERN.CH"'

_KINDS = {
    "kerberos": ("KRB5CCNAME", "krb5cc", "FILE:"),
    "voms_proxy": ("X509_USER_PROXY", "x509up", ""),
    "token": ("BEARER_TOKEN_FILE", "token", ""),
}
"""Credentials by kind: the variable that names the file, the file's key in the Secret, what stands before its path."""


class Volumes:
    """The volumes of a pod, and how its container sees them.

    :param name: of the ConfigMap with the task's files.
    :ivar variables: environment variables that go with them.
    :ivar secret_variables: those whose values are in Secrets, as the API takes them.
    """

    def __init__(self, plan: Plan, options: Options, name: str) -> None:
        self.volumes: list[Object] = []
        self.mounts: list[Object] = []
        self.variables: dict[str, str] = {}
        self.secret_variables: list[Object] = []
        self._options = options
        self._state(plan)
        self._files(plan, name)
        if plan.resources.cvmfs:
            self._cvmfs()
        if plan.resources.authentication:
            self._authentication(plan.execution.env.get("KRB_SETUP_SCRIPT", ""))
        self._credentials(plan.resources)
        if options.inject_krb:
            self._tickets()

    def _add(self, name: str, source: Object, path: str | None = None, **more: str | bool) -> None:
        """Add a volume, and mount it at a path."""
        self.volumes.append({"name": name, **source})
        if path is not None:
            self._mount(name, path, **more)

    def _mount(self, name: str, path: str, **more: str | bool) -> None:
        self.mounts.append({"name": name, "mountPath": path, **more})

    def _state(self, plan: Plan) -> None:
        options = self._options
        directories = [(path, False) for path in plan.readwrite] + [(path, True) for path in plan.readonly]
        if not directories:
            return
        source: Object = {"hostPath": {"path": options.claim_name}}
        if options.state_type == "claim":
            source = _claim(options.claim_name, readonly=False)
        self._add("state", source)
        inside = [(path, readonly, sub_path(path, options.path_base)) for path, readonly in directories]
        if options.collapse_state:
            inside = [(options.path_base, False, "")]
        for path, readonly, below in inside:
            more: dict[str, str | bool] = {
                **({"subPath": below} if below else {}),
                **({"readOnly": True} if readonly else {}),
            }
            self._mount("state", path, mountPropagation=options.mount_propagation, **more)

    def _files(self, plan: Plan, name: str) -> None:
        files = files_of(plan)
        if files:
            self._add("files", {"configMap": {"name": name, "defaultMode": 0o444}})
        for key, (path, _) in files.items():
            self._mount("files", path, subPath=key, readOnly=True)

    def _cvmfs(self) -> None:
        if self._options.cvmfs_type == "claims":
            for repository in self._options.cvmfs_repos:
                name = repository.replace(".", "").replace("-", "")
                self._add(name, _claim(name, readonly=True), f"/cvmfs/{repository}", readOnly=True)
            return
        on_nodes = self._options.cvmfs_type == "hostPath"
        source = {"hostPath": {"path": "/cvmfs"}} if on_nodes else _claim("cvmfs", readonly=True)
        self._add("cvmfs", source, "/cvmfs", readOnly=True, mountPropagation="HostToContainer")

    def _authentication(self, script: str) -> None:
        """Mount the script that gets tickets, and nothing else of its Secret (upstream 0.17.1)."""
        folder, _, file = script.rpartition("/")
        items = [{"key": "getkrb.sh", "path": file or "getkrb.sh", "mode": 0o755}]
        secret = {"secretName": self._options.secrets["hepauth"], "items": items}
        self._add("hepauth", {"secret": secret}, folder or "/recast_auth", readOnly=True)

    def _credentials(self, resources: Resources) -> None:
        """Mount the credentials that the task asks for and the deployment has; a token goes with any."""
        wanted = {"kerberos": resources.kerberos, "voms_proxy": resources.voms_proxy or resources.rucio}
        wanted["token"] = any(wanted.values())
        for kind, (variable, key, scheme) in _KINDS.items():
            secret = self._options.secrets.get(kind)
            if not (wanted[kind] and secret):
                continue
            volume, folder = f"credential-{kind.replace('_', '-')}", f"{_CREDENTIALS}/{kind}"
            items = [{"key": key, "path": key, "mode": 0o444}]
            self._add(volume, {"secret": {"secretName": secret, "items": items}}, folder, readOnly=True)
            self.variables[variable] = f"{scheme}{folder}/{key}"

    def _tickets(self) -> None:
        self._add("kerberos-data", {"emptyDir": {}}, _TICKETS)
        self.variables["KRB5CCNAME"] = _TICKET
        self.secret_variables.append(_from_secret("KRBUSERNAME", "username"))

    def kerberos_container(self) -> Object:
        """Return the container that gets a ticket with the password of a Secret before the task begins."""
        variables: list[Object] = [{"name": "KRB5CCNAME", "value": _TICKET}]
        variables += [_from_secret("KRBUSERNAME", "username"), _from_secret("KRBPASSWORD", "password")]
        return {
            "name": "makecc",
            "image": self._options.krb_image,
            "command": ["sh", "-c", _KINIT],
            "env": variables,
            "volumeMounts": [{"name": "kerberos-data", "mountPath": _TICKETS}],
        }


def _from_secret(variable: str, key: str) -> Object:
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": _KRB_SECRET, "key": key}}}


def _claim(name: str, *, readonly: bool) -> Object:
    return {"persistentVolumeClaim": {"claimName": name, "readOnly": readonly}}
