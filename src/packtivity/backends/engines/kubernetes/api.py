"""Talks to the API server by the official library: what may pass is tried again, what is wrong is said plainly.

The library reads kubeconfig files as ``kubectl`` does, renews tokens and keeps the connections; it is imported with this
module only. What goes over them is plain JSON: the library's models drop fields that they do not know, of which the server
is to say that they are wrong.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from threading import Event
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlencode

import urllib3
from kubernetes import client as _client
from kubernetes import config as _config

from packtivity import settings
from packtivity.errors import BackendError

if TYPE_CHECKING:
    from packtivity.backends.engines.kubernetes.options import Options

Object = dict[str, Any]
client: Any = _client  # the library has annotations in some versions only
kubeconfig: Any = _config
_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
_TIMES_OUT = urllib3.Timeout(connect=10.0, read=60.0)  # seconds to connect, and between two pieces of an answer
_NO_ANSWER = 0
_PASSES = frozenset({_NO_ANSWER, 408, 429, 500, 502, 503, 504})  # what may be better in a while
_ABSENT = {
    "GET": {404},
    "POST": {409},
    "DELETE": {404, 409},
}  # what an answer is None for: nothing there, another there
_NO_LOG = frozenset({400, 404, 500, 502})
_PAUSE = (0.1, 5.0)  # seconds between tries: at first, and at most
_STARTS = 20.0
"""Seconds for which a server that has just been started may forbid what it allowed before, not knowing its roles yet."""


class Api:
    """The API server, and the namespace that tasks are in.

    :ivar host: its address.
    :ivar namespace: where Jobs are made.
    :raises BackendError: there is no way to a cluster here.
    """

    def __init__(self, options: Options) -> None:
        self._options, self._was_allowed = options, False
        self._client, self.host, namespace = _connect(options)
        self.namespace = options.namespace or namespace

    # --- what is asked of it ---

    def create(self, kind: str, body: Object) -> Object | None:
        """Make an object; None when there is one of that name.

        :param kind: ``jobs`` or ``configmaps``.
        """
        return self._call("POST", self._path(kind) + "?fieldValidation=Strict", body)

    def job(self, name: str, namespace: str) -> Object | None:
        """Return a Job; None when there is none."""
        return self._call("GET", self._path("jobs", name, namespace))

    def list(self, kind: str, selector: str, namespace: str) -> list[Object]:
        """Return all objects of a kind that have certain labels."""
        path = f"{self._path(kind, namespace=namespace)}?{urlencode({'labelSelector': selector})}"
        return (self._call("GET", path) or {}).get("items") or []

    def delete_job(self, name: str, namespace: str, uid: str) -> None:
        """Delete a Job, if it is there; it is gone when its pods are.

        :param uid: delete this one, and not another that has its name by now.
        """
        body = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Foreground"}
        self._call("DELETE", self._path("jobs", name, namespace), {**body, "preconditions": {"uid": uid}})

    def read_log(self, pod: str, container: str, namespace: str, into: IO[bytes]) -> str | None:
        """Write what a container printed; returns why that is not to be had, None when it is."""
        path = f"{self._path('pods', pod, namespace)}/log?{urlencode({'container': container})}"
        try:
            return "the pod is gone" if self._call("GET", path, into=into) is None else None
        except _Refusal as refusal:
            return str(refusal)

    # --- how ---

    def _path(self, kind: str, name: str = "", namespace: str = "") -> str:
        group = "/apis/batch/v1" if kind == "jobs" else "/api/v1"
        return f"{group}/namespaces/{namespace or self.namespace}/{kind}" + (f"/{name}" if name else "")

    def _call(self, method: str, path: str, body: Object | None = None, into: IO[bytes] | None = None) -> Object | None:
        """Ask until there is an answer or patience is over; None when what is asked for is not there, or is there already.

        :param into: takes the answer, in place of reading it as JSON.
        """
        began, pause, renewed = time.monotonic(), _PAUSE[0], False
        while True:
            try:
                answer = self._once(method, path, body, into)
            except _Refusal as refusal:
                passed = time.monotonic() - began
                if into is not None and refusal.status in _NO_LOG:
                    raise
                if refusal.status == 401 and not renewed:
                    self._client.close()
                    self._client, renewed = _connect(self._options)[0], True  # its token may have been renewed
                    continue
                patience = self._options.patience if refusal.status in _PASSES else 0.0
                if refusal.status == 403 and self._was_allowed:
                    patience = _STARTS
                if passed + pause > patience:
                    raise self._error(refusal, path) from None
                Event().wait(max(pause, min(refusal.after, self._options.patience - passed)))
                pause = min(pause * 1.6, _PAUSE[1])
            else:
                self._was_allowed = True
                return answer

    def _once(self, method: str, path: str, body: Object | None, into: IO[bytes] | None) -> Object | None:
        headers = {"Content-Type": "application/json", "Accept": "application/json, */*"}
        for way in self._client.configuration.auth_settings().values():
            if way.get("in") == "header" and way.get("value"):
                headers[way["key"]] = way["value"]
        try:
            response = self._client.rest_client.pool_manager.request(
                method,
                self.host + path,
                headers=headers,
                body=None if body is None else json.dumps(body),
                timeout=_TIMES_OUT,
                retries=False,
                redirect=False,  # our credentials are for this server, and so is what is asked
                preload_content=into is None,
            )
            if response.status >= 300:
                refusal = _refusal(response)
                if refusal.status in _ABSENT[method]:
                    return None
                raise refusal
            if into is None:
                answer: Object = json.loads(response.data)
                return answer
            into.seek(0)
            into.truncate()
            into.writelines(response.stream(1 << 16))
            response.release_conn()
        except urllib3.exceptions.SSLError as error:
            raise BackendError(
                f"the Kubernetes API at {self.host} has no certificate that is trusted here: {error}",
                hint="Does the kubeconfig have the cluster's certificate-authority?",
            ) from None
        except (urllib3.exceptions.HTTPError, ValueError) as error:
            raise _Refusal(_NO_ANSWER, str(error)) from None
        return {}

    def _error(self, refusal: _Refusal, path: str) -> BackendError:
        """Return the error to raise for what was refused for good."""
        status, touched = refusal.status, "tasks that run are not touched by this"
        if status == 401:
            return BackendError(
                f"the Kubernetes API at {self.host} does not accept our credentials (401): {refusal}",
                hint=f"Has the token expired? Log in again, so that kubectl works; {touched}.",
            )
        if status == 403:
            return BackendError(
                f"Kubernetes does not allow this: {refusal}",
                hint="It takes the right to create, get, list and delete jobs, to create configmaps, and to get and list "
                "pods and pods/log; or a quota is used up.",
            )
        if status in _PASSES:
            return BackendError(
                f"the Kubernetes API at {self.host} could not be reached for {self._options.patience:g} s: {refusal}",
                hint=f"{touched.capitalize()}; ask again later (PACKTIVITY_KUBE_PATIENCE).",
            )
        return BackendError(f"Kubernetes refuses this ({status}): {refusal}", hint=f"Asked for was: {path}")


class _Refusal(Exception):
    """An answer that is no success, or none at all.

    :ivar after: seconds the server asks to wait, 0 where it does not.
    """

    def __init__(self, status: int, message: str, after: float = 0.0) -> None:
        super().__init__(message)
        self.status, self.after = status, after


def _refusal(response: Any) -> _Refusal:
    """Return what an answer says that is no success."""
    try:
        said = json.loads(response.data)
    except ValueError:
        said = None
    said = said if isinstance(said, dict) else {}
    own = response.status != 404 or said.get("kind") == "Status"  # else it is of some other server in between
    shown = f"{response.status} {response.reason}: {response.data[:200].decode(errors='replace')}"
    after = str(response.headers.get("Retry-After", ""))
    return _Refusal(
        response.status if own else _NO_ANSWER,
        str(said.get("message") or said or shown),
        min(float(after), 30.0) if after.isdecimal() else 0.0,
    )


def _connect(options: Options) -> tuple[Any, str, str]:
    """Return the library's client, the address of the server, and the namespace that context or pod say, as ``kubectl`` would.

    :raises BackendError: there is no way to a cluster here.
    """
    configuration = client.Configuration()
    variables = settings.caller_environment()  # the library reads KUBECONFIG once, when it is imported
    usual = variables.get("KUBECONFIG") or "~/.kube/config"
    here = any(os.path.exists(os.path.expanduser(part)) for part in usual.split(os.pathsep) if part)
    in_pod = options.kubeconfig is None and not here and "KUBERNETES_SERVICE_HOST" in variables
    file, namespace = options.kubeconfig or variables.get("KUBECONFIG"), None
    path = os.path.expanduser(file) if file else None
    try:
        if in_pod or options.kubeconfig == "incluster":
            kubeconfig.load_incluster_config(client_configuration=configuration)
            with suppress(OSError), open(f"{_ACCOUNT}/namespace", encoding="utf-8") as namespace_file:
                namespace = namespace_file.read().strip()
        else:
            kubeconfig.load_kube_config(client_configuration=configuration, config_file=path, context=options.context)
            contexts, current = kubeconfig.list_kube_config_contexts(config_file=path)
            chosen = next((each for each in contexts if each["name"] == options.context), current)
            namespace = chosen["context"].get("namespace")
    except (kubeconfig.ConfigException, OSError) as error:
        raise BackendError.of(
            error,
            f"no way to a Kubernetes cluster: {error}",
            hint="Set KUBECONFIG, or the option kubeconfig, to a file with which kubectl works; in a pod: incluster.",
        ) from error
    configuration.host = str(configuration.host).rstrip("/")
    return client.ApiClient(configuration), configuration.host, namespace or "default"
