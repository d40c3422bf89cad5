"""The record of a task, ``{metadir}/NAME.outcome.json``: how it went, what it took, what it published.

It is written last and at once, so that who finds one finds a whole one. While the task runs, ``task.KEY.state.json``
beside it is locked and says so; see :mod:`packtivity.lease`. The key is that of spec, parameters and state: whoever runs
the task, and whatever its logs are called, it is the same task. A task with an id, which backends give, has its record
under ``NAME.ID.outcome.json`` too, so that one of the same name does not hide it.

Its form is published as a JSON Schema: :func:`schema`.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from packtivity import folders, record_fields, settings
from packtivity.errors import PacktivityError, StateError, TaskCancelled, WorkerLost
from packtivity.files import is_file, read_json, write_json, write_whole
from packtivity.logfiles import safe_name
from packtivity.notes import RunNotes, close_notes, open_notes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextvars import Token

    from packtivity.lease import Lease
    from packtivity.types import JSON

VERSION = 1
ATTEMPTS = 3
"""How often a task whose runner dies is started before it is called failed."""

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


def home(state: Any, task_id: str | None) -> str | None:
    """Return the directory for a task's record: a task with an id but no work directory has one of this user's."""
    metadir: str | None = state.metadir if state else None
    if metadir is not None or task_id is None:
        return metadir
    return folders.state("tasks", make=False)


def _make_home(state: Any) -> None:
    if not state or state.metadir is None:
        folders.state("tasks")


def read_outcome(path: str) -> JSON:
    """Return a record; None when there is none, or what is there is none.

    :raises StateError: it is there and cannot be read.
    """
    try:
        os.lstat(path)  # it is mostly not there, and to find that out takes a third of what it takes to open it safely
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    except OSError:
        pass  # which is said below
    found = read_json(path)
    return found if is_outcome(found) else None


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
        write_json(second, found)
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


def task_key(spec: Any, parameters: JSON, state: Any) -> str:
    """Return what is the same for the same task and differs for any other: 16 hexadecimal digits."""
    import json

    text = json.dumps([spec, parameters, state.json() if state else None], default=str)
    digest: str = record_fields.hasher(0)(text.encode("utf-8", "surrogatepass")).hexdigest()
    return digest[:16]


# --- writing it ------------------------------------------------------------------------------------------------


def open_record(spec: Any, parameters: Any, state: Any, metadata: Any, exec_config: Any) -> RecordWriter | None:
    """Take the right to run a task and return the writer that its record is kept in; None when it has none.

    :raises TaskCancelled: it was cancelled before it began, perhaps while another run of it had to be waited for.
    :raises TaskOver: another run of it has ended meanwhile.
    :raises StateError: nothing can be written where its record belongs.
    """
    task_id = exec_config.config.get("task_id")
    if exec_config.dry_run() or not settings.current().record:
        return None
    metadir = home(state, task_id)
    if metadir is None:
        return None
    _make_home(state)
    from packtivity import lease

    data = parameters.json() if hasattr(parameters, "json") else parameters
    key = task_key(spec, data, state)
    cancel, began = exec_config.cancel, time.monotonic()
    taken = lease.take(
        state_path(metadir, key),
        cancelled=lambda: bool(cancel is not None and cancel.gives_up(time.monotonic() - began)),
    )
    try:
        _await_end(taken.left)
        _check_still_wanted(task_id and record_path(metadir, metadata, task_id), cancel)
    except BaseException:
        taken.give_back()
        raise
    return RecordWriter(taken, metadir, metadata, key, data, state, exec_config)


class TaskOver(Exception):
    """A task that was to be run has a record already, as of the moment from which nobody else could run it."""


def _await_end(left: JSON) -> None:
    """Wait for the container of a runner that died: it may run on for a moment after its lock is free."""
    folder = left.get("folder") if isinstance(left, dict) else None
    if not isinstance(folder, str):
        return
    from packtivity.runners import is_of_this_boot
    from packtivity.runtimes.cleanup import await_end

    if is_of_this_boot(left):
        await_end(folder)


def _check_still_wanted(path: str | None, cancel: Any) -> None:
    """Look again for what may have come while the lease was waited for; who decides later sees the lease."""
    if path and read_outcome(path):
        raise TaskOver
    told = path is not None and is_file(cancel_path(path))
    if told or (cancel is not None and cancel.cancelled and not cancel.abandoned):
        raise TaskCancelled("the task was cancelled before it began")


class RecordWriter:
    """Keeps the notes on a running task and writes its record; to be closed in any case."""

    def __init__(
        self, taken: Lease, metadir: str, metadata: Any, key: str, parameters: JSON, state: Any, exec_config: Any
    ) -> None:
        self._lease = taken
        self._cancel = exec_config.cancel
        self._given = exec_config.config.get("task_id")
        task_id = self._given or key
        self.path = record_path(metadir, metadata)
        self._also = record_path(metadir, metadata, self._given) if self._given else None
        self._parameters = parameters
        self._folders = list(state.readwrite) if state else []
        self._began = time.time()
        self._ended: float | None = None
        self._contained = False
        left = taken.left if isinstance(taken.left, dict) and taken.left.get("id") == task_id else {}
        attempts = left.get("attempts")
        self.attempts = (attempts if isinstance(attempts, int) else 0) + 1
        self._about: dict[str, Any] = {"version": VERSION, "id": task_id, "key": key, "name": safe_name(metadata)}
        self._token: Token[RunNotes | None] | None
        self._open_notes()
        try:
            self._running()
        except BaseException:
            self.close()
            raise

    def _open_notes(self) -> None:
        self._notes = RunNotes(self._lease.held, self._running)
        self._token = open_notes(self._notes)

    def _running(self, **more: JSON) -> None:
        started = {"status": "running", "started": record_fields.moment(self._began), "attempts": self.attempts}
        self._lease.write({**self._about, **started, **more})

    def ran(self, began: float | None, ended: float | None, attempts: int) -> None:
        """Say when a task ran that an engine has run, seconds since the epoch, and how often it was started."""
        self._began = self._began if began is None else began
        self._ended = ended
        self.attempts = attempts

    def check_attempts(self) -> None:
        """Refuse a task from a backend that its runners have died with too often.

        :raises WorkerLost: it has been started often enough.
        """
        if self._given and self.attempts > ATTEMPTS:
            self.attempts -= 1
            raise WorkerLost(
                f"whoever ran this task died with it, {ATTEMPTS} times",
                hint="Does it use up the memory, or kill its parent? Its run log may tell.",
            )

    def again(self) -> None:
        """Count another attempt."""
        self.attempts += 1
        self._contained = self._was_container()
        if self._token is not None:
            close_notes(self._token)
        self._open_notes()
        self._running()

    def succeeded(self, result: JSON) -> None:
        """Write the record of a success.

        :raises StateError: it cannot be written, and then the task has not succeeded.
        :raises TaskCancelled: its runner has to go, and what it has done may be half of what it had to.
        """
        if self._cancel is not None and self._cancel.signalled:
            raise TaskCancelled("whoever ran the task had to go")
        self._write("succeeded", result, None)

    def failed(self, error: BaseException) -> None:
        """Write the record of a failure; when it cannot be written, ``error`` stays what is raised.

        A task that is abandoned has none: its state file stays, as if its runner had been killed.
        """
        if self._cancel is not None and self._cancel.is_given_back(error):
            self._lease.leave()
            return
        status = "cancelled" if isinstance(error, (TaskCancelled, KeyboardInterrupt)) else "failed"
        try:
            self._write(status, None, record_fields.failure(error))
        except (PacktivityError, OSError, ValueError, TypeError) as second:
            error.add_note(str(second))

    def _write(self, status: str, result: JSON, error: JSON) -> None:
        import json

        ended = time.time() if self._ended is None else max(self._began, self._ended)
        document = self._document(status, result, error, ended)
        content = json.dumps(document, separators=(",", ":"), default=str).encode("utf-8", "backslashreplace")
        slow = ended - self._began >= _WORTH_SYNC
        self._lease.become(content, self.path, self._also, sync=slow, renew=self._was_container())

    def _was_container(self) -> bool:
        """Return whether an attempt at the task was a container, which may have had more rights here than it has outside."""
        execution = self._notes.execution
        return self._contained or (execution is not None and execution.image is not None)

    def _document(self, status: str, result: JSON, error: JSON, ended: float) -> dict[str, Any]:
        noted, execution = self._notes, self._notes.execution
        argv = noted.argv or (execution.argv if execution else None)
        image = execution.image if execution else None
        seen = {
            "attempts": self.attempts,
            "error": error,
            "job": noted.job,
            "command": list(argv) if argv else None,
            "workdir": execution.workdir if execution else None,
            "image": noted.image or ({"reference": image, "digest": None} if image else None),
            "parameters": self._parameters,
            "missing": list(noted.missing),
            "warnings": [],
        }
        hidden = record_fields.secrets(settings.environment(), self._parameters)
        succeeded = status == "succeeded"
        checksums = settings.current().record_checksums
        return {
            **self._about,
            "status": status,
            "started": record_fields.moment(self._began),
            "ended": record_fields.moment(ended),
            "seconds": round(ended - self._began, 6),
            **record_fields.ending(noted),
            **record_fields.masked(seen, hidden),
            "result": result,
            "published": record_fields.files(result, self._folders, checksums=checksums) if succeeded else [],
            "versions": record_fields.versions(),
            **(_where() if settings.current().record_host else {}),
        }

    def close(self) -> None:
        """Give back the right to run the task; may be called again."""
        if self._token is not None:
            close_notes(self._token)
            self._token = None
            self._lease.give_back()


def _where() -> dict[str, str]:
    import getpass

    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return {"host": os.uname().nodename, "user": user}


def failed_before(path: str, about: Mapping[str, Any], error: BaseException) -> None:
    """Write the record of a task that could not even begin; nothing happens when that cannot be written.

    :param about: ``id``, ``name`` and ``parameters``.
    """
    import json

    now = record_fields.moment(time.time())
    hidden = record_fields.secrets(settings.environment(), about.get("parameters"))
    document = {
        "version": VERSION,
        "key": None,
        "status": "cancelled" if isinstance(error, (TaskCancelled, KeyboardInterrupt)) else "failed",
        "started": now,
        "ended": now,
        "seconds": 0.0,
        **record_fields.ending(RunNotes()),
        "attempts": 0,
        "error": record_fields.masked(record_fields.failure(error), hidden),
        **dict.fromkeys(("job", "command", "workdir", "image", "result")),
        **record_fields.masked(dict(about), hidden),
        "missing": [],
        "warnings": [],
        "published": [],
        "versions": record_fields.versions(),
    }
    try:
        if os.path.dirname(path) == f"{settings.state_dir()}/tasks":
            folders.state("tasks")
        write_whole(path, json.dumps(document, default=str).encode("utf-8", "backslashreplace"), sync=True)
    except StateError:
        return
