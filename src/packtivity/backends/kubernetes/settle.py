"""Ends a task whose Job is over: its output into the run log, its result published, its record written.

Several may ask at the same time: whoever has the lease on the task's state file does it, the others read the record.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

from packtivity import lease, notes, record, record_fields, settings, worker
from packtivity.backends.kubernetes.manifest import CONTAINER
from packtivity.backends.kubernetes.proxy import shows_hidden
from packtivity.checks import check_outputs
from packtivity.errors import (
    BackendError,
    EnvironmentUnavailable,
    PacktivityError,
    ProxyError,
    TaskCancelled,
    WorkerLost,
)
from packtivity.handlers.execution_handlers import check, ending
from packtivity.runtimes.plan import shell_argv
from packtivity.task import build_job, configure, finalize_inputs, publish
from packtivity.tasklog import run_log, step_log
from packtivity.types import Completed, Execution

if TYPE_CHECKING:
    from collections.abc import Iterator

    from packtivity.backends.kubernetes.api import Cluster
    from packtivity.backends.kubernetes.proxy import KubernetesProxy
    from packtivity.backends.kubernetes.reading import View
    from packtivity.types import JSON

Answer = dict[str, Any]
_TAIL = 1 << 13
_PIECE = 1 << 16


class Settlement:
    """One task that is to be ended.

    :param seen: how its Job is.
    :param warn: told of warnings.
    """

    def __init__(self, proxy: KubernetesProxy, seen: View, cluster: Cluster, warn: Any = None) -> None:
        self._proxy, self._seen, self._cluster = proxy, seen, cluster
        known = proxy.jobproxy
        self._metadata = {"name": known.get("name")}
        self._state = _load_state(proxy)
        config = dict(known.get("config") or {})
        config["exec"] = {**(config.get("exec") or {}), "task_id": proxy.task_id}
        self._pack_config, self._exec_config = configure(config)
        self._exec_config.warn = warn

    def settle(self) -> Answer:
        """Return how the task went; when somebody else has found it out before us, what their record says.

        :raises BackendError: the cluster cannot be reached; nothing is settled then.
        :raises ProxyError: only the process that submitted the task can publish its result.
        """
        with self._record_writer() as writer:
            told = self._recorded()
            if told is not None:
                return told
            if writer is not None:
                writer.ran(self._seen.started, self._seen.ended, max(1, len(self._seen.pods)))
            try:
                result = self._carry_out().json()
                if writer is not None:
                    writer.succeeded(result)
            except (ProxyError, BackendError, OSError):  # they say nothing of the task
                raise
            except Exception as error:  # noqa: BLE001 - a plug-in may raise anything: the task failed
                if writer is not None:
                    writer.failed(error)
                return self._answer(error)
            return self._answer(None, result)

    def cancel(self, end: Any) -> Answer:
        """Record that the task was cancelled, after ``end`` has seen to that; one that is over stays as it is."""
        with self._record_writer() as writer:
            told = self._recorded()
            if told is not None:
                return told
            with self._log() as log:
                self._fetch_output(log)
                end()
                log.info("cancelled")
            error = TaskCancelled("the task was cancelled")
            if writer is not None:
                writer.ran(self._seen.started, None, len(self._seen.pods))
                writer.failed(error)
            return self._answer(error)

    @contextmanager
    def _record_writer(self) -> Iterator[record.RecordWriter | None]:
        """Give the writer for the record; None where no records are wanted."""
        home = record.home(self._state, self._proxy.task_id)
        if home is None or not settings.current().record:
            yield None
            return
        known, data = self._proxy.jobproxy, self._proxy.pardata
        taken = lease.take(record.state_path(home, known["key"]))
        writer = record.RecordWriter(taken, home, self._metadata, known["key"], data, self._state, self._exec_config)
        try:
            yield writer
        finally:
            writer.close()

    def _recorded(self) -> Answer | None:
        path = self._proxy.record
        return worker.final(path, self._proxy.task_id) if path else None

    def _answer(self, error: Exception | None, result: JSON = None) -> Answer:
        status = "succeeded" if error is None else "cancelled" if isinstance(error, TaskCancelled) else "failed"
        failure = None if error is None else record_fields.failure(error)
        return {"status": status, "result": result, "error": failure, "record": self._proxy.record}

    def _log(self) -> Any:
        return step_log(self._exec_config, self._metadata, self._state)

    # --- output, error, result ---

    def _carry_out(self) -> Any:
        proxy, seen = self._proxy, self._seen
        with self._log() as log:
            try:
                if seen.status == "gone":
                    raise _deleted(proxy)
                parameters, state = finalize_inputs(proxy.pardata, self._state)
                job = build_job(proxy.spec["process"], parameters, state, self._pack_config)
                execution, completed, written = self._ended(job, log)
                _refuse_failure(seen, execution, completed, written)
                result = publish(proxy.spec["publisher"], parameters, state, self._pack_config)
                if shows_hidden(result.json()):
                    raise ProxyError(
                        "the result has a parameter in it whose value is not kept in proxy documents",
                        hint="Ask in the program that submitted the task, or give the parameter another name.",
                    )
                log.info("publishing data: %s", result)
                check_outputs(proxy.spec["publisher"], result, state, self._exec_config, log)
            except PacktivityError as error:
                log.error("%s: %s", type(error).__name__, error)  # noqa: TRY400 - the message says it all
                raise
            return result

    def _ended(self, job: JSON, log: Any) -> tuple[Execution, Completed, str | None]:
        """Note what ran and how it ended, and get its output; returns the path of the run log as well.

        :param job: rendered anew, because in the one in the cluster nothing is hidden.
        """
        seen = self._seen
        container = _container(seen)
        reference, digest = seen.image
        execution = Execution(
            argv=shell_argv(job, self._proxy.spec["environment"])[0],
            workdir=container.get("workingDir"),
            image=reference or container.get("image"),
            timeout=_timeout(seen),
        )
        found = notes.current()
        found.job, found.execution, found.usage = job, execution, None
        found.image = {"reference": execution.image, "digest": digest or None}
        size, tail, written = self._fetch_output(log)
        completed = Completed(
            returncode=seen.returncode if seen.returncode is not None else -1,
            started=seen.started or time.time(),
            ended=seen.ended or time.time(),
            output_bytes=size,
            tail=tail,
            timed_out=seen.cause == "timeout",
        )
        if seen.returncode is not None:
            log.info("%s after %.0f s", ending(completed.returncode), completed.ended - completed.started)
        if seen.returncode is not None or completed.timed_out:
            found.completed = completed
        found.out_of_memory = seen.cause == "memory" if seen.returncode is not None else None
        return execution, completed, written

    def _fetch_output(self, log: Any) -> tuple[int, bytes, str | None]:
        """Put what the pods printed into the run log; returns its size, its end and the path of the log."""
        size, tail, seen = 0, b"", self._seen
        with run_log(self._exec_config, self._metadata, self._state) as run, TemporaryFile() as kept:
            for pod in seen.pods:
                for container in (*([seen.init] if seen.init else []), CONTAINER):
                    lacking = self._cluster.read_log(pod, container, self._proxy.jobproxy["namespace"], kept)
                    if lacking and not seen.init:
                        log.warning("the output of pod %s cannot be had: %s", pod, lacking)
                        if run is not None:
                            run.note(f"the output of pod {pod} cannot be had: {lacking}")
                    if lacking:
                        continue
                    kept.seek(0)
                    while piece := kept.read(_PIECE):
                        size, tail = size + len(piece), (tail + piece)[-_TAIL:]
                        if run is not None:
                            run.write(piece)
            return size, tail, run.path if run is not None else None


def _load_state(proxy: KubernetesProxy) -> Any:
    if not proxy.statedata:
        return None
    from packtivity.statecontexts import load_state

    state = load_state(proxy.statedata)
    if proxy.datamodel is not None:
        state.datamodel = proxy.datamodel
    return state


def _container(seen: View) -> dict[str, Any]:
    containers = (seen.job or {})["spec"]["template"]["spec"]["containers"] if seen.job else []
    return next((each for each in containers if each["name"] == CONTAINER), {})


def _timeout(seen: View) -> float | None:
    found = seen.job["spec"]["template"]["spec"].get("activeDeadlineSeconds") if seen.job else None
    return float(found) if found is not None else None


def _deleted(proxy: KubernetesProxy) -> WorkerLost:
    known = proxy.jobproxy
    return WorkerLost(
        f"the Job {known['job_id']} of the namespace {known['namespace']} is not there any more, and the task has no "
        "record: somebody deleted it, or nobody asked before it expired",
        hint="Submit the task again.",
    )


def _refuse_failure(seen: View, execution: Execution, completed: Completed, written: str | None) -> None:
    """Raise what says why a task failed; return when it did not.

    :raises PacktivityError: it failed.
    """
    from packtivity.errors import TaskFailed

    where = f"\nAll output: {written}" if written else ""
    if seen.cause == "lost":
        raise WorkerLost(
            f"the task's pod was lost: {seen.reason}{where}", hint="Submit the task again, or use --retries."
        )
    if seen.cause == "unavailable":
        what = (
            f"the container {seen.init} failed before the task began"
            if seen.init
            else "the container cannot be started"
        )
        raise EnvironmentUnavailable(
            f"{what}: {seen.reason or f'exit code {seen.returncode}'} (image {execution.image}){where}"
        )
    if seen.cause == "memory":
        raise TaskFailed(
            f"the task ran out of memory and was killed ({seen.reason}){where}",
            returncode=completed.returncode,
            command=execution.argv,
            output=completed.tail.decode("utf-8", "replace"),
            log=written,
            hint="Give it more (--memory, or kubernetes_memory_limit in its resources).",
        )
    if seen.cause is not None:
        check(execution, completed, written)
