"""Keeps tasks that were given to an engine: gives them away, says how they are, gives lost ones away again, ends them.

Whoever submits a task owns it: the document in the owner's own directory (:mod:`packtivity.backends.task_files`) is the
only thing that is ever submitted again. Whoever else asks is told what can be seen, and changes nothing.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from packtivity import claims, lease, worker
from packtivity.backends import conclude, task_files
from packtivity.backends.engine import Envelope, Submission
from packtivity.backends.status import Native, Seen, TaskStatus, decide
from packtivity.backends.task_files import TaskFiles
from packtivity.errors import BackendError, PacktivityError, ProxyError, StateError
from packtivity.record import is_record_path
from packtivity.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from packtivity.backends.engine import Engine
    from packtivity.backends.proxies import TaskProxy
    from packtivity.backends.status import Decision, Lock
    from packtivity.backends.task_files import Entry
    from packtivity.types import Diagnostic

Answer = TaskStatus | PacktivityError

_AT_ONCE = 100
"""Tasks whose documents are locked at the same time; each takes a descriptor."""
_NEVER = float("-inf")
_UNASKED = Native("away")


@dataclass(slots=True)
class Known:
    """What a program remembers of a task between two questions; it is kept in the task's proxy.

    :ivar entry: the owner's document, without the task itself; None for a task that is not the asker's own.
    :ivar record: path of its record; None where that is not known.
    :ivar native: what the engine said last, and :attr:`looked` when that was, on the monotonic clock.
    :ivar trouble: why its end could not be written down, when that was tried last.
    """

    proxy: TaskProxy
    entry: Entry | None
    record: str | None
    submission: Submission
    native: Native = _UNASKED
    looked: float = _NEVER
    trouble: PacktivityError | None = None


class Keeper:
    """Keeps the tasks of one engine.

    :ivar warn: called with each warning about a task whose end is written down here.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.warn: Callable[[Diagnostic], None] | None = None
        self._away_since: float | None = None
        self._files: TaskFiles

    # --- giving away ---

    def submit(self, entries: Sequence[Entry]) -> list[str]:
        """Give new tasks to the engine, all of them or none, and return its handles.

        :raises PacktivityError: a task cannot be kept, or was not taken.
        """
        if self.engine.keeps:
            self._files = TaskFiles()
            self._files.prune()
            self._files.write(entries, sync=self.engine.syncs)
        taken: list[str | BackendError] = []
        try:
            taken = self.engine.submit([_envelope(entry) for entry in entries])
            for error in taken:
                if isinstance(error, BackendError):
                    raise error
        except PacktivityError:
            self._take_back(entries, taken)
            raise
        handles = [str(handle) for handle in taken]
        for entry, handle in zip(entries, handles, strict=True):
            if handle and self.engine.keeps:
                self._files.note_sent(Submission(entry.id, entry.place, handle, 1))
        return handles

    def _take_back(self, entries: Sequence[Entry], taken: Sequence[str | BackendError]) -> None:
        """See that none of the tasks runs that were taken together with one that was not, and forget all of them."""
        for entry, handle in zip(entries, taken, strict=False):
            if isinstance(handle, str):
                with suppress(StateError):
                    task_files.ask_for_end(entry.record)
                self.engine.kill([Submission(entry.id, entry.place, handle, 1)])
        for entry in entries if self.engine.keeps else ():
            self._files.remove(entry.id)

    # --- asking ---

    def statuses(self, proxies: Sequence[TaskProxy]) -> list[Answer]:
        """Return how tasks are, in their order, and tend to those that are the asker's own.

        In place of a status there is an error for a task that nobody knows, whose files cannot be read, or whose engine has
        been away for longer than anybody waits.
        """
        self._files = TaskFiles()
        answers = [self._recorded(proxy) for proxy in proxies]
        still_open = [self._known(proxy) for proxy, answer in zip(proxies, answers, strict=True) if answer is None]
        if still_open:
            self._look(still_open)
            todo: list[Known] = []
            judged = iter([self._judged(known, todo) for known in still_open])
            self._act(todo)
            answers = [next(judged) if answer is None else answer for answer in answers]
        troubles = [proxy.known.trouble if proxy.known is not None else None for proxy in proxies]
        found = zip(proxies, troubles, answers, strict=True)
        return [each for proxy, *others in found if (each := proxy.ending or others[0] or others[1]) is not None]

    def _recorded(self, proxy: TaskProxy) -> Answer | None:
        """Return how a task went, if its record or its owner's document says so."""
        try:
            known = self._known(proxy)
            return proxy.ending or self._end(known, self._ending(known))
        except PacktivityError as error:
            return error

    def _ending(self, known: Known) -> TaskStatus | None:
        own = known.entry is not None or self.engine.owns(known.submission)
        return task_files.ending_of(known.record, known.proxy.task_id, own=own)

    def _known(self, proxy: TaskProxy) -> Known:
        if proxy.known is None:
            entry = self._files.read(proxy.task_id, whole=False) if self.engine.keeps else None
            if entry is None or entry.engine != self.engine.name:
                submission = Submission(proxy.task_id, proxy.place, proxy.handle)
                proxy.ending = proxy.claimed
                proxy.known = Known(proxy, None, task_files.old_record_of(proxy), submission)
            else:
                proxy.ending = entry.ending
                proxy.known = Known(proxy, entry, entry.record, Submission(entry.id, entry.place))
        return proxy.known

    def _end(self, known: Known, ending: TaskStatus | None) -> TaskStatus | None:
        """Remember how a task went, for good where it is the asker's own; not on the word of what may be forged."""
        if ending is not None and ending.verified:
            known.proxy.ending = ending
            if known.entry is not None:
                with suppress(StateError):  # its record says so all the same
                    self._files.retire(known.entry, ending)
        return ending

    def _look(self, tasks: Sequence[Known]) -> None:
        """Ask the engine about tasks, but for those of which it has just been asked."""
        now = time.monotonic()
        asked = [each for each in tasks if now - each.looked >= self.engine.interval]
        if not asked:
            return
        if any(each.entry is not None for each in asked):
            self.engine.revive()
        for each in asked:
            if each.entry is not None:
                each.submission = self._files.sent(each.entry)
        for each, native in zip(asked, self.engine.look([each.submission for each in asked]), strict=True):
            each.native, each.looked = native, now
            each.record = each.record or (native.record if is_record_path(native.record, each.submission.id) else None)
        away = any(each.native.said == "away" for each in asked)
        self._away_since = (self._away_since or now) if away else None

    # --- deciding ---

    def _judged(self, known: Known, todo: list[Known]) -> Answer:
        try:
            decision = self._decision(known)
            if isinstance(decision, TaskStatus):
                return decision
            task = known.proxy.task() if decision.row == "17" and known.entry is None else None
            if task is not None:
                ending = conclude.compute(self.engine, known.submission, task)
                return self._end(known, ending) or ending
        except PacktivityError as error:
            return error
        if decision.todo:
            todo.append(known)
        return self._answer(known, decision)

    def _decision(self, known: Known) -> Decision | TaskStatus:
        """Return what follows from what can be seen of a task; its status when it is over, which is remembered then.

        :raises PacktivityError: its files cannot be read.
        """
        entry, sent, native = known.entry, known.submission, known.native
        if native.answer is not None:
            ending = TaskStatus.from_answer(native.answer)
            self._end(known, ending)
            return ending
        cancel = task_files.is_cancelled(known.record)
        lock, attempts = self._lock(known)
        recorded = self._ending(known)
        if recorded is None and native.said in ("ended", "gone"):
            if entry is None:
                recorded = task_files.old_ending_of(known.proxy)
            elif (latest := self._files.read(entry.id)) is not None:  # whoever ran it may have noted it there
                recorded = latest.ending
        if recorded is not None:
            self._end(known, recorded)
            return recorded
        age = max(0.0, time.time() - sent.time)
        seen = Seen(native, lock, cancel, entry is not None, age, 0.0, sent.deliveries, attempts)
        decision = decide(seen, self.engine.limits)
        if entry is None:
            return decision
        if decision.timed:
            since = self._files.since(entry.id, f"{lock} {native.said} {sent.deliveries}")
            return decide(replace(seen, stable=max(0.0, time.time() - since)), self.engine.limits)
        self._files.remove(entry.id, ("seen",))
        return decision

    def _lock(self, known: Known) -> tuple[Lock, int]:
        if self.engine.limits.collects:
            return "unseen", 0
        claim = known.entry.claim if known.entry is not None else None
        if claim is None and known.record is not None:
            claim = claims.of_task(known.record, known.proxy.task_id)
            if claim is None:
                return "absent", 0
        return task_files.lock_of(claim, known.proxy.task_id) if claim is not None else ("unseen", 0)

    def _answer(self, known: Known, decision: Decision) -> Answer:
        hint = known.native.hint
        if decision.row == "P":
            error = conclude.error_of_lost(decision, 0, began=True)
            return TaskStatus.from_answer(worker.unwritten(error, known.record))
        if decision.word == "unknown":
            return ProxyError(decision.reason or f"no task {known.proxy.task_id} is known", hint=hint)
        away = self._away_since
        if decision.word == "unclear" and away and time.monotonic() - away >= self.engine.limits.patience:
            known.looked = _NEVER  # whoever asks again has perhaps mended it
            return BackendError(decision.reason or f"the engine {self.engine.name} is away", hint=hint)
        return TaskStatus(decision.word, record=known.record, reason=decision.reason)

    # --- doing ---

    def _act(self, tasks: Sequence[Known]) -> None:
        """Do what is to be done for the asker's own tasks; each is done by one process only."""
        for start in range(0, len(tasks), _AT_ONCE):
            with ExitStack() as locked:
                some = tasks[start : start + _AT_ONCE]
                held = [(each, locked.enter_context(self._files.tending(each.proxy.task_id))) for each in some]
                self._act_on([(known, entry) for known, entry in held if entry is not None])

    def _act_on(self, held: Sequence[tuple[Known, Entry]]) -> None:
        """Decide again about tasks that nobody else does anything about now, and do it.

        What is delivered again is counted before the engine is asked to kill it: it must not be said to have been cancelled.
        """
        lost: list[tuple[Known, Entry]] = []
        killed: list[Submission] = []
        submissions = [self._files.sent(entry) for _, entry in held]
        natives = self.engine.look(submissions) if held else []
        for (known, entry), submission, native in zip(held, submissions, natives, strict=True):
            known.submission, known.native = submission, native
            with suppress(PacktivityError):  # its files cannot be read or written now; it is tried again
                decision = self._decision(known)
                if isinstance(decision, TaskStatus):
                    continue
                if "kill" in decision.todo:
                    killed.append(known.submission)
                if "end" in decision.todo and entry.claim is not None:
                    claims.end_orphans(entry.claim)
                if "collect" in decision.todo:
                    self._collect(known, entry, cancel=decision.cause == "cancel")
                elif "conclude" in decision.todo:
                    self._conclude(known, entry, decision)
                elif "deliver" in decision.todo:
                    lost.append((known, entry))
        self._deliver(lost, killed)

    def _deliver(self, lost: Sequence[tuple[Known, Entry]], killed: Sequence[Submission]) -> None:
        """Give tasks away again; how often is noted before, because nobody may live to note it afterwards."""
        now = time.time()
        for known, _ in lost:
            sent = known.submission
            self._files.note_sent(replace(sent, deliveries=sent.deliveries + 1, handle="", time=now))
        if killed:
            self.engine.kill(killed)
        try:
            taken = self.engine.submit([_envelope(entry) for _, entry in lost]) if lost else []
        except PacktivityError as error:
            taken = [BackendError(str(error))] * len(lost)
        for (known, _), handle in zip(lost, taken, strict=True):
            sent = known.submission
            if isinstance(handle, BackendError):
                self._files.note_sent(sent)
                continue
            if handle:
                self._files.note_sent(replace(sent, deliveries=sent.deliveries + 1, handle=handle, time=now))
            known.looked = _NEVER

    def _conclude(self, known: Known, entry: Entry, decision: Decision) -> None:
        """Write the record of a task that nobody runs, unless somebody has begun it this very moment.

        While another submission has the lock, only that of one whose end was asked for, which its runner will look for.
        """
        lock, attempts = self._lock(known)
        taken = None
        if entry.claim is not None and not (lock == "other" and task_files.is_cancelled(known.record)):
            taken = lease.attempt(entry.claim)
            if taken is None:
                return
        try:
            error = conclude.error_of_lost(decision, attempts, began=lock == "left")
            answer = worker.failed(Task.from_json(_envelope(entry).task), error)
        finally:
            left = taken.left if taken is not None and isinstance(taken.left, dict) else {}
            if taken is not None and (left.get("id") or entry.id) != entry.id:  # of another submission
                taken.leave()
            elif taken is not None:
                taken.give_back()
        task_files.forget_cancel(entry.record)
        self._end(known, TaskStatus.from_answer(answer))

    def _collect(self, known: Known, entry: Entry, *, cancel: bool) -> None:
        """Write down how a task went that no worker of ours has run; one that is cancelled is ended first."""
        task, known.trouble = Task.from_json(_envelope(entry).task), None
        try:
            status = conclude.finish(self.engine, known.submission, task, entry.claim, cancel=cancel, warn=self.warn)
        except PacktivityError as error:
            known.trouble = error
            return
        if status is not None:
            task_files.forget_cancel(entry.record)
            self._end(known, status)
            self.engine.forget(known.submission, status)

    def record_of(self, proxy: TaskProxy) -> str | None:
        """Return the path that the record of a task has or will have; None where it is not known."""
        self._files = TaskFiles()
        return self._known(proxy).record

    # --- ending ---

    def cancel(self, proxies: Sequence[TaskProxy]) -> list[PacktivityError | None]:
        """End tasks, or see that they never begin; one that is over stays as it is.

        :returns: for each None, or why that cannot be done: nobody knows it, it is not the asker's own, or its engine does not end it.
        """
        refused: list[PacktivityError | None] = []
        asked = []
        for proxy, status in zip(proxies, self.statuses(proxies), strict=True):
            if isinstance(status, PacktivityError):
                refused.append(status)
            elif status.is_over:
                refused.append(None)
            else:
                refused.append(self._ask_for_end(self._known(proxy)))
                asked.append(proxy)
        self.statuses(asked)
        troubles = [proxy.known.trouble if proxy.known is not None else None for proxy in proxies]
        return [error or trouble for error, trouble in zip(refused, troubles, strict=True)]

    def _ask_for_end(self, known: Known) -> PacktivityError | None:
        """Ask for the end of a task, and only then look who runs it: whoever begins it later looks for that."""
        task_id = known.proxy.task_id
        if not self.engine.owns(known.submission) or known.record is None:
            return BackendError(
                f"whoever runs the task {task_id} cannot be asked to end it: it is not known to be yours",
                hint="Ask as the user who submitted it, with the same PACKTIVITY_STATE_DIR.",
            )
        try:
            task_files.ask_for_end(known.record)
        except StateError as error:
            return error
        claim = known.entry.claim if known.entry is not None else None
        if claim is not None and task_files.lock_of(claim, task_id)[0] == "mine":
            claims.end_orphans(claim)
        known.looked = _NEVER
        return None


def _envelope(entry: Entry) -> Envelope:
    if entry.task is None:
        raise StateError(f"the document of the task {entry.id} is not there any more")
    return Envelope(entry.task, entry.record, entry.place)
