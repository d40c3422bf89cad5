"""The backend ``local``: tasks on this machine that outlive the program, the terminal and the login they came from.

The queue is a folder: there is an empty file ``queue/ID`` until the task is over, because the task itself is in its owner's
document. The supervisor (:mod:`packtivity.backends.engines.supervisor`), of which there is one at most, runs what is in it; who runs
a task just now is known by its lock. The folder is of one machine, because a shared home directory has many.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from packtivity import folders, settings
from packtivity.backends.document import DocumentBackend
from packtivity.backends.engine import Engine, Limits, Native
from packtivity.backends.engines.multiproc import pool_size
from packtivity.backends.proxies import TaskProxy
from packtivity.errors import BackendError, EnvironmentUnavailable, StateError
from packtivity.files import lock

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from packtivity.backends.engine import Envelope, Submission

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
        descriptor = os.open(f"{self.root}/supervisor", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            yield lock(descriptor)
        finally:
            os.close(descriptor)

    def is_supervised(self) -> bool:
        """Return whether there is a supervisor."""
        with self.supervision() as ours:
            return not ours

    def bell(self) -> int:
        """Return a descriptor that is readable when somebody has rung."""
        path = f"{self.root}/bell"
        with suppress(FileExistsError):
            os.mkfifo(path, 0o600)
        return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def wake(self) -> None:
        """Ring the bell; nobody being there is no error."""
        try:
            descriptor = os.open(f"{self.root}/bell", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return
        try:
            with suppress(BlockingIOError, BrokenPipeError):  # it rings already; who listened has just gone
                os.write(descriptor, b".")
        finally:
            os.close(descriptor)


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
            self._supervise(queue)
        except (OSError, EnvironmentUnavailable) as error:  # who is told so must not find that they ran later
            for envelope in envelopes:
                queue.drop(envelope.id)
            if isinstance(error, OSError):
                raise StateError(f"{queue.folder} cannot be written to: {error.strerror}") from None
            raise
        return [""] * len(envelopes)

    def _supervise(self, queue: Queue) -> None:
        if queue.is_supervised():
            queue.wake()
        else:
            start_supervisor(self.jobs, queue)

    def revive(self) -> None:
        """Start the supervisor anew if there is something to do and none is there."""
        queue = Queue()
        if queue.names() and not queue.is_supervised():
            with suppress(EnvironmentUnavailable):  # how tasks are is known all the same
                start_supervisor(self.jobs, queue)

    def look(self, submissions: Sequence[Submission]) -> list[Native]:
        """Return whether tasks are in the queue; that of each machine is listed once."""
        hosts = {str(each.place) for each in submissions}
        listed = {host: {name: number for number, name in enumerate(Queue(host).names())} for host in hosts}
        return [_said(str(each.place), listed[str(each.place)].get(each.id)) for each in submissions]

    def kill(self, submissions: Sequence[Submission]) -> None:
        """Take tasks out of the queue; one that runs obeys its cancel file."""
        for each in submissions:
            Queue(str(each.place)).drop(each.id)


def _said(host: str, before: int | None) -> Native:
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
    engine: LocalEngine

    def __init__(self, jobs: int | str | None = None, config: Mapping[str, Any] | None = None) -> None:
        examples = "local:4 or local, or a number in PACKTIVITY_LOCAL_JOBS"
        super().__init__(LocalEngine(pool_size(jobs or settings.current().local_jobs or "auto", examples)), config)

    def document(self, spec: Any, parameters: Any, state: Any, metadata: Any = None) -> dict[str, Any]:
        """Return a task document; what it logs goes to its files only, because nobody sees standard error."""
        document = super().document(spec, parameters, state, metadata)
        document["config"]["exec"] = {"logging_level": "CRITICAL", **document["config"]["exec"]}
        return document


def start_supervisor(jobs: int, queue: Queue) -> None:
    """Start a supervisor, and return when it is there.

    :raises EnvironmentUnavailable: it cannot be started.
    """
    from packtivity.runtimes.python_workers import forget, start_module

    path = f"{queue.root}/supervisor.log"
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        process = start_module("packtivity.backends.engines.supervisor", str(jobs), stderr=log)
    finally:
        os.close(log)
    forget(process)
    if process.returncode > 0:  # one that somebody has killed is started again by whoever asks
        raise EnvironmentUnavailable("the supervisor of detached tasks cannot be started", hint=f"Why, {path} says.")
