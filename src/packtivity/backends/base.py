"""What backends have in common, the one that runs a task here and now, and errors that are only known as JSON."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from packtivity import errors
from packtivity.errors import PacktivityError, TaskCancelled
from packtivity.task import ASYNC_NAME, SYNC_NAME, configure, prepublish, run_packtivity

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class ConfiguredBackend:
    """A backend with the two configurations tasks are run with.

    :param config: ``{"exec": {…}, category: {type: implementation}}``; stays as it is.
    :ivar config: the same, for task documents.
    """

    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        self.config: dict[str, Any] = dict(config or {})
        self.pack_config, self.exec_config = configure(config)

    def prepublish(self, spec: Any, parameters: Any, state: Any) -> Any:
        """Return the result before anything runs where the publisher allows it, else None."""
        return prepublish(spec, parameters, state, self.pack_config)


class defaultsyncbackend(ConfiguredBackend):
    """Runs a task here and now."""

    def run(self, spec: Any, parameters: Any, state: Any, metadata: Any = None) -> Any:
        """Run a task and return its result.

        :raises TaskFailed: it failed.
        """
        metadata = metadata or {"name": SYNC_NAME}
        return run_packtivity(spec, parameters, state, metadata, self.pack_config, self.exec_config)


class PythonCallableAsyncBackend(ConfiguredBackend):
    """Base for engines that run Python callables: a task becomes one without arguments."""

    def submit_callable(self, callable: Callable[[], Any]) -> Any:
        """Give ``callable`` to the engine and return a proxy; every subclass has its own."""
        raise NotImplementedError(f"{type(self).__name__} has no submit_callable")

    def submit(self, spec: Any, parameters: Any, state: Any, metadata: Any = None) -> Any:
        """Start a task and return its proxy."""
        return self.submit_callable(
            functools.partial(
                run_packtivity,
                spec=spec,
                parameters=parameters,
                state=state,
                metadata=metadata or {"name": ASYNC_NAME},
                pack_config=self.pack_config,
                exec_config=self.exec_config,
            )
        )


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
