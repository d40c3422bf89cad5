"""The engine: makes the Job of a task, says how it is, deletes it, and tells what is known of its end."""

from __future__ import annotations

import os
import pwd
import time
from contextlib import suppress
from tempfile import TemporaryFile
from threading import Event
from typing import TYPE_CHECKING, Any

from packtivity import record, worker
from packtivity.backends.engine import Collected, Engine, Limits, Native
from packtivity.backends.engines import missing
from packtivity.backends.engines.kubernetes import manifest, reading
from packtivity.backends.engines.kubernetes.listing import Handle, JobLister
from packtivity.backends.engines.kubernetes.planning import Caller, plan_pod
from packtivity.backends.engines.kubernetes.reading import Conflict
from packtivity.checks import check_publishable
from packtivity.errors import BackendError, PacktivityError
from packtivity.files import is_id
from packtivity.statecontexts import LocalFSState
from packtivity.task import Task, acquire_job_env, configure, finalize_inputs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from packtivity.backends.engine import Envelope, Submission
    from packtivity.backends.engines.kubernetes.api import Api
    from packtivity.backends.engines.kubernetes.options import Options
    from packtivity.backends.engines.kubernetes.planning import Plan
    from packtivity.backends.engines.kubernetes.reading import JobStatus
    from packtivity.backends.status import Cause, TaskStatus
    from packtivity.types import JSON

Object = dict[str, Any]
_PAUSE = 0.5
"""Seconds between looks at a Job that is on its way out."""

_NOTHING_TO_RUN = frozenset({"noop-env", "test-env"})
_PIECE = 1 << 16
_CAUSES: dict[str, Cause] = {"memory": "memory", "timeout": "timeout", "lost": "lost", "unavailable": "refused"}


class KubernetesEngine(Engine):
    """A cluster that shares its directories with us; no worker of ours runs in its pods.

    The name of a Job is made of the task: the same task is never there twice, and submitting one that is there already gives
    the handle of that one.
    """

    name = "kubernetes"
    limits = Limits(patience=0.0, collects=True)  # the patience is the API's
    interval = 0.5

    def __init__(self, options: Options) -> None:
        self.options = options
        self.api = connect(options)
        self._lister = JobLister(self.api, options.pull_patience)
        self._answers: dict[str, JSON] = {}

    def place(self) -> JSON:
        """Return address and namespace."""
        return {"cluster": self.api.host, "namespace": self.api.namespace}

    # --- submit ---

    def submit(self, envelopes: Sequence[Envelope]) -> list[str | BackendError]:
        """Make the Jobs of tasks; what needs no pod, or cannot be planned, is over at once."""
        taken: list[str | BackendError] = []
        for envelope in envelopes:
            try:
                taken.append(self._submit(envelope))
            except BackendError as error:
                taken.append(error)
        return taken

    def _submit(self, envelope: Envelope) -> str:
        task = Task.from_json(envelope.task)
        try:
            plan, key = None if _needs_no_pod(task) else _plan(task, self.options), task_key(task)
        except PacktivityError as error:
            self._answers[task.id or ""] = worker.failed(task, error)
            return ""
        if plan is None:
            self._answers[task.id or ""] = worker.run_envelope(envelope.to_json())
            return ""
        name = f"{self.options.resource_prefix}-job-{key}"
        about = {manifest.TASK: str(task.id), manifest.NAME: str(task.metadata.get("name"))}
        job = self._create(manifest.make_job(plan, self.options, name, key, about), key)
        files = manifest.make_files(plan, self.options, name, key, job["metadata"]["uid"])
        if files is not None:
            with suppress(Conflict):  # it was made by who made the Job before us
                self.api.create("configmaps", files)
        return str(Handle.of(job))

    def _create(self, body: Object, key: str) -> Object:
        """Make a Job, or return the one of the same task that is there already.

        :raises BackendError: there is one that is not of this task, or one on its way out that does not go.
        """
        name, give_up = body["metadata"]["name"], time.monotonic() + self.options.patience
        while True:
            with suppress(Conflict):
                return self.api.create("jobs", body)
            job = self.api.job(name, self.api.namespace)
            if job is not None and not job["metadata"].get("deletionTimestamp"):
                is_its = reading.is_ours(job) and job["metadata"]["labels"].get(manifest.KEY) == key
                if not (is_its and is_id(reading.task_of(job))):
                    raise BackendError(f"there is a Job {name} that is not of packtivity")
                return job
            if time.monotonic() > give_up:
                raise BackendError(
                    f"the Job {name} of an earlier run of this task is being deleted, and does not go",
                    hint=f"Look at it: kubectl -n {self.api.namespace} describe job {name}",
                )
            Event().wait(_PAUSE)

    # --- look, kill ---

    def look(self, submissions: Sequence[Submission]) -> list[Native]:
        """Return how Jobs are; more than a few are listed in one go."""
        answers = [self._known(each) for each in submissions]
        asked = [each for each, answer in zip(submissions, answers, strict=True) if answer is None]
        try:
            statuses = iter(self._lister.look(asked))
        except BackendError as error:
            return [answer or Native("away", error.message, error.hint) for answer in answers]
        return [answer or _native(next(statuses), each) for each, answer in zip(submissions, answers, strict=True)]

    def _known(self, submission: Submission) -> Native | None:
        """Return what is known of a task without asking the cluster."""
        if submission.id in self._answers:
            return Native("ended", answer=self._answers[submission.id])
        cluster = submission.place.get("cluster") if isinstance(submission.place, dict) else None
        if not cluster:
            what = f"nothing is known of the task {submission.id}: it has no Job, and its record is gone"
            return Native("unknown", what)
        if cluster != self.api.host:
            return Native(
                "unknown",
                f"the task {submission.id} is in the cluster {cluster}, and we are with {self.api.host}",
                "Choose it with KUBECONFIG, PACKTIVITY_KUBE_CONTEXT or the options kubeconfig and context.",
            )
        return None

    def kill(self, submissions: Sequence[Submission]) -> None:
        """Delete Jobs: their pods are told to end, and killed when they have not after the time of grace."""
        for each in submissions:
            self._delete(each)
        self._lister.clear()

    def _delete(self, submission: Submission) -> None:
        handle = Handle.read(submission.handle)
        with suppress(BackendError):  # it is tried again, or the cluster deletes it some day
            if handle is None:
                (status,) = self._lister.look([submission])
                handle = Handle.of(status.job) if status.job is not None else None
            if handle is not None and handle.task_id == submission.id:
                self.api.delete_job(handle.name, submission.place["namespace"], handle.uid)

    # --- the end ---

    def collect(self, submission: Submission, task: Task) -> Collected:  # noqa: ARG002
        """Return what a Job and its pods tell, their output included."""
        (status,) = self._lister.look([submission])
        namespace = submission.place["namespace"]
        container = _container(status.job)
        image = status.image[0] or container.get("image") or ""
        reason, hint = _why(status, image, Handle.read(submission.handle), namespace)
        deadline = status.job["spec"]["template"]["spec"].get("activeDeadlineSeconds") if status.job else None
        return Collected(
            returncode=status.returncode,
            cause="lost" if status.status == "gone" else _CAUSES.get(status.cause or ""),
            reason=reason,
            hint=hint,
            started=status.started,
            ended=status.ended,
            attempts=len(status.pods),
            output=self._output(status, namespace),
            image=(image, status.image[1]),
            workdir=container.get("workingDir"),
            timeout=None if deadline is None else float(deadline),
        )

    def _output(self, status: JobStatus, namespace: str) -> Iterator[bytes | str]:
        with TemporaryFile() as kept:
            for pod in status.pods:
                for container in (*([status.init] if status.init else []), manifest.CONTAINER):
                    lacking = self.api.read_log(pod, container, namespace, kept)
                    if lacking and not status.init:
                        yield f"the output of pod {pod} is not to be had: {lacking}"
                    if lacking:
                        continue
                    kept.seek(0)
                    while piece := kept.read(_PIECE):
                        yield piece

    def forget(self, submission: Submission, status: TaskStatus) -> None:
        """Delete a Job that is over, unless there is no record that tells of it later; one that could go on in any case."""
        with suppress(BackendError):
            if status.record is None or (status.status == "failed" and self.options.keep_failed):
                (found,) = self._lister.look([submission])
                if found.job is not None and reading.is_finished(found.job):
                    return
        self._delete(submission)


def _native(status: JobStatus, submission: Submission) -> Native:
    if status.status in ("waiting", "running"):
        return Native("waiting" if status.status == "waiting" else "running", status.reason)
    if status.status == "gone" and status.job is None and Handle.read(submission.handle) is None:
        return Native("gone", "there is no Job of it")
    return Native("ended", status.reason)


def _why(status: JobStatus, image: str, handle: Handle | None, namespace: str) -> tuple[str, str]:
    """Return in a sentence why a task failed otherwise than by its exit code, and what to do about it."""
    if status.status == "gone":
        name = handle.name if handle is not None else "of the task"
        there = "is being deleted" if status.job is not None else "is not there any more"
        what = f"the Job {name} of the namespace {namespace} {there}, and the task has no record"
        return f"{what}: somebody deleted it, or nobody asked before it expired", "Submit the task again."
    if status.cause == "lost":
        return f"the task's pod was lost: {status.reason}", "Submit the task again, or use --retries."
    if status.cause == "unavailable":
        init = f"{status.init} failed before the task began" if status.init else "cannot be started"
        return f"the container {init}: {status.reason or f'exit code {status.returncode}'} (image {image})", ""
    if status.cause == "memory":
        hint = "Give it more (--memory, or kubernetes_memory_limit in its resources)."
        return f"the task ran out of memory and was killed ({status.reason})", hint
    return "", ""


def _container(job: Mapping[str, Any] | None) -> Object:
    containers: list[Object] = job["spec"]["template"]["spec"]["containers"] if job else []
    return next((each for each in containers if each["name"] == manifest.CONTAINER), {})


def connect(options: Options) -> Api:
    """Return the API of the cluster that options and kubeconfig mean.

    :raises MissingLibrary: the library that reads a kubeconfig is not installed here.
    :raises BackendError: there is no way to a cluster here.
    """
    try:
        from packtivity.backends.engines.kubernetes.api import Api
    except ModuleNotFoundError as error:
        raise missing("the backend kubernetes", "kubernetes", error) from error
    return Api(options)


# --- what is sent ----------------------------------------------------------------------------------------------


def task_key(task: Task) -> str:
    """Return what is the same for the same task; the name of its Job ends with it."""
    return record.task_key(task.spec, task.parameters, task.load_state())


def _needs_no_pod(task: Task) -> bool:
    process, environment = task.spec["process"], task.spec["environment"]
    if not (process and environment) or configure(task.config)[1].dry_run():
        return True
    return environment["environment_type"] in _NOTHING_TO_RUN


def _plan(task: Task, options: Options) -> Plan:
    state = task.load_state()
    pack_config, exec_config = configure(task.config)
    parameters, _ = finalize_inputs(task.parameters, state)
    check_publishable(task.spec["publisher"], parameters, pack_config)
    job, environment = acquire_job_env(task.spec, parameters, state, task.metadata, pack_config)
    state = state or LocalFSState()
    state.ensure()
    plan = plan_pod(job, environment, state, exec_config, options, caller(state.readwrite))
    manifest.make_job(plan, options, "name", "key", {})  # what is wrong with it is wrong before anything is sent
    lend(plan)
    return plan


def caller(directories: Sequence[str]) -> Caller:
    """Return who we are."""
    uid = os.getuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    return Caller(uid, os.getgid(), name, os.stat(directories[0]).st_uid if directories else 0)


def lend(plan: Plan) -> None:
    """Give the read-write directories that are root's to the user whom root lets the task run as."""
    if os.getuid() != 0 or plan.user is None or plan.user[0] == 0:
        return
    for path in plan.readwrite:
        if os.stat(path).st_uid == 0:
            os.chown(path, *plan.user)
