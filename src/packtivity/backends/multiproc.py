"""The backend ``multiproc:N``: worker processes that live as long as the program that submits.

A program that ends waits for its tasks. When it is killed, its workers end theirs, and who asks later is told so.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from packtivity import runners, worker
from packtivity.backends.asked import OVER, Answer, AskedBackend
from packtivity.backends.journal import Journal
from packtivity.backends.proxies import PacktivityProxyBase, proxy_details
from packtivity.errors import BackendError, ProxyError
from packtivity.files import is_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from packtivity.backends.pool import Job, Pool
    from packtivity.types import JSON


class MultiProcProxy(PacktivityProxyBase):
    """Handle of a task in a pool.

    :param task_id: its id.
    :param record: path of its record.
    :param runner: the process whose pool it is in, as :func:`packtivity.runners.runner` describes it.
    :ivar job: the task itself, in the process that submitted it.
    """

    def __init__(self, task_id: str, record: str | None, runner: JSON, details: JSON = None) -> None:
        super().__init__(details=details)
        self.task_id, self.record, self.runner = task_id, record, runner
        self.job: Job | None = None
        self.datamodel: JSON = None

    def proxyname(self) -> str:
        """Return ``MultiProcProxy``."""
        return "MultiProcProxy"

    def details(self) -> JSON:
        """Return where the record is and who runs the task, with the caller's remarks."""
        own = {"task_id": self.task_id, "record": self.record, "runner": self.runner}
        return {**(self._details or {}), **own}

    @classmethod
    def fromJSON(cls, data: Mapping[str, Any]) -> MultiProcProxy:
        """Read the handle.

        :raises ProxyError: something is missing from it.
        """
        details = dict(proxy_details(data))
        task_id, record, runner = (details.pop(name, None) for name in ("task_id", "record", "runner"))
        place = record is None or (isinstance(record, str) and record.endswith(f".{task_id}.outcome.json"))
        if not is_id(task_id) or not place or not isinstance(runner, dict):
            raise ProxyError(f"proxy document of a {cls.__name__} has no task_id, record and runner that could be one")
        return cls(task_id, record, runner, details or None)


class MultiProcBackend(AskedBackend):
    """Runs tasks in worker processes.

    :param poolsize: how many at once; ``auto`` for the number of processors.
    :param packconfig_spec: configuration, as other backends take it under the name ``config``.
    """

    def __init__(
        self,
        poolsize: int | str = "auto",
        packconfig_spec: Mapping[str, Any] | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(packconfig_spec or config)
        self.poolsize = pool_size(poolsize)
        self._pool: Pool | None = None
        self._journal: Journal | None = None

    def submit(self, spec: Any, parameters: Any, state: Any, metadata: Any = None) -> MultiProcProxy:
        """Start a task and return its proxy."""
        pool, journal = self._opened()
        document = self.document(spec, parameters, state, metadata)
        path = worker.record_place(state, document["metadata"], document["id"])
        proxy = MultiProcProxy(document["id"], path, runners.runner())
        proxy.datamodel = getattr(state, "datamodel", None)
        journal.add(document["id"])
        proxy.job = pool.submit(document)
        return proxy

    def _opened(self) -> tuple[Pool, Journal]:
        if self._pool is None or self._journal is None:
            from packtivity.backends.pool import Pool

            self._pool, self._journal = Pool(self.poolsize), Journal(runners.runner())
            self._journal.watch(self._pool.cancel_one)
        return self._pool, self._journal

    def ask(self, resultproxy: MultiProcProxy) -> Answer:
        """Return how a task is, also to a process that has only read its proxy."""
        if resultproxy.job is not None:
            future = resultproxy.job.future
            return future.result() if future.done() else {"status": "running"}
        found = _recorded(resultproxy)
        if found is not None:
            return found
        alive = runners.is_alive(resultproxy.runner)
        if alive is None:
            raise ProxyError(
                f"nothing is known here of the task {resultproxy.task_id}: it has no record, and it was submitted "
                "on another machine or before this one was started anew",
                hint="Ask on the machine where it was submitted.",
            )
        if Journal(resultproxy.runner).has(resultproxy.task_id) is False:
            raise ProxyError(
                f"no task {resultproxy.task_id} is known: the program that is named in its proxy was given none",
                hint="Was the proxy file edited?",
            )
        if alive:
            return {"status": "running"}
        return _recorded(resultproxy) or _ended_with_its_pool()

    def wait(self, resultproxy: MultiProcProxy) -> Answer:
        """Return the answer of a task when it is over."""
        return resultproxy.job.future.result() if resultproxy.job is not None else super().wait(resultproxy)

    def cancel(self, resultproxy: MultiProcProxy) -> None:
        """End a task, or see that it never begins; also for another process, on the same machine.

        :raises ProxyError: nobody knows the task.
        :raises BackendError: the process that submitted it cannot be asked.
        """
        if resultproxy.job is not None:
            resultproxy.job.cancel()
        elif self.ask(resultproxy)["status"] not in OVER:
            Journal(resultproxy.runner).ask_for_end(resultproxy.task_id)

    def cancel_all(self) -> None:
        """End every task that this backend was given, which would otherwise keep the program from ending."""
        if self._pool is not None:
            self._pool.cancel()

    def close(self) -> None:
        """Wait for all tasks and end the workers."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None


def pool_size(given: int | str, examples: str = "multiproc:4 or multiproc:auto") -> int:
    """Return how many workers are meant.

    :param examples: what to write instead, for whoever wrote something else.
    :raises BackendError: it is no number above 0.
    """
    if given == "auto":
        return os.cpu_count() or 1
    try:
        size = int(given)
    except ValueError:
        size = 0
    if size < 1:
        raise BackendError(f"{given!r} is no number of workers", hint=f"Write {examples}.")
    return size


def _recorded(proxy: MultiProcProxy) -> Answer | None:
    return worker.final(proxy.record, proxy.task_id) if proxy.record else None


def _ended_with_its_pool() -> Answer:
    error = {"type": "WorkerLost", "message": "the program that ran this task ended before the task did"}
    return {"status": "failed", "result": None, "error": error}
