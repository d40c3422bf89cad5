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
    init: str = ""
    image: tuple[str, str] = ("", "")
    job: Mapping[str, Any] | None = None


def is_ours(job: Object) -> bool:
    """Return whether a Job is of packtivity."""
    return (job["metadata"].get("labels") or {}).get(MANAGED) == "packtivity"


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
        return JobStatus("gone", "it is being deleted", pods=_names(ordered), job=job)
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
    status = _status(job)
    return _condition(status, "Complete", "True") or _condition(status, "Failed", "True") or None


def _condition(status: Object, kind: str, value: str) -> Object:
    """Return the condition of a kind that has a value; nothing where there is none."""
    conditions: list[Object] = status.get("conditions") or []
    return next((each for each in conditions if (each["type"], each["status"]) == (kind, value)), {})


def _status(thing: Mapping[str, Any]) -> Object:
    return thing.get("status") or {}


def _phase(pod: Object) -> str:
    return str(_status(pod).get("phase") or "Pending")


def _names(pods: list[Object]) -> tuple[str, ...]:
    return tuple(pod["metadata"]["name"] for pod in pods)


# --- not over --------------------------------------------------------------------------------------------------


def _unfinished(job: Object, pods: list[Object], now: float, pull_patience: float) -> JobStatus:
    if not pods:
        return JobStatus("waiting", "no pod has been made for it yet", job=job)
    late = [pod for pod in pods if _status(pod).get("reason") == "DeadlineExceeded"]
    if late:  # not tried again, whatever the Job would do
        return _ended("failed", job, pods, late[-1], {})
    names, pod, status = _names(pods), pods[-1], _status(pods[-1])
    if _phase(pod) != "Pending":
        return JobStatus("running", "" if _phase(pod) == "Running" else "its pod has ended", pods=names, job=job)
    waiting: Object = next(_waiting(status), {})
    why = waiting.get("reason") or ""
    reason = _joined(why, waiting.get("message")) or _unscheduled(status)
    since = now - (moment(status.get("startTime")) or now)
    if why in _HOPELESS or (why in _STUCK and since > pull_patience):
        return JobStatus("stuck", reason, "unavailable", pods=names, image=(_spec_image(pod), ""), job=job)
    return JobStatus("waiting", reason, pods=names, job=job)


def _waiting(status: Object) -> Iterator[Object]:
    for each in (status.get("initContainerStatuses") or []) + (status.get("containerStatuses") or []):
        found = (each.get("state") or {}).get("waiting")
        if found and found.get("reason") not in ("PodInitializing", "ContainerCreating"):
            yield found


def _unscheduled(status: Object) -> str:
    condition = _condition(status, "PodScheduled", "False")
    return _joined(condition.get("reason"), condition.get("message"))


# --- over ------------------------------------------------------------------------------------------------------


def _ended(
    status: Literal["succeeded", "failed"], job: Object, pods: list[Object], pod: Object | None, condition: Object
) -> JobStatus:
    """Return how a Job ended.

    :param pod: the one that tells it; None where the condition is all there is.
    """
    init, terminated = _terminated(pod) if pod is not None else ("", {})
    cause, reason = (None, "") if status == "succeeded" else _cause(pod, condition, init, terminated)
    began = (_status(pod) if pod is not None else _status(job)).get("startTime")
    return JobStatus(
        status,
        reason,
        cause,
        returncode=terminated.get("exitCode", 0 if status == "succeeded" else None),
        started=moment(terminated.get("startedAt")) or moment(began),
        ended=moment(terminated.get("finishedAt")) or moment(condition.get("lastTransitionTime")),
        pods=_names(pods),
        init=init,
        image=(_spec_image(pod), _digest(pod)) if pod is not None else ("", ""),
        job=job,
    )


def _terminated(pod: Object) -> tuple[str, Object]:
    """Return the name of the init container that failed, or nothing, and how the container ended that matters."""
    for kind in ("initContainerStatuses", "containerStatuses"):
        for each in _status(pod).get(kind) or []:
            ended = (each.get("state") or {}).get("terminated") or {}
            if kind == "initContainerStatuses" and ended.get("exitCode"):
                return str(each["name"]), ended
            if ended and each["name"] == CONTAINER:
                return "", ended
    return "", {}


def _cause(pod: Object | None, condition: Object, init: str, terminated: Object) -> tuple[Cause, str]:
    """Return why a pod failed, and what the cluster says of it."""
    if pod is None:
        cause: Cause = "timeout" if condition.get("reason") == "DeadlineExceeded" else "lost"
        return cause, _joined(condition.get("reason"), condition.get("message"))
    status = _status(pod)
    reason, message = status.get("reason") or "", status.get("message") or ""
    own = str(terminated.get("reason") or "")
    said = _joined(own, terminated.get("message"))
    if "DeadlineExceeded" in (reason, condition.get("reason")):
        return "timeout", _joined("DeadlineExceeded", message)
    if own == "OOMKilled":
        return "memory", said
    disrupted = _condition(status, "DisruptionTarget", "True")
    if reason in _LOST or disrupted:
        node = (pod.get("spec") or {}).get("nodeName") or "a node"
        why = _joined(reason, message) if reason else _joined(disrupted.get("reason"), disrupted.get("message"))
        return "lost", f"{why} (on {node})"
    if init or own in _CANNOT_START:
        return "unavailable", said
    if not terminated or own == "ContainerStatusUnknown":
        return "lost", said or _joined(reason, message) or "nobody knows how its container ended"
    return "exit", said if own not in ("", "Error") else ""


def _spec_image(pod: Object) -> str:
    return next((str(each["image"]) for each in pod["spec"]["containers"] if each["name"] == CONTAINER), "")


def _digest(pod: Object) -> str:
    """Return the digest of the image that ran: ``docker-pullable://NAME@sha256:…``, or without what is in front."""
    statuses = _status(pod).get("containerStatuses") or []
    ran = next((str(each.get("imageID") or "") for each in statuses if each["name"] == CONTAINER), "")
    return ran.rpartition("@")[2] if "@" in ran else ""


def _joined(reason: Any, message: Any) -> str:
    return ": ".join(str(part).strip() for part in (reason, message) if part)


def moment(text: Any) -> float | None:
    """Return a time of the API (RFC 3339, UTC, whole seconds) as seconds since the epoch."""
    try:
        return float(calendar.timegm(time.strptime(str(text)[:19], "%Y-%m-%dT%H:%M:%S")))
    except ValueError:
        return None
