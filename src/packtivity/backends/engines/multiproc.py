"""The backend ``multiproc:N``: worker processes that live as long as the program that submits.

A program that ends waits for its tasks. When it is killed, its workers end theirs, and who asks later is told so: that
nobody will run them again follows from its death, so nothing is kept of such a task but its record.

A thread of the :class:`Pool` gives a worker (:mod:`packtivity.backends.pool_worker`) one task after the other; both talk in
lines of JSON. A worker that is killed costs nobody else's task, and its own is started again, up to
:data:`packtivity.record.ATTEMPTS` times. While there are tasks, one more thread looks for the files by which others ask for
their end.
"""

from __future__ import annotations

import json
import os
import threading
import weakref
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any, cast

from packtivity import folders, plugins, record, runners, seal
from packtivity.backends.document import DocumentBackend
from packtivity.backends.engine import Engine, Limits, Native
from packtivity.backends.proxies import TaskProxy
from packtivity.backends.status import TaskStatus
from packtivity.errors import BackendError, PacktivityError, TaskCancelled, WorkerLost
from packtivity.files import is_file
from packtivity.runtimes.python_workers import forget, start_module
from packtivity.task import Task
from packtivity.worker import failed, unwritten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from packtivity.backends.engine import Envelope, Submission
    from packtivity.backends.task_files import Entry
    from packtivity.types import JSON

Answer = dict[str, Any]

_LOOK = 0.25
"""Seconds between looks for files that ask for the end of a task."""

_LOOKED_AT = 200
"""Waiting tasks that are looked at each time; all that workers have are."""


class Job:
    """A task in the pool.

    :param cancel: path of the file that asks for its end, None where nobody else can.
    :ivar future: its answer.
    :ivar attempts: how many workers have died with it.
    """

    def __init__(self, document: JSON, cancel: str | None = None) -> None:
        self.document, self.cancel_file = document, cancel
        self.future: Future[Answer] = Future()
        self.attempts = 0
        self._lock = threading.RLock()
        self._worker: Worker | None = None
        self._cancelled = False

    @property
    def is_given(self) -> bool:
        """Whether a worker has it."""
        return self._worker is not None

    def begin(self, worker: Worker) -> bool:
        """Give it to a worker; false when it is over, because it was cancelled."""
        with self._lock:
            if self.future.done():
                return False
            self._worker = worker
            worker.order({"task": self.document})  # what ends it comes after it
            return True

    def ended(self, answer: Answer | None) -> None:
        """Note what its worker has answered; None when that has died."""
        with self._lock:
            self._worker = None
            if answer is None:
                self.attempts += 1
                if self.attempts >= record.ATTEMPTS:
                    self.conclude(WorkerLost(f"the worker that ran this task died, {record.ATTEMPTS} times"))
                elif self._cancelled:
                    self.settle(unwritten(TaskCancelled("the task was cancelled")))
            else:
                self.settle(answer)

    def cancel(self, *, by_file: bool = False) -> None:
        """End it, or see that it never begins.

        :param by_file: because somebody else asks for that, who looks for its record.
        """
        with self._lock:
            self._cancelled = True
            if self._worker is not None:
                self._worker.order({"cancel": self.document["id"]})
                return
            error = TaskCancelled("the task was cancelled before it began")
            if by_file and not self.future.done():
                self.conclude(error)
            else:
                self.settle(unwritten(error))

    def conclude(self, error: PacktivityError) -> None:
        """Say that it has failed, and see that its record says so."""
        try:
            self.settle(failed(Task.from_json(self.document), error))
        except PacktivityError as other:
            self.settle(other)

    def settle(self, answer: Answer | Exception) -> None:
        """Say how it ended, unless that has been said."""
        with self._lock:
            if self.future.done():
                return
            if isinstance(answer, Exception):
                self.future.set_exception(answer)
            else:
                self.future.set_result(answer)


class Worker:
    """One worker process."""

    def __init__(self) -> None:
        self._process = start_module("packtivity.backends.pool_worker")
        self._orders, self._answers = cast("IO[bytes]", self._process.stdin), cast("IO[bytes]", self._process.stdout)
        self._writing = threading.Lock()
        self.is_dead = False
        self.order({"plugins": list(plugins.enabled)})

    def order(self, order: JSON) -> None:
        """Send an order; when the worker is dead, that is found out when it is read from."""
        with self._writing, suppress(OSError, ValueError):
            self._orders.write(json.dumps(order, separators=(",", ":")).encode() + b"\n")
            self._orders.flush()

    def read(self) -> Answer | None:
        """Return the next answer; None when the worker has died."""
        line = self._answers.readline()
        self.is_dead = not line.endswith(b"\n")
        return None if self.is_dead else json.loads(line)

    def end(self) -> None:
        """Let it end, its task first if it has one."""
        forget(self._process)


class Pool:
    """Worker processes, started when they are needed.

    :param size: how many at most.
    """

    def __init__(self, size: int) -> None:
        self._threads = ThreadPoolExecutor(size, thread_name_prefix="packtivity")
        self._changed = threading.Condition()
        self._open: dict[int, Job] = {}
        self._idle: list[Worker] = []
        self._engaged = 0
        self._is_watched = False
        self._turn = 0
        weakref.finalize(self, _end_all, self._idle)

    def submit(self, document: JSON, cancel: str | None = None) -> Job:
        """Put a task into the queue.

        :param cancel: path of the file that asks for its end.
        """
        job = Job(document, cancel)
        with self._changed:
            self._open[id(job)] = job
            watch, self._is_watched = (
                not self._is_watched and cancel is not None,
                self._is_watched or cancel is not None,
            )
        if watch:
            method = weakref.WeakMethod(self._look_for_files)
            threading.Thread(target=_watch, args=(method,), name="packtivity-cancel", daemon=True).start()
        self._threads.submit(self._run, job)
        return job

    def cancel(self) -> None:
        """Cancel all tasks that are not over."""
        for job in self._jobs():
            job.cancel()

    def _jobs(self) -> list[Job]:
        with self._changed:
            return list(self._open.values())

    def _look_for_files(self) -> bool:
        """End tasks whose end others ask for; false when there is none left to look at."""
        jobs = self._jobs()
        given, waiting = [job for job in jobs if job.is_given], [job for job in jobs if not job.is_given]
        self._turn = self._turn + _LOOKED_AT if self._turn + _LOOKED_AT < len(waiting) else 0
        for job in (*given, *waiting[self._turn :][:_LOOKED_AT]):
            if job.cancel_file is not None and is_file(job.cancel_file):
                job.cancel(by_file=True)
        with self._changed:
            self._is_watched = bool(self._open)
            return self._is_watched

    def _run(self, job: Job) -> None:
        try:
            while not job.future.done():
                with self._worker() as worker:
                    if job.begin(worker):
                        job.ended(worker.read())
        except (PacktivityError, OSError) as error:
            job.settle(error)
        finally:
            with self._changed:
                del self._open[id(job)]

    @contextmanager
    def _worker(self) -> Iterator[Worker]:
        """Have a worker for oneself inside the block; one that another thread has had, when none can be started.

        :raises EnvironmentUnavailable: there is none.
        """
        with self._changed:
            worker = self._idle.pop() if self._idle else None
            self._engaged += 1
        try:
            yield (worker := worker or self._start())
        finally:
            if worker is not None and worker.is_dead:
                worker.end()
            with self._changed:
                self._idle += [worker] if worker is not None and not worker.is_dead else []
                self._engaged -= 1
                self._changed.notify_all()

    def _start(self) -> Worker:
        try:
            return Worker()
        except (PacktivityError, OSError):
            with self._changed:
                self._engaged -= 1
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._idle or not self._engaged)
                self._engaged += 1
                if not self._idle:
                    raise
                return self._idle.pop()

    def close(self) -> None:
        """Wait for all tasks, and end the workers."""
        self._threads.shutdown()
        _end_all(self._idle)


def _end_all(workers: list[Worker]) -> None:
    while workers:
        workers.pop().end()


def _watch(method: weakref.WeakMethod[Callable[[], bool]]) -> None:
    idle = threading.Event()
    while not idle.wait(_LOOK):
        look = method()
        if look is None or not look():
            return
        del look


# --- the backend -----------------------------------------------------------------------------------------------


class MultiProcProxy(TaskProxy):
    """Handle of a task in a pool; its place is the process whose pool it is, as :func:`packtivity.runners.runner` says.

    :ivar job: the task itself, in the process that submitted it.
    """

    name, place_name = "MultiProcProxy", "runner"
    job: Job | None = None

    @classmethod
    def is_place(cls, place: Any) -> bool:
        """Return whether something in a document can be a process."""
        return isinstance(place, dict)


class PoolEngine(Engine):
    """The pool of this program, and what can be seen of those of others.

    :param size: how many workers at most.
    """

    name, keeps, interval = "multiproc", False, 0.0
    limits = Limits(final=True, revives=False)

    def __init__(self, size: int) -> None:
        self.size = size
        self.pool: Pool | None = None
        self._jobs: dict[str, Job] = {}

    def place(self) -> JSON:
        """Return what tells this process apart from every other one."""
        return runners.runner()

    def submit(self, envelopes: Sequence[Envelope]) -> list[str | BackendError]:
        """Put tasks into the queue of the pool."""
        if self.pool is None:
            folders.state(make=False)  # one that is not safe is refused before anything is run
            self.pool = Pool(self.size)
        for envelope in envelopes:
            cancel = None if envelope.record is None else record.cancel_path(envelope.record)
            self._jobs[envelope.id] = self.pool.submit(envelope.task, cancel)
        return [""] * len(envelopes)

    def take(self, task_id: str) -> Job:
        """Return a task that was just submitted, for its proxy to hold."""
        return self._jobs.pop(task_id)

    def look(self, submissions: Sequence[Submission]) -> list[Native]:
        """Return what follows from whether the programs live to whose pools tasks were given."""
        return [_look(each) for each in submissions]

    def owns(self, submission: Submission) -> bool:
        """Return whether a task was submitted by this user, as its id proves."""
        return seal.is_own(submission.id)


def _look(submission: Submission) -> Native:
    alive = runners.is_alive(submission.place)
    if alive is None:
        what = f"nothing is known here of the task {submission.id}: it has no record, and it was submitted "
        what += "on another machine or before this one was started anew"
        return Native("unknown", what, "Ask on the machine where it was submitted.")
    if alive and not seal.is_own(submission.id) and _is_ours(submission.place):
        what = f"no task {submission.id} is known: the program that is named in its proxy was given none"
        return Native("unknown", what, "Was the proxy file edited?")
    return Native("waiting") if alive else Native("gone", "the program that ran this task ended before the task did")


def _is_ours(program: JSON) -> bool:
    """Return whether a living program gives ids by the key of this user; a user without one cannot know that."""
    with suppress(OSError):
        return seal.user_key(make=False) is not None and os.stat(f"/proc/{program['pid']}").st_uid == os.getuid()
    return False


class MultiProcBackend(DocumentBackend[MultiProcProxy]):
    """Runs tasks in worker processes.

    :param poolsize: how many at once; ``auto`` for the number of processors.
    :param packconfig_spec: configuration, as other backends take it under the name ``config``.
    """

    proxy_class = MultiProcProxy
    engine: PoolEngine

    def __init__(
        self,
        poolsize: int | str = "auto",
        packconfig_spec: Mapping[str, Any] | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self.poolsize = pool_size(poolsize)
        super().__init__(PoolEngine(self.poolsize), packconfig_spec or config)

    def _proxy(self, entry: Entry, handle: str, model: Any) -> MultiProcProxy:
        proxy = super()._proxy(entry, handle, model)
        proxy.job = self.engine.take(entry.id)
        return proxy

    def statuses(self, resultproxies: Sequence[MultiProcProxy]) -> list[TaskStatus | PacktivityError]:
        """Return how tasks are; nothing has to be looked at for those that were submitted here."""
        others = iter(super().statuses([proxy for proxy in resultproxies if proxy.job is None]))
        return [next(others) if proxy.job is None else _status(proxy.job) for proxy in resultproxies]

    def wait(self, resultproxy: MultiProcProxy) -> TaskStatus:
        """Return the status of a task when it is over."""
        if resultproxy.job is None:
            return super().wait(resultproxy)
        return TaskStatus.from_answer(resultproxy.job.future.result())

    def cancel_many(self, resultproxies: Sequence[MultiProcProxy]) -> list[PacktivityError | None]:
        """End tasks in one go, also those of other programs of this user; for each None, or why that cannot be done."""
        others = iter(super().cancel_many([proxy for proxy in resultproxies if proxy.job is None]))
        refused = []
        for proxy in resultproxies:
            if proxy.job is not None:
                proxy.job.cancel()
            refused.append(next(others) if proxy.job is None else None)
        return refused

    def cancel_all(self) -> None:
        """End every task that this backend was given, which would otherwise keep the program from ending."""
        if self.engine.pool is not None:
            self.engine.pool.cancel()

    def close(self) -> None:
        """Wait for all tasks and end the workers."""
        if self.engine.pool is not None:
            self.engine.pool.close()
            self.engine.pool = None


def _status(job: Job) -> TaskStatus | PacktivityError:
    if not job.future.done():
        return TaskStatus("running" if job.is_given else "waiting")
    error = job.future.exception()
    if error is None:
        return TaskStatus.from_answer(job.future.result())
    if isinstance(error, PacktivityError):
        return error
    raise error


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
