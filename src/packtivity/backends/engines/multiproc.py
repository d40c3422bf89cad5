"""The backend ``multiproc:N``: worker processes that live as long as the program that submits.

A program that ends waits for its tasks. When it is killed, its workers end theirs, and who asks later is told so: that
nobody will run them again follows from its death, so nothing is kept of such a task but its record.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from packtivity import folders, record, runners, seal
from packtivity.backends.document import DocumentBackend
from packtivity.backends.engine import Engine, Limits, Native
from packtivity.backends.pool import Pool
from packtivity.backends.proxies import TaskProxy
from packtivity.backends.status import TaskStatus
from packtivity.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from packtivity.backends.engine import Envelope, Submission
    from packtivity.backends.pool import Job
    from packtivity.backends.task_files import Entry
    from packtivity.errors import PacktivityError
    from packtivity.types import JSON


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

    :ivar jobs: tasks that were just submitted, for their proxies to hold.
    """

    name, keeps, interval = "multiproc", False, 0.0
    limits = Limits(final=True, revives=False)

    def __init__(self, size: int) -> None:
        self.size = size
        self.pool: Pool | None = None
        self.jobs: dict[str, Job] = {}

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
            self.jobs[envelope.id] = self.pool.submit(envelope.task, cancel)
        return [""] * len(envelopes)

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
        proxy.job = self.engine.jobs.pop(entry.id)
        return proxy

    def statuses(self, resultproxies: Sequence[MultiProcProxy]) -> list[TaskStatus | PacktivityError]:
        """Return how tasks are; nothing has to be looked at for those that were submitted here."""
        others = iter(super().statuses([proxy for proxy in resultproxies if proxy.job is None]))
        return [next(others) if proxy.job is None else proxy.job.status() for proxy in resultproxies]

    def wait(self, resultproxy: MultiProcProxy) -> TaskStatus:
        """Return the status of a task when it is over."""
        if resultproxy.job is None:
            return super().wait(resultproxy)
        return TaskStatus.from_answer(resultproxy.job.future.result())

    def cancel_many(self, resultproxies: Sequence[MultiProcProxy]) -> list[PacktivityError | None]:
        """End tasks in one go, also those of other programs of this user; for each None, or why that cannot be done."""
        for proxy in resultproxies:
            if proxy.job is not None:
                proxy.job.cancel()
        others = iter(super().cancel_many([proxy for proxy in resultproxies if proxy.job is None]))
        return [next(others) if proxy.job is None else None for proxy in resultproxies]

    def cancel_all(self) -> None:
        """End every task that this backend was given, which would otherwise keep the program from ending."""
        if self.engine.pool is not None:
            self.engine.pool.cancel()

    def close(self) -> None:
        """Wait for all tasks and end the workers."""
        if self.engine.pool is not None:
            self.engine.pool.close()
            self.engine.pool = None


def pool_size(given: int | str, examples: str = "multiproc:4 or multiproc:auto") -> int:
    """Return how many workers are meant.

    :param examples: what to write instead, for whoever wrote something else.
    :raises BackendError: it is no number above 0.
    """
    if given == "auto":
        return os.cpu_count() or 1
    with suppress(ValueError):
        if int(given) > 0:
            return int(given)
    raise BackendError(f"{given!r} is no number of workers", hint=f"Write {examples}.")
