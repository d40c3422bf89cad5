"""The backend ``ipcluster``: tasks for the engines of an ipyparallel cluster that share the file system.

An engine is given the task document as JSON text, and gives JSON text back; ipyparallel's own envelope is its affair.
What the controller has forgotten, or has given to an engine that is dead, is given away again by its owner.

ipyparallel is imported with this module only.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from ipyparallel.error import KernelError

from packtivity.backends.document import DocumentBackend
from packtivity.backends.engine import Engine, Limits, Native
from packtivity.backends.engines.ipyparallel_cluster import ANSWER, ARRIVAL, Cluster
from packtivity.backends.proxies import TaskProxy, proxy_details
from packtivity.backends.status import OVER
from packtivity.errors import BackendError, ProxyError
from packtivity.files import is_id
from packtivity.worker import run_envelope

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ipyparallel import Client

    from packtivity.backends.engine import Envelope, Submission
    from packtivity.backends.status import Cause
    from packtivity.types import JSON

_PATIENCE, _FIRST_LOOK = 30.0, 0.3
_OPTIONS = "Name it in PACKTIVITY_ASYNCBACKEND_OPTS (profile, cluster_id) as when it was submitted."
_UNKNOWN = "Was it submitted to this cluster? Its files lie in the task's work directory, under _packtivity."


class _Run:
    """What an engine does with a task; an object, because of a function ipyparallel sends the code."""

    def __call__(self, text: str) -> str:
        """Run an envelope and return its answer with its id; both ways JSON text."""
        envelope = json.loads(text)
        return json.dumps({**run_envelope(envelope), "id": envelope["task"]["id"]}, default=str)


RUN = _Run()


class IPythonParallelProxy(TaskProxy):
    """Handle of a task on a cluster; its place is the file by which the cluster is found.

    ``message``, ipyparallel's id of what carries the task, is in its document for whoever is not its owner.
    """

    name, place_name = "IPythonParallelProxy", "cluster"

    def details(self) -> JSON:
        """Return id, message, record and place, with the caller's remarks."""
        return {**super().details(), "message": self.handle}

    @classmethod
    def fromJSON(cls, data: Mapping[str, Any]) -> Self:
        """Read the handle.

        :raises ProxyError: something in it cannot be.
        """
        details = dict(proxy_details(data))
        message = details.pop("message", None)
        if not (is_id(details.get("task_id")) and isinstance(message, str) and cls.is_place(details.get("cluster"))):
            raise ProxyError(f"proxy document of an {cls.name} has no task_id and message that could be one")
        proxy = super().fromJSON({"proxydetails": details})
        proxy.handle = message
        return proxy


class IPythonParallelEngine(Engine):
    """An ipyparallel cluster.

    :param cluster: the connection to it.
    """

    name = "ipcluster"
    limits = Limits(arrival=ARRIVAL, patience=0.0)

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def place(self) -> str | None:
        """Return the file by which the cluster is found; None where it was not looked for."""
        return self.cluster.name

    def submit(self, envelopes: Sequence[Envelope]) -> list[str | BackendError]:
        """Give tasks to the engines of the cluster and return the messages that carry them.

        :raises BackendError: there is no cluster.
        """
        return [*self.cluster.give(RUN, [json.dumps(each.to_json(), separators=(",", ":")) for each in envelopes])]

    def look(self, submissions: Sequence[Submission]) -> list[Native]:
        """Return what the controller says of tasks that were given to this cluster."""
        asked = [each.handle for each in submissions if each.handle and self._is_here(each) and not _is_new(each)]
        try:
            known = self.cluster.known(asked) if asked else {}
        except BackendError as error:
            away = Native("away", error.message, error.hint)
            return [away if self._is_here(each) else _far(each) for each in submissions]
        if asked:  # from now on it is waited for when it goes
            self.limits = replace(self.limits, patience=_PATIENCE)
        return [self._said(each, known.get(each.handle)) for each in submissions]

    def _is_here(self, submission: Submission) -> bool:
        return self.cluster.name in (None, submission.place)

    def _said(self, submission: Submission, known: str | None) -> Native:
        if not self._is_here(submission):
            return _far(submission)
        if _is_new(submission):
            return Native("waiting")
        is_own = self.owns(submission)
        if known == "completed" and is_own:  # of a stranger's message nobody knows what came back
            return self._ended(submission)
        if known == "pending":
            if is_own and self.cluster.is_stranded(submission.handle, time.time() - submission.time):
                return Native("gone", "the controller has given it to an engine that will not run it")
            return Native("waiting")
        what = f"no task {submission.id} is known: it has no record, and the controller does not know it"
        return Native("gone", "the controller does not know it" if is_own else what, _UNKNOWN)

    def _ended(self, submission: Submission) -> Native:
        client = self.cluster.client
        try:
            answer = json.loads(self.cluster.ask(lambda: client.get_result(submission.handle, owner=False).get(ANSWER)))
            if answer.pop("id") == submission.id and answer["status"] in OVER:
                return Native("ended", answer=answer)
        except (BackendError, TypeError, ValueError, LookupError, AttributeError):
            pass  # it has not come, it says nothing, or it is of something else
        except KernelError as error:
            name = getattr(error, "ename", type(error).__name__)
            if name not in ("EngineError", "KeyError"):  # its engine died; the controller keeps no results
                cause: Cause = "cancel" if name == "TaskAborted" else "refused"
                return Native("ended", f"{name}: {getattr(error, 'evalue', error)}", cause=cause)
        return Native("ended")

    def kill(self, submissions: Sequence[Submission]) -> None:
        """Drop tasks that wait at an engine; one that runs obeys its cancel file."""
        with suppress(Exception):  # nobody relies on it
            self.cluster.client.abort(
                [each.handle for each in submissions if each.handle and self._is_here(each)], block=False
            )


def _is_new(submission: Submission) -> bool:
    """Return whether a task of one's own was given away just now; most have a record before they are looked for."""
    return submission.deliveries > 0 and time.time() - submission.time < _FIRST_LOOK


def _far(submission: Submission) -> Native:
    what = f"the task {submission.id} was given to the cluster of {submission.place}, and this is another one"
    return Native("away" if submission.deliveries else "gone", what, _OPTIONS)


_engines: dict[str, IPythonParallelEngine] = {}


def _engine(options: Mapping[str, Any]) -> IPythonParallelEngine:
    """Return the one connection of this process to a cluster."""
    key = json.dumps(options, sort_keys=True, default=repr)
    return _engines.setdefault(key, IPythonParallelEngine(Cluster(options)))


class IPythonParallelBackend(DocumentBackend[IPythonParallelProxy]):
    """Gives tasks to the engines of a cluster.

    :param client: client to use; by default one that connects as ipyparallel is configured.
    :param resolve_like_partial: taken and ignored, for callers of upstream 0.17.1.
    :param options: for the client, such as ``profile``, ``cluster_id`` or ``connection_info``.
    """

    proxy_class = IPythonParallelProxy
    engine: IPythonParallelEngine

    def __init__(
        self,
        client: Client | None = None,
        resolve_like_partial: bool = True,  # noqa: ARG002
        packconfig_spec: Mapping[str, Any] | None = None,
        config: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        engine = _engine(options) if client is None else IPythonParallelEngine(Cluster(options, client))
        super().__init__(engine, packconfig_spec or config)

    @property
    def client(self) -> Client:
        """The client, connected when it is first needed.

        :raises BackendError: there is no cluster.
        """
        return self.engine.cluster.client
