"""The Celery application, the task that its workers run, and what its result store knows of tasks.

What is carried is JSON only. The task of a lost worker is delivered again: by RabbitMQ at once, by Redis after a time-out that
a living worker puts off. :func:`packtivity.worker.run_envelope` makes one delivery too many harmless, so every step may be done
over: a broker or result store that is away is waited for, and makes no task fail.

In the store a task is ``SENT`` once submitted, and ``SUCCESS`` once its answer is there, also that of a failed one. Only answers
expire. With ``rpc://`` there is no store: an answer is a message for the process that submitted the task.
"""

from __future__ import annotations

import gc
import logging
import re
import time
from typing import TYPE_CHECKING, Any, TypeVar

from amqp.exceptions import AMQPError
from celery import Celery, bootsteps, shared_task
from celery.exceptions import BackendError, Reject
from celery.signals import worker_process_init
from kombu.exceptions import OperationalError
from kombu.utils.functional import retry_over_time
from redis.exceptions import RedisError

from packtivity import record, settings
from packtivity.errors import PacktivityError
from packtivity.worker import run_envelope, unwritten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from celery.app.task import Task
    from celery.worker.consumer import Consumer

_PATIENCE = 2.0
"""Seconds that a task delivered twice waits for its other run to end, before it goes to the end of the queue."""
_CONNECT = 5.0
"""Seconds that a connection may take to come about."""
AWAY = (OperationalError, BackendError, OSError, AMQPError, RedisError)
"""The errors that say that a broker or result store is away, or cannot take anything now."""

T = TypeVar("T")
_log = logging.getLogger("packtivity.celery")


def make_app() -> Celery:
    """Return the Celery application that the settings describe."""
    app, chosen = Celery("packtivity"), settings.current()
    tries = {"max_retries": 2, "interval_start": 0.1, "interval_step": 0.4, "interval_max": 1.0}
    timeout = {"visibility_timeout": chosen.celery_visibility_timeout, "socket_connect_timeout": _CONNECT}
    can_keep = chosen.celery_broker.startswith(("redis", "sentinel", "memory", "cache", "filesystem"))
    beside = chosen.celery_broker if can_keep else "rpc://"  # as in upstream 0.17.1
    app.conf.update(
        accept_content=["json"],
        broker_url=chosen.celery_broker,
        broker_channel_error_retry=True,  # RabbitMQ ends a channel on which a task takes long; the worker goes on
        broker_connection_max_retries=int(chosen.celery_patience / 30) + 8,  # they become 30 seconds apart
        broker_connection_retry_on_startup=True,
        broker_transport_options={**tries, **timeout, "confirm_publish": True},  # a broker takes what it knows
        redis_socket_connect_timeout=_CONNECT,
        result_backend=chosen.celery_results or beside,
        result_backend_transport_options={"retry_policy": {"timeout": 5.0}},
        result_expires=chosen.celery_result_expires or None,
        result_persistent=True,
        task_acks_late=True,
        task_default_queue=chosen.celery_queue,
        task_reject_on_worker_lost=True,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_hijack_root_logger=False,
        worker_prefetch_multiplier=1,
    )
    app.steps["consumer"].add(SignsOfLife)
    return app


def send(app: Celery, envelope: Mapping[str, Any], task_id: str, queue: str, **more: Any) -> None:
    """Put a task into a queue; ``reply_to`` says who is to be answered, by default this process."""
    if not Store(app).is_shared and "reply_to" not in more:
        with app.producer_or_acquire(more.get("producer")) as producer:
            app.backend.on_task_call(producer, task_id)  # declares the queue for the answer
    more |= {"argsrepr": "(…)", "kwargsrepr": "{}"}  # the document is not for Celery's lists
    if str(app.conf.broker_url).startswith(("amqp", "pyamqp")):
        more["confirm_timeout"] = 30.0
    task = app.tasks[run_nullary.name]  # run_nullary itself belongs to whichever application was made last
    task.apply_async((envelope,), task_id=task_id, queue=queue, **more)


def patiently(call: Callable[[], T]) -> T:
    """Return what a call returns, calling again while what it talks to is away, for ``PACKTIVITY_CELERY_PATIENCE``."""

    def complain(error: Exception, pauses: Iterator[float], tries: int) -> float:
        _log.log(logging.DEBUG if tries else logging.WARNING, "away, trying again: %s", without_secrets(error))
        return next(pauses)

    how = {"timeout": settings.current().celery_patience or 0.001, "interval_start": 0.1, "interval_step": 0.5}
    return retry_over_time(call, AWAY, errback=complain, interval_max=5.0, **how)  # type: ignore[no-any-return,no-untyped-call,unused-ignore]


def without_secrets(text: object) -> str:
    """Return an address, or an error that may name one, without passwords."""
    kind = f"{type(text).__name__}: " if isinstance(text, Exception) else ""
    return kind + re.sub(r"(\w+://[^\s:/@]*):[^\s@]*@", r"\1:***@", str(text))


def interval() -> float:
    """Return how often a worker says which tasks it has, in seconds; it counts for four times as long."""
    return min(settings.current().celery_visibility_timeout / 4, 60.0)


class Store:
    """The result store of an application.

    :ivar is_shared: whether it is something that anybody can ask; ``rpc://`` is not.
    :ivar redis: the client of a Redis, where workers also note which tasks they have; None for any other store.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app
        self.is_shared = not str(app.conf.result_backend or "").startswith("rpc")
        is_redis = type(app.backend).__name__ in {"RedisBackend", "SentinelBackend"}
        self.redis: Any = app.backend.client if is_redis else None

    def read(self, task_ids: Sequence[str]) -> list[tuple[Mapping[str, Any] | None, bool]]:
        """Return what is known of tasks: ``status`` and ``result`` or None, and whether a worker says that it has it."""
        backend = self._app.backend
        if self.redis is None:
            how = {"cache": False} if self.is_shared else {"backlog_limit": 1 << 30}
            found = [backend.get_task_meta(task_id, **how) for task_id in task_ids]
            return [(None if meta["status"] == "PENDING" else meta, False) for meta in found]
        values: list[bytes | None] = []
        for start in range(0, len(task_ids), 1000):  # so that others get a turn
            values += self.redis.mget([key for each in task_ids[start : start + 1000] for key in self._keys(each)])
        metas = (None if value is None else backend.decode(value) for value in values[::2])
        return list(zip(metas, (value is not None for value in values[1::2]), strict=True))

    def mark(self, records: Mapping[str, str | None]) -> None:
        """Mark tasks as submitted that are not known, each with the path of its record."""
        backend, values = self._app.backend, dict[bytes | str, str]()
        for task_id, path in records.items() if self.is_shared else ():
            about = {"status": "SENT", "result": {"record": path}, "traceback": None, "task_id": task_id}
            if self.redis is None:
                backend.store_result(task_id, about["result"], "SENT")
            else:
                values[self._keys(task_id)[0]] = backend.encode(about)
        if values:
            self._set(values, nx=True)

    def note_alive(self, task_ids: Iterable[str]) -> None:
        """Note that a worker has tasks."""
        if self.redis is not None:
            self._set({self._keys(task_id)[1]: "" for task_id in task_ids}, px=int(interval() * 4000))

    def _set(self, values: Mapping[bytes | str, str], **how: int) -> None:
        with self.redis.pipeline(transaction=False) as pipe:
            for key, value in values.items():
                pipe.set(key, value, **how)
            pipe.execute()

    def _keys(self, task_id: str) -> tuple[bytes, str]:
        """Return under which keys a Redis has what is known of a task, and a worker's sign of life."""
        return self._app.backend.get_key_for_task(task_id), f"packtivity-alive-{task_id}"


def answer_in(meta: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the answer of a worker of ours in what the store knows of a task; None when there is none."""
    answer = meta.get("result") if meta is not None and meta["status"] in ("SUCCESS", "REVOKED") else None
    return answer if record.is_outcome(answer) else None


class SignsOfLife(bootsteps.StartStopStep):  # type: ignore[misc]
    """Says which tasks this worker has, in its main process: Redis delivers those again of which nobody says so."""

    requires = ("celery.worker.consumer.tasks:Tasks",)
    _entry: Any = None

    def start(self, consumer: Consumer) -> None:
        """Begin; called whenever there is a connection to the broker."""
        if self._entry is not None:
            self._entry.cancel()
        self._entry = consumer.timer.call_repeatedly(interval(), self._tick, (consumer,))

    def _tick(self, consumer: Consumer) -> None:
        from celery.worker import state

        channel: Any = getattr(consumer.task_consumer, "channel", None)  # there is none while the connection is lost
        requests = {*state.reserved_requests, *state.active_requests}
        try:
            if hasattr(channel, "unacked_index_key"):
                with channel.conn_or_acquire() as client:
                    for each in requests:
                        client.zadd(channel.unacked_index_key, {each.message.delivery_tag: time.time()}, xx=True)
                channel.qos.restore_visible(num=1000, interval=1)
            Store(consumer.app).note_alive(each.id for each in requests)
        except (*AWAY, *consumer.connection_errors) as error:
            _log.debug("broker or result store is away: %s", without_secrets(error))


@worker_process_init.connect  # type: ignore[untyped-decorator,unused-ignore]
def _in_each_process(**_: object) -> None:
    gc.freeze()  # what is there is there to stay, and need not be looked through after every few tasks


# Celery is told to ignore the result because it would call a task failed whose result it cannot store at once.
@shared_task(name="packtivity.asyncbackends.run_nullary", bind=True, ignore_result=True)  # type: ignore[untyped-decorator,unused-ignore]
def run_nullary(self: Task, envelope: dict[str, Any]) -> None:
    """Run an envelope on a worker and put its answer into the result store (upstream 0.17.1: run a pickle)."""
    store, task_id = Store(self.app), str(self.request.id)
    try:
        patiently(lambda: store.note_alive([task_id]))
        if store.is_shared and answer_in(patiently(lambda: store.read([task_id]))[0][0]) is not None:
            return
        answer = _answer(envelope, task_id)
        if answer["status"] == "waiting":  # another run of it goes on, whose runner may die
            queue, who = self.request.delivery_info["routing_key"], self.request.reply_to
            patiently(lambda: send(self.app, envelope, task_id, queue, reply_to=who))
        else:
            patiently(lambda: self.app.backend.store_result(task_id, answer, "SUCCESS", request=self.request))
    except AWAY as error:
        raise Reject(without_secrets(error), requeue=True) from error


def _answer(envelope: dict[str, Any], task_id: str) -> dict[str, Any]:
    """Run a task; one that cannot be read here, because it is of a newer client for example, has failed."""
    task = envelope.get("task", envelope)  # a client of the version before sends the document itself
    if settings.current().celery_global_nametag:
        task = {**task, "metadata": {**(task.get("metadata") or {}), "name": task_id}}
    try:
        return run_envelope({**envelope, "task": task}, patience=_PATIENCE)
    except PacktivityError as error:
        return unwritten(error)
