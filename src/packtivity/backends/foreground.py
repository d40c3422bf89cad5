"""The asynchronous backend that does not wait: submitting a task runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from packtivity import datamodel
from packtivity.backends.base import PythonCallableAsyncBackend
from packtivity.backends.proxies import ForegroundProxy

if TYPE_CHECKING:
    from collections.abc import Mapping


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
            proxy.failure, proxy.error = describe_failure(error), error
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

        :raises TaskFailed: the task failed; in the process it ran in, whatever it raised.
        """
        if not resultproxy.success:
            raise resultproxy.error or failure_error(resultproxy.failure)
        return self.datamodel.create(resultproxy.resultdata, resultproxy.datamodel)

    def fail_info(self, resultproxy: ForegroundProxy) -> tuple[str, str] | None:
        """Return type and message of the error; None for a task that succeeded."""
        if resultproxy.success:
            return None
        failure = resultproxy.failure or {}
        return failure.get("type", "TaskFailed"), failure.get("message", "")


def describe_failure(error: BaseException) -> dict[str, Any]:
    """Return an error as JSON: ``type``, ``message`` and, for a failed command, ``returncode``."""
    failure: dict[str, Any] = {"type": type(error).__name__, "message": str(error)}
    returncode = getattr(error, "returncode", None)
    return failure if returncode is None else {**failure, "returncode": returncode}


def failure_error(failure: dict[str, Any] | None) -> Exception:
    """Return the error to raise for a failure that is only known as JSON."""
    from packtivity.errors import TaskFailed

    failure = failure or {}
    message = failure.get("message") or "the task failed; nothing more is known"
    return TaskFailed(message, returncode=failure.get("returncode", 1), command=())
