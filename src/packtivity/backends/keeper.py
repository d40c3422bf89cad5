"""Keeps tasks that were given to an engine: gives them away, says how they are, gives lost ones away again, ends them.

Whoever submits a task owns it: the document in the owner's own directory (:mod:`packtivity.backends.task_files`) is the
only thing that is ever submitted again. Whoever else asks is told what can be seen, and changes nothing.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from packtivity import claims, lease, worker
from packtivity.backends import conclude, legacy, observe
from packtivity.backends.engine import Envelope, Submission
from packtivity.backends.proxies import Known
from packtivity.backends.status import Seen, TaskStatus, decide
from packtivity.backends.task_files import TaskFiles
from packtivity.errors import BackendError, PacktivityError, ProxyError, StateError
from packtivity.record import is_record_path
from packtivity.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from packtivity.backends.engine import Engine, Native
    from packtivity.backends.proxies import TaskProxy
    from packtivity.backends.status import Decision, Lock
    from packtivity.backends.task_files import Entry
    from packtivity.types import Diagnostic

Answer = TaskStatus | PacktivityError

_AT_ONCE = 100
"""Tasks whose documents are locked at the same time; each takes a descriptor."""


class Keeper:
    """Keeps the tasks of one engine.

    :ivar warn: called with each warning about a task whose end is written down here.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.warn: Callable[[Diagnostic], None] | None = None
        self._away_since: float | None = None

    # --- giving away ---

    def submit(self, entries: Sequence[Entry]) -> list[str]:
        """Give new tasks to the engine, all of them or none, and return its handles.

        :raises PacktivityError: a task cannot be kept, or was not taken.
        """
        if self.engine.keeps:
            files = TaskFiles()
            files.prune()
            files.write(entries, sync=self.engine.syncs)
        try:
            taken = self.engine.submit([_envelope(entry) for entry in entries])
        except PacktivityError:
            self._forget(entries)
            raise
        handles = self._all_taken(entries, taken)
        for entry, handle in zip(entries, handles, strict=True) if self.engine.keeps else ():
            if handle:
                files.note_sent(Submission(entry.id, entry.place, handle, 1))
        return handles

    def _all_taken(self, entries: Sequence[Entry], taken: Sequence[str | BackendError]) -> list[str]:
        """Return the handles; when one task was not taken, see that none of the others runs.

        :raises BackendError: one was not taken.
        """
        refused = next((each for each in taken if isinstance(each, BackendError)), None)
        if refused is None:
            return [each for each in taken if isinstance(each, str)]
        for entry, handle in zip(entries, taken, strict=True):
            if isinstance(handle, str):
                with suppress(StateError):
                    observe.ask_for_end(entry.record)
                self.engine.kill([Submission(entry.id, entry.place, handle, 1)])
        self._forget(entries)
        raise refused

    def _forget(self, entries: Sequence[Entry]) -> None:
        if self.engine.keeps:
            files = TaskFiles()
            for entry in entries:
                files.remove(entry.id)

    # --- asking ---

    def statuses(self, proxies: Sequence[TaskProxy]) -> list[Answer]:
        """Return how tasks are, in their order, and tend to those that are the asker's own.

        In place of a status there is an error for a task that nobody knows, whose files cannot be read, or whose engine has
        been away for longer than anybody waits.
        """
        files = TaskFiles()
        answers = [self._recorded(proxy, files) for proxy in proxies]
        still_open = [proxy for proxy, answer in zip(proxies, answers, strict=True) if answer is None]
        if not still_open:
            return [answer for answer in answers if answer is not None]
        natives = iter(self._natives(still_open, files))
        todo: list[tuple[TaskProxy, Decision]] = []
        for at, proxy in enumerate(proxies):
            if answers[at] is None:
                answers[at] = self._judged(proxy, next(natives), files, todo)
        self._act(todo, files)
        for at, proxy in enumerate(proxies):
            answers[at] = proxy.ending or (proxy.known.trouble if proxy.known is not None else None) or answers[at]
        return [answer for answer in answers if answer is not None]

    def _recorded(self, proxy: TaskProxy, files: TaskFiles) -> Answer | None:
        """Return how a task went, if its record or its owner's document says so."""
        try:
            known = self._known(proxy, files)
            return proxy.ending or self._end(proxy, self._ending(known, proxy.task_id), files)
        except PacktivityError as error:
            return error

    def _ending(self, known: Known, task_id: str) -> TaskStatus | None:
        own = known.entry is not None or self.engine.owns(known.submission)
        return observe.ending_of(known.record, task_id, own=own)

    def _known(self, proxy: TaskProxy, files: TaskFiles) -> Known:
        if proxy.known is None:
            entry = files.read(proxy.task_id, whole=False) if self.engine.keeps else None
            if entry is None or entry.engine != self.engine.name:
                submission = Submission(proxy.task_id, proxy.place, proxy.handle)
                proxy.ending = proxy.claimed
                proxy.known = Known(None, legacy.record_of(proxy), submission)
            else:
                proxy.ending = entry.ending
                proxy.known = Known(entry, entry.record, Submission(entry.id, entry.place))
        return proxy.known

    def _end(self, proxy: TaskProxy, ending: TaskStatus | None, files: TaskFiles) -> TaskStatus | None:
        """Remember how a task went, for good where it is the asker's own; not on the word of what may be forged."""
        if ending is None or not ending.verified:
            return ending
        proxy.ending = ending
        entry = proxy.known.entry if proxy.known is not None else None
        if entry is not None:
            with suppress(StateError):  # its record says so all the same
                files.retire(entry, ending)
        return ending

    def _natives(self, proxies: Sequence[TaskProxy], files: TaskFiles) -> list[Native]:
        """Return what the engine says of tasks; it is not asked again about those of which it has just been asked."""
        now = time.monotonic()
        known = [self._known(proxy, files) for proxy in proxies]
        asked = [each for each in known if now - each.looked >= self.engine.interval]
        if any(each.entry is not None for each in asked):
            self.engine.revive()
        for each in asked:
            if each.entry is not None:
                each.submission = files.sent(each.entry)
        natives = self.engine.look([each.submission for each in asked]) if asked else []
        for each, native in zip(asked, natives, strict=True):
            each.native, each.looked = native, now
            each.record = each.record or (native.record if is_record_path(native.record, each.submission.id) else None)
        if asked:
            away = any(native.said == "away" for native in natives)
            self._away_since = (self._away_since or now) if away else None
        return [each.native for each in known if each.native is not None]

    # --- deciding ---

    def _judged(
        self, proxy: TaskProxy, native: Native, files: TaskFiles, todo: list[tuple[TaskProxy, Decision]]
    ) -> Answer:
        try:
            decision = self._decision(proxy, native, files)
            if isinstance(decision, TaskStatus):
                return decision
            if decision.row == "17" and self._known(proxy, files).entry is None:
                return self._computed(proxy, files) or self._answer(proxy, native, decision)
        except PacktivityError as error:
            return error
        if decision.todo:
            todo.append((proxy, decision))
        return self._answer(proxy, native, decision)

    def _computed(self, proxy: TaskProxy, files: TaskFiles) -> Answer | None:
        """Return how a task went that is not the asker's own and that no worker of ours has run; nothing is written."""
        task, submission = proxy.task(), self._known(proxy, files).submission
        if task is None:
            return proxy.ending
        with conclude.of_this_machine():
            return self._end(proxy, conclude.compute(self.engine, submission, task), files)

    def _decision(self, proxy: TaskProxy, native: Native, files: TaskFiles) -> Decision | TaskStatus:
        """Return what follows from what can be seen of a task; its status when it is over, which is remembered then.

        :raises PacktivityError: its files cannot be read.
        """
        known = self._known(proxy, files)
        entry, sent = known.entry, known.submission
        if native.answer is not None:
            ending = observe.from_answer(native.answer)
            self._end(proxy, ending, files)
            return ending
        cancel = observe.is_cancelled(known.record)
        lock, attempts = self._lock(known, proxy.task_id)
        recorded = self._ending(known, proxy.task_id)
        if recorded is None and native.said in ("ended", "gone"):
            latest = files.read(proxy.task_id) if entry is not None else None  # whoever ran it may have noted it there
            recorded = latest.ending if latest is not None else legacy.ending_of(proxy) if entry is None else None
        if recorded is not None:
            self._end(proxy, recorded, files)
            return recorded
        age = max(0.0, time.time() - sent.time)
        seen = Seen(native, lock, cancel, entry is not None, age, 0.0, sent.deliveries, attempts)
        decision = decide(seen, self.engine.limits)
        if entry is None:
            return decision
        if decision.timed:
            known.doubtful = True
            since = files.since(entry.id, f"{lock} {native.said} {sent.deliveries}")
            return decide(replace(seen, stable=max(0.0, time.time() - since)), self.engine.limits)
        if known.doubtful:
            known.doubtful = False
            files.remove(entry.id, ("seen",))
        return decision

    def _lock(self, known: Known, task_id: str) -> tuple[Lock, int]:
        if self.engine.limits.collects:
            return "unseen", 0
        claim = known.entry.claim if known.entry is not None else None
        if claim is None and known.record is not None:
            claim = claims.of_task(known.record, task_id)
            if claim is None:
                return "absent", 0
        return observe.lock_of(claim, task_id) if claim is not None else ("unseen", 0)

    def _answer(self, proxy: TaskProxy, native: Native, decision: Decision) -> Answer:
        known = self._known(proxy, TaskFiles())
        if decision.row == "P":
            error = conclude.error_of_lost(decision, 0, began=True)
            return observe.from_answer(worker.unwritten(error, known.record))
        if decision.word == "unknown":
            return ProxyError(decision.reason or f"no task {proxy.task_id} is known", hint=native.hint)
        away = self._away_since
        if decision.word == "unclear" and away and time.monotonic() - away >= self.engine.limits.patience:
            known.looked = float("-inf")  # whoever asks again has perhaps mended it
            return BackendError(decision.reason or f"the engine {self.engine.name} is away", hint=native.hint)
        return TaskStatus(decision.word, record=known.record, reason=decision.reason)

    # --- doing ---

    def _act(self, decided: Sequence[tuple[TaskProxy, Decision]], files: TaskFiles) -> None:
        """Do what is to be done for the asker's own tasks; each is done by one process only."""
        killed = [self._known(proxy, files).submission for proxy, decision in decided if decision.todo == ("kill",)]
        if killed:
            self.engine.kill(killed)
        others = [proxy for proxy, decision in decided if decision.todo != ("kill",)]
        for start in range(0, len(others), _AT_ONCE):
            with ExitStack() as locked:
                held = [(each, locked.enter_context(files.tending(each.task_id))) for each in others[start:][:_AT_ONCE]]
                self._act_on([(proxy, entry) for proxy, entry in held if entry is not None], files)

    def _act_on(self, held: Sequence[tuple[TaskProxy, Entry]], files: TaskFiles) -> None:
        """Decide again about tasks that nobody else does anything about now, and do it.

        What is delivered again is counted before the engine is asked to kill it: it must not be said to have been cancelled.
        """
        lost: list[tuple[TaskProxy, Entry]] = []
        killed: list[Submission] = []
        submissions = [files.sent(entry) for _, entry in held]
        natives = self.engine.look(submissions) if held else []
        for (proxy, entry), submission, native in zip(held, submissions, natives, strict=True):
            known = self._known(proxy, files)
            known.submission, known.native = submission, native
            with suppress(PacktivityError):  # its files cannot be read or written now; it is tried again
                decision = self._decision(proxy, native, files)
                if isinstance(decision, TaskStatus):
                    continue
                if "kill" in decision.todo:
                    killed.append(submission)
                if "collect" in decision.todo:
                    self._collect(proxy, entry, decision, files)
                elif "conclude" in decision.todo:
                    self._conclude(proxy, entry, decision, files)
                elif "deliver" in decision.todo:
                    lost.append((proxy, entry))
        self._deliver(lost, killed, files)

    def _deliver(self, lost: Sequence[tuple[TaskProxy, Entry]], killed: Sequence[Submission], files: TaskFiles) -> None:
        """Give tasks away again; how often is noted before, because nobody may live to note it afterwards."""
        before, now = [files.sent(entry) for _, entry in lost], time.time()
        again = [replace(sent, deliveries=sent.deliveries + 1, handle="", time=now) for sent in before]
        for each in again:
            files.note_sent(each)
        if killed:
            self.engine.kill(killed)
        try:
            taken = self.engine.submit([_envelope(entry) for _, entry in lost]) if lost else []
        except PacktivityError as error:
            taken = [BackendError(str(error))] * len(lost)
        for (proxy, _), sent, each, handle in zip(lost, before, again, taken, strict=True):
            if isinstance(handle, BackendError):
                files.note_sent(sent)
                continue
            if handle:
                files.note_sent(replace(each, handle=handle))
            self._known(proxy, files).looked = float("-inf")

    def _conclude(self, proxy: TaskProxy, entry: Entry, decision: Decision, files: TaskFiles) -> None:
        """Write the record of a task that nobody runs, unless somebody has begun it this very moment."""
        lock, attempts = self._lock(self._known(proxy, files), entry.id)
        taken = None
        if lock != "other" and entry.claim is not None:
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
        observe.forget_cancel(entry.record)
        self._end(proxy, observe.from_answer(answer), files)

    def _collect(self, proxy: TaskProxy, entry: Entry, decision: Decision, files: TaskFiles) -> None:
        """Write down how a task went that no worker of ours has run; one that is cancelled is ended first."""
        known, task = self._known(proxy, files), Task.from_json(_envelope(entry).task)
        known.trouble, cancel = None, decision.cause == "cancel"
        try:
            with conclude.of_this_machine():
                status = conclude.finish(
                    self.engine, known.submission, task, entry.claim, cancel=cancel, warn=self.warn
                )
        except PacktivityError as error:
            known.trouble = error
            return
        if status is not None:
            observe.forget_cancel(entry.record)
            self._end(proxy, status, files)
            self.engine.forget(known.submission, status)

    def record_of(self, proxy: TaskProxy) -> str | None:
        """Return the path that the record of a task has or will have; None where it is not known."""
        return self._known(proxy, TaskFiles()).record

    # --- ending ---

    def cancel(self, proxies: Sequence[TaskProxy]) -> list[PacktivityError | None]:
        """End tasks, or see that they never begin; one that is over stays as it is.

        :returns: for each None, or why that cannot be done: nobody knows it, it is not the asker's own, or its engine does not end it.
        """
        files = TaskFiles()
        refused: list[PacktivityError | None] = []
        asked = []
        for proxy, status in zip(proxies, self.statuses(proxies), strict=True):
            error = status if isinstance(status, PacktivityError) else None
            if error is None and not status.is_over:  # type: ignore[union-attr]
                error = self._ask_for_end(proxy, files)
                asked.append(proxy)
            refused.append(error)
        self.statuses(asked)
        troubles = [proxy.known.trouble if proxy.known is not None else None for proxy in proxies]
        return [error or trouble for error, trouble in zip(refused, troubles, strict=True)]

    def _ask_for_end(self, proxy: TaskProxy, files: TaskFiles) -> PacktivityError | None:
        """Ask for the end of a task, and only then look who runs it: whoever begins it later looks for that."""
        known = self._known(proxy, files)
        if not self.engine.owns(known.submission) or known.record is None:
            return BackendError(
                f"whoever runs the task {proxy.task_id} cannot be asked to end it: it is not known to be yours",
                hint="Ask as the user who submitted it, with the same PACKTIVITY_STATE_DIR.",
            )
        try:
            observe.ask_for_end(known.record)
        except StateError as error:
            return error
        claim = known.entry.claim if known.entry is not None else None
        if claim is not None and observe.lock_of(claim, proxy.task_id)[0] == "mine":
            claims.end_orphans(claim)
        known.looked = float("-inf")
        return None


def _envelope(entry: Entry) -> Envelope:
    if entry.task is None:
        raise StateError(f"the document of the task {entry.id} is not there any more")
    return Envelope(entry.task, entry.record, entry.place)
