"""What a Job and its pods say about a task: a pure function from their JSON to its status."""

from __future__ import annotations

import calendar
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from packtivity.backends.engines.kubernetes.manifest import CONTAINER, MANAGED, TASK
from packtivity.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

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


class Conflict(BackendError):
    """There is an object of that name already, or it is another one than was meant."""


@dataclass(frozen=True, slots=True)
class JobStatus:
    """How a task in a cluster is.

    :ivar status: ``gone`` when there is no such Job, or it is being deleted; ``stuck`` when its container will not start.
    :ivar reason: what the cluster says, in words.
    :ivar cause: why it failed, when it did.
    :ivar returncode: exit code of the container, when it ended.
    :ivar started, ended: seconds since the epoch.
    :ivar pods: names, the first one first.
    :ivar pod: name of the pod that tells how it went.
    :ivar init: whether an init container failed.
    :ivar image: reference and digest that ran.
    :ivar job: the Job itself.
    """

    status: Literal["waiting", "running", "succeeded", "failed", "stuck", "gone"]
    reason: str = ""
    cause: Cause | None = None
    returncode: int | None = None
    started: float | None = None
    ended: float | None = None
    pods: tuple[str, ...] = ()
    pod: str = ""
    init: str = ""
    image: tuple[str, str] = ("", "")
    job: Mapping[str, Any] | None = None


def is_ours(job: Object, task_id: str | None = None) -> bool:
    """Return whether a Job is of packtivity, and of a certain task."""
    metadata = job["metadata"]
    ours = (metadata.get("labels") or {}).get(MANAGED) == "packtivity"
    return ours and (task_id is None or task_of(job) == task_id)


def task_of(job: Mapping[str, Any]) -> str:
    """Return the id of the task that a Job is of."""
    return str((job["metadata"].get("annotations") or {}).get(TASK, ""))


def view(job: Object | None, pods: Iterable[Object], now: float, pull_patience: float) -> JobStatus:
    """Return how a task is.

    :param pods: of this Job.
    :param pull_patience: seconds that a container may fail to start.
    """
    if job is None:
        return JobStatus("gone")
    ordered = sorted(pods, key=lambda pod: str(pod["metadata"].get("creationTimestamp") or ""))
    condition = _finished(job)
    if condition is None and job["metadata"].get("deletionTimestamp"):
        names = tuple(pod["metadata"]["name"] for pod in ordered)
        return JobStatus("gone", "it is being deleted", pods=names, job=job)
    if condition is None:
        return _unfinished(job, ordered, now, pull_patience)
    if condition["type"] == "Complete":
        good = [pod for pod in ordered if _phase(pod) == "Succeeded"]
        return _ended("succeeded", job, ordered, good[-1] if good else None, condition)
    bad = [pod for pod in ordered if _phase(pod) == "Failed"]
    return _ended("failed", job, ordered, next(reversed(bad or ordered), None), condition)


def is_finished(job: Mapping[str, Any]) -> bool:
    """Return whether the cluster does nothing more about a Job."""
    return _finished(job) is not None


def _finished(job: Mapping[str, Any]) -> Object | None:
    for condition in (job.get("status") or {}).get("conditions") or []:
        if condition["type"] in ("Complete", "Failed") and condition["status"] == "True":
            found: Object = condition
            return found
    return None


def _phase(pod: Object) -> str:
    return str((pod.get("status") or {}).get("phase") or "Pending")


# --- not over --------------------------------------------------------------------------------------------------


def _unfinished(job: Object, pods: list[Object], now: float, pull_patience: float) -> JobStatus:
    names = tuple(pod["metadata"]["name"] for pod in pods)
    if not pods:
        return JobStatus("waiting", "no pod has been made for it yet", job=job)
    late = [pod for pod in pods if (pod.get("status") or {}).get("reason") == "DeadlineExceeded"]
    if late:  # not tried again, whatever the Job would do
        return _ended("failed", job, pods, late[-1], {})
    pod = pods[-1]
    status = pod.get("status") or {}
    if _phase(pod) == "Running":
        return JobStatus("running", pods=names, pod=names[-1], job=job)
    if _phase(pod) != "Pending":
        return JobStatus("running", "its pod has ended", pods=names, pod=names[-1], job=job)
    waiting: Object = next(_waiting(status), {})
    why = waiting.get("reason") or ""
    said = _joined(why, waiting.get("message")) or _unscheduled(status)
    since = now - (moment(status.get("startTime")) or now)
    if why in _HOPELESS or (why in _STUCK and since > pull_patience):
        image = (_spec_image(pod), "")
        return JobStatus("stuck", said, "unavailable", pods=names, pod=names[-1], image=image, job=job)
    return JobStatus("waiting", said, pods=names, pod=names[-1], job=job)


def _waiting(status: Object) -> Iterator[Object]:
    for each in (status.get("initContainerStatuses") or []) + (status.get("containerStatuses") or []):
        found = (each.get("state") or {}).get("waiting")
        if found and found.get("reason") not in ("PodInitializing", "ContainerCreating"):
            yield found


def _unscheduled(status: Object) -> str:
    for condition in status.get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return _joined(condition.get("reason"), condition.get("message"))
    return ""


# --- over ------------------------------------------------------------------------------------------------------


def _ended(
    status: Literal["succeeded", "failed"], job: Object, pods: list[Object], pod: Object | None, condition: Object
) -> JobStatus:
    names = tuple(each["metadata"]["name"] for each in pods)
    about = (job.get("status") or {}).get("startTime"), condition.get("lastTransitionTime")
    if pod is None:
        lost = status == "failed"
        timed_out = condition.get("reason") == "DeadlineExceeded"
        cause: Cause | None = "timeout" if lost and timed_out else "lost" if lost else None
        said = _joined(condition.get("reason"), condition.get("message"))
        return JobStatus(status, said, cause, started=moment(about[0]), ended=moment(about[1]), pods=names, job=job)
    init, terminated = _terminated(pod)
    found = _cause(pod, condition, init, terminated) if status == "failed" else (None, "")
    return JobStatus(
        status,
        found[1],
        found[0],
        returncode=terminated.get("exitCode", 0 if status == "succeeded" else None),
        started=moment(terminated.get("startedAt")) or moment((pod.get("status") or {}).get("startTime")),
        ended=moment(terminated.get("finishedAt")) or moment(about[1]),
        pods=names,
        pod=pod["metadata"]["name"],
        init=init,
        image=(_spec_image(pod), _digest(pod)),
        job=job,
    )


def _terminated(pod: Object) -> tuple[str, Object]:
    """Return the name of the init container that failed, or nothing, and how the container ended that matters."""
    status = pod.get("status") or {}
    for each in status.get("initContainerStatuses") or []:
        ended = (each.get("state") or {}).get("terminated")
        if ended and ended.get("exitCode"):
            return str(each["name"]), ended
    for each in status.get("containerStatuses") or []:
        ended = (each.get("state") or {}).get("terminated")
        if ended and each["name"] == CONTAINER:
            return "", ended
    return "", {}


def _cause(pod: Object, condition: Object, init: str, terminated: Object) -> tuple[Cause, str]:
    """Return why a pod failed, and what the cluster says of it."""
    status = pod.get("status") or {}
    reason, message = status.get("reason") or "", status.get("message") or ""
    own = str(terminated.get("reason") or "")
    said = _joined(own, terminated.get("message"))
    if reason == "DeadlineExceeded" or condition.get("reason") == "DeadlineExceeded":
        return "timeout", _joined("DeadlineExceeded", message)
    if own == "OOMKilled":
        return "memory", said
    disrupted: Object = next((each for each in status.get("conditions") or [] if _is_disruption(each)), {})
    if reason in _LOST or disrupted:
        node = (pod.get("spec") or {}).get("nodeName") or "a node"
        why = _joined(reason, message) if reason else _joined(disrupted.get("reason"), disrupted.get("message"))
        return "lost", f"{why} (on {node})"
    if init or own in _CANNOT_START:
        return "unavailable", said
    if not terminated or own == "ContainerStatusUnknown":
        return "lost", said or _joined(reason, message) or "nobody knows how its container ended"
    return "exit", said if own not in ("", "Error") else ""


def _is_disruption(condition: Object) -> bool:
    return bool(condition["type"] == "DisruptionTarget" and condition["status"] == "True")


def _spec_image(pod: Object) -> str:
    return next((str(each["image"]) for each in pod["spec"]["containers"] if each["name"] == CONTAINER), "")


def _digest(pod: Object) -> str:
    """Return the digest of the image that ran: ``docker-pullable://NAME@sha256:…``, or without what is in front."""
    for each in (pod.get("status") or {}).get("containerStatuses") or []:
        if each["name"] == CONTAINER:
            return str(each.get("imageID") or "").rpartition("@")[2] if "@" in str(each.get("imageID")) else ""
    return ""


def _joined(reason: Any, message: Any) -> str:
    return ": ".join(str(part).strip() for part in (reason, message) if part)


def moment(text: Any) -> float | None:
    """Return a time of the API (RFC 3339, UTC, whole seconds) as seconds since the epoch."""
    try:
        return float(calendar.timegm(time.strptime(str(text)[:19], "%Y-%m-%dT%H:%M:%S")))
    except ValueError:
        return None
