"""The Celery application, and the task that its workers run.

What is carried is JSON only. A worker that is lost has its task delivered again: by RabbitMQ at once, by Redis after a
time-out that a living worker puts off (:mod:`packtivity.backends.celery_worker`). The lease on the task's state file
(:mod:`packtivity.lease`) keeps it from running twice at the same time and counts its attempts, and a task whose record
is there is not run again. So every step may be done over, and a broker or result store that is away is waited for: no
task is called failed because of it.
"""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING, Any

from celery import Celery, shared_task
from celery.exceptions import Reject

from packtivity import record_fields, settings, worker
from packtivity.backends import celery_results
from packtivity.backends.celery_results import CANCELLING, REVOKED, SUCCESS, Results, patiently
from packtivity.errors import PacktivityError
from packtivity.plugins import enable_plugins
from packtivity.runtimes.cancellation import Cancellation

if TYPE_CHECKING:
    from packtivity.backends.asked import Answer
    from packtivity.types import JSON

_WAIT = 2.0
"""Seconds that a task delivered twice waits for its other run to end, before it goes to the end of the queue."""
_CONNECT = 5.0
"""Seconds that a connection may take to come about."""
_CONFIRM = 30.0
"""Seconds that RabbitMQ may take to say that it has a task."""


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
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_channel_error_retry=True,  # RabbitMQ ends a channel on which a task takes long; the worker goes on
        broker_connection_max_retries=int(chosen.celery_patience / 30) + 8,  # they become 30 seconds apart
        broker_transport_options=_transport(chosen),
        redis_socket_connect_timeout=_CONNECT,
        result_backend_transport_options={"retry_policy": {"timeout": 5.0}},
    )
    app.steps["consumer"].add("packtivity.backends.celery_worker:StillHere")
    return app


def _results_beside(broker: str) -> str:
    """Return the result store where none is named: the broker, if it can be one, as in upstream 0.17.1."""
    return broker if broker.startswith(("redis", "sentinel", "memory", "cache", "filesystem")) else "rpc://"


def _transport(chosen: settings.Settings) -> dict[str, Any]:
    """Return options for the broker: an end to trying when a client submits, and to how long a task may be lost."""
    tries = {"max_retries": 2, "interval_start": 0.1, "interval_step": 0.4, "interval_max": 1.0}
    if chosen.celery_broker.startswith(("redis", "sentinel")):
        timeout = chosen.celery_visibility_timeout
        return {**tries, "visibility_timeout": timeout, "socket_connect_timeout": _CONNECT}
    if chosen.celery_broker.startswith(("amqp", "pyamqp")):
        return {**tries, "confirm_publish": True}
    return tries


def send(app: Any, document: JSON, task_id: str, queue: str | None, producer: Any = None) -> None:
    """Put a task into a queue."""
    more: dict[str, Any] = {"queue": queue} if queue else {}
    if not Results(app).store:
        with app.producer_or_acquire(producer) as given:
            app.backend.on_task_call(given, task_id)  # declares the queue for the answer
    if str(app.conf.broker_url).startswith(("amqp", "pyamqp")):
        more["confirm_timeout"] = _CONFIRM
    # run_nullary itself belongs to whichever application was made last; what is in the document is not for Celery's lists
    task = app.tasks[run_nullary.name]
    task.apply_async((document,), task_id=task_id, producer=producer, argsrepr="(…)", kwargsrepr="{}", **more)


class Delivery(Cancellation):
    """A task that runs here; see :class:`packtivity.runtimes.cancellation.Cancellation`. It may be cancelled by a signal."""

    running: dict[str, Delivery] = {}  # noqa: RUF012 - one for the process, by task
    """What runs in this process."""

    def __init__(self, task_id: str) -> None:
        super().__init__()
        self._closing = threading.RLock()  # unlike the base's, this may interrupt itself
        self._task_id = task_id
        self.running[task_id] = self

    def cancel(self) -> None:
        """End the task, unless it is over."""
        with self._closing:
            if not self.cancelled and self._read >= 0:
                os.write(self._write, b"\n")
            self.cancelled = True

    def gives_up(self, waited: float) -> bool:
        """Return whether to stop waiting for another run of the task, and do something else meanwhile."""
        self.abandoned = not self.cancelled and waited > _WAIT
        return self.cancelled or self.abandoned

    def close(self) -> None:
        """Give everything back."""
        with self._closing:
            self.running.pop(self._task_id, None)
            if self._read >= 0:
                os.close(self._read)
                os.close(self._write)
                self._read = -1

    __del__ = close


def cancel_running(app: Any) -> None:
    """End what runs in this process and is to be cancelled, as the result store says."""
    results = Results(app)
    for task_id, delivery in list(Delivery.running.items()):
        if not results.store or ((patiently(lambda: results.read([task_id]))[0]) or {}).get("status") == CANCELLING:  # noqa: B023
            delivery.cancel()


def cancel_on_signal(app: Any) -> None:
    """See that a signal from the parent ends the task that is cancelled, and none that has begun since."""
    import signal

    def handle(*_: object) -> None:
        threading.Thread(target=cancel_running, args=(app,), daemon=True).start()

    signal.signal(signal.SIGUSR2, handle)


@shared_task(name="packtivity.asyncbackends.run_nullary", bind=True, ignore_result=True)  # type: ignore[untyped-decorator,unused-ignore]
def run_nullary(self: Any, document: JSON) -> None:
    """Run a task document on a worker and put its answer into the result store.

    Upstream 0.17.1 has a function of this name that takes a pickle. Celery is told to ignore the result because it
    would call a task failed whose result it cannot store at once.
    """
    enable_plugins()
    task_id = str(self.request.id)
    if settings.current().celery_global_nametag:
        document = {**document, "metadata": {**(document.get("metadata") or {}), "name": task_id}}
    try:
        with Delivery(task_id) as delivery:
            _run(self, task_id, document, delivery)
    except celery_results.away() as error:
        raise Reject(str(error), requeue=True) from error


def _run(task: Any, task_id: str, document: JSON, delivery: Delivery) -> None:
    results = Results(task.app)
    answer = _begin(results, task_id, task.request)
    if answer is None:
        answer = _answer(document, delivery)
    if answer["status"] == "waiting" and results.keeps_documents:
        return  # whoever else runs it may die, and then it is submitted again
    if answer["status"] == "waiting":
        queue = celery_results.queue_of(task.request)
        patiently(lambda: send(task.app, document, task_id, queue), _complain)
        return
    state = REVOKED if answer["status"] == "cancelled" else SUCCESS
    patiently(lambda: results.write(task_id, answer, state, task.request), _complain)


def _answer(document: JSON, delivery: Delivery) -> Answer:
    """Run a task; one that cannot be read here, because it is of a newer client for example, has failed."""
    try:
        return worker.answer(document, delivery)
    except PacktivityError as error:
        return {"status": "failed", "result": None, "error": record_fields.failure(error), "record": None}


def _begin(results: Results, task_id: str, request: Any) -> Answer | None:
    """Mark a task as begun; the answer of one that is not to be run, because it was cancelled or is over."""
    if not results.store:
        return None
    found = patiently(lambda: results.begin(task_id, request), _complain)
    if found.get("status") in {CANCELLING, REVOKED}:
        error = {"type": "TaskCancelled", "message": "the task was cancelled before it began"}
        return {"status": "cancelled", "result": None, "error": error, "record": None}
    known = found.get("result")
    return known if found and isinstance(known, dict) and "status" in known else None


def _complain(error: Exception) -> None:
    text = celery_results.without_secrets(error)
    logging.getLogger("packtivity.celery").warning("broker or result store is away, trying again: %s", text)


__all__ = ["Delivery", "cancel_on_signal", "cancel_running", "make_app", "run_nullary", "send"]
