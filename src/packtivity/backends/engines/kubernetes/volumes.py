"""What is mounted in a task's pod: state, files, CVMFS, credentials. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from packtivity.backends.engines.kubernetes.planning import sub_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from packtivity.backends.engines.kubernetes.options import Options
    from packtivity.backends.engines.kubernetes.planning import Plan
    from packtivity.runtimes.resources import Resources

Object = dict[str, Any]
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

    def _state(self, plan: Plan) -> None:
        options = self._options
        directories = [(path, False) for path in plan.readwrite] + [(path, True) for path in plan.readonly]
        if not directories:
            return
        source: Object = {"hostPath": {"path": options.claim_name}}
        if options.state_type == "claim":
            source = {"persistentVolumeClaim": {"claimName": options.claim_name, "readOnly": False}}
        self.volumes.append({"name": "state", **source})
        inside = [(path, readonly, sub_path(path, options.path_base)) for path, readonly in directories]
        if options.collapse_state:
            inside = [(options.path_base, False, "")]
        for path, readonly, below in inside:
            mount = {"name": "state", "mountPath": path, "mountPropagation": options.mount_propagation}
            self.mounts.append(
                {**mount, **({"subPath": below} if below else {}), **({"readOnly": True} if readonly else {})}
            )

    def _files(self, plan: Plan, name: str) -> None:
        places = {"stdin": "/packtivity/stdin"} if plan.execution.stdin else {}
        places.update({f"par-mount-{at}": path for at, (path, _) in enumerate(plan.par_mounts)})
        if not places:
            return
        self.volumes.append({"name": "files", "configMap": {"name": name, "defaultMode": 0o444}})
        for key, path in places.items():
            self.mounts.append({"name": "files", "mountPath": path, "subPath": key, "readOnly": True})

    def _cvmfs(self) -> None:
        for name, source, path in _cvmfs_sources(self._options):
            self.volumes.append({"name": name, **source})
            mount = {"name": name, "mountPath": path, "readOnly": True}
            self.mounts.append(mount if path != "/cvmfs" else {**mount, "mountPropagation": "HostToContainer"})

    def _authentication(self, script: str) -> None:
        """Mount the script that gets tickets, and nothing else of its Secret (upstream 0.17.1)."""
        folder, _, file = script.rpartition("/")
        items = [{"key": "getkrb.sh", "path": file or "getkrb.sh", "mode": 0o755}]
        secret = {"secretName": self._options.secrets["hepauth"], "items": items}
        self.volumes.append({"name": "hepauth", "secret": secret})
        self.mounts.append({"name": "hepauth", "mountPath": folder or "/recast_auth", "readOnly": True})

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
            self.volumes.append({"name": volume, "secret": {"secretName": secret, "items": items}})
            self.mounts.append({"name": volume, "mountPath": folder, "readOnly": True})
            self.variables[variable] = f"{scheme}{folder}/{key}"

    def _tickets(self) -> None:
        self.volumes.append({"name": "kerberos-data", "emptyDir": {}})
        self.mounts.append({"name": "kerberos-data", "mountPath": _TICKETS})
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


def _cvmfs_sources(options: Options) -> Iterator[tuple[str, Object, str]]:
    """Yield name, source and place of each volume of CVMFS."""
    if options.cvmfs_type == "hostPath":
        yield "cvmfs", {"hostPath": {"path": "/cvmfs"}}, "/cvmfs"
    elif options.cvmfs_type == "claim":
        yield "cvmfs", {"persistentVolumeClaim": {"claimName": "cvmfs", "readOnly": True}}, "/cvmfs"
    else:
        for repository in options.cvmfs_repos:
            name = repository.replace(".", "").replace("-", "")
            yield name, {"persistentVolumeClaim": {"claimName": name, "readOnly": True}}, f"/cvmfs/{repository}"
