"""Errors to raise or record: those that are only known as JSON, and those of tasks that nobody runs any more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from packtivity import errors
from packtivity.errors import EnvironmentUnavailable, PacktivityError, TaskCancelled, TaskTimeout, WorkerLost

if TYPE_CHECKING:
    from collections.abc import Mapping

    from packtivity.backends.status import Decision


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


def lost_error(decision: Decision, attempts: int, *, began: bool) -> PacktivityError:
    """Return the error of a task that nobody runs any more."""
    reason = f": {decision.reason}" if decision.reason else ""
    if decision.cause == "cancel":
        return TaskCancelled("the task was cancelled" if began else "the task was cancelled before it began")
    if decision.cause == "timeout":
        return TaskTimeout(f"the engine ended the task, whose time was over{reason}")
    if decision.cause == "refused":
        return EnvironmentUnavailable(f"the engine does not run the task{reason}")
    if decision.cause == "memory":
        return WorkerLost(f"the engine ended the task, which ran out of memory{reason}", hint="Give it more memory.")
    how = f"whoever ran this task died with it, {attempts} times" if attempts > 1 else "whoever ran this task died"
    return WorkerLost(f"{how}{reason}", hint="Does it use up the memory, or kill its parent? Its run log may tell.")
