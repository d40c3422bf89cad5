"""The asynchronous backend that does not wait: submitting a task runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from packtivity import datamodel, record_fields
from packtivity.backends.base import PythonCallableAsyncBackend, error_of
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
