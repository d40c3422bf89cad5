"""Talks to the API server: plain JSON there and back; what may pass is tried again, what is wrong is said plainly."""

from __future__ import annotations

import time
from threading import Event
from typing import IO, TYPE_CHECKING, Any

import requests

from packtivity.backends.kubernetes.connection import Connection
from packtivity.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from packtivity.backends.kubernetes.options import Options

Object = dict[str, Any]
_TIMES_OUT = (10.0, 60.0)
"""Seconds to connect, and between two pieces of an answer."""

_PASSES = frozenset({408, 429, 500, 502, 503, 504})
_PAUSE = (0.1, 5.0)
"""Seconds between tries: at first, and at most."""

_STARTS = 20.0
"""Seconds for which a server that has just been started may forbid what it allowed before, not knowing its roles yet."""

_PAGE = 500
_NO_LOG = frozenset({400, 404, 500, 502})


class Conflict(BackendError):
    """There is an object of that name already, or it is another one than was meant."""


class Cluster:
    """The API server, and the namespace that tasks are in.

    :ivar host: its address.
    :ivar namespace: where Jobs are made.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self._connection = Connection(options)
        self._welcome = False
        self.host = self._connection.host
        self.namespace = options.namespace or self._connection.namespace

    # --- what is asked of it ---

    def create(self, kind: str, body: Object) -> Object:
        """Make an object.

        :param kind: ``jobs`` or ``configmaps``.
        :raises Conflict: there is one of that name.
        """
        made = self._call("POST", self._path(kind), query={"fieldValidation": "Strict"}, body=body)
        return made if made is not None else {}

    def job(self, name: str, namespace: str) -> Object | None:
        """Return a Job; None when there is none."""
        return self._call("GET", self._path("jobs", name, namespace))

    def list(self, kind: str, selector: str, namespace: str) -> list[Object]:
        """Return all objects of a kind that have certain labels, page by page."""
        for _ in range(3):
            found: list[Object] = []
            query: dict[str, str] = {"labelSelector": selector, "limit": str(_PAGE)}
            while True:
                page = self._call("GET", self._path(kind, namespace=namespace), query=query, gone=True)
                if page is None:
                    break  # pages that are asked for too late are gone: all over again
                found += page.get("items") or []
                following = (page.get("metadata") or {}).get("continue")
                if not following:
                    return found
                query = {**query, "continue": following}
        raise BackendError(f"the list of {kind} changes faster than it can be read")

    def delete_job(self, name: str, namespace: str, uid: str | None = None) -> bool:
        """Delete a Job; it is gone when its pods are. Returns whether it was there.

        :param uid: delete this one, and not another that has its name by now.
        """
        body: Object = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Foreground"}
        if uid:
            body["preconditions"] = {"uid": uid}
        try:
            return self._call("DELETE", self._path("jobs", name, namespace), body=body) is not None
        except Conflict:
            return False

    def read_log(self, pod: str, container: str, namespace: str, into: IO[bytes]) -> str | None:
        """Write what a container printed; returns why that cannot be had, None when it could."""
        path = f"{self._path('pods', pod, namespace)}/log"

        def take(response: requests.Response) -> None:
            into.seek(0)
            into.truncate()
            for piece in response.iter_content(1 << 16):
                into.write(piece)

        try:
            found = self._call("GET", path, query={"container": container}, take=take)
        except _NoLog as error:
            return str(error)
        return "the pod is gone" if found is None else None

    # --- how ---

    def _path(self, kind: str, name: str = "", namespace: str = "") -> str:
        group = "/apis/batch/v1" if kind == "jobs" else "/api/v1"
        return f"{group}/namespaces/{namespace or self.namespace}/{kind}" + (f"/{name}" if name else "")

    def _call(
        self, method: str, path: str, *, query: Any = None, body: Any = None, take: Any = None, gone: bool = False
    ) -> Object | None:
        """Ask until there is an answer or patience is over; None when what is asked for is not there.

        :param take: called with the answer's body, in place of reading it as JSON.
        :param gone: whether 410 counts as not there.
        """
        began, pause, idle = time.monotonic(), _PAUSE[0], Event()
        give_up, renewed = began + self._options.patience, False
        while True:
            try:
                return self._once(method, path, query, body, take, gone)
            except _Unauthorized as error:
                if renewed:
                    raise _refused(self.host, error) from None
                self._connection.close()
                self._connection, renewed = Connection(self._options), True  # its token may have been renewed
            except _Forbidden as error:
                if not self._welcome or time.monotonic() > began + _STARTS:
                    raise _forbidden(error) from None
                idle.wait(pause)
                pause = min(pause * 1.6, _PAUSE[1])
            except _Passing as error:
                if time.monotonic() + pause > give_up:
                    raise _unreachable(self.host, error, self._options.patience) from None
                idle.wait(max(pause, min(error.after, give_up - time.monotonic())))
                pause = min(pause * 1.6, _PAUSE[1])

    def _once(self, method: str, path: str, query: Any, body: Any, take: Any, gone: bool) -> Object | None:
        try:
            with self._connection.session.request(
                method,
                self.host + path,
                params=query,
                json=body,
                timeout=_TIMES_OUT,
                verify=self._connection.verify,
                allow_redirects=False,  # our credentials are for this server, and so is what is asked
                stream=take is not None,
            ) as response:
                if response.status_code < 300:
                    self._welcome = True
                    if take is None:
                        found: Object = response.json()
                        return found
                    take(response)
                    return {}
                _refuse(response, path, gone=gone, is_log=take is not None)
                return None
        except requests.exceptions.SSLError as error:
            raise BackendError(
                f"the Kubernetes API at {self.host} has no certificate that is trusted here: {error}",
                hint="Does the kubeconfig have the cluster's certificate-authority?",
            ) from None
        except (requests.exceptions.RequestException, ValueError) as error:
            raise _Passing(_reason(error)) from None


class _Unauthorized(Exception):
    """The server does not know who we are."""


class _Forbidden(Exception):
    """We may not do this."""


class _Passing(Exception):
    """Something that may be better in a while.

    :ivar after: seconds the server asks to wait, 0 where it does not.
    """

    def __init__(self, message: str, after: float = 0.0) -> None:
        super().__init__(message)
        self.after = after


class _NoLog(Exception):
    """A container's output cannot be had."""


def _refuse(response: requests.Response, path: str, *, gone: bool, is_log: bool) -> None:
    """Raise what an answer says that is no success; return for what is not there."""
    status, text = response.status_code, _message(response)
    if status == 404 and is_from_api(response):
        return
    if status == 410 and gone:
        return
    if status == 401:
        raise _Unauthorized(text)
    if is_log and status in _NO_LOG:
        raise _NoLog(text)
    if status in _PASSES or status == 404:
        raise _Passing(text, _after(response))
    if status == 409:
        raise Conflict(f"Kubernetes: {text}")
    if status == 403:
        raise _Forbidden(text)
    raise BackendError(f"Kubernetes refuses this ({status}): {text}", hint=f"Asked for was: {path}")


def is_from_api(response: requests.Response) -> bool:
    """Return whether an answer is the API's own, not that of some other server in between."""
    try:
        return bool(response.json().get("kind") == "Status")
    except (ValueError, AttributeError):
        return False


def _message(response: requests.Response) -> str:
    try:
        found: Mapping[str, Any] = response.json()
        return str(found.get("message") or found)
    except (ValueError, AttributeError):
        return f"{response.status_code} {response.reason}: {response.text[:200]}"


def _after(response: requests.Response) -> float:
    text = response.headers.get("Retry-After", "")
    return min(float(text), 30.0) if text.isdecimal() else 0.0


def _reason(error: Exception) -> str:
    inner = error.args[0] if error.args else error
    return str(getattr(inner, "reason", inner))


def _refused(host: str, error: Exception) -> BackendError:
    return BackendError(
        f"the Kubernetes API at {host} does not accept our credentials (401): {error}",
        hint="Has the token expired? Log in again, so that kubectl works; tasks that run are not touched by this.",
    )


def _forbidden(error: Exception) -> BackendError:
    return BackendError(
        f"Kubernetes does not allow this: {error}",
        hint="It takes the right to create, get, list and delete jobs, to create configmaps, and to get and list pods "
        "and pods/log; or a quota is used up.",
    )


def _unreachable(host: str, error: Exception, patience: float) -> BackendError:
    return BackendError(
        f"the Kubernetes API at {host} could not be reached for {patience:g} s: {error}",
        hint="Tasks that run are not touched by this; ask again later (PACKTIVITY_KUBE_PATIENCE).",
    )
