"""The verbs of the backends ``kubernetes`` and ``kubedirectjob``: submit, ask, cancel.

The name of a Job is made of the task: the same task is never there twice. Who submits one that is there already (because
the program that did so died before it could keep the proxy, or because two do the same) gets a proxy of that one.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from threading import Event
from typing import TYPE_CHECKING, Any

from packtivity import record, worker
from packtivity.backends.asked import OVER, Answer, AskedBackend
from packtivity.backends.engines import missing
from packtivity.backends.kubernetes import manifest, reading
from packtivity.backends.kubernetes.looking import Lookout
from packtivity.backends.kubernetes.options import read_options
from packtivity.backends.kubernetes.planning import Caller, plan_pod
from packtivity.backends.kubernetes.proxy import KubernetesProxy
from packtivity.checks import check_publishable
from packtivity.errors import BackendError, PacktivityError, ProxyError
from packtivity.task import Task, acquire_job_env, finalize_inputs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from packtivity.backends.kubernetes.api import Cluster
    from packtivity.backends.kubernetes.options import Options
    from packtivity.backends.kubernetes.planning import Plan
    from packtivity.backends.kubernetes.reading import View
    from packtivity.types import JSON

_POLL = (0.1, 2.0)
"""Seconds between questions while something is waited for: at first, and at most."""

_NOTHING_TO_RUN = frozenset({"noop-env", "test-env"})


class DirectExternalKubernetesBackend(AskedBackend):
    """Runs each task as a Job of a Kubernetes cluster that shares its directories with us.

    :param config: configuration, as other backends take it.
    :param options: see :class:`~packtivity.backends.kubernetes.options.Options`; those of upstream 0.17.1 are among
        them.
    :raises BackendError: an option cannot be used, or there is no way to a cluster here.
    """

    def __init__(self, config: Mapping[str, Any] | None = None, **options: Any) -> None:
        options.pop("deserialization_opts", None)  # upstream's; states are read as everywhere
        super().__init__(config)
        self.options = read_options(options)
        self.cluster = connect(self.options)
        self._lookout = Lookout(self.cluster, self.options.pull_patience)

    # --- submit ---

    def hand_over(self, document: JSON) -> KubernetesProxy:
        """Make the Job of a task, or find the one that is there already; what cannot be planned has failed.

        :raises BackendError: the cluster cannot be reached, or refuses.
        """
        task = Task.from_json(document)
        state = task.load_state()
        proxy = self._proxy(task, state)
        try:
            plan = None if self._needs_no_pod(task) else self._plan(task, state)
        except PacktivityError as error:
            proxy.answer = worker.failed(task, error)
            return proxy
        if plan is None:
            proxy.answer = worker.answer(document)
            return proxy
        self._place(proxy, plan)
        return proxy

    def _needs_no_pod(self, task: Task) -> bool:
        process, environment = task.spec["process"], task.spec["environment"]
        if not (process and environment) or self.exec_config.dry_run():
            return True
        return environment["environment_type"] in _NOTHING_TO_RUN

    def _proxy(self, task: Task, state: Any) -> KubernetesProxy:
        known = {
            "job_id": "",
            "task_id": task.id,
            "key": record.task_key(task.spec, task.parameters, state),
            "name": task.metadata.get("name"),
            "record": worker.record_place(state, task.metadata, task.id),
            "config": task.config,
            "datamodel": task.datamodel,
        }
        return KubernetesProxy(known, task.spec, task.state, task.parameters)

    def _plan(self, task: Task, state: Any) -> Plan:
        from packtivity.statecontexts import LocalFSState

        parameters, _ = finalize_inputs(task.parameters, state)
        check_publishable(task.spec["publisher"], parameters, self.pack_config)
        job, environment = acquire_job_env(task.spec, parameters, state, task.metadata, self.pack_config)
        state = state or LocalFSState()
        state.ensure()
        plan = plan_pod(job, environment, state, self.exec_config, self.options, caller(state.readwrite))
        manifest.make_job(
            plan, self.options, "name", "key", {}
        )  # what is wrong with it is wrong before anything is sent
        manifest.contents(plan)
        lend(plan)
        return plan

    def _place(self, proxy: KubernetesProxy, plan: Plan) -> None:
        """See that the Job is there, and that the proxy is its proxy."""
        known, cluster = proxy.jobproxy, self.cluster
        name = f"{self.options.resource_prefix}-job-{known['key']}"
        known.update(job_id=name, namespace=cluster.namespace, cluster=cluster.host)
        about = {manifest.TASK: proxy.task_id, manifest.NAME: str(known["name"])}
        job = self._create(proxy, manifest.make_job(plan, self.options, name, known["key"], about))
        known["uid"] = job["metadata"]["uid"]
        self._adopt(proxy, reading.task_of(job))
        files = manifest.make_files(plan, self.options, name, known["key"], known["uid"])
        if files is not None:
            self._create_files(files)

    def _create(self, proxy: KubernetesProxy, body: JSON) -> JSON:
        """Make a Job; one of the same task that waits, runs or has succeeded is as good.

        :raises BackendError: one that is on its way out does not go.
        """
        from packtivity.backends.kubernetes.api import Conflict

        known, pause, idle = proxy.jobproxy, _POLL[0], Event()
        give_up = time.monotonic() + self.options.patience
        while True:
            try:
                return self.cluster.create("jobs", body)
            except Conflict:
                found = self.cluster.job(known["job_id"], known["namespace"])
            if found is not None and not found["metadata"].get("deletionTimestamp"):
                if not reading.is_ours(found) or found["metadata"]["labels"].get(manifest.KEY) != known["key"]:
                    raise BackendError(f"there is a Job {known['job_id']} that is not of packtivity")
                if not self._is_failed(proxy, found):
                    return found
            if time.monotonic() > give_up:
                raise BackendError(
                    f"the Job {known['job_id']} of an earlier run of this task is being deleted, and does not go",
                    hint=f"Look at it: kubectl -n {known['namespace']} describe job {known['job_id']}",
                )
            idle.wait(pause)
            pause = min(pause * 1.5, _POLL[1])

    def _is_failed(self, proxy: KubernetesProxy, job: JSON) -> bool:
        """Return whether a Job of the same task has failed, having seen to its record and its end if so."""
        seen = self._lookout.view(job)
        if seen.status not in ("failed", "stuck"):
            return False
        left = KubernetesProxy(
            {**proxy.jobproxy, "uid": job["metadata"]["uid"]}, proxy.spec, proxy.statedata, proxy.pardata
        )
        self._adopt(left, reading.task_of(job))
        self._settle(left, seen)
        self.cluster.delete_job(job["metadata"]["name"], proxy.jobproxy["namespace"], job["metadata"]["uid"])
        return True

    def _adopt(self, proxy: KubernetesProxy, task_id: str) -> None:
        known = proxy.jobproxy
        if task_id and task_id != known["task_id"]:
            path = known["record"]
            known["record"] = path and path.replace(f".{known['task_id']}.outcome.json", f".{task_id}.outcome.json")
            known["task_id"] = task_id

    def _create_files(self, body: JSON) -> None:
        from packtivity.backends.kubernetes.api import Conflict

        try:
            self.cluster.create("configmaps", body)
        except Conflict:
            return  # by who made the Job before us

    # --- ask ---

    def ask(self, resultproxy: KubernetesProxy) -> Answer:
        """Return how a task is.

        :raises ProxyError: it is in another cluster.
        :raises BackendError: the cluster cannot be reached; the task goes on.
        """
        found = self._ask([resultproxy], fresh=False)[0]
        if isinstance(found, PacktivityError):
            raise found
        return found

    def ask_many(self, resultproxies: Sequence[KubernetesProxy]) -> list[Answer | PacktivityError]:
        """Return how many tasks are; more than a few are listed in one go."""
        return self._ask(resultproxies, fresh=True)

    def _ask(self, resultproxies: Sequence[KubernetesProxy], *, fresh: bool) -> list[Answer | PacktivityError]:
        told: dict[int, Answer | PacktivityError] = {}
        for at, proxy in enumerate(resultproxies):
            known = self._known(proxy)
            if known is not None:
                told[at] = known
        open_ = {at: proxy for at, proxy in enumerate(resultproxies) if at not in told}
        views = self._lookout.look(list(open_.values()), fresh=fresh)
        for (at, proxy), seen in zip(open_.items(), views, strict=True):
            try:
                told[at] = self._told(proxy, seen)
            except ProxyError as error:
                told[at] = error
        return [told[at] for at in range(len(resultproxies))]

    def _known(self, proxy: KubernetesProxy) -> Answer | ProxyError | None:
        """Return what is known of a task without asking the cluster."""
        if proxy.answer is not None:
            return proxy.answer
        found = worker.final(proxy.record, proxy.task_id) if proxy.record else None
        if found is None and not proxy.jobproxy.get("job_id"):
            return ProxyError(f"nothing is known of the task {proxy.task_id}: it has no Job, and its record is gone")
        if found is None and proxy.jobproxy.get("cluster") != self.cluster.host:
            return ProxyError(
                f"the task {proxy.task_id} is in the cluster {proxy.jobproxy.get('cluster')}, and we are with {self.cluster.host}",
                hint="Choose it with KUBECONFIG, PACKTIVITY_KUBE_CONTEXT or the options kubeconfig and context.",
            )
        return self._note(proxy, found)

    def _note(self, proxy: KubernetesProxy, answer: Answer | None) -> Answer | None:
        if answer is not None and answer["status"] in OVER:
            proxy.answer = answer
            proxy.resultdata = answer.get("result")
        return answer

    def _told(self, proxy: KubernetesProxy, seen: View) -> Answer:
        if seen.status in ("waiting", "running"):
            return {"status": seen.status, **({"reason": seen.reason} if seen.reason else {})}
        answer = self._settle(proxy, seen)
        self._clean(proxy, seen, answer)
        return answer

    def _settle(self, proxy: KubernetesProxy, seen: View) -> Answer:
        from packtivity.backends.kubernetes.settle import Settlement

        answer = Settlement(proxy, seen, self.cluster, self.exec_config.warn).settle()
        self._note(proxy, answer)
        return answer

    def _clean(self, proxy: KubernetesProxy, seen: View, answer: Answer) -> None:
        """Delete a Job that is over, unless there is no record that tells of it later; one that could go on in any case."""
        known = proxy.jobproxy
        if seen.job is None:
            return
        if not reading.is_finished(seen.job):
            self.cluster.delete_job(known["job_id"], known["namespace"], known.get("uid"))
            return
        kept = answer["status"] == "failed" and self.options.keep_failed
        if not kept and proxy.record and worker.final(proxy.record, proxy.task_id) is not None:
            with suppress(BackendError):  # the task is over all the same, and the cluster deletes it some day
                self.cluster.delete_job(known["job_id"], known["namespace"], known.get("uid"))

    def wait(self, resultproxy: KubernetesProxy) -> Answer:
        """Return the answer of a task when it is over."""
        pause, idle = _POLL[0], Event()
        while (answer := self.ask(resultproxy))["status"] not in OVER:
            idle.wait(pause)
            pause = min(pause * 1.5, _POLL[1])
        return answer

    # --- cancel ---

    def cancel(self, resultproxy: KubernetesProxy) -> None:
        """End a task: its pod is told to end, and killed when it has not after the time of grace."""
        from packtivity.backends.kubernetes.settle import Settlement

        if self._known(resultproxy) is not None:
            return
        known = resultproxy.jobproxy
        seen = self._lookout.look_at(resultproxy)
        if seen.status not in ("waiting", "running", "stuck"):
            self._told(resultproxy, seen)
            return

        def end() -> None:
            self.cluster.delete_job(known["job_id"], known["namespace"], known.get("uid"))

        self._note(resultproxy, Settlement(resultproxy, seen, self.cluster).cancel(end))


def connect(options: Options) -> Cluster:
    """Return the cluster that options and kubeconfig mean.

    :raises MissingLibrary: the library that reads a kubeconfig is not installed here.
    :raises BackendError: there is no way to a cluster here.
    """
    try:
        from packtivity.backends.kubernetes.api import Cluster
    except ModuleNotFoundError as error:
        raise missing("the backend kubernetes", "kubernetes", error) from error
    return Cluster(options)


def caller(directories: Sequence[str]) -> Caller:
    """Return who we are."""
    import pwd

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
