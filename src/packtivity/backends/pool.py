"""A pool of worker processes that live as long as this one; a worker that is killed costs nobody else's task.

Each busy worker is talked to by a thread of ours. Tasks and answers are lines of JSON; see
:mod:`packtivity.backends.pool_worker`. While tasks are short, a worker is sent the next ones ahead, so that it need not wait
for us in between; what it has not begun is taken back when another worker has nothing to do. A task whose worker was
killed is started again, up to :data:`packtivity.record.ATTEMPTS` times. While there are tasks, a thread looks for the
files by which others ask for their end.
"""

from __future__ import annotations

import json
import threading
import time
import weakref
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any, cast

from packtivity import plugins
from packtivity.errors import PacktivityError, TaskCancelled, WorkerLost
from packtivity.files import is_file
from packtivity.record import ATTEMPTS
from packtivity.runtimes.python_workers import forget, start_module
from packtivity.task import Task
from packtivity.worker import failed, unwritten

if TYPE_CHECKING:
    from collections.abc import Callable

    from packtivity.types import JSON

Answer = dict[str, Any]

_AHEAD = 4
"""Tasks that a worker has at most, the one that it runs included."""

_SHORT = 0.05
"""Seconds a task takes at most for the worker to be sent others ahead."""

_SMALL = 8192
"""Bytes a task has at most to be sent ahead; all that are have to fit into a pipe that nobody reads yet."""


_LOOK = 0.25
"""Seconds between looks for files that ask for the end of a task."""

_LOOKED_AT = 200
"""Waiting tasks that are looked at each time; all that workers have are."""

_NOT_BEGUN = "the task was cancelled before it began"


class Job:
    """A task in the pool.

    :param cancel: path of the file that asks for its end, None where nobody else can.
    :ivar future: its answer.
    :ivar attempts: how many workers have died with it.
    """

    def __init__(self, document: JSON, cancel: str | None = None) -> None:
        self.id: str = document["id"]
        self.cancel_file = cancel
        self.line = json.dumps({"task": document}, separators=(",", ":")).encode() + b"\n"
        self.future: Future[Answer] = Future()
        self.attempts = 0
        self._lock = threading.Lock()
        self._worker: Worker | None = None
        self._cancelled = self._settled = False

    @property
    def is_given(self) -> bool:
        """Whether a worker has it."""
        return self._worker is not None

    def sent_to(self, worker: Worker) -> bool:
        """Note who has it; false when nobody is to have it any more."""
        with self._lock:
            self._worker = worker
            return not self._settled

    def came_back(self) -> bool:
        """Note that nobody has it; false when it was cancelled, which is then its answer."""
        with self._lock:
            self._worker = None
            again = not self._cancelled
        if not again:
            self.settle(unwritten(TaskCancelled(_NOT_BEGUN)))
        return again

    def cancel(self) -> None:
        """End it, or see that it never begins."""
        with self._lock:
            self._cancelled = True
            worker = self._worker
        if worker is None:
            self.settle(unwritten(TaskCancelled(_NOT_BEGUN)))
        else:
            worker.order({"cancel": self.id})

    def cancel_by_file(self) -> None:
        """End it because somebody else asks for that, who looks for its record."""
        with self._lock:
            begun = self._worker is not None or self._settled
            self._cancelled = True
        if begun:
            self.cancel()
        else:
            self.settle(concluded(self, TaskCancelled(_NOT_BEGUN)))

    def settle(self, answer: Answer | Exception) -> None:
        """Say how it ended, unless that has been said."""
        with self._lock:
            first, self._settled = not self._settled, True
        if first and isinstance(answer, Exception):
            self.future.set_exception(answer)
        elif first:
            self.future.set_result(cast("Answer", answer))


class Worker:
    """One worker process.

    :ivar jobs: what it has, in the order in which it runs them.
    """

    def __init__(self) -> None:
        self._process = start_module("packtivity.backends.pool_worker")
        self._orders, self._answers = cast("IO[bytes]", self._process.stdin), cast("IO[bytes]", self._process.stdout)
        self._writing = threading.Lock()
        self.jobs: deque[Job] = deque()
        self._began = 0.0
        self._quick = False
        self.order({"plugins": list(plugins.enabled)})

    def takes(self, job: Job) -> bool:
        """Return whether it may be given another task."""
        return not self.jobs or (self._quick and len(self.jobs) < _AHEAD and len(job.line) <= _SMALL)

    def give(self, job: Job) -> None:
        """Send a task; when the worker is dead, that is found out when it is read from."""
        with self._writing:
            if not job.sent_to(self):
                return
            if not self.jobs:
                self._began = time.monotonic()
            self.jobs.append(job)
            self._write(job.line)

    def order(self, order: JSON) -> None:
        """Send anything else."""
        with self._writing:
            self._write(json.dumps(order).encode() + b"\n")

    def _write(self, line: bytes) -> None:
        with suppress(OSError, ValueError):  # it is dead, or has been buried already
            self._orders.write(line)
            self._orders.flush()

    def read(self) -> Answer | None:
        """Return the next answer; None when the worker has died."""
        line = self._answers.readline()
        return json.loads(line) if line.endswith(b"\n") else None

    def answered(self, task_id: str) -> Job:
        """Return the job that an answer is for; the worker does not have it any more."""
        now = time.monotonic()
        if task_id == self.jobs[0].id:
            self._quick, self._began = now - self._began < _SHORT, now
            return self.jobs.popleft()
        job = next(each for each in self.jobs if each.id == task_id)
        self.jobs.remove(job)
        self._quick = False  # it was asked to give it back, because others have nothing to do
        return job

    def end(self) -> None:
        """Let it end, its task first if it has one."""
        forget(self._process)


class Pool:
    """Worker processes, started when they are needed.

    :param size: how many at most.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._threads = ThreadPoolExecutor(size, thread_name_prefix="packtivity")
        self._lock = threading.Lock()
        self._waiting: deque[Job] = deque()
        self._open: weakref.WeakSet[Job] = weakref.WeakSet()
        self._talking = 0
        self._busy: set[Worker] = set()
        self._idle: list[Worker] = []
        self._watched = False
        self._turn = 0
        weakref.finalize(self, _end_all, self._idle)

    def submit(self, document: JSON, cancel: str | None = None) -> Job:
        """Put a task into the queue.

        :param cancel: path of the file that asks for its end.
        """
        job = Job(document, cancel)
        self._open.add(job)
        with self._lock:
            self._waiting.append(job)
            watch, self._watched = cancel is not None and not self._watched, self._watched or cancel is not None
        if watch:
            method = weakref.WeakMethod(self._look_for_files)
            threading.Thread(target=_watch, args=(method,), name="packtivity-cancel", daemon=True).start()
        self._begin()
        return job

    def cancel(self) -> None:
        """Cancel all tasks that are not over."""
        for job in list(self._open):
            if not job.future.done():
                job.cancel()

    def _look_for_files(self) -> bool:
        """End tasks whose end others ask for; false when there is none left to look at."""
        with self._lock:
            waiting = list(self._waiting)
            jobs = [job for worker in self._busy for job in worker.jobs]
            self._watched = bool(jobs or waiting)
        self._turn = self._turn + _LOOKED_AT if self._turn + _LOOKED_AT < len(waiting) else 0
        for job in (*jobs, *waiting[self._turn :][:_LOOKED_AT]):
            if job.cancel_file is not None and is_file(job.cancel_file):
                job.cancel_by_file()
        return self._watched

    def _begin(self) -> None:
        """Start a thread for another worker, if there may be one."""
        with self._lock:
            if not self._waiting or self._talking >= self._size:
                return
            self._talking += 1
        try:
            self._threads.submit(self._talk)
        except RuntimeError:  # the program is ending, or the pool was closed
            with self._lock:
                self._talking -= 1
                if not self._talking:
                    raise

    def _talk(self) -> None:
        """Keep a worker busy until there is nothing to do."""
        while (worker := self._take()) is not None:
            while self._supply(worker):
                answer = worker.read()
                if answer is None:
                    self._bury(worker)
                    break
                self._settle(worker.answered(answer.pop("id")), answer)
            else:
                self._recall()
                return

    def _take(self) -> Worker | None:
        """Return a worker; None when none can be started."""
        with self._lock:
            if self._idle:
                worker = self._idle.pop()
                self._busy.add(worker)
                return worker
        try:
            worker = Worker()
        except (PacktivityError, OSError) as error:
            self._refuse(error)
            return None
        with self._lock:
            self._busy.add(worker)
        return worker

    def _refuse(self, error: Exception) -> None:
        """Say that there is no worker for what waits, unless there are others that will take it."""
        with self._lock:
            self._talking -= 1
            if self._talking:
                return
            refused = list(self._waiting)
            self._waiting.clear()
        for job in refused:
            job.settle(error)

    def _supply(self, worker: Worker) -> bool:
        """Give a worker what it takes; false when there is nothing for it, and it is idle from then on."""
        while True:
            with self._lock:
                job = self._waiting.popleft() if self._waiting and worker.takes(self._waiting[0]) else None
                if job is None and not worker.jobs:
                    self._talking -= 1
                    self._busy.discard(worker)
                    self._idle.append(worker)
                    return False
            if job is None:
                return True
            worker.give(job)

    def _settle(self, job: Job, answer: Answer) -> None:
        if answer["status"] != "returned":
            job.settle(answer)
        elif job.came_back():
            self._again([job])

    def _again(self, jobs: list[Job]) -> None:
        with self._lock:
            self._waiting.extendleft(reversed(jobs))
        with suppress(RuntimeError):  # when the program is ending, the worker at hand takes them
            self._begin()

    def _bury(self, worker: Worker) -> None:
        """See to the tasks of a worker that has died: the first was being run, the others had not begun."""
        with self._lock:
            self._busy.discard(worker)
        worker.end()
        running, *others = worker.jobs
        running.attempts += 1
        again = [job for job in others if job.came_back()]
        if running.attempts >= ATTEMPTS:
            running.settle(concluded(running, WorkerLost(f"the worker that ran this task died, {ATTEMPTS} times")))
        elif running.came_back():
            again.insert(0, running)
        with self._lock:
            self._waiting.extendleft(reversed(again))

    def _recall(self) -> None:
        """Ask busy workers to give back what they have not begun, one for each worker that has nothing to do."""
        with self._lock:
            room = 0 if self._waiting else self._size - self._talking
            loaded = [worker for worker in self._busy if len(worker.jobs) > 1]
        for worker in loaded[:room]:
            with suppress(IndexError):  # it has answered meanwhile
                worker.order({"return": worker.jobs[-1].id})

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


def concluded(job: Job, error: PacktivityError) -> Answer | Exception:
    """Return the answer for a task that no worker runs any more, and see that its record says so."""
    try:
        return failed(Task.from_json(json.loads(job.line)["task"]), error)
    except PacktivityError as other:
        return other
