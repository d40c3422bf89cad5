"""What is the status of a task that was given to an engine, and what is its owner to do? One pure function.

The one rule: a task is over if and only if its record exists. Everything else is a guess, and guesses never end a task.
So whatever an engine says is held against the files of the task, which are observed in this order: engine, cancel,
lock, record. A record that is found ends it.

An engine without a worker of ours (``Limits.collects``) is the exception: nobody but the task's owner writes the record of
what it ran, so its word that a task has ended counts, and whoever else asks is told what would come of that.

:func:`decide` is a table; the first row that fits counts. Its numbers are those in the tests.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from packtivity.record import ATTEMPTS

if TYPE_CHECKING:
    from collections.abc import Mapping

Word = Literal["waiting", "running", "succeeded", "failed", "cancelled", "lost", "unclear"]
Lock = Literal["mine", "other", "left", "absent", "unseen"]
Said = Literal["waiting", "running", "ended", "gone", "away", "unknown"]
Cause = Literal["cancel", "timeout", "memory", "refused", "lost"]
Todo = Literal["deliver", "conclude", "kill", "collect", "end"]

OVER = frozenset({"succeeded", "failed", "cancelled"})

DELIVERIES = 9
"""How often a task is given to its engine before it is called lost for good; a call that failed is not counted."""

CANCEL_GRACE = 10.0
"""Seconds that the runner of a cancelled task has to end it before the engine is asked to."""


@dataclass(frozen=True, slots=True)
class TaskStatus:
    """How a task is, for whoever asks.

    :ivar status: ``waiting``, ``running``; ``succeeded``, ``failed``, ``cancelled``: it is over; ``lost``: nobody runs it,
        and its owner gives it away again or concludes it; ``unclear``: its engine is away.
    :ivar result: what it published, when it has succeeded.
    :ivar error: ``type``, ``message`` and perhaps ``returncode``, when it has not.
    :ivar record: path of its record, where that is known.
    :ivar reason: why it waits, is lost or unclear, in words; empty where there is nothing to say.
    :ivar verified: whether its word can be relied on; false for what was read in a record that cannot be verified here.
        Nothing is deleted, given away again or reused because of that.
    """

    status: Word
    result: Any = None
    error: Mapping[str, Any] | None = None
    record: str | None = None
    reason: str = ""
    verified: bool = True

    @property
    def is_over(self) -> bool:
        """Whether there is nothing to wait for any more."""
        return self.status in OVER

    @classmethod
    def from_answer(cls, answer: Mapping[str, Any]) -> TaskStatus:
        """Return the status of a task, by what its worker has answered."""
        error, path = answer.get("error"), answer.get("record")
        return cls(
            answer["status"],
            answer.get("result"),
            error if isinstance(error, dict) else None,
            path if isinstance(path, str) else None,
            reason=str(answer.get("reason") or ""),
        )


@dataclass(frozen=True, slots=True)
class Native:
    """What an engine says of a task.

    :ivar said: ``waiting`` and ``running`` mean that it has the task; ``ended``, that it had it and has it no more;
        ``gone``, that it does not know it, which may be wrong; ``away``, that the engine cannot be asked now; ``unknown``,
        that it is sure that there never was such a task.
    :ivar reason: why, in the engine's words.
    :ivar hint: what the reader can do about it.
    :ivar cause: why it ended, for those that an engine ends by itself; None for all others, whose record tells.
    :ivar answer: what the worker has answered, where that came through the engine's own channel: it counts as a record.
    :ivar record: path of the task's record, where the engine carries that, for who is not the task's owner.
    """

    said: Said
    reason: str = ""
    hint: str = ""
    cause: Cause | None = None
    answer: Mapping[str, Any] | None = None
    record: str | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """How much an engine can be believed; seconds.

    :ivar arrival: for how long a task that was given away may be nowhere to be found.
    :ivar begin: for how long it may be called running before its runner has locked anything.
    :ivar lag: how old what is seen of files may be: 1 on a local disk, more on network file systems.
    :ivar revives: whether a task may be given away again while processes of a dead runner still hold its lock, because
        the next runner ends them.
    :ivar final: whether the end of the engine is that of its tasks, as with a pool of this program's.
    :ivar patience: for how long an engine that is away is waited for.
    :ivar collects: whether its tasks run without a worker of ours, who would lock the claim and write the record: then its
        word is all there is, and who owns the task collects what it knows and writes the record.
    """

    arrival: float = 5.0
    begin: float = 120.0
    lag: float = 1.0
    revives: bool = True
    final: bool = False
    patience: float = 30.0
    collects: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """Everything that is known of a task without a record; see :func:`decide`.

    :ivar lock: who has locked the task's claim: a runner of this submission (``mine``), of another submission of the same
        task (``other``), nobody although one of this submission had (``left``), nobody (``absent``); ``unseen`` where the
        files cannot be looked at.
    :ivar cancel: whether its end was asked for.
    :ivar own: whether it is the asker's own, who alone may do something about it.
    :ivar age: seconds since it was given away last.
    :ivar stable: seconds for which its owner has seen the same lock and the same word of the engine.
    :ivar deliveries: how often it was given away.
    :ivar attempts: how often a runner has begun it.
    """

    native: Native
    lock: Lock
    cancel: bool = False
    own: bool = True
    age: float = 0.0
    stable: float = 0.0
    deliveries: int = 1
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows.

    :ivar row: of the table, for tests and for logs.
    :ivar word: the status; ``unknown`` where nobody knows the task.
    :ivar todo: what its owner is to do, in this order; nobody else does anything.
    :ivar cause: why it is lost, where it is not to be given away again.
    :ivar reason: the same in words.
    :ivar timed: whether it matters for how long everything has been so.
    """

    row: str
    word: Word | Literal["unknown"]
    todo: tuple[Todo, ...] = ()
    cause: Cause | None = None
    reason: str = ""
    timed: bool = False


def decide(seen: Seen, limits: Limits) -> Decision:
    """Return the status of a task that has no record, and what its owner is to do about it."""
    decision = _decide(seen, limits)
    return decision if seen.own else replace(decision, todo=())


def _decide(seen: Seen, limits: Limits) -> Decision:
    said, lock, reason = seen.native.said, seen.lock, seen.native.reason
    vanished = said in ("ended", "gone")
    if limits.collects:
        return _collected(seen, limits)
    if lock == "mine":
        return _held(seen, limits, vanished=vanished)
    if limits.final and vanished:
        return Decision("P", "lost", (), "cancel" if seen.cancel else "lost", reason)
    if seen.cancel and lock == "unseen" and said in ("waiting", "running"):
        return Decision("4", said, ("kill",), reason="it is being cancelled")
    if seen.cancel:
        return Decision("5", "lost", ("conclude", "kill"), "cancel", "it is being cancelled")
    if lock == "other":
        return Decision("6", "waiting", reason="another run of the same task has to end first")
    if said == "away":
        return Decision("7", "unclear", reason=reason)
    if said == "waiting":
        return Decision("8", "waiting", reason=reason)
    if said == "running":
        return _running(seen, limits)
    if seen.native.cause is not None:
        todo: tuple[Todo, ...] = ("conclude",) if seen.stable >= limits.lag else ()
        return Decision("12", "lost", todo, seen.native.cause, reason, timed=True)
    if said == "unknown" or (said == "gone" and not seen.own and lock != "left"):
        return Decision("13", "unknown", reason=reason)
    if said == "gone" and seen.age < limits.arrival and lock != "left":
        return Decision("14", "waiting", reason=reason)
    return _lost("15", seen, limits)


def _collected(seen: Seen, limits: Limits) -> Decision:
    """Return the decision for a task that runs without a worker of ours: nobody locks anything while it runs."""
    said = seen.native.said
    if said in ("waiting", "running", "ended") or (said == "gone" and seen.own):
        if seen.cancel:
            word = said if said in ("waiting", "running") else "lost"
            return Decision("16", word, ("collect",), "cancel", "it is being cancelled")
        if said == "ended":
            return Decision("17", "lost", ("collect",), reason=seen.native.reason)
    return _decide(replace(seen, lock="unseen", cancel=False), replace(limits, collects=False))


def _held(seen: Seen, limits: Limits, *, vanished: bool) -> Decision:
    """Return the decision for a task whose lock is held by a runner of it, or by what that has left running."""
    caused, timed = seen.native.cause is not None, (vanished and limits.revives) or seen.cancel
    if vanished and limits.revives and seen.stable >= limits.lag:
        # what an engine has ended for a reason is not run again: row 12 says why, once what is left of it has gone
        todo: tuple[Todo, ...] = ("end",) if caused else ("deliver",)
        reason = "its runner has died, and its processes live on"
        return Decision("2b" if caused else "2", "lost", todo, seen.native.cause, reason, timed=True)
    todo = ("kill",) if seen.cancel and seen.stable >= CANCEL_GRACE else ()
    return Decision("3", "running", todo, timed=timed)


def _running(seen: Seen, limits: Limits) -> Decision:
    """Return the decision for a task that its engine calls running, and whose lock no runner of it has."""
    if seen.lock == "left" and seen.stable >= 5 * limits.lag:
        return _lost("9", seen, limits)
    if seen.lock == "absent" and seen.stable >= limits.begin:
        return _lost("10", seen, limits)
    return Decision("11", "running", reason=seen.native.reason, timed=seen.lock in ("left", "absent"))


def _lost(row: str, seen: Seen, limits: Limits) -> Decision:
    first: tuple[Todo, ...] = ("kill",) if row != "15" else ()
    reason = seen.native.reason or "nobody runs it any more"
    if seen.stable < limits.lag:
        return Decision(row, "lost", reason=reason, timed=True)
    if seen.attempts >= ATTEMPTS or seen.deliveries >= DELIVERIES:
        return Decision(row, "lost", (*first, "conclude"), "lost", reason, timed=True)
    return Decision(row, "lost", (*first, "deliver"), reason=reason, timed=True)
