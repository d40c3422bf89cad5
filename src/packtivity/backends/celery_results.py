"""What is kept of a Celery task in the application's result store, and the patience that talking to it takes.

A task is ``SENT`` when it has been submitted, ``STARTED`` when a worker has begun it and ``SUCCESS`` when its answer is
there, also that of a failed one: the Celery task itself has done what it should. ``CANCELLING`` is what a client writes.
With ``rpc://`` there is no store: an answer is a message for the process that submitted the task.

Only an answer expires: a mark that did would make a task unknown that still waits in its queue.
"""

from __future__ import annotations

import json
import time
from functools import cache
from random import uniform
from typing import TYPE_CHECKING, Any, TypeVar

from packtivity import settings
from packtivity.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from packtivity.types import JSON

SENT, STARTED, CANCELLING, REVOKED, SUCCESS = "SENT", "STARTED", "CANCELLING", "REVOKED", "SUCCESS"
OVER = frozenset({REVOKED, SUCCESS, "FAILURE"})
_PAUSE = (0.05, 5.0)
"""Seconds between two tries to reach what is away: at first, and at most."""
_AT_ONCE = 1000
"""Tasks asked for in one question."""

_DOCUMENTS = "packtivity-documents"
"""Key in Redis: task documents by id. Beside it, for each queue, ids by the time at which somebody last had the task."""

_BEGIN = """
redis.call('ZADD', KEYS[2], 'XX', ARGV[2], ARGV[3])
local known = redis.call('GET', KEYS[1])
if not known then redis.call('SET', KEYS[1], ARGV[1]) return false end
local meta = cjson.decode(known)
if meta.status ~= 'SENT' and meta.status ~= 'STARTED' then return known end
meta.status = 'STARTED'
redis.call('SET', KEYS[1], cjson.encode(meta))
return false
"""
"""What Redis does when a task begins, in one go: say what is known if that matters, else note that it has begun."""

T = TypeVar("T")


@cache
def away() -> tuple[type[Exception], ...]:
    """Return the errors that say that a broker or result store is away, or cannot take anything now."""
    from celery.exceptions import BackendError as CeleryBackendError
    from kombu.exceptions import OperationalError

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


def patiently(call: Callable[[], T], complain: Callable[[Exception], object] = repr) -> T:
    """Return what a call returns, calling again while what it talks to is away, for ``PACKTIVITY_CELERY_PATIENCE``.

    :param complain: told once of what is away.
    """
    from threading import Event

    deadline, pause, idle = 0.0, _PAUSE[0], Event()
    while True:
        try:
            return call()
        except away() as error:
            now = time.monotonic()
            if not deadline:
                deadline = now + settings.current().celery_patience
                complain(error)
            if now >= deadline:
                raise
        idle.wait(min(uniform(pause / 2, pause), deadline - now))  # noqa: S311 - spreads the tries of many workers
        pause = min(pause * 2, _PAUSE[1])


class Results:
    """The result store of an application.

    :ivar store: whether there is one that anybody can ask.
    """

    def __init__(self, app: Any) -> None:
        self._app = app

    @property
    def store(self) -> bool:
        """Whether there is something that anybody can ask; ``rpc://`` is not."""
        return not str(self._app.conf.result_backend or "").startswith("rpc")

    @property
    def shares_fate(self) -> bool:
        """Whether the store is the broker as well, so that what is lost from one is lost from the other."""
        from kombu.utils.url import parse_url

        broker, results = (
            parse_url(str(each or "")) for each in (self._app.conf.broker_url, self._app.conf.result_backend)
        )
        return all(broker[part] == results[part] for part in ("transport", "hostname", "port"))

    def mark(self, records: Mapping[str, str | None]) -> None:
        """Mark tasks as submitted, each with the path of its record."""
        if not self.store:
            return
        client = self._redis()
        if client is None:
            for task_id, record in records.items():
                self.write(task_id, {"record": record}, SENT)
            return
        with client.pipeline(transaction=False) as pipe:
            for task_id, record in records.items():
                pipe.set(self._key(task_id), self._encoded(task_id, {"record": record}, SENT))
            pipe.execute()

    def read(self, task_ids: Iterable[str]) -> list[Mapping[str, Any] | None]:
        """Return what is known of tasks, each with ``status`` and ``result``; None of those that nothing is known of."""
        wanted, backend = list(task_ids), self._app.backend
        if not hasattr(backend, "get_key_for_task"):
            how = {"cache": False} if self.store else {"backlog_limit": 1 << 30}
            found = (backend.get_task_meta(task_id, **how) for task_id in wanted)
            return [None if meta["status"] == "PENDING" else meta for meta in found]
        raw: list[Any] = []
        for start in range(0, len(wanted), _AT_ONCE):
            keys = [self._key(task_id) for task_id in wanted[start : start + _AT_ONCE]]
            values = backend.mget(keys)
            raw.extend([values.get(key) for key in keys] if isinstance(values, dict) else values)
        return [None if value is None else backend.decode(value) for value in raw]

    def begin(self, task_id: str, request: Any) -> Mapping[str, Any]:
        """Note that a task begins and return nothing; unless it is cancelled or over: then what is known of it."""
        client = self._redis()
        if client is not None:
            given = [self._encoded(task_id, None, STARTED), time.time(), task_id]
            known = _script(client)(keys=[self._key(task_id), _seen(queue_of(request) or "")], args=given)
            return {} if known is None else self._app.backend.decode(known)
        found = self.read([task_id])[0] or {}
        if found.get("status") in OVER | {CANCELLING}:
            return found
        self.write(task_id, found.get("result"), STARTED, request)
        return {}

    def write(self, task_id: str, result: JSON, state: str, request: Any = None) -> None:
        """Say how a task is.

        :param request: the request that a worker answers; without a store nobody else can be answered.
        """
        backend, client = self._app.backend, self._redis()
        if client is None:
            backend.store_result(task_id, result, state, request=request)
            return
        key, value = self._key(task_id), self._encoded(task_id, result, state)
        if state not in OVER:
            client.set(key, value)
            return
        with client.pipeline(transaction=False) as pipe:
            pipe.set(key, value, ex=backend.expires or None)
            pipe.publish(key, value)  # for who waits with Celery's own AsyncResult
            pipe.hdel(_DOCUMENTS, task_id)
            if (queue := queue_of(request)) is not None:
                pipe.zrem(_seen(queue), task_id)
            pipe.execute()

    # --- what Redis as a broker may lose -----------------------------------------------------------------------

    @property
    def keeps_documents(self) -> bool:
        """Whether tasks are kept here until they are over, because the broker may lose them: both are Redis."""
        return self._redis() is not None and str(self._app.conf.broker_url).startswith(("redis", "sentinel"))

    def keep(self, documents: Mapping[str, JSON], queue: str) -> None:
        """Keep tasks that have been given to the broker."""
        if not self.keeps_documents:
            return
        with self._redis().pipeline(transaction=False) as pipe:
            for task_id, document in documents.items():
                pipe.hset(_DOCUMENTS, task_id, json.dumps(document))
            pipe.zadd(_seen(queue), dict.fromkeys(documents, time.time()))
            pipe.execute()

    def note_in_hand(self, tasks: Mapping[str, str]) -> None:
        """Note that tasks, given with their queues, are in hand here."""
        with self._redis().pipeline(transaction=False) as pipe:
            for task_id, queue in tasks.items():
                pipe.zadd(_seen(queue), {task_id: time.time()}, xx=True)
            pipe.execute()

    def unseen(self, queue: str, age: float) -> set[str]:
        """Return tasks that nobody has had in hand for so many seconds."""
        return {each.decode() for each in self._redis().zrangebyscore(_seen(queue), 0, time.time() - age, 0, _AT_ONCE)}

    def take_up(self, task_id: str, queue: str) -> JSON:
        """Return the document of a task, to submit it again; None when another worker does, or when it is over."""
        client = self._redis()
        if not client.set(f"packtivity-lost-{task_id}", "", nx=True, ex=5):
            return None
        kept = client.hget(_DOCUMENTS, task_id)
        if kept is None:
            client.zrem(_seen(queue), task_id)
            return None
        client.zadd(_seen(queue), {task_id: time.time()}, xx=True)
        return json.loads(kept)

    def _key(self, task_id: str) -> Any:
        return self._app.backend.get_key_for_task(task_id)

    def _encoded(self, task_id: str, result: JSON, state: str) -> Any:
        """Return what Celery itself would store, so that its tools can read it."""
        ended = self._app.now().isoformat() if state in OVER else None
        about = {"status": state, "result": result, "traceback": None, "children": [], "date_done": ended}
        return self._app.backend.encode({**about, "task_id": task_id})

    def _redis(self) -> Any:
        """Return a client that can send several commands at once; None unless the store is a Redis."""
        backend = self._app.backend
        return backend.client if type(backend).__name__ in {"RedisBackend", "SentinelBackend"} else None


def queue_of(request: Any) -> str | None:
    """Return the queue that a task came from; None without a request."""
    queue = (getattr(request, "delivery_info", None) or {}).get("routing_key")
    return queue if isinstance(queue, str) else None


def _seen(queue: str) -> str:
    return f"packtivity-seen-{queue}"


@cache
def _script(client: Any) -> Any:
    return client.register_script(_BEGIN)


def unreachable(what: str, address: Any, error: Exception) -> BackendError:
    """Return the error for who need not wait."""
    from kombu.utils.url import maybe_sanitize_url

    where = maybe_sanitize_url(str(address or "")) or "none given"
    return BackendError(
        f"Celery's {what} ({where}) cannot be used: {without_secrets(error)}",
        hint="Is it running, and is PACKTIVITY_CELERY_REDIS_BROKER (or PACKTIVITY_CELERY_RESULTS) its address?",
    )


def without_secrets(error: Exception) -> str:
    """Return what an error says, with no password of an address that it may name."""
    import re

    text = re.sub(r"(\w+://[^\s:/@]*):[^\s@]*@", r"\1:***@", str(error))
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
