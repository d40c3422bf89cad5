"""The backend ``celery``: tasks for workers anywhere that share the file system.

What is carried is JSON only. A worker that is lost has its task delivered again; the lease on the task's state file
(:mod:`packtivity.lease`) keeps it from running twice at the same time, counts its attempts, and a task whose record is
there is not run again. An id that was never submitted is unknown, not pending: submitting leaves a mark in the result
store, and a ticket with this user.

Celery is imported with this module only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery import Celery, shared_task
from celery.result import AsyncResult

from packtivity import settings, worker
from packtivity.backends.asked import Answer, AskedBackend
from packtivity.backends.proxies import PacktivityProxyBase, proxy_details
from packtivity.errors import BackendError, ProxyError
from packtivity.files import is_id, read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from packtivity.types import JSON

SENT = "SENT"
"""State that a submitted task has in the result store until a worker says more."""

_STATUS = {"PENDING": "waiting", SENT: "waiting", "RECEIVED": "waiting", "RETRY": "waiting", "STARTED": "running"}


def make_app() -> Celery:
    """Return the Celery application that the settings describe."""
    app = Celery("packtivity")
    chosen = settings.current()
    results = chosen.celery_results or _results_beside(chosen.celery_broker)
    app.conf.update(
        task_serializer="json",
        result_serializer="json",
        event_serializer="json",
        accept_content=["json"],
        broker_url=chosen.celery_broker,
        result_backend=results,
        result_expires=chosen.celery_result_expires or None,
        result_persistent=True,
        result_extended=False,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_acks_on_failure_or_timeout=True,
        task_track_started=True,
        task_default_queue=chosen.celery_queue,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        broker_transport_options=_transport(chosen),
        result_backend_transport_options={"retry_policy": {"timeout": 5.0}},
    )
    return app


def _results_beside(broker: str) -> str:
    """Return the result store where none is named: the broker, if it can be one, as in upstream 0.17.1."""
    return broker if broker.startswith(("redis", "sentinel", "memory", "cache", "filesystem")) else "rpc://"


def _transport(chosen: settings.Settings) -> dict[str, Any]:
    """Return options for the broker; only Redis knows time-outs, and looks for lost tasks as often as it is told."""
    if not chosen.celery_broker.startswith("redis"):
        return {}
    return {
        "visibility_timeout": chosen.celery_visibility_timeout,
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
    }


default_celeryapp = make_app()


@shared_task(name="packtivity.asyncbackends.run_nullary", bind=True)  # type: ignore[untyped-decorator,unused-ignore]
def run_nullary(self: Any, document: JSON) -> Answer:
    """Run a task document on a worker and return its answer.

    Upstream 0.17.1 has a function of this name that takes a pickle.
    """
    from packtivity.plugins import enable_plugins

    enable_plugins()
    if settings.value("celery_global_nametag"):
        document = {**document, "metadata": {**(document.get("metadata") or {}), "name": str(self.request.id)}}
    return worker.answer(document)


class CeleryProxy(PacktivityProxyBase):
    """Handle of a Celery task.

    :param proxy: Celery's own handle, or the task's id.
    """

    def __init__(self, proxy: Any, details: JSON = None) -> None:
        super().__init__(proxy, details)
        self.task_id: str = proxy if isinstance(proxy, str) else proxy.task_id
        self.datamodel: JSON = None

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
        self.disable_sync = settings.value("celery_disable_sync")

    def submit(self, spec: Any, parameters: Any, state: Any, metadata: Any = None) -> CeleryProxy:
        """Start a task and return its proxy.

        :raises BackendError: the broker cannot be reached.
        """
        document = self.document(spec, parameters, state, metadata)
        task_id = document["id"]
        name = {"name": task_id} if settings.value("celery_global_nametag") else document["metadata"]
        path = worker.record_place(state, name, task_id)
        write_json(_ticket(task_id), {"record": path})
        try:
            if not _is_rpc(self.app):
                self.app.backend.store_result(task_id, {"record": path}, SENT)
            signature = run_nullary.signature((document,), app=self.app)
            signature.apply_async(task_id=task_id, **({"queue": self.queue} if self.queue else {}))
        except _unreachable() as error:
            raise BackendError(
                f"Celery's broker or result store cannot be reached: {error}",
                hint="Is it running, and is PACKTIVITY_CELERY_REDIS_BROKER its address?",
            ) from error
        proxy = CeleryProxy(task_id)
        proxy.datamodel = getattr(state, "datamodel", None)
        return proxy

    def ask(self, resultproxy: CeleryProxy) -> Answer:
        """Return how a task is: what its record says; without one, what the result store says.

        :raises ProxyError: nobody knows the task.
        :raises BackendError: there is no record, and the result store cannot be reached.
        """
        task_id = resultproxy.task_id
        ticket = read_json(_ticket(task_id))
        path = ticket.get("record") if isinstance(ticket, dict) else None
        told = worker.final(path, task_id) if path else None
        return told or self._stored(task_id, path)

    def _stored(self, task_id: str, path: str | None) -> Answer:
        try:
            meta = AsyncResult(task_id, app=self.app)._get_task_meta()
        except _unreachable() as error:
            raise BackendError(f"Celery's result store cannot be reached: {error}", hint="Is it running?") from error
        state, found = meta["status"], meta.get("result")
        if state == "SUCCESS" and isinstance(found, dict):
            return found
        if path is None and isinstance(found, dict) and isinstance(found.get("record"), str):
            told = worker.final(found["record"], task_id)
            if told:
                return told
        if state == "PENDING" and path is None:
            raise ProxyError(
                f"no Celery task {task_id} is known: it was never submitted, or its result has expired",
                hint="Ask as the user and on the machine that submitted it, with the same PACKTIVITY_CELERY_* set.",
            )
        if state in _STATUS:
            return {"status": _STATUS[state]}
        status = "cancelled" if state == "REVOKED" else "failed"
        return {"status": status, "result": None, "error": {"type": type(found).__name__, "message": str(found)}}

    def record_of(self, resultproxy: CeleryProxy) -> str | None:
        """Return the path that the record of a task has or will have; None where it is not known."""
        ticket = read_json(_ticket(resultproxy.task_id))
        path = ticket.get("record") if isinstance(ticket, dict) else None
        return path if isinstance(path, str) else None

    def cancel(self, resultproxy: CeleryProxy) -> None:
        """End a task: its worker process ends the task and then itself."""
        self.app.control.revoke(resultproxy.task_id, terminate=True, signal="SIGINT")


def _ticket(task_id: str) -> str:
    return f"{settings.state_dir()}/tickets/{task_id}.json"


def _is_rpc(app: Any) -> bool:
    return str(app.conf.result_backend or "").startswith("rpc")


def _unreachable() -> tuple[type[Exception], ...]:
    from celery.exceptions import ImproperlyConfigured
    from kombu.exceptions import OperationalError

    found: list[type[Exception]] = [OperationalError, ImproperlyConfigured, ConnectionError, ValueError]
    try:
        from redis.exceptions import RedisError
    except ImportError:
        return tuple(found)
    return (*found, RedisError)
