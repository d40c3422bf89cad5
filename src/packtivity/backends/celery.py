"""The backend ``celery``: tasks for workers anywhere that share the file system.

How a task is, its record says; without one, what lies where the record belongs, and the result store. An id that was
never submitted is unknown, not pending: submitting leaves a mark in the result store, and a ticket with this user.

Celery is imported with this module and those that it takes its parts from; see :mod:`packtivity.backends.celery_app`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from packtivity import folders, settings, worker
from packtivity.backends.asked import OVER, Answer, AskedBackend
from packtivity.backends.celery_app import make_app, run_nullary, send
from packtivity.backends.celery_results import (
    CANCELLING,
    REVOKED,
    STARTED,
    SUCCESS,
    Results,
    away,
    unreachable,
)
from packtivity.backends.proxies import PacktivityProxyBase, proxy_details
from packtivity.errors import BackendError, PacktivityError, ProxyError
from packtivity.files import is_id, read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from packtivity.types import JSON

__all__ = ["CeleryBackend", "CeleryProxy", "default_celeryapp", "make_app", "run_nullary"]

_POLL = (0.002, 0.5)
"""Seconds between questions while a result is waited for: at first, and at most."""

_RARELY = 0.1
"""Seconds between those of them that go to the result store, which costs more than to look for a record."""

_STATUS = {"SENT": "waiting", "PENDING": "waiting", "RECEIVED": "waiting", "RETRY": "waiting", STARTED: "running"}

default_celeryapp = make_app()


class CeleryProxy(PacktivityProxyBase):
    """Handle of a Celery task.

    :param proxy: Celery's own handle, or the task's id.
    """

    def __init__(self, proxy: Any, details: JSON = None) -> None:
        super().__init__(proxy, details)
        self.task_id: str = proxy if isinstance(proxy, str) else proxy.task_id
        self.datamodel: JSON = None
        self.record: str | None = None
        self.answer: Answer | None = None

    def proxyname(self) -> str:
        """Return ``CeleryProxy``."""
        return "CeleryProxy"

    def details(self) -> JSON:
        """Return the id, with the caller's remarks."""
        return {**(self._details or {}), "task_id": self.task_id}

    @classmethod
    def fromJSON(cls, data: Mapping[str, Any]) -> CeleryProxy:
        """Read the handle.

        :raises ProxyError: it has no id.
        """
        details = dict(proxy_details(data))
        task_id = details.pop("task_id", None)
        if not is_id(task_id):
            raise ProxyError("proxy document of a CeleryProxy has no task_id that could be one")
        return cls(task_id, details or None)


class CeleryBackend(AskedBackend):
    """Gives tasks to Celery.

    :param app: application to use, by default the one that the settings describe.
    :param queue: queue to put tasks into, by default ``PACKTIVITY_CELERY_QUEUE``.
    """

    def __init__(
        self,
        app: Any = None,
        packconfig_spec: Mapping[str, Any] | None = None,
        config: Mapping[str, Any] | None = None,
        queue: str | None = None,
    ) -> None:
        super().__init__(packconfig_spec or config)
        self.app = app or default_celeryapp
        self.queue = queue
        self.disable_sync = settings.current().celery_disable_sync
        self._results = Results(self.app)
        self._away_since: float | None = None

    # --- submitting --------------------------------------------------------------------------------------------

    def submit(self, spec: Any, parameters: Any, state: Any, metadata: Any = None) -> CeleryProxy:
        """Start a task and return its proxy.

        :raises BackendError: the broker or the result store cannot be reached.
        """
        return self.batch_submit([(spec, parameters, state, metadata)])[0]

    def batch_submit(self, nodes: Iterable[tuple[Any, Any, Any, Any]]) -> list[CeleryProxy]:
        """Start many tasks, each ``(spec, parameters, state, metadata)``, over one connection.

        :raises BackendError: the broker or the result store cannot be reached; tasks before may have been started.
        """
        documents, proxies = [], []
        for spec, parameters, state, metadata in nodes:
            document = self.document(spec, parameters, state, metadata)
            proxy = CeleryProxy(document["id"])
            name = {"name": proxy.task_id} if settings.current().celery_global_nametag else document["metadata"]
            proxy.record = worker.record_place(state, name, proxy.task_id)
            proxy.datamodel = getattr(state, "datamodel", None)
            write_json(_ticket(proxy.task_id, make=True), {"record": proxy.record})
            documents.append(document)
            proxies.append(proxy)
        self._hand_over_all(documents, {proxy.task_id: proxy.record for proxy in proxies})
        return proxies

    def _hand_over_all(self, documents: list[JSON], records: Mapping[str, str | None]) -> None:
        try:
            self._results.mark(records)
        except _impossible() as error:
            raise unreachable("result store", self.app.conf.result_backend, error) from error
        try:
            with self.app.producer_pool.acquire(block=True) as producer:
                for document in documents:
                    send(self.app, document, document["id"], self.queue, producer)
            queue = self.queue or self.app.conf.task_default_queue
            self._results.keep({document["id"]: document for document in documents}, queue)
        except _impossible() as error:
            raise unreachable("broker", self.app.conf.broker_url, error) from error

    # --- asking ------------------------------------------------------------------------------------------------

    def ask(self, resultproxy: CeleryProxy) -> Answer:
        """Return how a task is: what its record says; without one, what the result store says.

        :raises ProxyError: nobody knows the task.
        :raises BackendError: there is no record, and the result store cannot be reached.
        """
        (answer,) = self.ask_many([resultproxy])
        if isinstance(answer, PacktivityError):
            raise answer
        return answer

    def ask_many(self, resultproxies: Sequence[CeleryProxy]) -> list[Answer | PacktivityError]:
        """Return how many tasks are, with one question to the result store for all that have no record yet.

        :raises BackendError: there is a task without a record, and the result store cannot be reached.
        """
        found = [_recorded_or_error(proxy) for proxy in resultproxies]
        unsaid = [proxy for proxy, answer in zip(resultproxies, found, strict=True) if answer is None]
        try:
            known = iter(self._results.read([proxy.task_id for proxy in unsaid]) if unsaid else ())
        except _impossible() as error:
            raise unreachable("result store", self.app.conf.result_backend, error) from error
        if unsaid:
            self._away_since = None
        return [
            self._stored(proxy, next(known)) if answer is None else answer
            for proxy, answer in zip(resultproxies, found, strict=True)
        ]

    def _stored(self, proxy: CeleryProxy, meta: Mapping[str, Any] | None) -> Answer | PacktivityError:
        if meta is None:
            return self._without_mark(proxy)
        state, said = meta["status"], meta.get("result")
        if state == SUCCESS and isinstance(said, dict):
            proxy.answer = said
            return said
        path = said.get("record") if isinstance(said, dict) else None
        if proxy.record is None and isinstance(path, str):
            proxy.record = path
            told = _recorded(proxy)
            if told:
                return told
        if state in _STATUS:
            return {"status": _STATUS[state]}
        if state in {CANCELLING, REVOKED}:
            return {"status": "running"} if _is_running(proxy) else _cancelled()
        return {"status": "failed", "result": None, "error": _failure_of_celery(said)}

    def _without_mark(self, proxy: CeleryProxy) -> Answer | PacktivityError:
        """Return how a task is that the result store has nothing of."""
        told = _recorded(proxy)
        if told:
            return told
        if _is_running(proxy):
            return {"status": "running"}
        if proxy.record is None:
            return ProxyError(
                f"no Celery task {proxy.task_id} is known: it was never submitted, or its result has expired",
                hint=_ASK_HINT if self._results.store else _RPC_HINT,
            )
        if self._results.store and self._results.shares_fate:
            return ProxyError(
                f"Celery's broker and result store have lost all trace of task {proxy.task_id}, which was submitted",
                hint="Were they emptied, or started anew without their data? Submit the task again.",
            )
        return {"status": "waiting"}

    def ask_waiting(self, resultproxies: Sequence[CeleryProxy]) -> list[Answer | PacktivityError]:
        """Return how many tasks are, for who asks until they are over: while the result store is away, they wait.

        :raises BackendError: it has been away for ``PACKTIVITY_CELERY_PATIENCE``.
        """
        try:
            return self.ask_many(resultproxies)
        except BackendError:
            now = time.monotonic()
            self._away_since = self._away_since or now
            if now - self._away_since >= settings.current().celery_patience:
                raise
            return [_recorded_or_error(proxy) or {"status": "waiting"} for proxy in resultproxies]

    def ready(self, resultproxy: CeleryProxy) -> bool:
        """Return whether the task is over, as far as is known: while the result store is away, it is not.

        :raises BackendError: the result store has been away for ``PACKTIVITY_CELERY_PATIENCE``.
        """
        (answer,) = self.ask_waiting([resultproxy])
        if isinstance(answer, PacktivityError):
            raise answer
        return bool(answer["status"] in OVER)

    def wait(self, resultproxy: CeleryProxy) -> Answer:
        """Return the answer of a task when it is over, however often the result store goes away meanwhile.

        :raises BackendError: it was away for ``PACKTIVITY_CELERY_PATIENCE``; or this is a Celery task itself, in which
            waiting for others may be for ever.
        """
        from threading import Event

        from celery._state import task_join_will_block

        if self.disable_sync and task_join_will_block():
            raise BackendError(
                "a Celery task must not wait for the result of another one: all workers may come to wait",
                hint="Set PACKTIVITY_CELERY_DISABLE_SYNC=false if there are always enough workers.",
            )
        pause, idle, question = _POLL[0], Event(), 0.0
        while _recorded(resultproxy) is None:
            if time.monotonic() >= question:
                if self.ready(resultproxy):
                    break
                question = time.monotonic() + _RARELY
            idle.wait(pause)
            pause = min(pause * 1.5, _POLL[1])
        return self.ask(resultproxy)

    def record_of(self, resultproxy: CeleryProxy) -> str | None:
        """Return the path that the record of a task has or will have; None where it is not known."""
        return _record_path(resultproxy)

    # --- cancelling --------------------------------------------------------------------------------------------

    def cancel(self, resultproxy: CeleryProxy) -> None:
        """End a task: one that waits will not begin, one that runs is ended by its worker.

        :raises BackendError: the broker or the result store cannot be reached.
        """
        if self.ask(resultproxy)["status"] in OVER:
            return
        mark = {"record": resultproxy.record}
        try:
            if self._results.store:
                self._results.write(resultproxy.task_id, mark, CANCELLING)
            self.app.control.broadcast("packtivity_cancel", arguments={"task_id": resultproxy.task_id})
        except _impossible() as error:
            raise unreachable("broker", self.app.conf.broker_url, error) from error


_ASK_HINT = "Ask as the user and on the machine that submitted it, with the same PACKTIVITY_CELERY_* set."
_RPC_HINT = (
    "With the result store rpc:// only the process that submitted it is told; others need its record, or redis://."
)


def _impossible() -> tuple[type[Exception], ...]:
    """Return the errors of what is away, and of an address that is none."""
    from celery.exceptions import ImproperlyConfigured

    return (*away(), ImproperlyConfigured, ValueError, KeyError)


def _ticket(task_id: str, *, make: bool = False) -> str:
    return f"{folders.state('tickets', make=make)}/{task_id}.json"


def _record_path(proxy: CeleryProxy) -> str | None:
    if proxy.record is None:
        ticket = read_json(_ticket(proxy.task_id))
        path = ticket.get("record") if isinstance(ticket, dict) else None
        proxy.record = path if isinstance(path, str) else None
    return proxy.record


def _recorded(proxy: CeleryProxy) -> Answer | None:
    if proxy.answer is None:
        path = _record_path(proxy)
        proxy.answer = worker.final(path, proxy.task_id) if path else None
    return proxy.answer


def _recorded_or_error(proxy: CeleryProxy) -> Answer | PacktivityError | None:
    try:
        return _recorded(proxy)
    except PacktivityError as error:
        return error


def _is_running(proxy: CeleryProxy) -> bool:
    return (worker.left_behind(proxy.record, proxy.task_id) or {}).get("status") == "running"


def _cancelled() -> Answer:
    error = {"type": "TaskCancelled", "message": "the task was cancelled before it was over"}
    return {"status": "cancelled", "result": None, "error": error}


def _failure_of_celery(said: Any) -> dict[str, str]:
    """Return type and message of what Celery itself calls a failure, such as a task that its workers do not know."""
    if not isinstance(said, dict):
        return {"type": "TaskFailed", "message": str(said)}
    words = said.get("exc_message")
    message = " ".join(map(str, words)) if isinstance(words, list) else str(words)
    return {"type": "TaskFailed", "message": f"Celery: {said.get('exc_type')}: {message}"}
