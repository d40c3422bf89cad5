"""What lies beside the record of a task that was given to an engine: the task itself, and that its end is asked for.

``NAME.ID.task.json`` is there from before the task is given away until it is over. So a task that its engine has
forgotten can be given away again, and one that is lost is told from one that never was. ``NAME.ID.sent.json`` says as
what it was given away again; ``NAME.ID.cancel`` asks for its end.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from packtivity.errors import StateError
from packtivity.files import is_file, open_file, read_json, write_json, write_whole

if TYPE_CHECKING:
    from collections.abc import Iterator

    from packtivity.types import JSON

_RECORD = ".outcome.json"


class Ticket:
    """The files of one task.

    :param record: path of its record.
    """

    def __init__(self, record: str) -> None:
        self._stem = record.removesuffix(_RECORD)
        self.task, self.cancel = f"{self._stem}.task.json", f"{self._stem}.cancel"
        self._sent = f"{self._stem}.sent.json"

    def write(self, text: str) -> None:
        """Keep a task document, for its user only: what is secret in a record is not here.

        :raises StateError: it cannot be written.
        """
        try:
            write_whole(self.task, text.encode(), mode=0o600)
        except StateError:
            self.remove()
            raise

    def document(self) -> JSON:
        """Return the task document; None when there is none."""
        found = read_json(self.task)
        return found if isinstance(found, dict) else None

    def age(self) -> float | None:
        """Return for how many seconds the task has been given away, the last time; None when it is not."""
        times = []
        for path in (self.task, self._sent):
            with suppress(FileNotFoundError):
                times.append(os.lstat(path).st_mtime)
        return time.time() - max(times) if times and is_file(self.task) else None

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Be the only one to give the task away again inside the block; gives false when somebody else is, or it is over."""
        try:
            descriptor = open_file(self.task, os.O_RDWR)
        except OSError:
            yield False
            return
        try:
            yield _locked(descriptor)
        finally:
            os.close(descriptor)

    def note(self, name: str) -> None:
        """Keep as what the task was given away again."""
        write_json(self._sent, {"message": name})

    def noted(self) -> str | None:
        """Return as what the task was given away again; None when it was not."""
        found = read_json(self._sent)
        message = found.get("message") if isinstance(found, dict) else None
        return message if isinstance(message, str) else None

    def ask_for_end(self) -> None:
        """Ask for the end of the task.

        :raises StateError: that cannot be written.
        """
        write_whole(self.cancel, b"")

    def is_cancelled(self) -> bool:
        """Return whether its end was asked for."""
        return is_file(self.cancel)

    def remove(self) -> None:
        """Take the files away: the task is over."""
        for path in (self.task, self._sent, self.cancel):
            with suppress(OSError):
                os.unlink(path)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # no locks here: at worst the task is given away twice, and run once
    return os.fstat(descriptor).st_nlink > 0
