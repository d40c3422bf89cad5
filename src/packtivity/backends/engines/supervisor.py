"""The process that runs a user's detached tasks, at most N at once; ``python -m packtivity.backends.engines.supervisor``.

It is started by whoever submits or asks when there is none and there is something to do, and ends when there has been
nothing to do for a while. When it is killed, its workers end their tasks, and the next one starts them again.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

from packtivity import record
from packtivity.backends.engines.local import Queue
from packtivity.backends.observe import from_answer
from packtivity.backends.pool import Job, Pool
from packtivity.backends.task_files import TaskFiles
from packtivity.errors import PacktivityError, StateError
from packtivity.printable import escaped
from packtivity.runtimes.python_workers import detach
from packtivity.signals import reset
from packtivity.worker import unwritten

if TYPE_CHECKING:
    from packtivity.backends.status import TaskStatus
    from packtivity.backends.task_files import Entry

_IDLE = 10.0
"""Seconds without anything to do after which it ends."""

_AGAIN = 1.0
"""Seconds until what could not be written is tried again."""


class Supervisor:
    """Runs what is in the queue.

    :param size: how many tasks at once.
    """

    def __init__(self, queue: Queue, size: int) -> None:
        self._queue, self._size = queue, size
        self._files = TaskFiles()
        self._pool = Pool(size)
        self._waiting: deque[str] = deque()
        self._jobs: dict[str, tuple[Entry, Job]] = {}

    def work(self, bell: int) -> None:
        """Run tasks until there has been nothing to do for a while."""
        poller = select.poll()
        poller.register(bell, select.POLLIN)
        while True:
            self._collect()
            self._begin()
            kept = any(job.future.done() for _, job in self._jobs.values())  # nobody rings for them any more
            if not poller.poll((_AGAIN if kept else _IDLE) * 1000) and not self._jobs:
                return
            _empty(bell)

    def _begin(self) -> None:
        """Begin as many as there is room for; what has come since the last listing comes after all that was in it."""
        while len(self._jobs) < self._size:
            if not self._waiting:
                self._waiting.extend(name for name in self._queue.names() if name not in self._jobs)
            if not self._waiting:
                return
            self._start(self._waiting.popleft())

    def _start(self, name: str) -> None:
        try:
            entry = self._files.read(name)
        except StateError as error:
            sys.stderr.write(f"{escaped(str(error))}\n")
            entry = None
        if entry is None or entry.task is None or entry.task.get("id") != name:  # is over, or nobody's
            self._queue.drop(name)
            return
        cancel = None if entry.record is None else record.cancel_path(entry.record)
        job = self._pool.submit(entry.task, cancel)
        self._jobs[name] = replace(entry, task=None), job
        job.future.add_done_callback(lambda _: self._queue.wake())

    def _collect(self) -> None:
        for name, (entry, job) in list(self._jobs.items()):
            if job.future.done() and self._finish(entry, _ending(job)):
                del self._jobs[name]

    def _finish(self, entry: Entry, ending: TaskStatus) -> bool:
        """Note how a task ended; false when that cannot be written now, because the disk is full.

        Whoever has removed the state directory will not ask.
        """
        try:
            self._files.retire(entry, ending)
        except StateError as error:
            sys.stderr.write(f"{escaped(str(error))}\n")
            return not os.path.isdir(self._queue.root)
        self._queue.drop(entry.id)
        return True

    def close(self) -> None:
        """End the workers."""
        self._pool.close()


def _ending(job: Job) -> TaskStatus:
    try:
        return from_answer(job.future.result())
    except (PacktivityError, OSError, ValueError) as error:
        return from_answer(unwritten(error))


def _empty(bell: int) -> None:
    try:
        while os.read(bell, 65536):
            pass
    except BlockingIOError:
        return


def main() -> None:
    """Be the supervisor, unless there is one; the process that was called ends as soon as that is decided."""
    reset()
    queue, size = Queue(), int(sys.argv[1])
    queue.prepare()
    while True:
        with queue.supervision() as ours:
            if not ours:
                return
            if sys.argv[2:] != ["foreground"] and not detach():
                os._exit(0)  # the lock is the other's now
            sys.argv[2:] = ["foreground"]
            _supervise(queue, size)
        if not queue.names():  # what came while the lock was given back
            return


def _supervise(queue: Queue, size: int) -> None:
    for descriptor, mode in ((0, os.O_RDONLY), (1, os.O_WRONLY)):
        nothing = os.open(os.devnull, mode)
        os.dup2(nothing, descriptor)
        os.close(nothing)
    signal.signal(signal.SIGHUP, lambda *_: None)  # a handler, because that a signal is ignored would be inherited
    bell = queue.bell()
    supervisor = Supervisor(queue, size)
    try:
        TaskFiles().prune()
        supervisor.work(bell)
    finally:
        supervisor.close()
        os.close(bell)


if __name__ == "__main__":
    main()
