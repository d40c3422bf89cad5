"""The record of a task, ``{metadir}/NAME.outcome.json``: how it went, what it took, what it published.

It is written last and at once, so that who finds one finds a whole one. While the task runs, ``task.KEY.state.json``
beside it is locked and says so; see :mod:`packtivity.lease`. The key is that of spec, parameters and state: whoever runs
the task, and whatever its logs are called, it is the same task. A task with an id, which backends give, has its record
under ``NAME.ID.outcome.json`` too, so that one of the same name does not hide it.

Its form is published as a JSON Schema: :func:`schema`.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from contextlib import ExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from packtivity import folders, lease, record_fields, seal, settings
from packtivity.datamodel import as_given
from packtivity.errors import PacktivityError, StateError, TaskCancelled, WorkerLost
from packtivity.files import is_file, parsed, read_json, read_whole, write_whole
from packtivity.notes import RunNotes, close_notes, open_notes
from packtivity.runners import is_of_this_boot
from packtivity.runtimes.cancellation import Heartbeat
from packtivity.tasklog import safe_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextvars import Token

    from packtivity.handlers.config import ExecutionConfig
    from packtivity.types import JSON, Diagnostic, Metadata, ParametersLike, Spec, State

VERSION = 1
ATTEMPTS = 3
"""How often a task whose runner dies is started before it is called failed."""

STARTS = 8
"""How often a task is started whose runner dies or is told to stop: a task may be what ends its runner's parent."""

_WORTH_SYNC = 1.0
"""Seconds from which a record is forced to disk: what took less is done again sooner than a disk is waited for."""


def schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 4) of records."""
    found: dict[str, Any] = read_json(os.path.join(os.path.dirname(__file__), "schema", "outcome.json"), follow=True)
    return found


# --- where it is -----------------------------------------------------------------------------------------------


def record_path(metadir: str, metadata: Mapping[str, Any] | None, task_id: str | None = None) -> str:
    """Return the absolute path of a record."""
    name = safe_name(metadata)
    return f"{metadir}/{name}.{task_id}.outcome.json" if task_id else f"{metadir}/{name}.outcome.json"


def state_path(metadir: str, key: str) -> str:
    """Return the absolute path of the file that is locked while a task runs, whatever its logs are called."""
    return f"{metadir}/task.{key}.state.json"


def is_record_path(path: Any, task_id: str) -> bool:
    """Return whether something in a document can be the path of the record of a task with an id."""
    return isinstance(path, str) and path.startswith("/") and path.endswith(f".{task_id}.outcome.json")


def cancel_path(path: str) -> str:
    """Return the path of the file that asks for the end of a task.

    :param path: of the record of a task with an id.
    """
    return path.removesuffix(".outcome.json") + ".cancel"


def home(state: State | None, task_id: str | None, *, make: bool = False) -> str | None:
    """Return the directory for a task's record: a task with an id but no work directory has one of this user's.

    :param make: make that one.
    """
    metadir = state.metadir if state else None
    return metadir if metadir is not None or task_id is None else folders.state("tasks", make=make)


def read_outcome(path: str) -> JSON:
    """Return a record; None when there is none, or what is there is none.

    :raises StateError: it is there and cannot be read.
    """
    return read_sealed(path, None)[0]


def read_sealed(path: str, key: str | None) -> tuple[Any, bool]:
    """Return a record, and whether it was sealed with a key; see :func:`read_outcome` and :mod:`packtivity.seal`."""
    try:
        content = read_whole(path)
    except ValueError:  # a name that no file can have
        content = None
    found: Any = None if content is None else parsed(content)
    if content is None or not is_outcome(found):
        return None, False
    return record_fields.decoded(found), key is not None and seal.is_sealed(content, key)


def is_over(path: str | None, key: str | None) -> bool:
    """Return whether there is a record of a task, and where there is a key, one that was sealed with it."""
    found, sealed = read_sealed(path, key) if path else (None, False)
    return found is not None and (sealed or key is None)


def give_second_name(path: str, task_id: str, found: Mapping[str, Any]) -> None:
    """See that the record of a run is the last one of its name, too: its runner may have been killed in between.

    Nothing happens when that cannot be done, when another run has written its own since, or when the task never ran.

    :param path: of the record of a task with an id.
    :param found: what it says.
    """
    if not found.get("key"):
        return
    second = path.removesuffix(f".{task_id}.outcome.json") + ".outcome.json"
    try:
        written = os.stat(path, follow_symlinks=False).st_mtime_ns
        with suppress(FileNotFoundError):
            if os.stat(second, follow_symlinks=False).st_mtime_ns >= written:
                return
        write_whole(second, read_whole(path) or b"")
    except (OSError, StateError):
        return


def is_outcome(found: Any) -> bool:
    """Return whether a document can say how a task ended, whoever may have written it."""
    if not isinstance(found, dict) or found.get("status") not in ("succeeded", "failed", "cancelled"):
        return False
    error = found.get("error")
    return error is None or (
        isinstance(error, dict) and all(isinstance(error.get(n), str) for n in ("type", "message"))
    )


def task_key(spec: Spec, parameters: JSON, state: State | None) -> str:
    """Return what is the same for the same task and differs for any other: 16 hexadecimal digits."""
    text = json.dumps([spec, parameters, state.json() if state else None], default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


# --- writing it ------------------------------------------------------------------------------------------------


def open_record(
    spec: Spec, parameters: ParametersLike, state: State | None, metadata: Metadata | None, exec_config: ExecutionConfig
) -> RecordWriter | None:
    """Take the right to run a task and return the writer that its record is kept in; None when it has none.

    :raises TaskCancelled: it was cancelled before it began, perhaps while another run of it had to be waited for.
    :raises TaskOver: another run of it has ended meanwhile.
    :raises StateError: nothing can be written where its record belongs.
    """
    task_id = exec_config.config.get("task_id")
    if exec_config.dry_run() or not settings.current().record:
        return None
    metadir = home(state, task_id, make=True)
    if metadir is None:
        return None
    data = as_given(parameters)
    key = task_key(spec, data, state)
    cancel, began = exec_config.cancel, time.monotonic()
    taken = lease.take(
        state_path(metadir, key),
        cancelled=lambda: bool(cancel is not None and cancel.gives_up(time.monotonic() - began)),
    )
    with ExitStack() as undone:
        undone.callback(taken.give_back)
        # The container of a runner that died may run on for a moment after its lock is free.
        folder = taken.left.get("folder")
        if isinstance(folder, str) and is_of_this_boot(taken.left):
            from packtivity.runtimes.cleanup import await_end

            await_end(folder)
        book = RecordWriter(taken, metadir, metadata, key, data, state, exec_config)
        undone.callback(book.close)
        book.check_still_wanted()
        undone.pop_all()
        return book


class GivenBack(TaskCancelled):
    """A run has ended because its runner was told to stop, or has lost its claim: another runner is to run the task."""


class TaskOver(Exception):
    """A task that was to be run has a record already, as of the moment from which nobody else could run it."""


class RecordWriter:
    """Keeps the notes on a running task and writes its record; to be closed in any case."""

    def __init__(
        self,
        taken: lease.Lease,
        metadir: str,
        metadata: Metadata | None,
        key: str,
        parameters: JSON,
        state: State | None,
        exec_config: ExecutionConfig,
    ) -> None:
        self._lease = taken
        self._cancel = exec_config.cancel
        self._given = exec_config.config.get("task_id")
        task_id = self._given or key
        self._seal = exec_config.seal or (
            seal.own_record_key(task_id) if self._given else seal.record_key(key, make=True)
        )
        self.path = record_path(metadir, metadata)
        self._also = record_path(metadir, metadata, self._given) if self._given else None
        self._parameters = parameters
        self._folders = list(state.readwrite) if state else []
        self._began = self._opened = time.time()
        self._clock = time.monotonic()
        self._ended: float | None = None
        self._heartbeat: Heartbeat | None = None
        left = taken.left if taken.left.get("id") == task_id else {}
        attempts, starts = (each if isinstance(each, int) else 0 for each in map(left.get, ("attempts", "starts")))
        self.attempts, self._starts = attempts + 1, max(attempts, starts) + 1
        self._about: dict[str, Any] = {"version": VERSION, "id": task_id, "key": key, "name": safe_name(metadata)}
        self._token: Token[RunNotes | None] | None
        self._open_notes()
        try:
            self._running()
        except BaseException:
            self.close()
            raise

    def _open_notes(self) -> None:
        self._notes = RunNotes((self._lease.descriptor,), self._running)
        self._token = open_notes(self._notes)

    def _running(self, **more: JSON) -> None:
        counts = {"attempts": self.attempts, "starts": self._starts}
        started = {"status": "running", "started": record_fields.moment(self._began)}
        self._lease.write({**self._about, **started, **counts, **more})

    def ran(self, began: float | None, ended: float | None, attempts: int) -> None:
        """Say when a task ran that an engine has run, seconds since the epoch, and how often it was started."""
        self._began = self._began if began is None else began
        self._ended = ended
        self.attempts = attempts

    def check_still_wanted(self) -> None:
        """Look for what may have come while the lease was waited for; who decides later sees whose it is now.

        :raises TaskCancelled: its end was asked for.
        :raises TaskOver: there is a record of it.
        """
        if is_over(self._also, self._seal):
            raise TaskOver
        told = self._also is not None and is_file(cancel_path(self._also))
        if told or (self._cancel is not None and self._cancel.why() == "cancelled"):
            raise TaskCancelled("the task was cancelled before it began")

    def begin(self, exec_config: ExecutionConfig) -> ExecutionConfig:
        """Return the configuration to run the task with: its warnings are noted, and without locks, it ends with its claim.

        :raises WorkerLost: it has been started often enough.
        """
        if self._given:
            self._check_attempts()
        if self._lease.token is not None:
            self._heartbeat = self._cancel = Heartbeat(self._lease.beat, exec_config.cancel)
        return exec_config.replace(cancel=self._cancel, warn=partial(self._note_warning, exec_config.warn))

    def _note_warning(self, warn: Callable[[Diagnostic], None] | None, warning: Diagnostic) -> None:
        self._notes.warnings.append(f"{warning.code}: {warning.message}")
        if warn is not None:
            warn(warning)

    def _check_attempts(self) -> None:
        """Refuse a task that its runners have died with, or were told to stop in, too often."""
        if self.attempts <= ATTEMPTS and self._starts <= STARTS:
            return
        self.attempts -= 1
        died, stopped = f"died with it, {ATTEMPTS} times", f"had to stop before it was over, {STARTS} times"
        raise WorkerLost(
            f"whoever ran this task {died if self.attempts >= ATTEMPTS else stopped}",
            hint="Does it use up the memory, or kill its parent? Its run log may tell.",
        )

    def again(self) -> None:
        """Count another attempt."""
        self.attempts += 1
        if self._token is not None:
            close_notes(self._token)
        self._open_notes()
        self._running()

    def succeeded(self, result: JSON) -> None:
        """Write the record of a success.

        :raises StateError: it cannot be written, and then the task has not succeeded.
        :raises TaskCancelled: its runner has to go, and what the task has done may be half of what it had to do.
        """
        if self._cancel is not None and self._cancel.why() == "leaving":
            raise TaskCancelled("the runner of the task has to go")
        self._write(result, None)

    def failed(self, error: BaseException) -> None:
        """Write the record of a failure; when it cannot be written, ``error`` stays what is raised.

        A task that is abandoned has none: its state file stays, as if its runner had been killed, and does not count
        the attempt.
        """
        if self._cancel is not None and self._cancel.gives_back(error):
            with suppress(StateError):
                self._running(attempts=self.attempts - 1)
            self._lease.leave()
            raise GivenBack(str(error)) from error
        try:
            self._write(None, error)
        except (PacktivityError, OSError, ValueError, TypeError) as second:
            error.add_note(str(second))

    def _write(self, result: JSON, error: BaseException | None) -> None:
        now = self._opened + time.monotonic() - self._clock  # whatever is done to the clock meanwhile
        ended = max(self._began, now if self._ended is None else self._ended)
        published: list[JSON] = []
        if error is None:
            checksums = settings.current().record_checksums
            published = record_fields.files(result, self._folders, checksums=checksums)
        document = record_fields.document(
            self._about,
            self._notes,
            span=(self._began, ended),
            attempts=self.attempts,
            parameters=self._parameters,
            result=result,
            error=error,
            published=published,
        )
        also, key = self._also, self._seal
        written = self._lease.become(
            seal.sealed(record_fields.encoded(document), key),
            self.path,
            also,
            sync=ended - self._began >= _WORTH_SYNC,
            stays=(lambda: is_over(also, key)) if also and key else None,
        )
        if not written:
            raise TaskOver

    def close(self) -> None:
        """Give back the right to run the task; may be called again."""
        if self._token is not None:
            close_notes(self._token)
            self._token = None
            if self._heartbeat is not None:
                self._heartbeat.close()
            self._lease.give_back()
