"""What is known of this user's detached tasks: one file a task, in the folder that says how it is.

``queue/ID`` waits, ``active/ID`` is being run, ``done/ID`` is over. A file moves by being renamed, so a task is in one
place; a supervisor (:mod:`packtivity.backends.supervisor`) moves them, of which there is one at most. The folders are
of one machine, because a shared home directory has many.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from packtivity import folders
from packtivity.errors import ProxyError
from packtivity.files import lock, read_json, write_json
from packtivity.record import is_outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

    from packtivity.types import JSON

QUEUE, ACTIVE, DONE, CANCEL = "queue", "active", "done", "cancel"
_KEPT_DAYS = 30.0
_WHAT = "detached tasks"


class Spool:
    """The folders of one user on one machine.

    :param host: name of the machine, by default this one.
    """

    def __init__(self, host: str | None = None) -> None:
        self.host = host or os.uname().nodename
        self.root = folders.state("local", self.host, make=False, what=_WHAT)

    def path(self, folder: str, task_id: str) -> str:
        """Return the path of a task's file in a folder."""
        return f"{self.root}/{folder}/{task_id}"

    def prepare(self) -> None:
        """Make the folders, for this user only.

        :raises StateError: they cannot be made.
        """
        for folder in (QUEUE, ACTIVE, DONE, CANCEL):
            folders.state("local", self.host, folder, what=_WHAT)

    def names(self, folder: str) -> list[str]:
        """Return the ids in a folder, in the order of submission."""
        try:
            return sorted(name for name in os.listdir(f"{self.root}/{folder}") if "." not in name)
        except FileNotFoundError:
            return []

    def add(self, documents: list[JSON]) -> None:
        """Put tasks into the queue; they are there for good when this returns.

        :raises StateError: a file cannot be written.
        """
        single = len(documents) == 1
        for document in documents:
            entry = {"submitted": time.time(), "task": document}
            write_json(self.path(QUEUE, document["id"]), entry, sync=single)
        if not single:
            os.sync()  # once, and not for each of thousands

    def move(self, task_id: str, origin: str, destination: str) -> bool:
        """Move a task; false when somebody else has."""
        try:
            os.rename(self.path(origin, task_id), self.path(destination, task_id))
        except FileNotFoundError:
            return False
        return True

    def finish(self, task_id: str, answer: dict[str, Any]) -> None:
        """Note how a task ended and that it is over.

        :raises StateError: that cannot be written; the task stays where it is.
        """
        entry = self.entry(task_id)
        name = mapping(mapping(entry.get("task")).get("metadata")).get("name")
        known = {"submitted": entry.get("submitted"), "ended": time.time(), "name": name}
        write_json(self.path(DONE, task_id), {**known, **answer}, sync=True)
        for folder in (ACTIVE, CANCEL):
            with suppress(FileNotFoundError):
                os.unlink(self.path(folder, task_id))

    def ask(self, task_id: str) -> dict[str, Any]:
        """Return how a task is.

        :raises ProxyError: there is none of that id.
        """
        for _ in range(3):  # in between it may have been put back into the queue
            if os.path.exists(self.path(QUEUE, task_id)):
                return {"status": "waiting"}
            if os.path.exists(self.path(ACTIVE, task_id)):
                return {"status": "running"}
            found = read_json(self.path(DONE, task_id))
            if is_outcome(found):
                return dict(found)
        raise ProxyError(
            f"no task {task_id} is known to this user on {self.host}",
            hint=f"What is over is kept for {_KEPT_DAYS:.0f} days. Was it submitted here, by this user?",
        )

    def entry(self, task_id: str) -> dict[str, Any]:
        """Return what is known of a task: ``task`` and ``submitted`` until it is over, then its answer."""
        for folder in (QUEUE, ACTIVE, DONE):
            found = mapping(read_json(self.path(folder, task_id)))
            if found:
                return found
        return {}

    def record_of(self, task_id: str) -> str | None:
        """Return the path of a task's record; None where it is not known."""
        found = self.entry(task_id)
        if isinstance(found.get("task"), dict):
            from packtivity.task import Task
            from packtivity.worker import record_path

            return record_path(Task.from_json(found["task"]))
        path = found.get("record")
        return path if isinstance(path, str) else None

    def cancel(self, task_id: str) -> None:
        """See that a task does not begin, or ask for its end; one that is over stays as it is."""
        if self.move(task_id, QUEUE, ACTIVE):
            self.finish(task_id, cancelled())
            return
        if os.path.exists(self.path(ACTIVE, task_id)):
            write_json(self.path(CANCEL, task_id), {})
            self.wake()

    def prune(self) -> None:
        """Forget what has been over for long."""
        oldest = time.time() - _KEPT_DAYS * 86400
        for name in self.names(DONE):
            with suppress(OSError):
                if os.stat(self.path(DONE, name)).st_mtime < oldest:
                    os.unlink(self.path(DONE, name))

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


def mapping(found: Any) -> dict[str, Any]:
    """Return what was read if it is a mapping, as everything is that we have written; else an empty one."""
    return found if isinstance(found, dict) else {}


def cancelled() -> dict[str, Any]:
    """Return the answer for a task that was cancelled before it began."""
    error = {"type": "TaskCancelled", "message": "the task was cancelled before it began"}
    return {"status": "cancelled", "result": None, "error": error, "record": None}
