"""The engine: makes the Job of a task, says how it is, deletes it, and tells what is known of its end."""

from __future__ import annotations

import os
import pwd
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import replace
from tempfile import TemporaryFile
from threading import Event
from typing import TYPE_CHECKING, Any

from packtivity import record, worker
from packtivity.backends.engine import Collected, Engine, Limits, Native
from packtivity.backends.engines import missing
from packtivity.backends.engines.kubernetes import manifest
from packtivity.backends.engines.kubernetes.jobs import Handle, JobStatus, finished, view
from packtivity.checks import check_publishable
from packtivity.errors import BackendError, PacktivityError
from packtivity.files import is_id
from packtivity.statecontexts import LocalFSState
from packtivity.task import Task, acquire_job_env, configure, finalize_inputs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from packtivity.backends.engine import Envelope, Submission
    from packtivity.backends.engines.kubernetes.options import Options
    from packtivity.backends.status import Cause, Said, TaskStatus
    from packtivity.types import JSON

Object = dict[str, Any]
_Listing = dict[str, tuple[Object, list[Object]]]  # Jobs by the ids of their tasks, with their pods
_FEW = 3  # so many Jobs are asked for one by one; more are listed in one go
_FRESH = 1.0  # seconds for which a list serves who asks for one task after the other
_PAUSE = 0.5  # seconds between looks at a Job that is on its way out
_NOTHING_TO_RUN = frozenset({"noop-env", "test-env"})
_PIECE = 1 << 16
_CAUSES: dict[str | None, Cause] = {"memory": "memory", "timeout": "timeout", "lost": "lost", "unavailable": "refused"}


class KubernetesEngine(Engine):
    """A cluster that shares its directories with us; no worker of ours runs in its pods.

    The name of a Job is made of the task: the same task is never there twice, and submitting one that is there already gives
    the handle of that one.
    """

    name = "kubernetes"
    limits = Limits(patience=0.0, collects=True)  # the patience is the API's
    interval = 0.5

    def __init__(self, options: Options) -> None:
        try:
            from packtivity.backends.engines.kubernetes.api import Api
        except ModuleNotFoundError as error:
            raise missing("the backend kubernetes", "kubernetes", error) from error
        self.options, self.api = options, Api(options)
        self._answers: dict[str, JSON] = {}
        self._listings: dict[str, tuple[float, _Listing]] = {}
        self._open: set[str] = set()

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
        task, plan = Task.from_json(envelope.task), None
        try:
            key = task_key(task)
            name = f"{self.options.resource_prefix}-job-{key}"
            if not _needs_no_pod(task):
                plan = _plan(task, self.options)
                about = {manifest.TASK: envelope.id, manifest.NAME: str(task.metadata.get("name"))}
                body = manifest.make_job(plan, self.options, name, key, about)
                _lend(plan)
        except PacktivityError as error:
            self._answers[envelope.id] = worker.failed(task, error)
            return ""
        if plan is None:
            self._answers[envelope.id] = worker.run_envelope(envelope.to_json())
            return ""
        handle = Handle.of(self._create(body, key))
        files = manifest.make_files(plan, self.options, name, key, handle.uid)
        if files is not None:
            self.api.create("configmaps", files)  # unless who made the Job before us has made it
        return str(handle)

    def _create(self, body: Object, key: str) -> Object:
        """Make a Job, or return the one of the same task that is there already.

        :raises BackendError: there is one that is not of this task, or one on its way out that does not go.
        """
        name, give_up = body["metadata"]["name"], time.monotonic() + self.options.patience
        while True:
            made = self.api.create("jobs", body)
            if made is not None:
                return made
            job = self.api.job(name, self.api.namespace)
            if job is not None and not job["metadata"].get("deletionTimestamp"):
                labels = job["metadata"].get("labels") or {}
                is_its = labels.get(manifest.MANAGED) == "packtivity" and labels.get(manifest.KEY) == key
                if not (is_its and is_id(Handle.of(job).task_id)):
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
            statuses = iter(self._statuses(asked))
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

    def _statuses(self, submissions: Sequence[Submission]) -> list[JobStatus]:
        """Return how the Jobs of tasks are.

        :raises BackendError: the cluster cannot be asked.
        """
        many = len({each.id for each in submissions} | self._open) > _FEW
        statuses = [self._status(each, many=many) for each in submissions]
        for each, status in zip(submissions, statuses, strict=True):
            (self._open.add if status.status in ("waiting", "running") else self._open.discard)(each.id)
        return statuses

    def _status(self, submission: Submission, *, many: bool) -> JobStatus:
        """Return how a Job is; another Job of its name is not its, and one that is not in a list is looked for."""
        handle, namespace = Handle.read(submission.handle), submission.place["namespace"]
        seen = None
        if many or handle is None:
            seen = self._listing(namespace).get(submission.id if handle is None else handle.task_id)
        if handle is not None and (seen is None or seen[0]["metadata"]["uid"] != handle.uid):
            alone = self.api.job(handle.name, namespace)
            if alone is None or alone["metadata"]["uid"] != handle.uid:
                return JobStatus("gone")
            seen = alone, self.api.list("pods", f"job-name={handle.name}", namespace)
        job, pods = seen or (None, [])
        return view(job, pods, time.time(), self.options.pull_patience)

    def _listing(self, namespace: str) -> _Listing:
        taken, listing = self._listings.get(namespace, (float("-inf"), {}))
        if time.monotonic() - taken < _FRESH:
            return listing
        taken, selector, pods = time.monotonic(), f"{manifest.MANAGED}=packtivity", defaultdict(list)
        jobs = self.api.list("jobs", selector, namespace)
        for pod in self.api.list("pods", selector, namespace):
            pods[(pod["metadata"].get("labels") or {}).get("job-name", "")].append(pod)
        listing = {Handle.of(job).task_id: (job, pods[job["metadata"]["name"]]) for job in jobs}
        self._listings[namespace] = taken, listing
        return listing

    def kill(self, submissions: Sequence[Submission]) -> None:
        """Delete Jobs: their pods are told to end, and killed when they have not after the time of grace."""
        for each in submissions:
            self._delete(each)
        self._listings.clear()  # they have changed

    def _delete(self, submission: Submission) -> None:
        handle = Handle.read(submission.handle)
        with suppress(BackendError):  # it is tried again, or the cluster deletes it some day
            if handle is None:
                (status,) = self._statuses([submission])
                handle = Handle.of(status.job) if status.job is not None else None
            if handle is not None and handle.task_id == submission.id:
                self.api.delete_job(handle.name, submission.place["namespace"], handle.uid)

    # --- the end ---

    def collect(self, submission: Submission, task: Task) -> Collected:  # noqa: ARG002
        """Return what a Job and its pods tell, their output included."""
        (status,) = self._statuses([submission])
        namespace, known = submission.place["namespace"], status.collected()
        reason, hint = _why(status, known, Handle.read(submission.handle), namespace)
        cause = "lost" if status.status == "gone" else _CAUSES.get(status.cause)
        return replace(known, cause=cause, reason=reason, hint=hint, output=self._output(status, namespace))

    def _output(self, status: JobStatus, namespace: str) -> Iterator[bytes | str]:
        containers = (status.init, manifest.CONTAINER) if status.init else (manifest.CONTAINER,)
        with TemporaryFile() as kept:
            for pod in (pod["metadata"]["name"] for pod in status.pods):
                for container in containers:
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
                (found,) = self._statuses([submission])
                if found.job is not None and finished(found.job):
                    return
        self._delete(submission)


def _native(status: JobStatus, submission: Submission) -> Native:
    word: Said = "ended"
    if status.status in ("waiting", "running"):
        word = "waiting" if status.status == "waiting" else "running"
    elif status.job is None and Handle.read(submission.handle) is None:
        return Native("gone", "there is no Job of it")
    return Native(word, status.reason)


def _why(status: JobStatus, known: Collected, handle: Handle | None, namespace: str) -> tuple[str, str]:
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
        why = status.reason or f"exit code {known.returncode}"
        hint = "The image has no shell (sh), which commands and scripts are run by." if '"sh"' in why else ""
        return f"the container {init}: {why} (image {known.image[0]})", hint
    if status.cause == "memory":
        hint = "Give it more (--memory, or kubernetes_memory_limit in its resources)."
        return f"the task ran out of memory and was killed ({status.reason})", hint
    return "", ""


# --- what is sent ----------------------------------------------------------------------------------------------


def task_key(task: Task) -> str:
    """Return what is the same for the same task; the name of its Job ends with it."""
    return record.task_key(task.spec, task.parameters, task.load_state())


def _needs_no_pod(task: Task) -> bool:
    process, environment = task.spec["process"], task.spec["environment"]
    if not (process and environment) or configure(task.config)[1].dry_run():
        return True
    return environment["environment_type"] in _NOTHING_TO_RUN


def _plan(task: Task, options: Options) -> manifest.Plan:
    state = task.load_state()
    pack_config, exec_config = configure(task.config)
    parameters, _ = finalize_inputs(task.parameters, state)
    check_publishable(task.spec["publisher"], parameters, pack_config)
    job, environment = acquire_job_env(task.spec, parameters, state, task.metadata, pack_config)
    state = state or LocalFSState()
    state.ensure()
    owner = os.stat(state.readwrite[0]).st_uid if state.readwrite else 0
    return manifest.plan_pod(job, environment, state, exec_config, options, _caller(owner))


def _caller(owner: int) -> manifest.Caller:
    uid = os.getuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    return manifest.Caller(uid, os.getgid(), name, owner)


def _lend(plan: manifest.Plan) -> None:
    """Give the read-write directories that are root's to the user whom root lets the task run as."""
    if os.getuid() != 0 or plan.user is None or plan.user[0] == 0:
        return
    for mount in plan.execution.mounts:
        if not mount.readonly and os.stat(mount.destination).st_uid == 0:
            os.chown(mount.destination, *plan.user)
