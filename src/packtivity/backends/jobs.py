"""The job backend behind ``externalasync:default``: rendered jobs, run one after the other by a worker process.

A job becomes a task that publishes nothing, so that it has a record, which says how it went to whoever asks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from packtivity.backends.engines.multiproc import MultiProcBackend, MultiProcProxy
from packtivity.errors import PacktivityError, ParameterError, ProxyError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from packtivity.backends.status import TaskStatus
    from packtivity.types import JSON

_NOTHING = {"publisher_type": "constant-pub", "publish": {}}


class DefaultExternalJobBackend(MultiProcBackend):
    """Runs rendered jobs; the verbs of a backend take its handles, which are JSON, in place of proxies.

    :param config: configuration, as other backends take it.
    """

    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        super().__init__(1, config=config)
        self._live: dict[str, MultiProcProxy] = {}

    def submit(self, job: Mapping[str, Any]) -> JSON:  # type: ignore[override]  # a job, not a task
        """Start a job and return its handle.

        :param job: ``job``, ``env``, ``state``, ``metadata``, and ``parameters`` for the record, which hides those that
            are secret.
        """
        process = _process(job["job"])
        spec = {"process": process, "environment": job["env"] if process else None, "publisher": _NOTHING}
        proxy = super().submit(spec, job.get("parameters") or {}, job["state"], job["metadata"])
        self._live[proxy.task_id] = proxy
        return {"job_id": proxy.task_id, **proxy.details()}

    def _proxy_of(self, handle: JSON) -> MultiProcProxy:
        if not isinstance(handle, dict):
            raise ProxyError("this is no handle of a job")
        return self._live.get(str(handle.get("task_id"))) or MultiProcProxy.fromJSON({"proxydetails": handle})

    def statuses(self, handles: Sequence[JSON]) -> list[TaskStatus | PacktivityError]:
        """Return how jobs are; an error in place of each that nobody can tell of."""
        return super().statuses([self._proxy_of(handle) for handle in handles])

    def cancel_many(self, handles: Sequence[JSON]) -> list[PacktivityError | None]:
        """End jobs, or see that they never begin; for each None, or why that cannot be done."""
        return super().cancel_many([self._proxy_of(handle) for handle in handles])


def _process(job: Mapping[str, Any] | None) -> JSON:
    """Return a process that renders to ``job``, whatever the parameters."""
    if not job:
        return None
    if not {"command", "script"} & {*job}:
        raise ParameterError(f"a job with {', '.join(map(repr, job))} cannot be run by externalasync:default")
    texts = {name: str(text).replace("{", "{{").replace("}", "}}") for name, text in job.items()}
    if "command" in job:
        return {"process_type": "string-interpolated-cmd", "cmd": texts["command"]}
    interpreter = texts["interpreter"] if job.get("interpreter") else "sh"
    return {"process_type": "interpolated-script-cmd", "script": texts["script"], "interpreter": interpreter}
