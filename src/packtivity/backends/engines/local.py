"""The backend ``local``: tasks on this machine that outlive the program, the terminal and the login they came from.

The queue is a folder: there is an empty file ``queue/ID`` until the task is over, because the task itself is in its owner's
document. The supervisor, of which there is one at most, runs what is in it, at most N at once: ``python -m
packtivity.backends.engines.local N``. It is started by whoever submits or asks when there is none and there is something to
do, and ends when there has been nothing to do for a while. When it is killed, its workers end their tasks, and the next one
starts them again. Who runs a task just now is known by its lock. The folder is of one machine, because a shared home directory
has many.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from collections import deque
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from packtivity import folders, record, settings
from packtivity.backends.document import DocumentBackend
from packtivity.backends.engine import Engine, Limits, Native
from packtivity.backends.engines.multiproc import pool_size
from packtivity.backends.pool import Job, Pool
from packtivity.backends.proxies import TaskProxy
from packtivity.backends.status import TaskStatus
from packtivity.backends.task_files import TaskFiles
from packtivity.errors import BackendError, EnvironmentUnavailable, PacktivityError, StateError
from packtivity.files import closing_fd, lock
from packtivity.printable import escaped
from packtivity.runtimes.python_workers import detach, forget, start_module
from packtivity.signals import reset
from packtivity.worker import unwritten

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from packtivity.backends.engine import Envelope, Submission
    from packtivity.backends.task_files import Entry

_IDLE = 10.0
"""Seconds without anything to do after which the supervisor ends."""
_AGAIN = 1.0
"""Seconds until what could not be written is tried again."""
_WHAT = "submitted tasks"
_IN_HOSTS = str.maketrans("", "", ".-_")


class LocalProxy(TaskProxy):
    """Handle of a detached task; its place is the name of the machine that it is on."""

    name, place_name = "LocalProxy", "host"

    @classmethod
    def is_place(cls, place: Any) -> bool:
        """Return whether something in a document can be the name of a machine; it becomes the name of a folder."""
        return isinstance(place, str) and 0 < len(place) <= 64 and place.translate(_IN_HOSTS).isalnum()


class Queue:
    """The queue of one user on one machine.

    :param host: name of the machine, by default this one.
    """

    def __init__(self, host: str | None = None) -> None:
        self.host = host or os.uname().nodename
        self.root = folders.state("detached", self.host, make=False, what=_WHAT)
        self.folder = f"{self.root}/queue"

    def prepare(self) -> None:
        """Make the folder, for this user only.

        :raises StateError: it cannot be made.
        """
        folders.state("detached", self.host, "queue", what=_WHAT)

    def names(self) -> list[str]:
        """Return the ids of tasks that are not over, in the order of submission."""
        try:
            return sorted(os.listdir(self.folder))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def add(self, task_id: str) -> None:
        """Put a task into the queue.

        :raises OSError: that cannot be done.
        """
        os.close(os.open(f"{self.folder}/{task_id}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))

    def drop(self, task_id: str) -> None:
        """Take a task out of the queue."""
        with suppress(OSError):
            os.unlink(f"{self.folder}/{task_id}")

    # --- the supervisor ---

    @contextmanager
    def supervision(self) -> Iterator[bool]:
        """Be the supervisor inside the block; gives false when there is one already."""
        with closing_fd(os.open(f"{self.root}/supervisor", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)) as descriptor:
            yield lock(descriptor)

    def is_supervised(self) -> bool:
        """Return whether there is a supervisor."""
        with self.supervision() as ours:
            return not ours

    def supervise(self, jobs: int) -> None:
        """See that there is a supervisor, and wake it.

        :param jobs: how many tasks it runs at once, should it have to be started.
        :raises EnvironmentUnavailable: it cannot be started.
        """
        if self.is_supervised():
            self.wake()
            return
        path = f"{self.root}/supervisor.log"
        with closing_fd(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)) as log:
            process = start_module("packtivity.backends.engines.local", str(jobs), stderr=log)
        forget(process)
        if process.returncode > 0:  # one that somebody has killed is started again by whoever asks
            raise EnvironmentUnavailable(
                "the supervisor of detached tasks cannot be started", hint=f"Why, {path} says."
            )

    def bell(self) -> int:
        """Return a descriptor that is readable when somebody has rung."""
        path = f"{self.root}/bell"
        with suppress(FileExistsError):
            os.mkfifo(path, 0o600)
        return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def wake(self) -> None:
        """Ring the bell; nobody being there is no error, and it may ring already."""
        with (
            suppress(OSError),
            closing_fd(os.open(f"{self.root}/bell", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)) as bell,
        ):
            os.write(bell, b".")


class LocalEngine(Engine):
    """The supervisor of this user on this machine.

    :param jobs: how many tasks it is to run at once, should it have to be started.
    """

    name, syncs, interval = "local", True, 0.2
    limits = Limits(arrival=0.0)

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs

    def place(self) -> str:
        """Return the name of this machine."""
        return os.uname().nodename

    def submit(self, envelopes: Sequence[Envelope]) -> list[str | BackendError]:
        """Put tasks into the queue and see that there is somebody to run them.

        :raises StateError: the queue cannot be written to.
        :raises EnvironmentUnavailable: no supervisor can be started.
        """
        queue = Queue()
        queue.prepare()
        try:
            for envelope in envelopes:
                queue.add(envelope.id)
            queue.supervise(self.jobs)
        except (OSError, EnvironmentUnavailable) as error:  # who is told so must not find that they ran later
            for envelope in envelopes:
                queue.drop(envelope.id)
            if isinstance(error, EnvironmentUnavailable):
                raise
            raise StateError.of(error, f"{queue.folder} cannot be written to: {error.strerror}") from None
        return [""] * len(envelopes)

    def revive(self) -> None:
        """Start the supervisor anew if there is something to do and none is there."""
        queue = Queue()
        if queue.names():
            with suppress(EnvironmentUnavailable):  # how tasks are is known all the same
                queue.supervise(self.jobs)

    def look(self, submissions: Sequence[Submission]) -> list[Native]:
        """Return whether tasks are in the queue; that of each machine is listed once."""
        hosts = {str(each.place) for each in submissions}
        listed = {host: {name: number for number, name in enumerate(Queue(host).names())} for host in hosts}
        return [_native(str(each.place), listed[str(each.place)].get(each.id)) for each in submissions]

    def kill(self, submissions: Sequence[Submission]) -> None:
        """Take tasks out of the queue; one that runs obeys its cancel file."""
        for each in submissions:
            Queue(str(each.place)).drop(each.id)


def _native(host: str, before: int | None) -> Native:
    if before is not None:
        return Native("waiting", f"{before} task{'s' if before > 1 else ''} before it" if before else "")
    if host != os.uname().nodename:
        return Native("away", f"it is on the machine {host}", "Ask there.")
    return Native("gone")


class LocalBackend(DocumentBackend[LocalProxy]):
    """Runs tasks detached.

    :param jobs: how many of this user's tasks at once on this machine; the supervisor that is there already keeps
        to what it was started with.
    """

    proxy_class = LocalProxy

    def __init__(self, jobs: int | str | None = None, config: Mapping[str, Any] | None = None) -> None:
        examples = "local:4 or local, or a number in PACKTIVITY_LOCAL_JOBS"
        super().__init__(LocalEngine(pool_size(jobs or settings.current().local_jobs or "auto", examples)), config)

    def document(self, spec: Any, parameters: Any, state: Any, metadata: Any = None) -> dict[str, Any]:
        """Return a task document; what it logs goes to its files only, because nobody sees standard error."""
        document = super().document(spec, parameters, state, metadata)
        document["config"]["exec"] = {"logging_level": "CRITICAL", **document["config"]["exec"]}
        return document


# --- the supervisor --------------------------------------------------------------------------------------------


class Supervisor:
    """Runs what is in the queue.

    :param size: how many tasks at once.
    """

    def __init__(self, queue: Queue, size: int) -> None:
        self._queue, self._size = queue, size
        self._files, self._pool = TaskFiles(), Pool(size)
        self._waiting: deque[str] = deque()
        self._jobs: dict[str, tuple[Entry, Job]] = {}
        self.close = self._pool.close

    def work(self, bell: int) -> None:
        """Run tasks until there has been nothing to do for a while."""
        poller = select.poll()
        poller.register(bell, select.POLLIN)
        while True:
            for entry, job in list(self._jobs.values()):
                if job.future.done() and self._is_kept(entry, job):
                    del self._jobs[entry.id]
            self._begin()
            kept = any(job.future.done() for _, job in self._jobs.values())  # nobody rings for them any more
            if not poller.poll((_AGAIN if kept else _IDLE) * 1000) and not self._jobs:
                return
            with suppress(BlockingIOError):
                while os.read(bell, 65536):
                    pass

    def _begin(self) -> None:
        """Begin as many as there is room for; what has come since the last listing comes after all that was in it."""
        while len(self._jobs) < self._size:
            if not self._waiting:
                self._waiting.extend(name for name in self._queue.names() if name not in self._jobs)
            if not self._waiting:
                return
            name = self._waiting.popleft()
            try:
                entry = self._files.read(name)
            except StateError as error:
                _complain(error)
                entry = None
            if entry is None or entry.task is None or entry.task.get("id") != name:  # is over, or nobody's
                self._queue.drop(name)
                continue
            job = self._pool.submit(entry.task, entry.record and record.cancel_path(entry.record))
            self._jobs[name] = replace(entry, task=None), job
            job.future.add_done_callback(lambda _: self._queue.wake())

    def _is_kept(self, entry: Entry, job: Job) -> bool:
        """Note how a task ended; false when that cannot be written now, because the disk is full.

        Whoever has removed the state directory will not ask.
        """
        status = job.status()
        if isinstance(status, PacktivityError):
            status = TaskStatus.from_answer(unwritten(status))
        try:
            self._files.retire(entry, status)
        except StateError as error:
            _complain(error)
            return not os.path.isdir(self._queue.root)
        self._queue.drop(entry.id)
        return True


def _complain(error: StateError) -> None:
    sys.stderr.write(f"{escaped(str(error))}\n")


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
            supervise(queue, size)
        if not queue.names():  # what came while the lock was given back
            return


def supervise(queue: Queue, size: int) -> None:
    """Run what is in the queue until there has been nothing to do for a while."""
    for descriptor, mode in ((0, os.O_RDONLY), (1, os.O_WRONLY)):
        with closing_fd(os.open(os.devnull, mode)) as nothing:
            os.dup2(nothing, descriptor)
    signal.signal(signal.SIGHUP, lambda *_: None)  # a handler, because that a signal is ignored would be inherited
    with closing_fd(queue.bell()) as bell, closing(Supervisor(queue, size)) as supervisor:
        TaskFiles().prune()
        supervisor.work(bell)


if __name__ == "__main__":
    main()
