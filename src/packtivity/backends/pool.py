"""A pool of worker processes that live as long as this one, and what such a worker does: ``python -m packtivity.backends.pool``.

A thread of the pool gives a worker one task after the other. A worker that is killed costs nobody else's task, and its own is
started again, up to :data:`packtivity.record.ATTEMPTS` times. One more thread looks for the files by which others ask for the
end of a task.

Both talk in lines of JSON. Orders are ``{"task": document}``, when none is running; ``{"cancel": id, "signal": number or
null}``, with what is ending the pool's process; ``{"signal": number}``, for the running task; ``{"plugins": [module, …]}``. The end of the input says that the pool's process has died: the running task is ended, and none is begun any more. An
answer is what :func:`packtivity.worker.answer` gives.
"""

from __future__ import annotations

import json
import os
import select
import signal
import threading
import weakref
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any, cast

from packtivity import plugins, signals
from packtivity.backends.status import TaskStatus
from packtivity.errors import PacktivityError, TaskCancelled, WorkerLost
from packtivity.files import is_file
from packtivity.record import ATTEMPTS
from packtivity.runtimes.cancellation import Cancellation, Why
from packtivity.runtimes.python_workers import forget, start_module
from packtivity.task import Task
from packtivity.worker import answer, failed, unwritten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
        self.id, self.cancel_file = document["id"], cancel
        self._order = _line({"task": document})  # as it is now, whatever its owner does to it later
        self.future: Future[Answer] = Future()
        self.attempts = 0
        self._lock = threading.RLock()
        self._worker: Worker | None = None
        self._cancelled = False

    @property
    def is_given(self) -> bool:
        """Whether a worker has it."""
        return self._worker is not None

    def status(self) -> TaskStatus | PacktivityError:
        """Return how it is; what keeps anybody from running it otherwise."""
        if not self.future.done():
            return TaskStatus("running" if self.is_given else "waiting")
        try:
            return TaskStatus.from_answer(self.future.result())
        except PacktivityError as error:
            return error

    def begin(self, worker: Worker) -> bool:
        """Give it to a worker; false when it is over, because it was cancelled."""
        with self._lock:
            if self.future.done():
                return False
            self._worker = worker
            worker.send(self._order)  # what ends it comes after it
            signals.receivers.add(self.send)
            return True

    def send(self, number: int) -> None:
        """Send a signal to it."""
        with self._lock:
            if self._worker is not None:
                self._worker.send(_line({"signal": number}))

    def ended(self, answer: Answer | None) -> None:
        """Note what its worker has answered; None when that has died."""
        signals.receivers.discard(self.send)
        with self._lock:
            self._worker = None
            if answer is None:
                self.attempts += 1
                if self.attempts >= ATTEMPTS:
                    self.conclude(WorkerLost(f"the worker that ran this task died, {ATTEMPTS} times"))
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
                self._worker.send(_line({"cancel": self.id, "signal": signals.received}))
                return
            error = TaskCancelled("the task was cancelled before it began")
            if by_file and not self.future.done():
                self.conclude(error)
            else:
                self.settle(unwritten(error))

    def conclude(self, error: PacktivityError) -> None:
        """Say that it has failed, and see that its record says so."""
        try:
            self.settle(failed(Task.from_json(json.loads(self._order)["task"]), error))
        except PacktivityError as other:
            self.settle(other)

    def settle(self, answer: Answer | PacktivityError) -> None:
        """Say how it ended, unless that has been said."""
        with self._lock:
            if self.future.done():
                return
            if isinstance(answer, PacktivityError):
                self.future.set_exception(answer)
            else:
                self.future.set_result(answer)


class Worker:
    """One worker process."""

    def __init__(self) -> None:
        self._process = start_module("packtivity.backends.pool")
        self._orders, self._answers = cast("IO[bytes]", self._process.stdin), cast("IO[bytes]", self._process.stdout)
        self._writing = threading.Lock()
        self.is_dead = False
        self.send(_line({"plugins": list(plugins.enabled)}))

    def send(self, order: bytes) -> None:
        """Send an order; when the worker is dead, that is found out when it is read from."""
        with self._writing, suppress(OSError, ValueError):
            self._orders.write(order)
            self._orders.flush()

    def read(self) -> Answer | None:
        """Return the next answer; None when the worker has died."""
        try:
            found: Answer = json.loads(self._answers.readline())
        except ValueError:  # there is no line any more, or not all of it
            self.is_dead = True
            return None
        return found

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
            watch = cancel is not None and not self._is_watched
            self._is_watched |= watch
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
        except PacktivityError as error:
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
        except PacktivityError:
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


def _line(order: JSON) -> bytes:
    return json.dumps(order, separators=(",", ":")).encode() + b"\n"


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


# --- the worker ------------------------------------------------------------------------------------------------

_CHUNK = 1 << 20


class Orders(Cancellation):
    """What comes in, and as such what can end a task: see :class:`packtivity.runtimes.cancellation.Cancellation`.

    :param orders: descriptor to read from.
    :param answers: descriptor to write to.
    """

    def __init__(self, orders: int, answers: int) -> None:
        self._orders, self._answers = orders, answers
        self._poller = select.poll()
        self._poller.register(orders, select.POLLIN)
        self._line = b""
        self._next: dict[str, Any] | None = None
        self._running = self._unwanted = ""
        self._over = False

    def fileno(self) -> int:
        """Return the descriptor, readable when something has come in; :meth:`why` tells what."""
        return self._orders

    def why(self) -> Why | None:
        """Return why the running task is to end: its end was asked for, or the pool's process has died, or we have to go."""
        while not self._over and self._poller.poll(0):
            self._receive()
        return "cancelled" if self._unwanted == self._running else "abandoned" if self._over else None

    def leave(self, number: int, _: object = None) -> None:
        """End the running task, which another worker is to run again, and begin none; a signal handler."""
        self._over = True
        signals.interrupt(number)

    def cancel(self) -> None:
        """Do nothing: it is for the pool to say."""

    close = __del__ = cancel

    def next(self) -> dict[str, Any] | None:
        """Return the next task, waiting for it; None at the end."""
        while self._next is None and not self._over:
            self._receive()
        document, self._next = self._next, None
        if document is None or self._over:
            return None
        self._running, signals.received = document["id"], None
        return document

    def _receive(self) -> None:
        chunk = os.read(self._orders, _CHUNK)
        *lines, self._line = (self._line + chunk).split(b"\n")
        self._over |= not chunk
        for order in map(json.loads, lines):
            self._next = order.get("task", self._next)
            if "cancel" in order:
                self._unwanted, signals.received = order["cancel"], order["signal"]
            elif "signal" in order:
                signals.pass_on(order["signal"])
            if "plugins" in order:
                plugins.enable_plugins(order["plugins"])

    def put(self, found: dict[str, Any]) -> None:
        """Write an answer."""
        view = memoryview(json.dumps(found, default=str).encode() + b"\n")
        try:
            while view:
                view = view[os.write(self._answers, view) :]
        except BrokenPipeError:  # the pool's process has died
            self._over = True


def main() -> None:
    """Answer until the input ends."""
    signals.reset()
    answers = os.dup(1)
    os.dup2(2, 1)  # what a plug-in prints must not get into the conversation
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    orders = Orders(os.dup(0), answers)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    with suppress(KeyboardInterrupt), signals.like_interrupts(orders.leave):
        while (document := orders.next()) is not None:
            try:
                found = answer(document, orders)
            except PacktivityError as error:
                found = unwritten(error)
            if found["status"] != "waiting":  # else another worker is to run it, or nobody
                orders.put(found)


if __name__ == "__main__":
    main()
