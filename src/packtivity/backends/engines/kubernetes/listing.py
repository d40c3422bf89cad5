"""Finds the Jobs of tasks and their pods with few questions: a few one by one, many in one list that serves for a moment."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from packtivity.backends.engines.kubernetes import manifest, reading

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from packtivity.backends.engine import Submission
    from packtivity.backends.engines.kubernetes.api import Api
    from packtivity.backends.engines.kubernetes.reading import JobStatus

Object = dict[str, Any]
_FEW = 3
"""So many Jobs are asked for one by one; more are listed in one go."""

_FRESH = 1.0
"""Seconds for which a list serves who asks for one task after the other."""


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
    def of(cls, job: Mapping[str, Any]) -> Handle:
        """Return the handle of a Job."""
        return cls(job["metadata"]["name"], job["metadata"]["uid"], reading.task_of(job))

    def __str__(self) -> str:
        return " ".join(self)


@dataclass(slots=True)
class _Listing:
    """All Jobs of packtivity in a namespace by the ids of their tasks, and their pods by the Jobs' names."""

    taken: float
    jobs: dict[str, Object] = field(default_factory=dict)
    pods: dict[str, list[Object]] = field(default_factory=dict)


class JobLister:
    """Looks at the Jobs of tasks.

    :param pull_patience: seconds that a container may fail to start.
    """

    def __init__(self, api: Api, pull_patience: float) -> None:
        self._api, self._pull_patience = api, pull_patience
        self._listings: dict[str, _Listing] = {}
        self._open: set[str] = set()

    def clear(self) -> None:
        """Forget what was listed, because it has changed."""
        self._listings.clear()

    def look(self, submissions: Sequence[Submission]) -> list[JobStatus]:
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
        if many or handle is None:
            listing = self._listing(namespace)
            job = listing.jobs.get(submission.id if handle is None else handle.task_id)
            if job is not None and (handle is None or job["metadata"]["uid"] == handle.uid):
                return self._view(job, listing.pods.get(job["metadata"]["name"], []))
        job = self._api.job(handle.name, namespace) if handle is not None else None
        if handle is None or job is None or job["metadata"]["uid"] != handle.uid:
            return reading.JobStatus("gone")
        return self._view(job, self._api.list("pods", f"job-name={handle.name}", namespace))

    def _view(self, job: Object, pods: list[Object]) -> JobStatus:
        return reading.view(job, pods, time.time(), self._pull_patience)

    def _listing(self, namespace: str) -> _Listing:
        listing = self._listings.get(namespace)
        if listing is None or time.monotonic() - listing.taken >= _FRESH:
            selector, listing = f"{manifest.MANAGED}=packtivity", _Listing(time.monotonic())
            listing.jobs = {reading.task_of(job): job for job in self._api.list("jobs", selector, namespace)}
            for pod in self._api.list("pods", selector, namespace):
                name = (pod["metadata"].get("labels") or {}).get("job-name", "")
                listing.pods.setdefault(name, []).append(pod)
            self._listings[namespace] = listing
        return listing
