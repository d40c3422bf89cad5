"""Shapes for backends that give jobs to an outside engine whose handles are its own; REANA's backend is made of them.

What becomes of a job is asked of the job backend; its result is published where it is asked for, by whoever asks. The job
backend of ``externalasync:default`` runs jobs one after the other: each becomes a task that publishes nothing, so that it
has a record, which says how it went to whoever asks.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from packtivity import datamodel
from packtivity.backends.base import error_of, spec_of
from packtivity.backends.engines.multiproc import MultiProcBackend, MultiProcProxy
from packtivity.backends.proxies import ExternalAsyncProxy
from packtivity.checks import check_outputs
from packtivity.datamodel import as_given
from packtivity.errors import BackendError, PacktivityError, ParameterError, ProxyError, TaskFailed
from packtivity.handlers.config import packconfig
from packtivity.statecontexts import load_state
from packtivity.task import acquire_job_env, finalize_inputs, finalize_outputs, prepublish, publish

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from packtivity.backends.status import TaskStatus
    from packtivity.types import JSON, Metadata, Parameters, ParametersLike, Spec, State

_LOG = logging.getLogger(__name__)
_LOG.addHandler(logging.NullHandler())


class ExternalAsyncMixin:
    """Asks a job backend (``submit ready successful fail_info``) for everything but the result.

    :param job_backend: the engine.
    :param deserialization_opts: options for :func:`packtivity.statecontexts.load_state`.
    """

    def __init__(self, **kwargs: Any) -> None:
        self.job_backend = kwargs["job_backend"]
        self.deserialization_opts = kwargs.get("deserialization_opts", {})
        self.datamodel = datamodel

    def make_external_job(
        self, spec: Spec, parameters: ParametersLike, state: State | None, metadata: Metadata | None
    ) -> JSON:
        """Return what the job backend's ``submit`` takes; every subclass has its own."""
        raise NotImplementedError(f"{type(self).__name__} has no make_external_job")

    def prepublish(self, spec: Spec, parameters: ParametersLike, state: State | None) -> Parameters | None:  # noqa: ARG002
        """Return None."""
        return None

    def submit(
        self, spec: Spec, parameters: ParametersLike, state: State | None, metadata: Metadata | None = None
    ) -> ExternalAsyncProxy:
        """Start a task and return its proxy."""
        spec = spec_of(spec)
        jobproxy = self.job_backend.submit(self.make_external_job(spec, parameters, state, metadata))
        return ExternalAsyncProxy(jobproxy, spec, state.json() if state else None, as_given(parameters))

    def ready(self, resultproxy: ExternalAsyncProxy) -> bool:
        """Return whether the job has ended."""
        return bool(self.job_backend.ready(resultproxy.jobproxy))

    def successful(self, resultproxy: ExternalAsyncProxy) -> Any:
        """Return whether the job has succeeded."""
        return self.job_backend.successful(resultproxy.jobproxy)

    def fail_info(self, resultproxy: ExternalAsyncProxy) -> Any:
        """Return what the engine says about a failure."""
        return self.job_backend.fail_info(resultproxy.jobproxy)

    def record_of(self, resultproxy: ExternalAsyncProxy) -> str | None:
        """Return the path that the record of a task has or will have; None where it is not known."""
        path = resultproxy.jobproxy.get("record") if isinstance(resultproxy.jobproxy, dict) else None
        return path if isinstance(path, str) else None

    def cancel(self, resultproxy: ExternalAsyncProxy) -> None:
        """Ask for the end of a task.

        :raises BackendError: the job backend cannot.
        """
        end = getattr(self.job_backend, "cancel", None)
        if end is None:
            raise BackendError(f"a {type(self.job_backend).__name__} cannot cancel")
        end(resultproxy.jobproxy)


class RemoteResultMixin:
    """Gets the result from where the job has put it.

    :param resultbackend: ``get(address)`` returns the result as JSON.
    """

    def __init__(self, **kwargs: Any) -> None:
        self.resultbackend = kwargs["resultbackend"]
        self.datamodel = datamodel

    def result(self, resultproxy: ExternalAsyncProxy) -> Any:
        """Return the result."""
        data, state = resultproxy.resultdata, _state_of(resultproxy, getattr(self, "deserialization_opts", None))
        if data is None:
            data = self.resultbackend.get(resultproxy.jobproxy["resultjson"])
        return self.datamodel.create(data, state.datamodel if state else None)


class ExternalAsyncBackend(ExternalAsyncMixin):
    """Renders the job here, lets a job backend run it, and publishes here.

    :param job_backend: the engine; its ``submit`` takes ``{"job", "env", "state", "metadata", "parameters"}``.
    :param config: which handler implementations to use.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config = packconfig(**kwargs.get("config") or {})

    def prepublish(self, spec: Spec, parameters: ParametersLike, state: State | None) -> Parameters | None:
        """Return the result before anything runs where the publisher allows it, else None."""
        return prepublish(spec_of(spec), parameters, state, self.config)

    def make_external_job(
        self, spec: Spec, parameters: ParametersLike, state: State | None, metadata: Metadata | None
    ) -> JSON:
        """Return the rendered job, its environment, the state, the metadata and the parameters."""
        parameters, state = finalize_inputs(parameters, state)
        job, env = acquire_job_env(spec, parameters, state, metadata, self.config)
        return {"job": job, "env": env, "state": state, "metadata": metadata, "parameters": as_given(parameters)}

    def result(self, resultproxy: ExternalAsyncProxy) -> Any:
        """Return the result, publishing it when this has not been done.

        :raises TaskFailed: the job has failed; or another error, the one it failed with.
        :raises MissingOutput: a published path does not exist, and the job backend is strict about that.
        """
        state, spec = _state_of(resultproxy, self.deserialization_opts), resultproxy.spec
        if resultproxy.resultdata is not None:
            return self.datamodel.create(resultproxy.resultdata, state.datamodel if state else None)
        if not self.successful(resultproxy):
            raise _error(self.fail_info(resultproxy))
        parameters, _ = finalize_inputs(resultproxy.pardata, state, self.datamodel)
        result = finalize_outputs(publish(spec["publisher"], parameters, state, self.config))
        exec_config = getattr(self.job_backend, "exec_config", None)
        if spec.get("process") and exec_config is not None:
            check_outputs(spec["publisher"], result, state, exec_config, _LOG)
        resultproxy.resultdata = result.json()
        return result


def _error(failure: Any) -> Exception:
    """Return the error to raise for what a job backend says about a failure."""
    if isinstance(failure, tuple) and len(failure) == 2:  # type and message, as our own say
        return error_of({"type": failure[0], "message": failure[1]})
    return TaskFailed(f"the external job failed: {failure}", returncode=1, command=())


def _state_of(resultproxy: ExternalAsyncProxy, options: Any) -> State | None:
    return load_state(resultproxy.statedata, options) if resultproxy.statedata else None


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
