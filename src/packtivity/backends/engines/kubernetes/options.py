"""What the user chose about tasks in a cluster: the keyword arguments of upstream 0.17.1, and more."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from packtivity import settings
from packtivity.errors import BackendError, ConfigurationError
from packtivity.registry import suggestion

if TYPE_CHECKING:
    from collections.abc import Mapping

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?", re.ASCII)
_RESOURCES = {"requests": {"memory": "2Gi", "cpu": "1"}}
_SECRETS = {"hepauth": "hepauth", "hepimgcred": []}
_WEEK = 7 * 86400
_PLANNED = frozenset(
    {"containers", "initContainers", "restartPolicy", "volumes", "imagePullSecrets", "activeDeadlineSeconds"}
)  # parts of a pod that the option pod_spec cannot say


@dataclass(frozen=True, slots=True)
class Options:
    """How tasks are run in a cluster; :func:`read_options` makes it."""

    kubeconfig: str | None = None  # file with the way to the cluster, `incluster`, or None for the usual places
    context: str | None = None  # which of its contexts; None for its current one
    namespace: str | None = None  # where Jobs are made; None for the context's own
    state_type: str = "claim"  # `claim` (a PersistentVolumeClaim) or `hostPath` (a directory that every node has)
    claim_name: str = "yadagedata"  # the claim, or the directory on the nodes
    path_base: str = "/"  # how the top of that volume is called here, absolute
    collapse_state: bool = False  # mount the whole volume instead of the state's directories
    mount_propagation: str = "None"  # of these mounts: `None`, `HostToContainer` or `Bidirectional`
    # {"requests": {…}, "limits": {…}} that pods have unless the task or the caller says more
    resource_opts: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: _RESOURCES)
    resource_prefix: str = "wflow"  # how names of Jobs begin
    resource_labels: Mapping[str, str] = field(default_factory=dict)  # labels of all objects
    # names of Secrets: `hepauth`, `hepimgcred` (a list), `kerberos`, `voms_proxy`, `token`
    secrets: Mapping[str, Any] = field(default_factory=lambda: _SECRETS)
    inject_krb: bool = False  # get a Kerberos ticket with the Secret `statesecret` before the task begins
    krb_image: str = "cern/cc7-base"  # image with `kinit` for it
    svcaccount: str | None = None  # service account of pods; without one, pods have no token of the cluster
    run_as_user: str | None = None  # `UID` or `UID:GID` of tasks, `image` for the image's own; None for the caller's
    cvmfs_type: str = "claims"  # `claims` (one for each repository), `claim` (one called `cvmfs`) or `hostPath`
    cvmfs_repos: tuple[str, ...] = ()  # repositories to mount from claims
    pod_spec: Mapping[str, Any] = field(default_factory=dict)  # further parts of the pod, such as `nodeSelector`
    pull_patience: float = 120.0  # seconds for which an image may fail to be pulled until the task is called failed
    patience: float = 300.0  # seconds for which the cluster may be out of reach until that is an error
    ttl: int = _WEEK  # seconds for which the cluster keeps a Job that is over and that nobody has asked about
    keep_failed: bool = False  # leave Jobs that failed in the cluster, to be looked at, until `ttl`


_CHOICES = {
    "state_type": ("claim", "hostPath"),
    "mount_propagation": ("None", "HostToContainer", "Bidirectional"),
    "cvmfs_type": ("claims", "claim", "hostPath"),
}


def read_options(given: Mapping[str, Any]) -> Options:
    """Return the options for keyword arguments; what is not given comes from the settings.

    :raises BackendError: there is no such option, or a value cannot be used.
    :raises ConfigurationError: a setting cannot be used.
    """
    known, usual = [each.name for each in fields(Options)], settings.current()
    for name in given:
        if name not in known:
            raise BackendError(f"the Kubernetes backend has no option {name!r}", hint=suggestion(name, known))
    chosen = {**_from_settings(usual), **{name: value for name, value in given.items() if value is not None}}
    if usual.kube_resource_opts:  # which wins (upstream 0.17.1)
        chosen["resource_opts"] = _read_json(usual.kube_resource_opts)
    chosen["resource_opts"] = chosen.get("resource_opts") or _RESOURCES
    chosen["path_base"] = os.path.realpath(chosen.get("path_base") or usual.k8s_path_base or os.getcwd())
    if chosen.get("state_type") == "hostPath":
        chosen.setdefault("claim_name", chosen["path_base"])
    chosen["secrets"] = {**_SECRETS, **(chosen.get("secrets") or {})}
    chosen["cvmfs_repos"] = tuple(chosen.get("cvmfs_repos") or usual.cvmfs_repos)
    if "run_as_user" in chosen:
        chosen["run_as_user"] = str(chosen["run_as_user"])
    made = Options(**chosen)
    _check(made)
    return made


def _from_settings(usual: settings.Settings) -> dict[str, Any]:
    found = {"namespace": usual.kube_namespace, "context": usual.kube_context, "patience": usual.kube_patience}
    state = usual.kube_state
    if state:
        kind, colon, name = state.partition(":")
        if kind not in _CHOICES["state_type"] or (colon and not name):
            raise ConfigurationError(
                f"PACKTIVITY_KUBE_STATE: {state!r} is no volume",
                hint="Write claim:NAME, hostPath or hostPath:DIRECTORY.",
            )
        found |= {"state_type": kind, "claim_name": name or None}
    return {name: value for name, value in found.items() if value is not None}


def _read_json(text: str) -> dict[str, Any]:
    import yaml

    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"PACKTIVITY_KUBE_RESOURCE_OPTS is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ConfigurationError(
            f"PACKTIVITY_KUBE_RESOURCE_OPTS: {text!r} is not a JSON object",
            hint='Write for example {"requests": {"memory": "2Gi", "cpu": "1"}}.',
        )
    return found


def _check(options: Options) -> None:
    for name, allowed in _CHOICES.items():
        if getattr(options, name) not in allowed:
            raise BackendError(f"{name}: {getattr(options, name)!r} is none of: {', '.join(allowed)}")
    if not _LABEL.fullmatch(options.resource_prefix):
        raise BackendError(
            f"resource_prefix: {options.resource_prefix!r} cannot begin the name of a Job",
            hint="Lower-case letters, digits and dashes, at most 32.",
        )
    for name in ("resource_opts", "secrets", "resource_labels", "pod_spec"):
        if not isinstance(getattr(options, name), dict):
            raise BackendError(f"{name}: expected a mapping, not {getattr(options, name)!r}")
    strange = set(options.resource_opts) - {"requests", "limits"}
    if strange or not all(isinstance(part, dict) for part in options.resource_opts.values()):
        raise BackendError("resource_opts: expected mappings called requests and limits")
    planned = sorted(_PLANNED & set(options.pod_spec))
    if planned:
        raise BackendError(f"pod_spec: {planned[0]} is planned from the task", hint=f"Leave out: {', '.join(planned)}.")
    uid, colon, gid = (options.run_as_user or "0").partition(":")
    if options.run_as_user != "image" and not (uid.isdecimal() and (gid.isdecimal() or not colon)):
        raise BackendError(f"run_as_user: {options.run_as_user!r} is no user", hint="Write UID, UID:GID or image.")
