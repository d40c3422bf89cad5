"""The process that runs a user's detached tasks, at most N at once; ``python -m packtivity.backends.supervisor``.

It is started by whoever submits or asks when there is none and there is something to do, and ends when there has been
nothing to do for a while. When it is killed, its workers end their tasks, and the next one starts them again.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from typing import Any

from packtivity.backends.pool import Job, Pool
from packtivity.backends.spool import ACTIVE, CANCEL, QUEUE, Spool
from packtivity.errors import PacktivityError, StateError
from packtivity.printable import escaped
from packtivity.runtimes.helpers import detach

_IDLE = 10.0
"""Seconds without anything to do after which it ends."""

_AGAIN = 1.0
"""Seconds until what could not be written is tried again."""


class Supervisor:
    """Runs what is in the queue.

    :param size: how many tasks at once.
    """

    def __init__(self, spool: Spool, size: int) -> None:
        self._spool = spool
        self._size = size
        self._pool = Pool(size)
        self._jobs: dict[str, Job] = {}

    def recover(self) -> None:
        """Put what a supervisor before us has begun back into the queue; its record says how often it was tried."""
        for name in self._spool.names(ACTIVE):
            self._spool.move(name, ACTIVE, QUEUE)

    def work(self, bell: int) -> None:
        """Run tasks until there has been nothing to do for a while."""
        poller = select.poll()
        poller.register(bell, select.POLLIN)
        while True:
            self._cancel()
            self._collect()
            self._begin()
            kept = any(job.future.done() for job in self._jobs.values())  # nobody rings for them any more
            if not poller.poll((_AGAIN if kept else _IDLE) * 1000) and not self._jobs:
                return
            _empty(bell)

    def _begin(self) -> None:
        waiting = self._spool.names(QUEUE) if len(self._jobs) < self._size else []
        for name in waiting:
            if len(self._jobs) >= self._size:
                break
            if self._spool.move(name, QUEUE, ACTIVE):
                self._start(name)

    def _start(self, name: str) -> None:
        entry = self._spool.entry(name)
        document = entry.get("task")
        if not isinstance(document, dict) or document.get("id") != name:
            error = {"type": "ConfigurationError", "message": "its file in the queue is damaged"}
            self._finish(name, {"status": "failed", "result": None, "error": error, "record": None})
            return
        job = self._jobs[name] = self._pool.submit(document)
        job.future.add_done_callback(lambda _: self._spool.wake())

    def _collect(self) -> None:
        for name, job in list(self._jobs.items()):
            if job.future.done() and self._finish(name, _answer(job)):
                del self._jobs[name]

    def _finish(self, name: str, answer: dict[str, Any]) -> bool:
        """Note how a task ended; false when that cannot be written now, because the disk is full."""
        try:
            self._spool.finish(name, answer)
        except StateError as error:
            sys.stderr.write(f"{escaped(str(error))}\n")
            return False
        return True

    def _cancel(self) -> None:
        for name in self._spool.names(CANCEL):
            if name in self._jobs:
                self._jobs[name].cancel()

    def close(self) -> None:
        """End the workers."""
        self._pool.close()


def _answer(job: Job) -> dict[str, Any]:
    try:
        return job.future.result()
    except (PacktivityError, OSError, ValueError) as error:
        told = {"type": type(error).__name__, "message": str(error)}
        return {"status": "failed", "result": None, "error": told, "record": None}


def _empty(bell: int) -> None:
    try:
        while os.read(bell, 65536):
            pass
    except BlockingIOError:
        return


def main() -> None:
    """Be the supervisor, unless there is one; the process that was called ends as soon as that is decided."""
    spool, size = Spool(), int(sys.argv[1])
    spool.prepare()
    while True:
        with spool.supervision() as ours:
            if not ours:
                return
            if sys.argv[2:] != ["foreground"] and not detach():
                os._exit(0)  # the lock is the other's now
            sys.argv[2:] = ["foreground"]
            _supervise(spool, size)
        if not spool.names(QUEUE):  # what came while the lock was given back
            return


def _supervise(spool: Spool, size: int) -> None:
    for descriptor, mode in ((0, os.O_RDONLY), (1, os.O_WRONLY)):
        nothing = os.open(os.devnull, mode)
        os.dup2(nothing, descriptor)
        os.close(nothing)
    signal.signal(signal.SIGHUP, lambda *_: None)  # a handler, because that a signal is ignored would be inherited
    bell = spool.bell()
    supervisor = Supervisor(spool, size)
    try:
        spool.prune()
        supervisor.recover()
        supervisor.work(bell)
    finally:
        supervisor.close()
        os.close(bell)


if __name__ == "__main__":
    main()
