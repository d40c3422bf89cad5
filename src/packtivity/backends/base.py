"""What backends have in common, those that run a task here and now, and errors that are only known as JSON."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from packtivity import datamodel, errors, record_fields
from packtivity.backends.proxies import ForegroundProxy
from packtivity.errors import PacktivityError, TaskCancelled
from packtivity.task import ASYNC_NAME, SYNC_NAME, configure, prepublish, run_packtivity

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def spec_of(spec: Any) -> Any:
    """Return the spec itself of a :class:`packtivity.pack_object`, which upstream 0.17.1 let a backend have, too."""
    return getattr(spec, "spec", spec)


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
        return prepublish(spec_of(spec), parameters, state, self.pack_config)


class defaultsyncbackend(ConfiguredBackend):
    """Runs a task here and now."""

    def run(self, spec: Any, parameters: Any, state: Any, metadata: Any = None) -> Any:
        """Run a task and return its result.

        :raises TaskFailed: it failed.
        """
        metadata = metadata or {"name": SYNC_NAME}
        return run_packtivity(spec_of(spec), parameters, state, metadata, self.pack_config, self.exec_config)


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
                spec=spec_of(spec),
                parameters=parameters,
                state=state,
                metadata=metadata or {"name": ASYNC_NAME},
                pack_config=self.pack_config,
                exec_config=self.exec_config,
            )
        )


class ForegroundBackend(PythonCallableAsyncBackend):
    """Runs a task while it is submitted. A task that fails gives a failed proxy, not an exception."""

    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        super().__init__(config)
        self.datamodel = datamodel

    def submit_callable(self, callable: Any) -> ForegroundProxy:
        """Run a task and return its proxy."""
        state = callable.keywords["state"]
        model = state.datamodel if state else None
        try:
            result = callable()
        except Exception as error:  # noqa: BLE001 - a handler of a plug-in may raise anything, and the task failed
            proxy = ForegroundProxy(None, model, success=False)
            proxy.failure, proxy.error = record_fields.failure(error), error
            return proxy
        return ForegroundProxy(result.json(), model, success=True)

    def ready(self, resultproxy: ForegroundProxy) -> bool:  # noqa: ARG002
        """Return True."""
        return True

    def successful(self, resultproxy: ForegroundProxy) -> bool:
        """Return whether the task succeeded; publishing ``{}`` is a success."""
        return bool(resultproxy.success)

    def result(self, resultproxy: ForegroundProxy) -> Any:
        """Return the result.

        :raises TaskFailed: the task failed; or another error, the one it failed with.
        """
        if not resultproxy.success:
            raise resultproxy.error or error_of(resultproxy.failure)
        return self.datamodel.create(resultproxy.resultdata, resultproxy.datamodel)

    def fail_info(self, resultproxy: ForegroundProxy) -> tuple[str, str] | None:
        """Return type and message of the error; None for a task that succeeded."""
        if resultproxy.success:
            return None
        failure = resultproxy.failure or {}
        return failure.get("type", "TaskFailed"), failure.get("message", "")


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
