"""What a Celery worker of ours does beside running tasks; Celery loads this in workers only.

Redis delivers a task again that nobody has acknowledged for a while, whether or not it still runs. So a worker says
every few seconds that it still has its tasks, and looks for those of workers that no longer say so.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from celery import bootsteps
from celery.signals import worker_process_init
from celery.worker import state as worker_state
from celery.worker.control import control_command

from packtivity import settings
from packtivity.backends.celery_app import Delivery, cancel_on_signal, send
from packtivity.backends.celery_results import Results, away, queue_of

if TYPE_CHECKING:
    from collections.abc import Iterable

CANCEL = "packtivity_cancel"
"""Name of the control command that ends a running task."""

_LONGEST = 60.0
"""Seconds between two signs of life, at most."""


class StillHere(bootsteps.StartStopStep):  # type: ignore[misc]
    """Keeps the tasks of this worker from being delivered again by Redis, and has those of lost workers delivered.

    Redis also loses a task whose worker dies at the moment that it takes it from the queue. So a task that nobody has had
    in hand for a while, when its queue is empty, is submitted again.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **_: Any) -> None:
        self._entry: Any = None
        self._suspects: set[str] = set()
        super().__init__(consumer)

    def start(self, consumer: Any) -> None:
        """Begin; called whenever there is a connection to the broker."""
        if hasattr(consumer.task_consumer.channel, "unacked_index_key"):
            every = min(settings.current().celery_visibility_timeout / 4, _LONGEST)
            self._entry = consumer.timer.call_repeatedly(every, self._tick, (consumer,))

    def stop(self, consumer: Any) -> None:  # noqa: ARG002 - what Celery calls
        """End; called whenever the connection is lost."""
        if self._entry is not None:
            self._entry.cancel()
            self._entry = None

    def _tick(self, consumer: Any) -> None:
        channel = consumer.task_consumer.channel
        requests = {*worker_state.reserved_requests, *worker_state.active_requests}
        try:
            say_and_look(channel, requests)
            results = Results(consumer.app)
            if results.keeps_documents:
                results.note_in_hand({request.id: queue_of(request) or "" for request in requests})
                self._suspects = submit_again(consumer.app, results, channel, self._suspects)
        except (*away(), *consumer.connection_errors) as error:
            logging.getLogger("packtivity.celery").debug("Redis is away: %s", error)


def say_and_look(channel: Any, requests: Iterable[Any]) -> None:
    """Say which tasks this worker has, and have those delivered again that nobody has."""
    tags = {str(request.message.delivery_tag) for request in requests}
    if tags:
        with channel.conn_or_acquire() as client:
            client.zadd(channel.unacked_index_key, dict.fromkeys(tags, time.time()), xx=True)
    channel.qos.restore_visible(num=1000, interval=1)


def submit_again(app: Any, results: Results, channel: Any, suspects: set[str]) -> set[str]:
    """Submit tasks again that nobody has, whose queue is empty.

    :param suspects: those of which it was so at the last look too; any other may just have been taken from its queue.
    :returns: the suspects of the next look.
    """
    found: set[str] = set()
    for queue in [each.name for each in app.amqp.queues.consume_from.values()]:
        if channel._size(queue):
            continue
        unseen = results.unseen(queue, settings.current().celery_visibility_timeout)
        found |= unseen - suspects
        for task_id in unseen & suspects:
            document = results.take_up(task_id, queue)
            if document is not None:
                logging.getLogger("packtivity.celery").warning("submitting again what Redis has lost: %s", task_id)
                send(app, document, task_id, queue)
    return found


@worker_process_init.connect  # type: ignore[untyped-decorator,unused-ignore]
def _in_each_process(sender: Any = None, **_: Any) -> None:
    from celery import current_app

    gc.freeze()  # what is there is there to stay, and need not be looked through after every few tasks
    cancel_on_signal(getattr(sender, "app", None) or current_app._get_current_object())


@control_command(args=[("task_id", str)], signature="TASK_ID")  # type: ignore[untyped-decorator,unused-ignore]
def packtivity_cancel(state: Any, task_id: str) -> dict[str, str]:
    """End a task that runs on this worker, and nothing else of the worker."""
    own = Delivery.running.get(task_id)
    if own is not None:  # threads
        own.cancel()
        return {"ok": "cancelled"}
    request = worker_state.requests.get(task_id)
    pid = getattr(request, "worker_pid", None)
    if pid is not None and pid in (state.consumer.pool.info.get("processes") or ()):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGUSR2)
        return {"ok": "told the process that runs it"}
    worker_state.revoked.add(task_id)
    return {"ok": "does not run here; will not begin here"}
