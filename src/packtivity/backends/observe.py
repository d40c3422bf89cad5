"""What the files of a task say: who has its lock, how it went; and the file that asks for its end."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from packtivity import claims, record, seal, worker
from packtivity.backends.status import TaskStatus
from packtivity.files import closing_fd, is_file, open_to_read, write_whole

if TYPE_CHECKING:
    from collections.abc import Mapping

    from packtivity.backends.status import Lock


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
    answer = worker.final(path, task_id, key, mend=own) if key else None
    if answer is not None:
        return from_answer(answer)
    answer = None if own and key else worker.final(path, task_id)
    return None if answer is None else replace(from_answer(answer), verified=False)


def from_answer(answer: Mapping[str, Any]) -> TaskStatus:
    """Return the status of a task, by what its worker has answered."""
    error, path = answer.get("error"), answer.get("record")
    return TaskStatus(
        answer["status"],
        answer.get("result"),
        error if isinstance(error, dict) else None,
        path if isinstance(path, str) else None,
        reason=str(answer.get("reason") or ""),
    )


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
