"""A pool of worker processes that live as long as this one; a worker that is killed costs nobody else's task.

Each worker is talked to by a thread of ours. Tasks and answers are lines of JSON; see
:mod:`packtivity.backends.serve`. A task whose worker was killed is started again, up to
:data:`packtivity.record.ATTEMPTS` times.
"""

from __future__ import annotations

import json
import threading
import weakref
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any, cast

from packtivity import plugins
from packtivity.errors import WorkerLost
from packtivity.record import ATTEMPTS
from packtivity.runtimes.helpers import forget, start_module

if TYPE_CHECKING:
    from packtivity.types import JSON

Answer = dict[str, Any]


class Worker:
    """One worker process."""

    def __init__(self) -> None:
        self._process = start_module("packtivity.backends.serve")
        self._orders, self._answers = cast("IO[bytes]", self._process.stdin), cast("IO[bytes]", self._process.stdout)
        self._writing = threading.Lock()
        self.pid = self._process.pid
        self._send({"plugins": list(plugins.enabled)})

    def _send(self, order: JSON) -> None:
        line = json.dumps(order, separators=(",", ":")).encode() + b"\n"
        with self._writing:
            self._orders.write(line)
            self._orders.flush()

    def run(self, document: JSON) -> Answer | None:
        """Run a task and return its answer; None when the worker has died."""
        try:
            self._send({"task": document})
            line = self._answers.readline()
        except OSError:
            return None
        found: Answer | None = json.loads(line) if line.endswith(b"\n") else None
        return found

    def cancel(self) -> None:
        """Ask it to end its task."""
        with suppress(OSError):
            self._send({"cancel": True})

    def end(self) -> None:
        """Let it end, its task first if it has one."""
        forget(self._process)


class Job:
    """A task in the pool.

    :ivar future: its answer.
    """

    def __init__(self, document: JSON) -> None:
        self.document = document
        self.future: Future[Answer] = Future()
        self._lock = threading.Lock()
        self._worker: Worker | None = None
        self.cancelled = False

    def given_to(self, worker: Worker | None) -> bool:
        """Note who runs it; false when nobody is to run it any more."""
        with self._lock:
            self._worker = worker
            return not self.cancelled

    def cancel(self) -> None:
        """End it, or see that it never begins."""
        with self._lock:
            self.cancelled = True
            if self._worker is not None:
                self._worker.cancel()


class Pool:
    """Worker processes, started when they are needed.

    :param size: how many at most.
    """

    def __init__(self, size: int) -> None:
        self._threads = ThreadPoolExecutor(size, thread_name_prefix="packtivity")
        self._idle: list[Worker] = []
        self._lock = threading.Lock()
        weakref.finalize(self, _end_all, self._idle)

    def submit(self, document: JSON) -> Job:
        """Put a task into the queue."""
        job = Job(document)
        job.future = self._threads.submit(self._run, job)
        return job

    def _run(self, job: Job) -> Answer:
        for _ in range(ATTEMPTS):
            worker = self._take()
            try:
                answer = worker.run(job.document) if job.given_to(worker) else _cancelled()
            finally:
                job.given_to(None)
            if answer is not None:
                with self._lock:
                    self._idle.append(worker)
                return answer
            worker.end()
        return lost(job.document)

    def _take(self) -> Worker:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return Worker()

    def close(self) -> None:
        """Wait for all tasks, and end the workers."""
        self._threads.shutdown()
        _end_all(self._idle)


def _end_all(workers: list[Worker]) -> None:
    while workers:
        workers.pop().end()


def _cancelled() -> Answer:
    error = {"type": "TaskCancelled", "message": "the task was cancelled before it began"}
    return {"status": "cancelled", "result": None, "error": error, "record": None}


def lost(document: JSON) -> Answer:
    """Answer for a task whose workers have died, and see that its record says so."""
    from packtivity.task import Task
    from packtivity.worker import failed

    error = WorkerLost(f"the worker that ran this task died, {ATTEMPTS} times")
    return failed(Task.from_json(document), error)
