"""Errors that are only known as JSON, to be raised again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from packtivity import errors
from packtivity.errors import PacktivityError, TaskCancelled

if TYPE_CHECKING:
    from collections.abc import Mapping


def error_of(failure: Mapping[str, Any] | None) -> Exception:
    """Return the error to raise for a failure that is only known as JSON: of the same class where it is one of ours."""
    failure = failure or {}
    message = failure.get("message") or "the task failed; nothing more is known"
    name = failure.get("type")
    if name in {"TaskCancelled", "KeyboardInterrupt"}:
        return TaskCancelled(message)
    found = getattr(errors, name, None) if name in errors.__all__ else None
    if found is None and name:
        message = f"{name}: {message}"
    if found in (None, errors.InvalidSpec, errors.TaskFailed) or not issubclass(found, PacktivityError):
        return errors.TaskFailed(message, returncode=failure.get("returncode", 1), command=())
    made: Exception = found(message)
    return made
