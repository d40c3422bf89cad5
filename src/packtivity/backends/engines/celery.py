"""The backend ``celery``: tasks for workers anywhere that share the file system.

How Celery's queue, its workers and its result store look from outside; :mod:`packtivity.backends.engines.celery_worker`
is the other side.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from celery._state import task_join_will_block
from celery.exceptions import ImproperlyConfigured

from packtivity import settings
from packtivity.backends.document import DocumentBackend
from packtivity.backends.engine import Engine, Limits, Native
from packtivity.backends.engines.celery_worker import (
    FAILURE,
    REVOKED,
    STARTED,
    Store,
    answer_in,
    away,
    interval,
    make_app,
    run_nullary,
    send,
    without_secrets,
)
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

__all__ = ["CeleryBackend", "CeleryEngine", "CeleryProxy", "default_celeryapp", "make_app", "run_nullary"]

default_celeryapp = make_app()

_ASK_HINT = "Ask as the user and on the machine that submitted it, with the same PACKTIVITY_CELERY_* set."
_RPC_HINT = (
    "With the result store rpc:// only the process that submitted it is told; others need its record, or redis://."
)


class CeleryProxy(TaskProxy):
    """Handle of a Celery task.

    :param task: Celery's own handle, or the task's id.
    """

    name = "CeleryProxy"

    def __init__(
        self, task: AsyncResult | str, place: JSON = None, record: str | None = None, details: JSON = None
    ) -> None:
        super().__init__(task if isinstance(task, str) else task.task_id, place, record, details)

    def details(self) -> JSON:
        """Return the id, with the caller's remarks."""
        return {**(self._details or {}), "task_id": self.task_id}


class CeleryEngine(Engine):
    """The queues and the result store of an application; its place is the broker, without passwords, and the queue.

    A task is lost that no worker has said to have for a while, although its queue is empty and Redis waits for no worker
    to acknowledge it; or that Redis does not know any more, because somebody has emptied it.

    :param queue: to put tasks into, by default that of the application.
    """

    name, interval = "celery", 0.2

    def __init__(self, app: Celery, queue: str | None = None) -> None:
        self.app, self.store = app, Store(app)
        self.queue = queue or str(app.conf.task_default_queue)
        lag = max(1.0, 2 * interval())  # five of them are more than a sign of life counts
        patience = settings.value("celery_patience")
        self.limits = Limits(arrival=2 * lag, begin=float("inf"), lag=lag, patience=patience)
        self._asked = float("-inf")
        self._queued: dict[str, int] = {}
        self._unacknowledged = b""

    def place(self) -> JSON:
        """Return which broker and which queue tasks are given to."""
        return {"broker": without_secrets(str(self.app.conf.broker_url)), "queue": self.queue}

    def submit(self, envelopes: Sequence[Envelope]) -> list[str | BackendError]:
        """Put tasks into their queues, over one connection.

        :raises BackendError: the broker or the result store cannot be reached.
        """
        with _reaching("result store", self.app.conf.result_backend):
            self.store.mark({each.id: each.record for each in envelopes})
        taken: list[str | BackendError] = []
        try:
            with _reaching("broker", self.app.conf.broker_url), self.app.producer_pool.acquire(block=True) as producer:
                for each in envelopes:
                    send(self.app, each.to_json(), each.id, self._queue(each.place), producer)
                    taken.append("")
        except BackendError as error:
            if not taken:
                raise
            taken += [error] * (len(envelopes) - len(taken))
        return taken

    def _queue(self, place: JSON) -> str:
        queue = place.get("queue") if isinstance(place, dict) else None
        return queue if isinstance(queue, str) else self.queue

    def look(self, submissions: Sequence[Submission]) -> list[Native]:
        """Return what the result store says of tasks, and of those that no worker has, what the broker says."""
        try:
            with _reaching("result store", self.app.conf.result_backend):
                found = self.store.read([each.id for each in submissions])
            natives = [self._stored(each, *known) for each, known in zip(submissions, found, strict=True)]
            queues = {self._queue(one.place) for one, said in zip(submissions, natives, strict=True) if said is None}
            if queues:
                self._ask_broker(queues)
            return [said or self._brokered(one) for one, said in zip(submissions, natives, strict=True)]
        except BackendError as error:
            return [Native("away", error.message, error.hint or "")] * len(submissions)

    def kill(self, submissions: Sequence[Submission]) -> None:
        """Do nothing: workers obey the cancel file, and a task that Celery has revoked could not be submitted again."""

    # --- the result store ---

    def _stored(self, submission: Submission, meta: Mapping[str, Any] | None, is_alive: bool) -> Native | None:
        """Return what the result store says of a task; None where that does not tell whether somebody has it."""
        if meta is None:
            return self._without_mark(submission)
        state, result = meta["status"], meta.get("result")
        path = result.get("record") if isinstance(result, dict) else None
        if (answer := answer_in(meta)) is not None:
            return Native("ended", answer=answer, record=path)
        if state in (FAILURE, REVOKED):
            return Native("ended", _reason(state, result), cause="cancel" if state == REVOKED else "refused")
        is_new = time.time() - submission.time < self.limits.arrival
        if is_alive or is_new or not submission.deliveries or not self.store.has_signs_of_life:
            return Native("running" if state == STARTED else "waiting", record=path)
        return None

    def _without_mark(self, submission: Submission) -> Native | None:
        if not submission.deliveries:
            text = f"no Celery task {submission.id} is known: it was never submitted, or its result has expired"
            return Native("gone", text, _ASK_HINT if self.store.is_shared else _RPC_HINT)
        if not self.store.is_shared:
            return Native("waiting")
        broker, ours = submission.place.get("broker"), self.place()["broker"]
        if broker != ours:
            return Native("away", f"it was given to the broker {broker}, and this is {ours}", _ASK_HINT)
        return Native("gone", "Celery's broker has been emptied") if self.store.is_broker else None

    # --- the broker ---

    def _ask_broker(self, queues: set[str]) -> None:
        """Find out how many messages are in queues, and which ones Redis waits for a worker to acknowledge."""
        if time.monotonic() - self._asked < self.limits.lag and queues <= self._queued.keys():
            return
        with _reaching("broker", self.app.conf.broker_url), self.app.connection_for_read() as connection:
            self._queued = {queue: _messages(connection, queue) for queue in queues}
            channel = connection.default_channel
            if hasattr(channel, "unacked_key"):
                with channel.conn_or_acquire() as client:
                    self._unacknowledged = b"\n".join(client.hvals(channel.unacked_key))
        self._asked = time.monotonic()

    def _brokered(self, submission: Submission) -> Native:
        queue = self._queue(submission.place)
        if count := self._queued[queue]:
            return Native("waiting", f"there are {count} tasks in the queue {queue}")
        if submission.id.encode() in self._unacknowledged:
            return Native("waiting", "its worker does not answer; another one will be given it")
        return Native("gone", "it is in no queue, and no worker has it")


def _messages(connection: Connection, queue: str) -> int:
    """Return how many messages are in a queue."""
    channel = connection.channel()  # type: ignore[no-untyped-call,unused-ignore]  # one of its own, which ends when there is no such queue
    try:
        return int(channel.queue_declare(queue=queue, passive=True).message_count)
    except connection.channel_errors as error:
        if "NOT_FOUND" in str(error):
            return 0
        raise
    finally:
        channel.close()


def _reason(state: str, result: Any) -> str:
    """Return what Celery itself says of a task that it has revoked, or that its workers do not know."""
    if state == REVOKED or not isinstance(result, dict):
        return f"Celery: {state}"
    words = result.get("exc_message")
    return f"Celery: {result.get('exc_type')}: {' '.join(map(str, words)) if isinstance(words, list) else words}"


@contextmanager
def _reaching(what: str, address: str | None) -> Iterator[None]:
    """Say what cannot be reached inside the block, and where it was looked for.

    :raises BackendError: it is away, or the address is none.
    """
    try:
        yield
    except (*away(), ImproperlyConfigured, ValueError, KeyError) as error:
        text = f"{type(error).__name__}: {without_secrets(str(error))}"
        raise BackendError(
            f"Celery's {what} ({without_secrets(str(address or 'none given'))}) cannot be used: {text}",
            hint="Is it running, and is PACKTIVITY_CELERY_REDIS_BROKER (or PACKTIVITY_CELERY_RESULTS) its address?",
        ) from error


class CeleryBackend(DocumentBackend[CeleryProxy]):
    """Gives tasks to Celery.

    :param app: application to use, by default the one that the settings describe.
    :param queue: queue to put tasks into, by default ``PACKTIVITY_CELERY_QUEUE``.
    """

    proxy_class = CeleryProxy
    engine: CeleryEngine

    def __init__(
        self,
        app: Celery | None = None,
        packconfig_spec: Mapping[str, Any] | None = None,
        config: Mapping[str, Any] | None = None,
        queue: str | None = None,
    ) -> None:
        self.app = app or default_celeryapp
        super().__init__(CeleryEngine(self.app, queue), packconfig_spec or config)
        self.disable_sync = settings.value("celery_disable_sync")

    def document(self, spec: Any, parameters: Any, state: Any, metadata: Any = None) -> dict[str, Any]:
        """Return a task document; where that is set, its files are named after its id, as its worker does."""
        document = super().document(spec, parameters, state, metadata)
        if settings.value("celery_global_nametag"):
            document["metadata"] = {**document["metadata"], "name": document["id"]}
        return document

    def wait(self, resultproxy: CeleryProxy) -> TaskStatus:
        """Return the status of a task when it is over, however often the result store goes away meanwhile.

        :raises BackendError: it was away for ``PACKTIVITY_CELERY_PATIENCE``; or this is a Celery task itself, in which
            waiting for others may be for ever.
        """
        if self.disable_sync and task_join_will_block():
            raise BackendError(
                "a Celery task must not wait for the result of another one: all workers may come to wait",
                hint="Set PACKTIVITY_CELERY_DISABLE_SYNC=false if there are always enough workers.",
            )
        return super().wait(resultproxy)
