"""The Celery application, the task that its workers run, and what its result store knows of tasks.

What is carried is JSON only. A worker that is lost has its task delivered again: by RabbitMQ at once, by Redis after a
time-out that a living worker puts off. :func:`packtivity.worker.run_envelope` keeps a task from running twice at the same
time, counts its attempts and does not run it again when its record is there. So every step may be done over, and a broker
or result store that is away is waited for: no task is called failed because of it.

In the store a task is ``SENT`` when it has been submitted, ``STARTED`` when a worker has begun it and ``SUCCESS`` when its
answer is there, also that of a failed one: the Celery task itself has done what it should. Only an answer expires: a mark
that did would make a task unknown that still waits in its queue. Where the store is a Redis, there is a second key, which is
there as long as a worker says that it has the task. With ``rpc://`` there is no store: an answer is a message for the
process that submitted the task.
"""

from __future__ import annotations

import gc
import logging
import re
import time
from functools import cache
from random import uniform
from threading import Event
from typing import TYPE_CHECKING, Any, TypeVar

from celery import Celery, bootsteps, shared_task
from celery.exceptions import BackendError as CeleryBackendError
from celery.exceptions import Reject
from celery.signals import worker_process_init
from kombu.exceptions import OperationalError
from kombu.utils.url import parse_url

from packtivity import record, record_fields, settings
from packtivity.errors import PacktivityError
from packtivity.worker import run_envelope

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from celery.app.task import Context, Task
    from celery.worker.consumer import Consumer
    from kombu.messaging import Producer

    Answer = dict[str, Any]

SENT, STARTED, SUCCESS, REVOKED, FAILURE = "SENT", "STARTED", "SUCCESS", "REVOKED", "FAILURE"
_ENDED = frozenset({SUCCESS, REVOKED, FAILURE})

_PATIENCE = 2.0
"""Seconds that a task delivered twice waits for its other run to end, before it goes to the end of the queue."""
_CONNECT = 5.0
"""Seconds that a connection may take to come about."""
_CONFIRM = 30.0
"""Seconds that RabbitMQ may take to say that it has a task."""
_PAUSE = (0.05, 5.0)
"""Seconds between two tries to reach what is away: at first, and at most."""
_AT_ONCE = 1000
"""Tasks asked for in one question."""
_RARELY = 60.0
"""Seconds between two signs of life of a worker, at most."""

T = TypeVar("T")
_log = logging.getLogger("packtivity.celery")


# --- the application ---


def make_app() -> Celery:
    """Return the Celery application that the settings describe."""
    app = Celery("packtivity")
    chosen = settings.current()
    app.conf.update(
        task_serializer="json",
        result_serializer="json",
        event_serializer="json",
        accept_content=["json"],
        broker_url=chosen.celery_broker,
        result_backend=chosen.celery_results or _results_beside(chosen.celery_broker),
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
    app.steps["consumer"].add(SignsOfLife)
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
    return {**tries, "confirm_publish": True} if _is_amqp(chosen.celery_broker) else tries


def _is_amqp(broker: str) -> bool:
    return broker.startswith(("amqp", "pyamqp"))


def send(
    app: Celery, envelope: Mapping[str, Any], task_id: str, queue: str | None, producer: Producer | None = None
) -> None:
    """Put a task into a queue."""
    more: dict[str, Any] = {"queue": queue} if queue else {}
    if not Store(app).is_shared:
        with app.producer_or_acquire(producer) as given:
            app.backend.on_task_call(given, task_id)  # declares the queue for the answer
    if _is_amqp(str(app.conf.broker_url)):
        more["confirm_timeout"] = _CONFIRM
    # run_nullary itself belongs to whichever application was made last; what is in the document is not for Celery's lists
    task = app.tasks[run_nullary.name]
    task.apply_async((envelope,), task_id=task_id, producer=producer, argsrepr="(…)", kwargsrepr="{}", **more)


# --- what may be away ---


@cache
def away() -> tuple[type[Exception], ...]:
    """Return the errors that say that a broker or result store is away, or cannot take anything now."""
    found: list[type[Exception]] = [OperationalError, CeleryBackendError, OSError]
    try:
        from amqp.exceptions import AMQPError

        found.append(AMQPError)
    except ImportError:
        pass
    try:
        from redis.exceptions import RedisError

        found.append(RedisError)
    except ImportError:
        pass
    return tuple(found)


def patiently(call: Callable[[], T]) -> T:
    """Return what a call returns, calling again while what it talks to is away, for ``PACKTIVITY_CELERY_PATIENCE``."""
    deadline, pause, idle = 0.0, _PAUSE[0], Event()
    while True:
        try:
            return call()
        except away() as error:
            now = time.monotonic()
            if not deadline:
                deadline = now + settings.value("celery_patience")
                text = f"{type(error).__name__}: {without_secrets(str(error))}"
                _log.warning("broker or result store is away, trying again: %s", text)
            if now >= deadline:
                raise
        idle.wait(min(uniform(pause / 2, pause), deadline - now))  # noqa: S311 - spreads the tries of many workers
        pause = min(pause * 2, _PAUSE[1])


def without_secrets(text: str) -> str:
    """Return a text with no password of an address that it may name."""
    return re.sub(r"(\w+://[^\s:/@]*):[^\s@]*@", r"\1:***@", text)


# --- the result store ---


class Store:
    """The result store of an application."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    @property
    def is_shared(self) -> bool:
        """Whether it is something that anybody can ask; ``rpc://`` is not."""
        return not str(self._app.conf.result_backend or "").startswith("rpc")

    @property
    def has_signs_of_life(self) -> bool:
        """Whether it knows which tasks workers have: only a Redis does."""
        return type(self._app.backend).__name__ in {"RedisBackend", "SentinelBackend"}

    @property
    def is_broker(self) -> bool:
        """Whether it is the broker as well, so that what is lost from one is lost from the other."""
        conf = self._app.conf
        broker, results = (parse_url(str(each or "")) for each in (conf.broker_url, conf.result_backend))
        return all(broker[part] == results[part] for part in ("transport", "hostname", "port"))

    def mark(self, records: Mapping[str, str | None]) -> None:
        """Mark tasks as submitted that it does not know, each with the path of its record."""
        if self.is_shared and not self.has_signs_of_life:
            for task_id, path in records.items():
                self.write(task_id, {"record": path}, SENT)
        elif self.is_shared:
            with self._app.backend.client.pipeline(transaction=False) as pipe:
                for task_id, path in records.items():
                    pipe.set(self._key(task_id), self._encoded(task_id, {"record": path}, SENT), nx=True)
                pipe.execute()

    def read(self, task_ids: Sequence[str]) -> list[tuple[Mapping[str, Any] | None, bool]]:
        """Return what is known of tasks: ``status`` and ``result`` or None, and whether a worker says that it has it."""
        backend = self._app.backend
        if not self.has_signs_of_life:
            how = {"cache": False} if self.is_shared else {"backlog_limit": 1 << 30}
            found = [backend.get_task_meta(task_id, **how) for task_id in task_ids]
            return [(None if meta["status"] == "PENDING" else meta, False) for meta in found]
        values: list[bytes | None] = []
        for start in range(0, len(task_ids), _AT_ONCE):
            some = task_ids[start : start + _AT_ONCE]
            values += backend.client.mget([key for each in some for key in (self._key(each), _alive(each))])
        metas = [None if value is None else backend.decode(value) for value in values[::2]]
        return list(zip(metas, (value is not None for value in values[1::2]), strict=True))

    def begin(self, task_id: str) -> bool:
        """Note that a task begins; false when it is over."""
        if not self.is_shared:
            return True
        ((known, _),) = self.read([task_id])
        if answer_in(known) is not None:
            return False
        self.write(task_id, known and known.get("result"), STARTED)
        return True

    def write(self, task_id: str, result: Any, state: str, request: Context | None = None) -> None:
        """Note the state of a task.

        :param request: the request that a worker answers; without a store nobody else can be answered.
        """
        backend = self._app.backend
        if not self.has_signs_of_life:
            backend.store_result(task_id, result, state, request=request)
            return
        key, value = self._key(task_id), self._encoded(task_id, result, state)
        with backend.client.pipeline(transaction=False) as pipe:
            if state in _ENDED:
                pipe.set(key, value, ex=backend.expires or None)
                pipe.publish(key, value)  # for who waits with Celery's own AsyncResult
                pipe.delete(_alive(task_id))
            else:
                pipe.set(key, value)
                pipe.set(_alive(task_id), "", px=_life())
            pipe.execute()

    def note_alive(self, task_ids: Sequence[str]) -> None:
        """Note that a worker has tasks."""
        if task_ids and self.has_signs_of_life:
            with self._app.backend.client.pipeline(transaction=False) as pipe:
                for task_id in task_ids:
                    pipe.set(_alive(task_id), "", px=_life())
                pipe.execute()

    def _key(self, task_id: str) -> bytes:
        key: bytes = self._app.backend.get_key_for_task(task_id)
        return key

    def _encoded(self, task_id: str, result: Any, state: str) -> str:
        """Return what Celery itself would store, so that its tools can read it."""
        ended = self._app.now().isoformat() if state in _ENDED else None
        about = {"status": state, "result": result, "traceback": None, "children": [], "date_done": ended}
        encoded: str = self._app.backend.encode({**about, "task_id": task_id})
        return encoded


def answer_in(meta: Mapping[str, Any] | None) -> Answer | None:
    """Return the answer of a worker of ours in what the store knows of a task; None when there is none."""
    answer = meta.get("result") if meta is not None and meta["status"] in (SUCCESS, REVOKED) else None
    return answer if record.is_outcome(answer) else None


def _alive(task_id: str) -> str:
    return f"packtivity-alive-{task_id}"


def interval() -> float:
    """Return how often a worker says which tasks it has, in seconds."""
    return min(settings.current().celery_visibility_timeout / 4, _RARELY)


def _life() -> int:
    """Return for how many milliseconds a sign of life counts."""
    return int(interval() * 4000)


# --- the worker ---


class SignsOfLife(bootsteps.StartStopStep):  # type: ignore[misc]
    """Says which tasks this worker has, and has Redis deliver those of lost workers again; runs in its main process.

    Redis delivers a task again that nobody has acknowledged for a while, whether or not it still runs.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Consumer, **_: object) -> None:
        self._entry: Any = None
        self._next = 0.0
        super().__init__(consumer)

    def start(self, consumer: Consumer) -> None:
        """Begin; called whenever there is a connection to the broker."""
        self._entry = consumer.timer.call_repeatedly(interval(), self._tick, (consumer,))

    def stop(self, consumer: Consumer) -> None:  # noqa: ARG002 - what Celery calls
        """End; called whenever the connection is lost."""
        if self._entry is not None:
            self._entry.cancel()
            self._entry = None

    def _tick(self, consumer: Consumer) -> None:
        from celery.worker import state

        began, requests = time.monotonic(), {*state.reserved_requests, *state.active_requests}
        if began < self._next:
            return
        try:
            say_and_look(consumer.task_consumer.channel, {str(each.message.delivery_tag) for each in requests})
            Store(consumer.app).note_alive([each.id for each in requests])
        except (*away(), *consumer.connection_errors) as error:
            self._next = time.monotonic() + 9 * (time.monotonic() - began)  # the worker has other things to do, too
            _log.debug("broker or result store is away: %s", without_secrets(str(error)))


def say_and_look(channel: Any, tags: set[str]) -> None:
    """Tell a Redis which messages this worker has, and have it deliver those again that nobody has."""
    if not hasattr(channel, "unacked_index_key"):
        return
    if tags:
        with channel.conn_or_acquire() as client:
            client.zadd(channel.unacked_index_key, dict.fromkeys(tags, time.time()), xx=True)
    channel.qos.restore_visible(num=1000, interval=1)


@worker_process_init.connect  # type: ignore[untyped-decorator,unused-ignore]
def _in_each_process(**_: object) -> None:
    gc.freeze()  # what is there is there to stay, and need not be looked through after every few tasks


@shared_task(name="packtivity.asyncbackends.run_nullary", bind=True, ignore_result=True)  # type: ignore[untyped-decorator,unused-ignore]
def run_nullary(self: Task, envelope: dict[str, Any]) -> None:
    """Run an envelope on a worker and put its answer into the result store.

    Upstream 0.17.1 has a function of this name that takes a pickle. Celery is told to ignore the result because it
    would call a task failed whose result it cannot store at once.
    """
    try:
        _run(self.app, self.request, envelope)
    except away() as error:
        raise Reject(without_secrets(str(error)), requeue=True) from error


def _run(app: Celery, request: Context, envelope: dict[str, Any]) -> None:
    store, task_id = Store(app), str(request.id)
    if not patiently(lambda: store.begin(task_id)):
        return
    answer = _answer(envelope, task_id)
    if answer["status"] == "waiting":  # another run of it goes on, whose runner may die
        queue = (request.delivery_info or {}).get("routing_key")
        patiently(lambda: send(app, envelope, task_id, queue))
        return
    state = REVOKED if answer["status"] == "cancelled" else SUCCESS
    patiently(lambda: store.write(task_id, answer, state, request))


def _answer(envelope: dict[str, Any], task_id: str) -> Answer:
    """Run a task; one that cannot be read here, because it is of a newer client for example, has failed."""
    task = envelope.get("task", envelope)  # a client of the version before sends the document itself
    if settings.value("celery_global_nametag"):
        task = {**task, "metadata": {**(task.get("metadata") or {}), "name": task_id}}
    try:
        return run_envelope({**envelope, "task": task}, patience=_PATIENCE)
    except PacktivityError as error:
        return {"status": "failed", "result": None, "error": record_fields.failure(error), "record": None}
