"""The backends ``kubernetes`` and ``kubedirectjob``: each task is a Job, and is published where its owner asks for it."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from packtivity import record_fields, seal
from packtivity.backends.document import DocumentBackend
from packtivity.backends.engine import Submission
from packtivity.backends.engines.kubernetes.engine import KubernetesEngine, task_key
from packtivity.backends.engines.kubernetes.jobs import Handle
from packtivity.backends.engines.kubernetes.options import read_options
from packtivity.backends.proxies import ExternalAsyncProxy, TaskProxy, hidden
from packtivity.backends.status import TaskStatus
from packtivity.backends.task_files import TaskFiles
from packtivity.datamodel.leafmodel import check_datamodel
from packtivity.errors import BackendError, ProxyError
from packtivity.files import is_id
from packtivity.record import is_outcome, is_record_path
from packtivity.task import Task
from packtivity.tasklog import safe_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from packtivity.backends.task_files import Entry
    from packtivity.types import JSON

_TEXTS = ("job_id", "namespace", "cluster", "uid", "task_id", "key", "name")


class KubernetesProxy(ExternalAsyncProxy, TaskProxy):
    """Handle of a task in a cluster; its document has no values of parameters that are called a password or the like.

    ``jobproxy`` has the Job's name (``job_id``, as in upstream 0.17.1), its ``namespace``, ``cluster`` and ``uid``, and
    the task's ``task_id``, ``key``, ``name`` (of its logs), ``record`` (path) and ``config``. A task that needed no Job
    has no ``job_id``.

    :ivar taken_over: whether the Job was there before the task was submitted.
    """

    taken_over = False
    name, place_name = "KubernetesProxy", "cluster"

    def __init__(self, jobproxy: Any, spec: JSON, statedata: JSON, pardata: JSON, resultdata: JSON = None) -> None:
        known = jobproxy if isinstance(jobproxy, dict) else {}
        place = {"cluster": known.get("cluster"), "namespace": known.get("namespace")}
        ExternalAsyncProxy.__init__(self, jobproxy, spec, statedata, pardata, resultdata)
        TaskProxy.__init__(self, str(known.get("task_id")), place, known.get("record"))
        if known.get("job_id"):
            self.handle = str(Handle(known["job_id"], str(known.get("uid")), self.task_id))
        self.datamodel = known.get("datamodel")

    def task(self) -> Task:
        """Return the task, whose secret parameters are hidden if it comes from a document."""
        metadata, config = {"name": self.jobproxy.get("name")}, self.jobproxy.get("config") or {}
        return Task(self.spec, self.pardata, self.statedata, metadata, config, self.datamodel, self.task_id)

    def details(self) -> JSON:
        """Return everything but what is secret, with the caller's remarks."""
        found = ExternalAsyncProxy.details(self)
        found["pardata"] = hidden(self.pardata)
        ending = self.ending or self.claimed
        if ending is None:
            return found
        found["resultdata"] = ending.result
        if not (self.record and os.path.exists(self.record)):
            error = record_fields.masked(ending.error, record_fields.secrets({}, self.pardata))
            found["answer"] = {"status": ending.status, "result": ending.result, "error": error}
        return found

    @classmethod
    def fromJSON(cls, data: Mapping[str, Any]) -> Self:
        """Read the handle.

        :raises ProxyError: something in it cannot be.
        """
        proxy = super().fromJSON(data)
        _check(proxy)
        remarks = dict(proxy._details or {})
        answer = remarks.pop("answer", None)
        proxy.claimed = TaskStatus.from_answer(answer) if is_outcome(answer) else None
        proxy.set_details(remarks or None)
        return proxy


def _check(proxy: KubernetesProxy) -> None:
    known, what = proxy.jobproxy, "proxy document of a KubernetesProxy"
    if not isinstance(known, dict) or not is_id(known.get("task_id")):
        raise ProxyError(f"{what} has no jobproxy with a task_id that could be one")
    is_record = known.get("record") is None or is_record_path(known["record"], known["task_id"])
    texts = all(isinstance(known.get(name, ""), str) for name in _TEXTS)
    mappings = isinstance(proxy.spec, dict) and isinstance(known.get("config") or {}, dict)
    if not (texts and is_record and mappings):
        raise ProxyError(f"{what}: its jobproxy has not the form that it must have")
    if not is_id(known.get("key")):  # it becomes part of a file's name
        raise ProxyError(f"{what} has no key that could be one")
    for name in ("namespace", "cluster", "uid"):
        if known.get("job_id") and name not in known:
            raise ProxyError(f"{what} has a job_id and no {name}")
    for name in ("job_id", "namespace"):
        text = known.get(name) or "a"
        if not (text.isascii() and text.replace("-", "a").isalnum() and len(text) < 64):
            raise ProxyError(f"{what}: {name} {text!r} cannot be the name of anything")
    check_datamodel(proxy.datamodel)


class DirectExternalKubernetesBackend(DocumentBackend[KubernetesProxy]):
    """Runs each task as a Job of a Kubernetes cluster that shares its directories with us.

    :param config: configuration, as other backends take it.
    :param options: see :class:`~packtivity.backends.engines.kubernetes.options.Options`; those of upstream 0.17.1 are
        among them.
    :ivar cluster: the API server, and the namespace in which Jobs are made.
    :raises BackendError: an option cannot be used, or there is no way to a cluster here.
    """

    proxy_class = KubernetesProxy
    engine: KubernetesEngine

    def __init__(self, config: Mapping[str, Any] | None = None, **options: Any) -> None:
        options.pop("deserialization_opts", None)  # upstream's; states are read as everywhere
        super().__init__(KubernetesEngine(read_options(options)), config)
        self.cluster = self.engine.api

    def batch_submit(self, nodes: Iterable[tuple[Any, Any, Any, Any]]) -> list[KubernetesProxy]:
        """Start many tasks; one that is there already, waits, runs or has succeeded is taken over.

        :raises PacktivityError: one cannot be given away; then none of them runs.
        """
        given = list(nodes)
        proxies = super().batch_submit(given)
        for at, node in enumerate(given):
            while (proxy := proxies[at]).taken_over and self.status(proxy).status in ("failed", "cancelled"):
                self.engine.kill([Submission(proxy.task_id, proxy.place, proxy.handle)])  # it is written down by now
                (proxies[at],) = super().batch_submit([node])
        return proxies

    def _proxy(self, entry: Entry, handle: str, model: Any) -> KubernetesProxy:
        job = Handle.read(handle)
        taken_over = job is not None and job.task_id != entry.id
        if job is not None and taken_over:
            entry = _take_over(entry, job)
        task, where = Task.from_json(entry.task or {}), {"job_id": ""}
        if job is not None:
            where = {"job_id": job.name, "uid": job.uid, **entry.place}
        about = {"task_id": entry.id, "key": task_key(task), "name": safe_name(task.metadata), "record": entry.record}
        known = {**where, **about, "config": task.config, "datamodel": task.datamodel}
        proxy = KubernetesProxy(known, task.spec, task.state, task.parameters)
        proxy.taken_over, proxy.datamodel = taken_over, model
        return proxy


def _take_over(entry: Entry, job: Handle) -> Entry:
    """Keep the document of a task under the id with which its Job was made: by us, or by who is not there any more.

    :raises BackendError: the task of that id is another one.
    """
    files = TaskFiles()
    files.remove(entry.id)
    path = entry.record and entry.record.replace(f".{entry.id}.outcome.json", f".{job.task_id}.outcome.json")
    task = {**(entry.task or {}), "id": job.task_id, "seal": seal.own_record_key(job.task_id)}
    taken = replace(entry, id=job.task_id, record=path, task=task)
    known = files.read(job.task_id, whole=False)
    if known is not None and known.claim != entry.claim:
        raise BackendError(f"the Job {job.name} is said to be of the task {job.task_id}, which is another one")
    if known is None:
        files.write([taken], sync=False)
        files.note_sent(Submission(job.task_id, taken.place, str(job), 1, taken.submitted))
    return taken
