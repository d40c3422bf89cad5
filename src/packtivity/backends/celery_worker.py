"""What a Celery worker of ours does beside running tasks; Celery loads this in workers only.

Redis delivers a task again that nobody has acknowledged for a while, whether or not it still runs. So a worker says
every few seconds that it still has its tasks, and looks for those of workers that no longer say so.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from contextlib import suppress
from typing import Any

from celery import bootsteps
from celery.signals import worker_process_init
from celery.worker import state as worker_state
from celery.worker.control import control_command

from packtivity import settings
from packtivity.backends.celery_app import Delivery, cancel_on_signal
from packtivity.backends.celery_results import away

CANCEL = "packtivity_cancel"
"""Name of the control command that ends a running task."""

_LONGEST = 60.0
"""Seconds between two signs of life, at most."""


class StillHere(bootsteps.StartStopStep):  # type: ignore[misc]
    """Keeps the tasks of this worker from being delivered again by Redis, and has those of lost workers delivered."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **_: Any) -> None:
        self._entry: Any = None
        super().__init__(consumer)

    def start(self, consumer: Any) -> None:
        """Begin; called whenever there is a connection to the broker."""
        if hasattr(consumer.task_consumer.channel, "unacked_index_key"):
            every = min(settings.value("celery_visibility_timeout") / 4, _LONGEST)
            self._entry = consumer.timer.call_repeatedly(every, say_and_look, (consumer,))

    def stop(self, consumer: Any) -> None:  # noqa: ARG002 - what Celery calls
        """End; called whenever the connection is lost."""
        if self._entry is not None:
            self._entry.cancel()
            self._entry = None


def say_and_look(consumer: Any) -> None:
    """Say which tasks this worker has, and have those delivered again that nobody has."""
    channel = consumer.task_consumer.channel
    requests = {*worker_state.reserved_requests, *worker_state.active_requests}
    tags = {str(request.message.delivery_tag) for request in requests}
    try:
        with channel.conn_or_acquire() as client:
            if tags:
                client.zadd(channel.unacked_index_key, dict.fromkeys(tags, time.time()), xx=True)
        channel.qos.restore_visible(num=1000, interval=1)
    except (*away(), *consumer.connection_errors) as error:
        logging.getLogger("packtivity.celery").debug("Redis is away: %s", error)


@worker_process_init.connect  # type: ignore[untyped-decorator,unused-ignore]
def _in_each_process(sender: Any = None, **_: Any) -> None:
    from celery import current_app

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
