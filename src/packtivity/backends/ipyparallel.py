"""The backend ``ipcluster``: tasks for the engines of an ipyparallel cluster that share the file system.

An engine is given the task document as JSON text, and gives JSON text back; ipyparallel's own envelope is its affair.
Another client can ask for a task as long as the controller lives, and after that for its record. A task that the
controller has forgotten before it was over is given away again by whoever asks, because its document lies beside
where its record belongs (:mod:`packtivity.backends.ticket`); its lease sees that it does not run twice at a time, and
its record that it is not run again.

ipyparallel is imported with this module only.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from packtivity import lease, worker
from packtivity.backends.asked import OVER, Answer, AskedBackend
from packtivity.backends.cluster import ARRIVAL, Cluster
from packtivity.backends.proxies import PacktivityProxyBase, proxy_details
from packtivity.backends.ticket import Ticket
from packtivity.errors import BackendError, PacktivityError, ProxyError, TaskCancelled, WorkerLost
from packtivity.files import is_id
from packtivity.record import ATTEMPTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from packtivity.types import JSON

_FIRST_LOOK, _LOOK = 0.3, 2.0
"""Seconds until the process that gave a task away looks what became of it if no result arrives, and looks again."""


class IPythonParallelProxy(PacktivityProxyBase):
    """Handle of a task on a cluster.

    :param task_id: its id.
    :param message: ipyparallel's id of the message that carries it.
    :param record: path of its record.
    :param cluster: which cluster it was given to; to be compared, and never connected to.
    """

    def __init__(
        self, task_id: str, message: str, record: str, details: JSON = None, cluster: str | None = None
    ) -> None:
        super().__init__(details=details)
        self.task_id, self.message, self.record, self.cluster = task_id, message, record, cluster
        self.datamodel: JSON = None

    def proxyname(self) -> str:
        """Return ``IPythonParallelProxy``."""
        return "IPythonParallelProxy"

    def details(self) -> JSON:
        """Return the ids and where the record is, with the caller's remarks."""
        own = {"task_id": self.task_id, "message": self.message, "record": self.record, "cluster": self.cluster}
        return {**(self._details or {}), **own}

    @classmethod
    def fromJSON(cls, data: Mapping[str, Any]) -> IPythonParallelProxy:
        """Read the handle.

        :raises ProxyError: something in it cannot be.
        """
        details = dict(proxy_details(data))
        task_id, message, record = (details.pop(name, None) for name in ("task_id", "message", "record"))
        cluster = details.pop("cluster", None)
        if not is_id(task_id) or not isinstance(message, str) or not isinstance(cluster, (str, type(None))):
            raise ProxyError("proxy document of an IPythonParallelProxy has no task_id and message that could be one")
        if not (isinstance(record, str) and record.startswith("/") and record.endswith(f".{task_id}.outcome.json")):
            raise ProxyError("proxy document of an IPythonParallelProxy: its record is not the one of its task_id")
        return cls(task_id, message, record, details or None, cluster)


class IPythonParallelBackend(AskedBackend):
    """Gives tasks to the engines of a cluster.

    :param client: client to use; by default one that connects as ipyparallel is configured.
    :param resolve_like_partial: taken and ignored, for callers of upstream 0.17.1.
    :param options: for the client, such as ``profile``, ``cluster_id`` or ``connection_info``.
    """

    def __init__(
        self,
        client: Any = None,
        resolve_like_partial: bool = True,  # noqa: ARG002
        packconfig_spec: Mapping[str, Any] | None = None,
        config: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(packconfig_spec or config)
        self.cluster = _cluster(options) if client is None else Cluster(options, client)
        self._given: dict[str, _Given] = {}
        self._over: dict[str, Answer] = {}

    @property
    def client(self) -> Any:
        """The client, connected when it is first needed.

        :raises BackendError: there is no cluster.
        """
        return self.cluster.client

    # --- giving away ---

    def submit(self, spec: Any, parameters: Any, state: Any, metadata: Any = None) -> IPythonParallelProxy:
        """Start a task and return its proxy.

        :raises BackendError: there is no cluster.
        """
        return self.batch_submit([(spec, parameters, state, metadata)])[0]

    def batch_submit(self, nodes: Iterable[tuple[Any, Any, Any, Any]]) -> list[IPythonParallelProxy]:
        """Start many tasks, each ``(spec, parameters, state, metadata)``, and return their proxies."""
        self.cluster.client  # noqa: B018 - no ticket for a task that nobody can be given
        errands = [self._errand(*node) for node in nodes]
        tickets = [Ticket(path) for _, path, _, _ in errands]
        for ticket, (_, _, text, _) in zip(tickets, errands, strict=True):
            ticket.write(text)
        try:
            handles = self.cluster.give([text for _, _, text, _ in errands], ATTEMPTS - 1)
        except BackendError:
            for ticket in tickets:
                ticket.remove()
            raise
        return [self._proxy(*errand, handle) for errand, handle in zip(errands, handles, strict=True)]

    def _errand(self, spec: Any, parameters: Any, state: Any, metadata: Any) -> tuple[str, str, str, JSON]:
        document = self.document(spec, parameters, state, metadata)
        path = worker.record_place(state, document["metadata"], document["id"]) or ""
        text = json.dumps({"record": path, "task": document}, separators=(",", ":"))
        return document["id"], path, text, getattr(state, "datamodel", None)

    def _proxy(self, task_id: str, path: str, _: str, model: JSON, handle: Any) -> IPythonParallelProxy:
        proxy = IPythonParallelProxy(task_id, handle.msg_id, path, None, self.cluster.name)
        proxy.datamodel = model
        self._given[task_id] = _Given(handle)
        return proxy

    def _give_again(self, proxy: IPythonParallelProxy, ticket: Ticket) -> Answer:
        """Give a task away that its controller or engine has lost; nothing happens when somebody else does."""
        if self.cluster.name not in (None, proxy.cluster):
            raise ProxyError(
                f"the task {proxy.task_id} was given to the cluster of {proxy.cluster}, and this is another one",
                hint="Name it in PACKTIVITY_ASYNCBACKEND_OPTS (profile, cluster_id) as when it was submitted.",
            )
        with ticket.alone() as ours:
            errand = ticket.document() if ours and ticket.noted() in (None, proxy.message) else None
            if errand is not None:
                handle = self.cluster.give_again(json.dumps(errand), ATTEMPTS - 1)
                proxy.message = handle.msg_id
                ticket.note(proxy.message)
                self._given[proxy.task_id] = _Given(handle)
        return {"status": "waiting"}

    # --- asking ---

    def ask(self, resultproxy: IPythonParallelProxy) -> Answer:
        """Return how a task is: what came back, or what its record says; without one, what the controller says.

        :raises ProxyError: nobody knows the task.
        :raises BackendError: there is no record, and the controller cannot be reached.
        """
        answer = self.ask_many([resultproxy])[0]
        if isinstance(answer, PacktivityError):
            raise answer
        return answer

    def ask_many(self, resultproxies: Sequence[IPythonParallelProxy]) -> list[Answer | PacktivityError]:
        """Return how many tasks are; the controller is asked once for all that have no record."""
        told = [self._here(proxy) for proxy in resultproxies]
        rest = [proxy for proxy, answer in zip(resultproxies, told, strict=True) if answer is None]
        by_controller = iter(self._by_controller(rest))
        found = [next(by_controller) if answer is None else answer for answer in told]
        for proxy, answer in zip(resultproxies, found, strict=True):
            self._keep(proxy, answer)
        return found

    def _keep(self, proxy: IPythonParallelProxy, answer: Answer | PacktivityError) -> None:
        given = self._given.get(proxy.task_id)
        if isinstance(answer, dict) and answer["status"] in OVER:
            self._over[proxy.task_id] = answer
            self._given.pop(proxy.task_id, None)
        elif given is not None and isinstance(answer, dict):
            given.status = answer["status"]

    def _here(self, proxy: IPythonParallelProxy) -> Answer | PacktivityError | None:
        try:
            return self._heard(proxy) or self._seen(proxy)
        except PacktivityError as error:
            return error

    def _heard(self, proxy: IPythonParallelProxy) -> Answer | None:
        """Return what this process knows without looking anywhere."""
        if proxy.task_id in self._over:
            return self._over[proxy.task_id]
        given = self._given.get(proxy.task_id)
        if given is None:
            return None
        if not given.handle.done():
            return {"status": given.status} if time.monotonic() < given.look_at else None
        del self._given[proxy.task_id]
        return _answer(given.handle.result(), proxy)

    def _seen(self, proxy: IPythonParallelProxy) -> Answer | None:
        """Return what lies where the record belongs, when that says enough."""
        told = worker.final(proxy.record, proxy.task_id)
        if told:
            return told
        state = lease.of_task(proxy.record, proxy.task_id)
        if state is not None and lease.is_held(state):
            return {"status": "running"}
        cancelled = Ticket(proxy.record).is_cancelled()
        return _concluded(proxy, TaskCancelled("the task was cancelled")) if cancelled else None

    def _by_controller(self, proxies: Sequence[IPythonParallelProxy]) -> list[Answer | PacktivityError]:
        for proxy in proxies:
            proxy.message = Ticket(proxy.record).noted() or proxy.message
            if proxy.task_id in self._given:
                self._given[proxy.task_id].look_at = time.monotonic() + _LOOK
        try:
            known = self.cluster.known([proxy.message for proxy in proxies]) if proxies else {}
        except BackendError as error:
            back = self.cluster.may_come_back()
            return [{"status": "waiting"} if back else error for _ in proxies]
        return [self._judged(proxy, known.get(proxy.message)) for proxy in proxies]

    def _judged(self, proxy: IPythonParallelProxy, known: str | None) -> Answer | PacktivityError:
        try:
            if known == "completed":
                return self._completed(proxy)
            return self._pending(proxy) if known else self._forgotten(proxy)
        except (ProxyError, BackendError) as error:
            return error

    def _completed(self, proxy: IPythonParallelProxy) -> Answer:
        answer = _answer(self.cluster.fetched(proxy.message), proxy)
        return answer or self._seen(proxy) or self._died(proxy)

    def _died(self, proxy: IPythonParallelProxy) -> Answer:
        """Give a task away again whose engine died, unless that has happened often enough."""
        state = lease.of_task(proxy.record, proxy.task_id)
        attempts = (lease.read(state) or {}).get("attempts") if state else 0
        ticket = Ticket(proxy.record)
        if ticket.age() is None or not isinstance(attempts, int) or attempts >= ATTEMPTS:
            return self._lost(proxy)
        return self._give_again(proxy, ticket)

    def _pending(self, proxy: IPythonParallelProxy) -> Answer:
        if lease.of_task(proxy.record, proxy.task_id) and self.cluster.is_empty():
            return self._seen(proxy) or self._lost(proxy)
        ticket = Ticket(proxy.record)
        age = ticket.age() or 0.0
        if age > ARRIVAL and self.cluster.is_stranded(proxy.message, age):
            return self._give_again(proxy, ticket)
        return {"status": "waiting"}

    def _forgotten(self, proxy: IPythonParallelProxy) -> Answer:
        ticket = Ticket(proxy.record)
        age = ticket.age()
        if age is None:
            return self._seen(proxy) or worker.left_behind(proxy.record, proxy.task_id) or _unknown(proxy)
        return {"status": "waiting"} if age < ARRIVAL else self._give_again(proxy, ticket)

    def _lost(self, proxy: IPythonParallelProxy) -> Answer:
        error = WorkerLost(
            f"the engines that ran this task died, {ATTEMPTS} times, or there are no others",
            hint="Does it use up the memory, or kill its parent? Its run log may tell.",
        )
        return _concluded(proxy, error)

    def wait(self, resultproxy: IPythonParallelProxy) -> Answer:
        """Return the answer of a task when it is over."""
        given = self._given.get(resultproxy.task_id)
        while given is not None and (answer := self.ask(resultproxy)):
            if answer["status"] in OVER:
                return answer
            given = self._given.get(resultproxy.task_id)
            if given is not None:
                given.handle.wait(_LOOK)
        return super().wait(resultproxy)

    # --- ending ---

    def cancel(self, resultproxy: IPythonParallelProxy) -> None:
        """End a task, or see that it never begins; one that is over stays as it is.

        :raises ProxyError: nobody knows the task.
        """
        if self.ask(resultproxy)["status"] in OVER:
            return
        Ticket(resultproxy.record).ask_for_end()
        self._given.pop(resultproxy.task_id, None)  # to look at once from now on
        state = lease.of_task(resultproxy.record, resultproxy.task_id)
        if state is not None and lease.is_held(state):
            lease.end_orphans(state)
            return
        if not worker.final(resultproxy.record, resultproxy.task_id):
            _concluded(resultproxy, TaskCancelled("the task was cancelled before it began"))


class _Given:
    """A task that this process gave away, and how it was when it was last looked for."""

    def __init__(self, handle: Any) -> None:
        self.handle, self.status = handle, "waiting"
        self.look_at = time.monotonic() + _FIRST_LOOK


_clusters: dict[str, Cluster] = {}


def _cluster(options: Mapping[str, Any]) -> Cluster:
    """Return the one connection of this process to a cluster."""
    key = json.dumps(options, sort_keys=True, default=repr)
    return _clusters.setdefault(key, Cluster(options))


def _failure(status: str, kind: str, message: str) -> Answer:
    return {"status": status, "result": None, "error": {"type": kind, "message": message}}


def _unknown(proxy: IPythonParallelProxy) -> Answer:
    raise ProxyError(
        f"no task {proxy.task_id} is known: it has no record, and the controller does not know it",
        hint="Was it submitted to this cluster? Its files lie in the task's work directory, under _packtivity.",
    )


def _concluded(proxy: IPythonParallelProxy, error: PacktivityError) -> Answer:
    """Write the record of a task that nobody runs, and return what it says."""
    from packtivity.task import Task

    ticket = Ticket(proxy.record)
    errand = ticket.document()
    if errand is None:
        status = "cancelled" if isinstance(error, TaskCancelled) else "failed"
        return worker.final(proxy.record, proxy.task_id) or _failure(status, type(error).__name__, str(error))
    answer = worker.failed(Task.from_json(errand["task"]), error)
    ticket.remove()
    return answer


def _answer(found: Any, proxy: IPythonParallelProxy) -> Answer | None:
    """Return what came back; None when that is only that the engine died.

    :param found: what the engine returned, or the error.
    :raises ProxyError: it is of another task.
    """
    from ipyparallel.error import TaskAborted

    if isinstance(found, TaskAborted):
        return _concluded(proxy, TaskCancelled(str(found)))
    if isinstance(found, Exception):
        name, value = getattr(found, "ename", type(found).__name__), getattr(found, "evalue", found)
        lost = WorkerLost(f"the engine could not run this task: {name}: {value}")
        return None if name == "EngineError" else _concluded(proxy, lost)
    try:
        answer: Answer = json.loads(found)
        its_own = answer.pop("id", None) == proxy.task_id
    except (TypeError, ValueError, AttributeError):  # it is of somebody else's call
        its_own = False
    if not its_own:
        raise ProxyError("the message in this proxy is of another task than its task_id")
    return answer
