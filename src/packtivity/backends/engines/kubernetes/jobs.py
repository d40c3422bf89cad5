"""What a Job and its pods say about a task: pure functions of their JSON."""

from __future__ import annotations

import calendar
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from packtivity.backends.engine import Collected
from packtivity.backends.engines.kubernetes.manifest import CONTAINER, TASK

if TYPE_CHECKING:
    from collections.abc import Sequence


Object = dict[str, Any]
Cause = Literal["exit", "memory", "timeout", "lost", "unavailable"]

_HOPELESS = frozenset({"InvalidImageName", "ErrImageNeverPull"})
_STUCK = _HOPELESS | {
    "ErrImagePull",
    "ImagePullBackOff",
    "ImageInspectError",
    "RegistryUnavailable",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
}
_CANNOT_START = frozenset({"ContainerCannotRun", "StartError", "CreateContainerError", "RunContainerError"})
_LOST = frozenset(
    {"Evicted", "NodeLost", "NodeShutdown", "Shutdown", "Terminated", "Preempting", "UnexpectedAdmissionError"}
)
_STARTING = frozenset({"PodInitializing", "ContainerCreating"})


class Handle(NamedTuple):
    """What tells a Job apart: its name, its uid, and the id of the task that it was made for."""

    name: str
    uid: str
    task_id: str

    @classmethod
    def read(cls, text: str) -> Handle | None:
        """Return what a handle was written as; None for anything else."""
        parts = text.split(" ")
        return cls(*parts) if len(parts) == len(cls._fields) else None

    @classmethod
    def of(cls, job: Object) -> Handle:
        """Return the handle of a Job."""
        task_id = (job["metadata"].get("annotations") or {}).get(TASK, "")
        return cls(job["metadata"]["name"], job["metadata"]["uid"], str(task_id))

    def __str__(self) -> str:
        return " ".join(self)


class JobStatus(NamedTuple):
    """How a task in a cluster is.

    :ivar status: ``gone`` when there is no such Job, or it is being deleted; ``stuck`` when its container will not start.
    :ivar reason: what the cluster says, in words.
    :ivar cause: why it failed, when it did.
    :ivar job, pods: the JSON of the Job and its pods, the first one first.
    :ivar pod: the one that tells how the task ended.
    """

    status: Literal["waiting", "running", "succeeded", "failed", "stuck", "gone"]
    reason: str = ""
    cause: Cause | None = None
    job: Object | None = None
    pods: Sequence[Object] = ()
    pod: Object | None = None

    @property
    def init(self) -> str:
        """The name of the init container that failed; empty where none did."""
        return _terminated(self.pod)[0]

    def collected(self) -> Collected:
        """Return what is known of the task's end, apart from words and output."""
        spec = self.job["spec"]["template"]["spec"] if self.job else {}
        container = _payload((self.pod or {}).get("spec", spec).get("containers"))
        known = Collected(
            attempts=len(self.pods),
            image=(container.get("image") or "", ""),
            workdir=_payload(spec.get("containers")).get("workingDir"),
            timeout=spec.get("activeDeadlineSeconds"),
        )
        if self.job is None or self.status not in ("succeeded", "failed"):
            return known
        ended, status, condition = _terminated(self.pod)[1], _status(self.pod or self.job), finished(self.job) or {}
        identifier = _payload(status.get("containerStatuses")).get("imageID") or ""  # docker-pullable://NAME@sha256:…
        return replace(
            known,
            returncode=ended.get("exitCode", 0 if self.status == "succeeded" else None),
            started=moment(ended.get("startedAt")) or moment(status.get("startTime")),
            ended=moment(ended.get("finishedAt")) or moment(condition.get("lastTransitionTime")),
            image=(known.image[0], identifier.rpartition("@")[2] if "@" in identifier else ""),
        )


def view(job: Object | None, pods: Sequence[Object], now: float, pull_patience: float) -> JobStatus:
    """Return how a task is.

    :param pods: of this Job.
    :param pull_patience: seconds that a container may fail to start.
    """
    if job is None:
        return JobStatus("gone")
    pods = sorted(pods, key=lambda pod: str(pod["metadata"].get("creationTimestamp") or ""))
    condition = finished(job)
    if condition is None and job["metadata"].get("deletionTimestamp"):
        return JobStatus("gone", "it is being deleted", job=job, pods=pods)
    if condition is None:
        return _unfinished(job, pods, now, pull_patience)
    succeeded = condition["type"] == "Complete"
    telling = [pod for pod in pods if _phase(pod) == ("Succeeded" if succeeded else "Failed")]
    if succeeded:
        return JobStatus("succeeded", job=job, pods=pods, pod=telling[-1] if telling else None)
    pod = next(reversed(telling or pods), None)
    cause, reason = _cause(pod, condition)
    return JobStatus("failed", reason, cause, job, pods, pod)


def finished(job: Object) -> Object | None:
    """Return the condition that says that the cluster does nothing more about a Job; None where it may."""
    status = _status(job)
    return _condition(status, "Complete", "True") or _condition(status, "Failed", "True") or None


def _unfinished(job: Object, pods: Sequence[Object], now: float, pull_patience: float) -> JobStatus:
    if not pods:
        return JobStatus("waiting", "no pod has been made for it yet", job=job)
    late = [pod for pod in pods if _status(pod).get("reason") == "DeadlineExceeded"]
    if late:  # not tried again, whatever the Job would do
        cause, reason = _cause(late[-1], {})
        return JobStatus("failed", reason, cause, job, pods, late[-1])
    status, phase = _status(pods[-1]), _phase(pods[-1])
    if phase != "Pending":
        return JobStatus("running", "" if phase == "Running" else "its pod has ended", job=job, pods=pods)
    states = (status.get("initContainerStatuses") or []) + (status.get("containerStatuses") or [])
    waiting = [(each.get("state") or {}).get("waiting") or {} for each in states]
    held: Object = next((each for each in waiting if each and each.get("reason") not in _STARTING), {})
    reason = _joined(held) or _joined(_condition(status, "PodScheduled", "False"))
    since = now - (moment(status.get("startTime")) or now)
    if held.get("reason") in _HOPELESS or (held.get("reason") in _STUCK and since > pull_patience):
        return JobStatus("stuck", reason, "unavailable", job, pods, pods[-1])
    return JobStatus("waiting", reason, job=job, pods=pods)


def _cause(pod: Object | None, condition: Object) -> tuple[Cause, str]:
    """Return why a pod failed, and what the cluster says of it.

    :param pod: None where the condition of its Job is all there is.
    """
    if pod is None:
        return "timeout" if condition.get("reason") == "DeadlineExceeded" else "lost", _joined(condition)
    init, terminated = _terminated(pod)
    status, own, said = _status(pod), terminated.get("reason") or "", _joined(terminated)
    disrupted = _condition(status, "DisruptionTarget", "True")
    if "DeadlineExceeded" in (status.get("reason"), condition.get("reason")):
        return "timeout", _joined({**status, "reason": "DeadlineExceeded"})
    if own == "OOMKilled":
        return "memory", said
    if status.get("reason") in _LOST or disrupted:
        why = _joined(status if status.get("reason") else disrupted)
        return "lost", f"{why} (on {pod['spec'].get('nodeName') or 'a node'})"
    if init or own in _CANNOT_START:
        return "unavailable", said
    if not terminated or own == "ContainerStatusUnknown":
        return "lost", said or _joined(status) or "nobody knows how its container ended"
    return "exit", said if own not in ("", "Error") else ""


def _terminated(pod: Object | None) -> tuple[str, Object]:
    """Return the name of the init container that failed, or nothing, and how the container ended that matters."""
    status = _status(pod) if pod else {}
    for each in status.get("initContainerStatuses") or []:
        ended: Object = (each.get("state") or {}).get("terminated") or {}
        if ended.get("exitCode"):
            return str(each["name"]), ended
    return "", (_payload(status.get("containerStatuses")).get("state") or {}).get("terminated") or {}


# --- parts of objects ------------------------------------------------------------------------------------------


def _condition(status: Object, kind: str, value: str) -> Object:
    """Return the condition of a kind that has a value; nothing where there is none."""
    conditions: list[Object] = status.get("conditions") or []
    return next((each for each in conditions if (each["type"], each["status"]) == (kind, value)), {})


def _status(thing: Object) -> Object:
    return thing.get("status") or {}


def _phase(pod: Object) -> str:
    return str(_status(pod).get("phase") or "Pending")


def _payload(containers: list[Object] | None) -> Object:
    """Return the task's own of a list of containers, or of their statuses."""
    return next((each for each in containers or [] if each["name"] == CONTAINER), {})


def _joined(said: Object) -> str:
    """Return reason and message of something."""
    return ": ".join(str(part).strip() for part in (said.get("reason"), said.get("message")) if part)


def moment(text: str | None) -> float | None:
    """Return a time of the API (RFC 3339, UTC, whole seconds) as seconds since the epoch."""
    try:
        return float(calendar.timegm(time.strptime(str(text)[:19], "%Y-%m-%dT%H:%M:%S")))
    except ValueError:
        return None
