"""The files of this user's tasks, ``STATE_DIR/tasks``: what a task is given away from, however often that takes.

``ID.json`` is the owner's document: written before the engine hears of the task and never changed. Who has locked it
(flock) tends the task. When the task is over, ``ID.over`` says how it went, and nothing else is kept. ``ID.sent`` says how
often it was given away and what the engine calls it; without one it was given away once, when the document was written.
``ID.seen`` says since when something has looked wrong, so that a program that asks once a minute knows that, too.

Nobody but the user reads them, and nobody else's word is ever written into them.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from packtivity import claims, folders, record, seal, settings
from packtivity.backends.engine import Submission
from packtivity.backends.status import TaskStatus
from packtivity.errors import ProxyError, StateError
from packtivity.files import (
    closing_fd,
    is_file,
    is_id,
    lock,
    open_file,
    open_to_read,
    put,
    read_json,
    unwritable,
    write_json,
    write_whole,
)
from packtivity.record import is_outcome, is_record_path
from packtivity.worker import final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from packtivity.backends.proxies import TaskProxy
    from packtivity.backends.status import Lock
    from packtivity.types import JSON

VERSION = 1
KEPT_DAYS = 30.0
"""Days for which it is known how a task went, counted from its end."""

_PRUNE_EVERY = 86400.0
_PRIVATE = 0o600
_WHAT = "submitted tasks"


@dataclass(frozen=True, slots=True)
class Entry:
    """The owner's document of a task.

    :ivar task: the task document; None when the task is over, because nobody needs it any more and secrets may be in it.
    :ivar engine: name of the engine that it was given to.
    :ivar place: which one of that name.
    :ivar record: path of its record.
    :ivar claim: path of the file that its runner locks.
    :ivar submitted: seconds since the epoch.
    :ivar about: ``name`` and ``workdir``, for lists.
    :ivar ending: how it went, when it is over.
    """

    id: str
    engine: str
    place: JSON
    record: str | None
    claim: str | None
    submitted: float
    about: Mapping[str, Any]
    task: dict[str, Any] | None = None
    ending: TaskStatus | None = None

    def to_json(self) -> JSON:
        """Return the document."""
        known = {name: getattr(self, name) for name in _KEPT}
        if self.ending is None:
            return {"version": VERSION, **known, "task": self.task}
        return {"version": VERSION, **known, **{name: getattr(self.ending, name) for name in _ENDING}}

    @classmethod
    def from_json(cls, found: Any, task_id: str, *, whole: bool = True) -> Entry | None:
        """Return what a document says; None when it is damaged, or is not of this task.

        :param whole: with the task itself.
        """
        if not (isinstance(found, dict) and (found.get("id"), found.get("version")) == (task_id, VERSION)):
            return None
        known: dict[str, Any] = {name: found.get(name) for name in _KEPT}
        entry, claim = cls(**known), known["claim"]
        is_over = not isinstance(found.get("task"), dict)
        if (is_over and not is_outcome(found)) or not isinstance(known["submitted"], (int, float)):
            return None
        if not isinstance(known["about"], dict) or not (entry.record is None or is_record_path(entry.record, task_id)):
            return None
        if claim is not None:  # it lies where the record does
            is_one = isinstance(claim, str) and claim.endswith(claims.SUFFIX)
            if not (is_one and os.path.dirname(claim) == os.path.dirname(entry.record or "")):
                return None
        if is_over:
            return replace(entry, ending=TaskStatus.from_answer(found))
        return replace(entry, task=found["task"]) if whole else entry


_KEPT = ("id", "engine", "place", "record", "claim", "submitted", "about")
_ENDING = ("status", "result", "error")


class TaskFiles:
    """All files of this user's tasks."""

    def __init__(self) -> None:
        self.folder = folders.state("tasks", make=False, what=_WHAT)

    def path(self, task_id: str, kind: str = "json") -> str:
        """Return the path of one of a task's files."""
        return f"{self.folder}/{task_id}.{kind}"

    # --- the document ---

    def write(self, entries: Iterable[Entry], *, sync: bool) -> None:
        """Keep the documents of new tasks.

        :param sync: they are on the disk when this returns.
        :raises StateError: that cannot be done; none is kept then.
        """
        given = list(entries)
        folders.state("tasks", what=_WHAT)
        try:
            for entry in given:
                _put(self.path(entry.id), entry, sync=sync and len(given) == 1)
        except StateError:
            for entry in given:
                self.remove(entry.id)
            raise
        if sync and len(given) > 1:
            os.sync()  # once, and not for each of thousands

    def read(self, task_id: str, *, whole: bool = True) -> Entry | None:
        """Return the document of a task; None when there is none, it is damaged, or it is for another user to read.

        :param whole: with the task itself.
        :raises StateError: it cannot be read.
        """
        try:
            found = read_json(self.path(task_id))
            if found is None:  # when one goes, the other is there
                found = read_json(self.path(task_id, "over"))
        except StateError as error:
            if isinstance(error.__cause__, PermissionError):  # services on one volume have user ids of the moment
                return None
            raise
        return Entry.from_json(found, task_id, whole=whole)

    @contextmanager
    def tending(self, task_id: str) -> Iterator[Entry | None]:
        """Be the only one to do something about a task inside the block; gives None when somebody else is, or it is over."""
        try:
            descriptor = open_file(self.path(task_id), os.O_RDWR)
        except OSError:
            yield None
            return
        with closing_fd(descriptor):
            entry = self.read(task_id) if lock(descriptor) else None
            yield entry if entry is not None and entry.ending is None else None

    def retire(self, entry: Entry, status: TaskStatus) -> None:
        """Keep how a task went and nothing else.

        :raises StateError: that cannot be written; everything stays as it is.
        """
        kept = replace(entry, record=status.record or entry.record, task=None, ending=status)
        _put(self.path(entry.id, "over"), kept, sync=False)
        self.remove(entry.id, ("json", "sent", "seen"))

    def remove(self, task_id: str, kinds: Iterable[str] = ("json", "sent", "seen", "over")) -> None:
        """Forget a task, as if it had never been submitted, or a part of what is known of it."""
        for kind in kinds:
            with suppress(OSError):
                os.unlink(self.path(task_id, kind))

    def ids(self) -> list[str]:
        """Return the ids of all tasks that are known, in the order of submission."""
        try:
            names = os.listdir(self.folder)
        except OSError:
            return []
        ids = {name[:-5] for name in names if name.endswith((".json", ".over"))}
        return sorted(task_id for task_id in ids if is_id(task_id))

    # --- what became of it ---

    def sent(self, entry: Entry) -> Submission:
        """Return how often a task was given away, what its engine called it, and when that was."""
        found = read_mapping(self.path(entry.id, "sent"))
        deliveries, handle, moment = (found.get(name) for name in ("deliveries", "handle", "time"))
        return Submission(
            entry.id,
            entry.place,
            handle if isinstance(handle, str) else "",
            deliveries if isinstance(deliveries, int) else 1,
            moment if isinstance(moment, (int, float)) else entry.submitted,
        )

    def note_sent(self, sent: Submission) -> None:
        """Keep how often a task was given away.

        :raises StateError: that cannot be written.
        """
        document = {"deliveries": sent.deliveries, "handle": sent.handle, "time": sent.time}
        write_json(self.path(sent.id, "sent"), document, mode=_PRIVATE)

    def since(self, task_id: str, word: str) -> float:
        """Return since when a task looks as ``word`` describes it, seconds since the epoch, and keep that."""
        now, found = time.time(), read_mapping(self.path(task_id, "seen"))
        if found.get("word") == word and isinstance(found.get("since"), (int, float)):
            return min(now, float(found["since"]))
        with suppress(StateError):  # it is only known a little later then
            write_json(self.path(task_id, "seen"), {"word": word, "since": now}, mode=_PRIVATE)
        return now

    # --- old ones ---

    def prune(self) -> None:
        """Forget what has been over for long; looks through everything once a day at most."""
        stamp = f"{self.folder}/pruned"
        now = time.time()
        with suppress(OSError):
            if now - os.stat(stamp).st_mtime < _PRUNE_EVERY:
                return
        with suppress(OSError):
            os.close(os.open(stamp, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
            os.utime(stamp)
            for name in os.listdir(self.folder):
                path = f"{self.folder}/{name}"
                with suppress(OSError):  # what is not known to be over stays
                    if name.endswith((".over", ".outcome.json")) and now - os.stat(path).st_mtime > KEPT_DAYS * 86400:
                        os.unlink(path)


def read_mapping(path: str) -> dict[str, Any]:
    """Return the mapping in a file; an empty one where there is none."""
    found = read_json(path)
    return found if isinstance(found, dict) else {}


def _put(path: str, entry: Entry, *, sync: bool) -> None:
    """Write a document that is there as a whole or not at all; one that is there already is as good.

    :raises StateError: it cannot be written.
    """
    content = json.dumps(entry.to_json(), separators=(",", ":")).encode("utf-8", "surrogatepass")
    try:
        put(path, content, sync=sync, mode=_PRIVATE)
    except FileExistsError:
        return
    except OSError as error:
        raise unwritable(path, error) from error


# --- what is in the work directory ------------------------------------------------------------------------------


def lock_of(claim: str, task_id: str) -> tuple[Lock, int]:
    """Return who has the lock of a claim, as seen by a submission, and how often a runner has begun that."""
    try:
        descriptor = open_to_read(claim)
    except FileNotFoundError:
        return ("absent" if os.path.isdir(os.path.dirname(claim)) else "unseen"), 0
    except OSError:
        return "unseen", 0
    with closing_fd(descriptor):
        held, state = claims.is_held_by(descriptor, claim), claims.said(descriptor)
    if state.get("id") != task_id:
        return ("other" if held else "absent"), 0
    attempts = state.get("attempts")
    return ("mine" if held else "left"), attempts if isinstance(attempts, int) else 0


def ending_of(path: str | None, task_id: str, *, own: bool = False) -> TaskStatus | None:
    """Return how a task went that has a record; None for one that has none.

    :param own: whether it is the asker's own, who may mend what a killed runner has left half done, and for whom a
        record that somebody has forged is none: the task's runner replaces it.
    :raises StateError: it is there and cannot be read.
    """
    if not path:
        return None
    key = seal.own_record_key(task_id)
    answer = final(path, task_id, key, mend=own) if key else None
    if answer is not None:
        return TaskStatus.from_answer(answer)
    answer = None if own and key else final(path, task_id)
    return None if answer is None else replace(TaskStatus.from_answer(answer), verified=False)


def is_cancelled(path: str | None) -> bool:
    """Return whether the end of the task was asked for whose record has a path."""
    return path is not None and is_file(record.cancel_path(path))


def ask_for_end(path: str | None) -> None:
    """Ask for the end of the task whose record has a path.

    :raises StateError: that cannot be written.
    """
    if path is not None:
        write_whole(record.cancel_path(path), b"")


def forget_cancel(path: str | None) -> None:
    """Take away what asks for the end of a task, because it is over."""
    if path is not None:
        with suppress(OSError):
            os.unlink(record.cancel_path(path))


# --- what an earlier version has left, for its proxies: read, never written or given away again --------------------


def old_record_of(proxy: TaskProxy) -> str | None:
    """Return where the record of a task is that is not known to be the asker's own; None where nobody knows."""
    path = proxy.record or next((found["record"] for found in _left_of(proxy) if found.get("record")), None)
    return path if is_record_path(path, proxy.task_id) else None


def old_ending_of(proxy: TaskProxy) -> TaskStatus | None:
    """Return how a task went that its engine does not know; None where nothing is known.

    :raises ProxyError: it was given to an earlier version, which is not there any more.
    """
    left, path = _left_of(proxy), old_record_of(proxy)
    if is_outcome(left[0]):
        return replace(TaskStatus.from_answer(left[0]), verified=False)
    if any(left) or (path is not None and read_json(path.removesuffix(".outcome.json") + ".task.json") is not None):
        raise ProxyError(
            f"the task {proxy.task_id} was given to an earlier version of packtivity, which had not run it to its end",
            hint="Submit it again.",
        )
    return None


def _left_of(proxy: TaskProxy) -> list[dict[str, Any]]:
    """Return what the client, or the supervisor on its machine, noted of a task: first how it went."""
    folders_of = [f"local/{proxy.place}/{name}" for name in ("done", "active", "queue") if proxy.place_name == "host"]
    names = (*(f"{folder}/{proxy.task_id}" for folder in folders_of), f"tickets/{proxy.task_id}.json")
    return [read_mapping(f"{settings.state_dir()}/{name}") for name in names]
