"""Looks at Jobs and their pods with few questions: a few one by one, many in one list that serves for a moment."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from packtivity.backends.kubernetes import manifest, reading

if TYPE_CHECKING:
    from collections.abc import Sequence

    from packtivity.backends.kubernetes.api import Cluster
    from packtivity.backends.kubernetes.proxy import KubernetesProxy
    from packtivity.backends.kubernetes.reading import View

Object = dict[str, Any]
_FEW = 3
"""So many Jobs are asked for one by one; more are listed in one go."""

_FRESH = 1.0
"""Seconds for which a list serves who asks for one task after the other."""


@dataclass(frozen=True, slots=True)
class _Listing:
    """All Jobs of packtivity in a namespace, and their pods by the Jobs' names."""

    taken: float
    jobs: dict[str, Object]
    pods: dict[str, list[Object]]


class Lookout:
    """Looks at the tasks of a backend.

    :param pull_patience: seconds that a container may fail to start.
    """

    def __init__(self, cluster: Cluster, pull_patience: float) -> None:
        self._cluster, self._pull_patience = cluster, pull_patience
        self._listings: dict[str, _Listing] = {}
        self._open: set[str] = set()

    def look(self, proxies: Sequence[KubernetesProxy], *, fresh: bool) -> list[View]:
        """Return how the Jobs of tasks are.

        :param fresh: do not use what was found out a moment ago.
        """
        if len(proxies) <= _FEW and (fresh or len(self._open) <= _FEW):
            found = [self.look_at(proxy) for proxy in proxies]
        else:
            age = 0.0 if fresh else _FRESH
            for namespace in {proxy.jobproxy["namespace"] for proxy in proxies}:
                self._list(namespace, age)
            found = [self._listed(proxy) for proxy in proxies]
        for proxy, seen in zip(proxies, found, strict=True):
            (self._open.add if seen.status in ("waiting", "running") else self._open.discard)(proxy.task_id)
        return found

    def look_at(self, proxy: KubernetesProxy) -> View:
        """Return how the Job of one task is now; another Job of its name is not its."""
        name, namespace = proxy.jobproxy["job_id"], proxy.jobproxy["namespace"]
        job = self._cluster.job(name, namespace)
        return self.view(job) if job is not None and _is_its(proxy, job) else reading.View("gone")

    def view(self, job: Object) -> View:
        """Return how a Job is."""
        metadata = job["metadata"]
        pods = self._cluster.list("pods", f"job-name={metadata['name']}", metadata["namespace"])
        return reading.view(job, pods, time.time(), self._pull_patience)

    def _list(self, namespace: str, age: float) -> None:
        known = self._listings.get(namespace)
        if known is not None and time.monotonic() - known.taken < age:
            return
        selector, pods = f"{manifest.MANAGED}=packtivity", dict[str, list[Object]]()
        jobs = {job["metadata"]["name"]: job for job in self._cluster.list("jobs", selector, namespace)}
        for pod in self._cluster.list("pods", selector, namespace):
            pods.setdefault((pod["metadata"].get("labels") or {}).get("job-name", ""), []).append(pod)
        self._listings[namespace] = _Listing(time.monotonic(), jobs, pods)

    def _listed(self, proxy: KubernetesProxy) -> View:
        """Return how a Job was when all were listed; one that was not there then is looked at."""
        name = proxy.jobproxy["job_id"]
        listing = self._listings[proxy.jobproxy["namespace"]]
        job = listing.jobs.get(name)
        if job is None or not _is_its(proxy, job):
            return self.look_at(proxy)
        return reading.view(job, listing.pods.get(name, []), time.time(), self._pull_patience)


def _is_its(proxy: KubernetesProxy, job: Object) -> bool:
    """Return whether a Job is the proxy's, and not a later one of the same task."""
    return bool(job["metadata"]["uid"] == proxy.jobproxy.get("uid"))
