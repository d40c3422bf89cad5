"""What an engine supplies, so that everything else can be done for it: submit, look, kill.

An engine is whatever runs tasks for others: a pool, a batch system, a message queue. It hands each **envelope**, somewhere, at
some time, at least once, to a process that calls :func:`packtivity.worker.run_envelope`, or has ``packtivity-worker -`` do that
with it on standard input. That function takes the task's lock, counts attempts, obeys its cancel file, writes its record and
never runs it beside another run. So an engine may deliver a task twice, lose it or lie about it: the
:class:`~packtivity.backends.keeper.Keeper` notices, and gives it away again.

To add one: a subclass of :class:`Engine` in ``backends/engines/NAME.py``; a subclass of
:class:`~packtivity.backends.document.DocumentBackend` whose ``__init__`` calls ``super().__init__(NAMEEngine(…), config)``; a row
in ``ENGINES`` of :mod:`packtivity.backends.engines`. Rules:

- Processes come and go: what was submitted by one is looked at by another, which knows the :class:`Submission` only. So the
  engine's own name for a task should be derived from the id; where the engine chooses one, ``submit`` returns it as handle.
- Several processes may call the methods at once, for the same tasks; the keeper sees that only one of them submits it again.
- Of a task that was given away more than once, ``look`` is asked about the last time, of which handle and time are known, and
  ``kill`` ends all. A task is not lost because of what ``kill`` did to an earlier one.
- An engine that ends a worker, to run its task again or for good, sends SIGTERM first: ``leaves_on``. Without a record the task
  is its owner's to judge, by ``Native.cause``.
- No method writes into a task's directories; only ``submit``, ``kill``, ``revive`` and ``forget`` change anything anywhere.
- Commands are lists of arguments, have a time-out and are run by :mod:`packtivity.runtimes.python_workers`, which also starts
  processes of an engine's own. What is in an envelope or comes from an engine never becomes part of a shell line.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from packtivity.backends.status import Limits, Native

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from packtivity.backends.status import Cause, TaskStatus
    from packtivity.errors import BackendError
    from packtivity.task import Task
    from packtivity.types import JSON

__all__ = ["Collected", "Engine", "Envelope", "Limits", "Native", "Submission"]


@dataclass(frozen=True, slots=True)
class Envelope:
    """What an engine carries to a worker; :meth:`to_json` is what to carry.

    :ivar task: the task document; its ``id`` is the task's.
    :ivar record: path of its record as seen from here; not carried, because a worker finds it by itself.
    :ivar place: what :meth:`Engine.place` said when it was submitted: a task that is given away again goes there.
    """

    task: dict[str, Any]
    record: str | None = None
    place: JSON = None

    @property
    def id(self) -> str:
        """Return the id of the task: 1 to 64 characters of ``[0-9A-Za-z_-]``, later ones sort after earlier ones."""
        return str(self.task["id"])

    def to_json(self) -> JSON:
        """Return the document for :func:`packtivity.worker.run_envelope`; only the task's owner and its worker may read it."""
        return {"task": self.task}


@dataclass(frozen=True, slots=True)
class Submission:
    """A task that was given to an engine, as far as the one who asks knows it.

    :ivar id: of the task.
    :ivar place: which engine it was given to, as its :meth:`Engine.place` said then. It may come from a stranger's
        document: it is to be compared, and never connected to.
    :ivar handle: what ``submit`` returned when it was given away last; empty where that is not known.
    :ivar deliveries: how often it was given away; 0 for a task that is not the asker's own.
    :ivar time: when it was given away last, seconds since the epoch.
    """

    id: str
    place: JSON = None
    handle: str = ""
    deliveries: int = 0
    time: float = field(default_factory=time.time)


@dataclass(frozen=True, slots=True)
class Collected:
    """What an engine knows of a task that has ended and that no worker of ours has run.

    :ivar returncode: exit code of its main process; None where nobody knows it.
    :ivar cause: why it failed, other than by its exit code; None when that tells everything.
    :ivar reason: the cause in a sentence, as far as it stands before the colon and the log: ``the pod was lost: Evicted``.
    :ivar hint: what the reader can do about it.
    :ivar started, ended: seconds since the epoch; None where nobody knows.
    :ivar attempts: how often it was begun.
    :ivar output: what it printed, in pieces of any size, read when it is asked for; a text among them is a remark of the
        engine's, such as that a part is lost.
    :ivar image: reference and digest of the image that ran; empty where that is not known.
    :ivar workdir: in which it ran.
    :ivar timeout: seconds that it was given.
    """

    returncode: int | None = None
    cause: Cause | None = None
    reason: str = ""
    hint: str = ""
    started: float | None = None
    ended: float | None = None
    attempts: int = 1
    output: Iterable[bytes | str] = ()
    image: tuple[str, str] = ("", "")
    workdir: str | None = None
    timeout: float | None = None


class Engine(ABC):
    """Base of all engines.

    :cvar name: for messages and for the owner's files; the same as the backend string begins with.
    :ivar limits: how much its word can be believed.
    :cvar keeps: whether the owner keeps a document of each task, from which it is given away again; not for an engine that
        ends with this program.
    :cvar syncs: whether that document is forced to disk before the engine hears of it: where nothing but the disk knows of
        the task when the machine stops.
    :cvar interval: seconds between two looks of a process that waits; records and locks are looked at in between.
    """

    name: ClassVar[str]
    keeps: ClassVar[bool] = True
    syncs: ClassVar[bool] = False
    interval: ClassVar[float] = 1.0
    limits: Limits = Limits()

    def place(self) -> JSON:
        """Return what tells this engine apart from others of its kind, as JSON without secrets; it goes into proxies."""
        return None

    @abstractmethod
    def submit(self, envelopes: Sequence[Envelope]) -> list[str | BackendError]:
        """Give tasks to the engine, which will run each at least once.

        A task that it has already may be given to it again.

        :returns: for each, the engine's own name for it (empty where that is derived from the id), or the error for one
            that was definitely not taken. Where that is in doubt, it was taken.
        :raises BackendError: none of them was taken.
        """

    @abstractmethod
    def look(self, submissions: Sequence[Submission]) -> list[Native]:
        """Return what the engine knows of tasks, in their order; one question to it for all.

        It never raises because the engine is away, changes nothing, and takes seconds at most. A wrong word does no harm
        if it is not repeated for ever: ``gone`` and ``ended`` lead to another delivery, which finds the record or waits for
        the lock. Only ``unknown`` is taken at its word.
        """

    def kill(self, submissions: Sequence[Submission]) -> None:  # noqa: B027 - where there is nothing to ask for
        """Ask the engine to drop or end tasks, as well as it can, and return at once.

        Nobody relies on it where workers of ours obey the cancel file; it does not raise.
        """

    def collect(self, submission: Submission, task: Task) -> Collected:
        """Return what is known of a task that has ended, or that is about to be ended: only where no worker of ours runs it.

        It only reads, and it may be asked by anybody. With it the owner's process writes the record, under the lock of the
        claim; whoever else asks works out the result, and writes nothing.

        :raises BackendError: the engine cannot be asked now; nothing is concluded then.
        """
        raise NotImplementedError(f"{type(self).__name__} has no collect")

    def forget(self, submission: Submission, status: TaskStatus) -> None:  # noqa: B027 - most keep nothing
        """Take away what the engine keeps of a task of the asker's own, because it is over; it does not raise.

        Called once the end of a collected task is kept; ``status.record`` is None where it has no record.
        """

    def revive(self) -> None:  # noqa: B027 - most have nothing to do
        """See that there is somebody to run this user's tasks, where that is for the client to do.

        Called before :meth:`look` when tasks of the asker's own are open, whatever becomes of it.
        """

    def owns(self, submission: Submission) -> bool:
        """Return whether a task is the asker's own, where that is not said by the owner's document."""
        return submission.deliveries > 0
