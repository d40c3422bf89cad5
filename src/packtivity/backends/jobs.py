"""The job backend behind ``externalasync:default``: rendered jobs, run one after the other by a worker process.

A job becomes a task that publishes nothing, so that it has a record, which says how it went to whoever asks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from packtivity.backends.engines.multiproc import MultiProcBackend, MultiProcProxy
from packtivity.errors import ParameterError, ProxyError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from packtivity.backends.status import TaskStatus
    from packtivity.handlers.config import ExecutionConfig
    from packtivity.types import JSON

_NOTHING = {"publisher_type": "constant-pub", "publish": {}}


class DefaultExternalJobBackend:
    """Runs rendered jobs.

    :param config: configuration, as other backends take it.
    """

    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        self._tasks = MultiProcBackend(1, config=config)
        self._live: dict[str, MultiProcProxy] = {}

    @property
    def exec_config(self) -> ExecutionConfig:
        """How jobs are run: time limit, retries ..."""
        return self._tasks.exec_config

    @exec_config.setter
    def exec_config(self, chosen: ExecutionConfig) -> None:
        self._tasks.exec_config = chosen

    def submit(self, job: Mapping[str, Any]) -> JSON:
        """Start a job and return its handle.

        :param job: ``job``, ``env``, ``state``, ``metadata``, and ``parameters`` for the record, which hides those that
            are secret.
        """
        spec = {"process": _process(job["job"]), "environment": job["env"], "publisher": _NOTHING}
        if spec["process"] is None:
            spec["environment"] = None
        proxy = self._tasks.submit(spec, job.get("parameters") or {}, job["state"], job["metadata"])
        self._live[proxy.task_id] = proxy
        details: JSON = proxy.details()
        return {"job_id": proxy.task_id, **details}

    def _proxy(self, handle: Any) -> MultiProcProxy:
        if not isinstance(handle, dict):
            raise ProxyError("this is no handle of a job")
        return self._live.get(str(handle.get("task_id"))) or MultiProcProxy.fromJSON({"proxydetails": handle})

    def _status(self, handle: Any) -> TaskStatus:
        return self._tasks.status(self._proxy(handle))

    def ready(self, handle: Any) -> bool:
        """Return whether a job is over."""
        return self._status(handle).is_over

    def successful(self, handle: Any) -> bool:
        """Return whether a job is over and has succeeded."""
        return self._status(handle).status == "succeeded"

    def fail_info(self, handle: Any) -> tuple[str, str] | None:
        """Return type and message of the error; None for a job that is not over or has succeeded."""
        error = self._status(handle).error
        return None if error is None else (error.get("type", "TaskFailed"), error.get("message", ""))

    def cancel_all(self) -> None:
        """End all jobs that were submitted from here."""
        self._tasks.cancel_all()

    def cancel(self, handle: Any) -> None:
        """End a job, or see that it never begins.

        :raises ProxyError: nobody knows it.
        :raises BackendError: the process that submitted it cannot be asked.
        """
        self._tasks.cancel(self._proxy(handle))


def _process(job: Mapping[str, Any] | None) -> JSON:
    """Return a process that renders to ``job``, whatever the parameters."""
    if not job:
        return None
    if "command" in job:
        return {"process_type": "string-interpolated-cmd", "cmd": _escaped(job["command"])}
    if "script" in job:
        interpreter = _escaped(job.get("interpreter") or "sh")
        kind = "interpolated-script-cmd"
        return {"process_type": kind, "script": _escaped(job["script"]), "interpreter": interpreter}
    raise ParameterError(f"a job with {', '.join(map(repr, job))} cannot be run by externalasync:default")


def _escaped(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")
