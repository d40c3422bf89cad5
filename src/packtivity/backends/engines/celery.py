"""The backend ``celery``: tasks for workers (:mod:`.celery_worker`) anywhere that share the file system."""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from amqp.exceptions import NotFound
from celery._state import task_join_will_block
from celery.exceptions import ImproperlyConfigured
from kombu.exceptions import ChannelError

from packtivity import settings
from packtivity.backends.document import DocumentBackend
from packtivity.backends.engine import Engine, Limits, Native
from packtivity.backends.engines import celery_worker
from packtivity.backends.engines.celery_worker import make_app, run_nullary, without_secrets
from packtivity.backends.proxies import TaskProxy
from packtivity.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from celery import Celery
    from celery.result import AsyncResult
    from kombu.connection import Connection

    from packtivity.backends.engine import Envelope, Submission
    from packtivity.backends.status import TaskStatus
    from packtivity.types import JSON

    Config = Mapping[str, Any] | None

__all__ = ["CeleryBackend", "CeleryEngine", "CeleryProxy", "default_celeryapp", "make_app", "run_nullary"]

default_celeryapp = make_app()

_ASK_HINT = "Ask as the user and on the machine that submitted it, with the same PACKTIVITY_CELERY_* set."
_RPC_HINT = "With the result store rpc:// only the submitting process is told; others need the record, or redis://."


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
        self.app, self.store = app, celery_worker.Store(app)
        self.queue = queue or str(app.conf.task_default_queue)
        lag = max(1.0, 2 * celery_worker.interval())  # five of them are more than a sign of life counts
        patience = settings.current().celery_patience
        self.limits = Limits(arrival=2 * lag, begin=float("inf"), lag=lag, patience=patience)
        self._queues: dict[str, tuple[float, int, bytes]] = {}

    def place(self) -> JSON:
        """Return which broker and which queue tasks are given to."""
        return {"broker": without_secrets(self.app.conf.broker_url), "queue": self.queue}

    def _queue(self, place: JSON) -> str:
        return str(place.get("queue", self.queue)) if isinstance(place, dict) else self.queue

    def submit(self, envelopes: Sequence[Envelope]) -> list[str | BackendError]:
        """Put tasks into their queues, over one connection."""
        taken: list[str | BackendError] = []
        try:
            with _reaching("result store", self.app.conf.result_backend):
                self.store.mark({each.id: each.record for each in envelopes})
            with _reaching("broker", self.app.conf.broker_url), self.app.producer_pool.acquire(block=True) as producer:
                for each in envelopes:
                    celery_worker.send(self.app, each.to_json(), each.id, self._queue(each.place), producer=producer)
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
        if (answer := celery_worker.answer_in(meta)) is not None:
            return Native("ended", answer=answer, record=result.get("record"))
        if meta["status"] in ("FAILURE", "REVOKED"):  # Celery's own word: its workers know no such task, for example
            reason = f"Celery: {meta['status']} {result.get('exc_type', '')}"
            return Native("ended", reason, cause="cancel" if meta["status"] == "REVOKED" else "refused")
        is_new = time.time() - submission.time < self.limits.arrival
        is_sure = is_alive or is_new or not submission.deliveries or self.store.redis is None
        return Native("running" if is_alive else "waiting", record=result.get("record")) if is_sure else None

    def _without_mark(self, submission: Submission) -> Native | None:
        if not submission.deliveries:
            text = f"no Celery task {submission.id} is known: it was never submitted, or its result has expired"
            return Native("gone", text, _ASK_HINT if self.store.is_shared else _RPC_HINT)
        if not self.store.is_shared:
            return Native("waiting")
        broker, ours = submission.place.get("broker"), self.place()["broker"]
        if broker != ours:
            return Native("away", f"it was given to the broker {broker}, and this is {ours}", _ASK_HINT)
        both = {urlsplit(str(address)).netloc for address in (self.app.conf.broker_url, self.app.conf.result_backend)}
        return Native("gone", "Celery's broker has been emptied") if len(both) == 1 else None

    def _brokered(self, submission: Submission) -> Native:
        """Return what the broker says of a task, which is asked rarely."""
        queue = self._queue(submission.place)
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
    except (*celery_worker.AWAY, ImproperlyConfigured, ValueError, KeyError) as error:
        raise BackendError(
            f"Celery's {what} ({without_secrets(address or 'none given')}) cannot be used: {without_secrets(error)}",
            hint="Is it running, and is PACKTIVITY_CELERY_REDIS_BROKER (or PACKTIVITY_CELERY_RESULTS) its address?",
        ) from error


class CeleryBackend(DocumentBackend[CeleryProxy]):
    """Gives tasks to Celery: to a queue of an application, by default those that the settings describe."""

    proxy_class = CeleryProxy
    engine: CeleryEngine

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
