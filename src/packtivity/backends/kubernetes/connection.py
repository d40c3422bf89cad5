"""The way to a cluster: where its API is, who we are, how TLS is done. All of it as ``kubectl`` would find it.

The official library reads kubeconfig files and renews tokens; it is imported with this module only.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import requests
from kubernetes import config as _config
from kubernetes.client import Configuration
from requests.adapters import HTTPAdapter

from packtivity import settings
from packtivity.errors import BackendError

if TYPE_CHECKING:
    from packtivity.backends.kubernetes.options import Options

kubeconfig: Any = _config  # the library has annotations in some versions only
_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"


class Connection:
    """A session with the API server of a cluster.

    :ivar host: its address.
    :ivar verify: what its certificate is checked with; given with each request, so that nothing in the environment wins.
    :ivar namespace: what the context, or the pod we are in, says.
    :raises BackendError: there is no way to a cluster here.
    """

    def __init__(self, options: Options) -> None:
        self._configuration: Any = Configuration()
        self.namespace = "default"
        try:
            self._load(options)
        except (kubeconfig.ConfigException, OSError) as error:
            raise BackendError(
                f"no way to a Kubernetes cluster: {error}",
                hint="Set KUBECONFIG, or the option kubeconfig, to a file with which kubectl works; in a pod: incluster.",
            ) from error
        found = self._configuration
        self.verify: str | bool = (found.ssl_ca_cert or True) if found.verify_ssl else False
        self.host = str(self._configuration.host).rstrip("/")
        self.session = self._session()

    def _load(self, options: Options) -> None:
        given = options.kubeconfig
        if given == "incluster" or (given is None and _in_pod()):
            kubeconfig.load_incluster_config(client_configuration=self._configuration)
            self.namespace = _text(f"{_ACCOUNT}/namespace") or self.namespace
            return
        file = given or settings.caller_environment().get(
            "KUBECONFIG"
        )  # the library reads it once, when it is imported
        choice = {"config_file": os.path.expanduser(file) if file else None, "context": options.context}
        kubeconfig.load_kube_config(client_configuration=self._configuration, **choice)
        contexts, current = kubeconfig.list_kube_config_contexts(config_file=choice["config_file"])
        chosen = next((each for each in contexts if each["name"] == options.context), current)
        self.namespace = chosen["context"].get("namespace") or self.namespace

    def _session(self) -> requests.Session:
        found, session = self._configuration, requests.Session()
        if found.cert_file:
            session.cert = (found.cert_file, found.key_file) if found.key_file else found.cert_file
        if found.proxy:
            session.proxies = {"http": found.proxy, "https": found.proxy}
        session.auth = self._authorize  # as a function, so that no .netrc comes before it
        names = {"assert_hostname": found.assert_hostname, "server_hostname": getattr(found, "tls_server_name", None)}
        session.mount("https://", _Adapter({name: value for name, value in names.items() if value is not None}))
        return session

    def _authorize(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        for way in self._configuration.auth_settings().values():
            if way.get("in") == "header" and way.get("value"):
                request.headers[way["key"]] = way["value"]
        return request

    def close(self) -> None:
        """Close what is open."""
        self.session.close()


class _Adapter(HTTPAdapter):
    """Checks the server's certificate for another name than the address has, where the kubeconfig says so."""

    def __init__(self, names: dict[str, Any]) -> None:
        self._names = names
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **more: Any) -> None:
        """Make the pool of connections."""
        super().init_poolmanager(*arguments, **{**more, **self._names})


def _in_pod() -> bool:
    """Return whether this is a pod, whose user has no kubeconfig."""
    found = settings.caller_environment()
    usual = found.get("KUBECONFIG") or os.path.expanduser("~/.kube/config")
    here = any(os.path.exists(os.path.expanduser(part)) for part in usual.split(os.pathsep) if part)
    return not here and "KUBERNETES_SERVICE_HOST" in found


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return ""
