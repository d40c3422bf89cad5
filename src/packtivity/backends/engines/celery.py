"""The backend ``celery``: tasks for workers anywhere that share the file system; and the task that its workers run.

What is carried is JSON only. The task of a lost worker is delivered again: by RabbitMQ at once, by Redis after a time-out that
a living worker puts off. :func:`packtivity.worker.run_envelope` makes one delivery too many harmless, so every step may be done
over: a broker or result store that is away is waited for, and makes no task fail.

In the store a task is ``SENT`` once submitted, and ``SUCCESS`` once its answer is there, also that of a failed one. Only answers
expire. With ``rpc://`` there is no store: an answer is a message for the process that submitted the task.
"""

from __future__ import annotations

import logging
import re
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from amqp.exceptions import AMQPError, NotFound
from celery import Celery, bootsteps, shared_task
from celery._state import task_join_will_block
from celery.exceptions import BackendError as StoreError
from celery.exceptions import ImproperlyConfigured, Reject
from kombu.exceptions import ChannelError, OperationalError
from kombu.utils.functional import retry_over_time
from redis.exceptions import RedisError

from packtivity import record, settings
from packtivity.backends.document import DocumentBackend
from packtivity.backends.engine import Engine, Limits, Native
from packtivity.backends.proxies import TaskProxy
from packtivity.errors import BackendError, PacktivityError
from packtivity.worker import run_envelope, unwritten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from celery.app.task import Task
    from celery.result import AsyncResult
    from celery.worker.consumer import Consumer
    from kombu.connection import Connection

    from packtivity.backends.engine import Envelope, Submission
    from packtivity.backends.status import TaskStatus
    from packtivity.types import JSON

    Config = Mapping[str, Any] | None

_ASK_HINT = "Ask as the user and on the machine that submitted it, with the same PACKTIVITY_CELERY_* set."
_PATIENCE = 2.0
"""Seconds that a task delivered twice waits for its other run to end, before it goes to the end of the queue."""
_CONNECT = 5.0
"""Seconds that a connection may take to come about."""
AWAY = (OperationalError, StoreError, OSError, AMQPError, RedisError)
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


default_celeryapp = make_app()


class CeleryProxy(TaskProxy):
    """Handle of a Celery task, made of its id or, as in upstream 0.17.1, of Celery's own handle."""

    name = "CeleryProxy"

    def __init__(self, task: AsyncResult | str, *more: Any) -> None:
        super().__init__(task if isinstance(task, str) else task.task_id, *more)

    def details(self) -> JSON:
        """Return the id, with the caller's remarks."""
        return {**(self._details or {}), "task_id": self.task_id}


class CeleryEngine(Engine):
    """The queues and the result store of an application.

    A task is gone that no worker has said to have for a while, although its queue is empty and Redis waits for no worker
    to acknowledge it; or that Redis does not know any more, because somebody has emptied it. Celery is not asked to end
    one, because a task that it has revoked could not be submitted again.
    """

    name, interval = "celery", 0.2

    def __init__(self, app: Celery, queue: str | None = None) -> None:
        self.app, self.store = app, Store(app)
        self.queue = queue or str(app.conf.task_default_queue)
        lag = max(1.0, 2 * interval())  # five of them are more than a sign of life counts
        patience = settings.current().celery_patience
        self.limits = Limits(arrival=2 * lag, begin=float("inf"), lag=lag, patience=patience)
        self._queues: dict[str, tuple[float, int, bytes]] = {}

    def place(self) -> JSON:
        """Return which broker and which queue tasks are given to."""
        return {"broker": without_secrets(self.app.conf.broker_url), "queue": self.queue}

    def submit(self, envelopes: Sequence[Envelope]) -> list[str | BackendError]:
        """Put tasks into their queues, over one connection."""
        taken: list[str | BackendError] = []
        try:
            with _reaching("result store", self.app.conf.result_backend):
                self.store.mark({each.id: each.record for each in envelopes})
            with _reaching("broker", self.app.conf.broker_url), self.app.producer_pool.acquire(block=True) as producer:
                for each in envelopes:
                    send(self.app, each.to_json(), each.id, each.place["queue"], producer=producer)
                    taken.append("")
        except BackendError as error:
            taken += [error] * (len(envelopes) - len(taken))
        return taken

    def look(self, submissions: Sequence[Submission]) -> list[Native]:
        """Return what the result store says of tasks, and of those that no worker has, what the broker says."""
        try:
            with _reaching("result store", self.app.conf.result_backend):
                found = self.store.read([each.id for each in submissions])
            return [self._stored(one, *it) or self._brokered(one) for one, it in zip(submissions, found, strict=True)]
        except BackendError as error:
            return [Native("away", error.message, error.hint)] * len(submissions)

    def _stored(self, submission: Submission, meta: Mapping[str, Any] | None, is_alive: bool) -> Native | None:
        """Return what the result store says of a task; None where that does not tell whether somebody has it."""
        if meta is None:
            return self._without_mark(submission)
        result = meta["result"] if isinstance(meta["result"], dict) else {}
        if answer_in(meta) is not None:
            return Native("ended", answer=result, record=result.get("record"))
        if meta["status"] in ("FAILURE", "REVOKED"):  # Celery's own word: its workers know no such task, for example
            reason = f"Celery: {meta['status']} {result.get('exc_type', '')}"
            return Native("ended", reason, cause="cancel" if meta["status"] == "REVOKED" else "refused")
        is_new = time.time() - submission.time < self.limits.arrival
        is_sure = is_alive or is_new or not submission.deliveries or self.store.redis is None
        return Native("running" if is_alive else "waiting", record=result.get("record")) if is_sure else None

    def _without_mark(self, submission: Submission) -> Native | None:
        if not submission.deliveries:
            text = f"no Celery task {submission.id} is known: it was never submitted, or its result has expired"
            alone = (
                "With the result store rpc:// only the submitting process is told; others need the record, or redis://."
            )
            return Native("gone", text, _ASK_HINT if self.store.is_shared else alone)
        if not self.store.is_shared:
            return Native("waiting")
        broker, ours = submission.place.get("broker"), self.place()["broker"]
        if broker != ours:
            return Native("away", f"it was given to the broker {broker}, and this is {ours}", _ASK_HINT)
        both = {urlsplit(str(address)).netloc for address in (self.app.conf.broker_url, self.app.conf.result_backend)}
        return Native("gone", "Celery's broker has been emptied") if len(both) == 1 else None

    def _brokered(self, submission: Submission) -> Native:
        """Return what the broker says of a task, which is asked rarely."""
        queue = submission.place["queue"]
        asked, count, unacknowledged = self._queues.get(queue, (float("-inf"), 0, b""))
        if time.monotonic() - asked >= self.limits.lag:
            with _reaching("broker", self.app.conf.broker_url), self.app.connection_for_read() as connection:
                count, unacknowledged = _messages(connection, queue)
            self._queues[queue] = (time.monotonic(), count, unacknowledged)
        if count:
            return Native("waiting", f"there are {count} tasks in the queue {queue}")
        if submission.id.encode() in unacknowledged:
            return Native("waiting", "its worker does not answer; another one will be given it")
        return Native("gone", "it is in no queue, and no worker has it")


def _messages(connection: Connection, queue: str) -> tuple[int, bytes]:
    """Return how many messages are in a queue, and those, in any queue, that Redis waits for a worker to acknowledge."""
    channel: Any = connection.default_channel
    count = 0
    with suppress(NotFound, ChannelError):  # to Redis an empty queue is none
        count = channel.queue_declare(queue=queue, passive=True).message_count
    if not hasattr(channel, "unacked_key"):
        return count, b""
    with channel.conn_or_acquire() as client:
        return count, b"\n".join(client.hvals(channel.unacked_key))


@contextmanager
def _reaching(what: str, address: str | None) -> Iterator[None]:
    """Say what cannot be reached inside the block, and where it was looked for, by a :class:`BackendError`."""
    try:
        yield
    except (*AWAY, ImproperlyConfigured, ValueError, KeyError) as error:
        raise BackendError(
            f"Celery's {what} ({without_secrets(address or 'none given')}) cannot be used: {without_secrets(error)}",
            hint="Is it running, and is PACKTIVITY_CELERY_REDIS_BROKER (or PACKTIVITY_CELERY_RESULTS) its address?",
        ) from error


class CeleryBackend(DocumentBackend[CeleryProxy]):
    """Gives tasks to Celery: to a queue of an application, by default those that the settings describe."""

    proxy_class = CeleryProxy

    def __init__(
        self, app: Celery | None = None, packconfig_spec: Config = None, config: Config = None, queue: str | None = None
    ) -> None:
        self.app = app or default_celeryapp
        super().__init__(CeleryEngine(self.app, queue), packconfig_spec or config)

    def document(self, spec: Any, parameters: Any, state: Any, metadata: Any = None) -> dict[str, Any]:
        """Return a task document; where that is set, its files are named after its id, as its worker does."""
        document = super().document(spec, parameters, state, metadata)
        if settings.current().celery_global_nametag:
            document["metadata"] = {**document["metadata"], "name": document["id"]}
        return document

    def wait(self, resultproxy: CeleryProxy) -> TaskStatus:
        """Return the status of a task when it is over; a Celery task, which might wait for ever, is refused."""
        if settings.current().celery_disable_sync and task_join_will_block():
            raise BackendError(
                "a Celery task must not wait for the result of another one: all workers may come to wait",
                hint="Set PACKTIVITY_CELERY_DISABLE_SYNC=false if there are always enough workers.",
            )
        return super().wait(resultproxy)
