"""The backend ``local``: tasks on this machine that outlive the program, the terminal and the login they came from."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from packtivity import settings
from packtivity.backends.asked import Answer, AskedBackend
from packtivity.backends.multiproc import pool_size
from packtivity.backends.proxies import PacktivityProxyBase, proxy_details
from packtivity.backends.spool import ACTIVE, QUEUE, Spool
from packtivity.errors import EnvironmentUnavailable, PacktivityError, ProxyError
from packtivity.files import is_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from packtivity.types import JSON


class LocalProxy(PacktivityProxyBase):
    """Handle of a detached task.

    :param task_id: its id.
    :param host: the machine it is on.
    """

    def __init__(self, task_id: str, host: str, details: JSON = None) -> None:
        super().__init__(details=details)
        self.task_id, self.host = task_id, host
        self.datamodel: JSON = None

    def proxyname(self) -> str:
        """Return ``LocalProxy``."""
        return "LocalProxy"

    def details(self) -> JSON:
        """Return id and machine, with the caller's remarks."""
        return {**(self._details or {}), "task_id": self.task_id, "host": self.host}

    @classmethod
    def fromJSON(cls, data: Mapping[str, Any]) -> LocalProxy:
        """Read the handle.

        :raises ProxyError: something in it cannot be.
        """
        details = dict(proxy_details(data))
        task_id, host = details.pop("task_id", None), details.pop("host", None)
        if not is_id(task_id) or not _is_host(host):
            raise ProxyError("proxy document of a LocalProxy has no task_id and host that could be one")
        return cls(task_id, host, details or None)


_IN_HOSTS = str.maketrans("", "", ".-_")


def _is_host(text: Any) -> bool:
    """Return whether a text can be the name of a machine; it becomes the name of a folder."""
    return isinstance(text, str) and 0 < len(text) <= 64 and text.translate(_IN_HOSTS).isalnum()


class LocalBackend(AskedBackend):
    """Runs tasks detached.

    :param jobs: how many of this user's tasks at once on this machine; the supervisor that is there already keeps
        to what it was started with.
    """

    def __init__(self, jobs: int | str | None = None, config: Mapping[str, Any] | None = None) -> None:
        super().__init__(config)
        examples = "local:4 or local, or a number in PACKTIVITY_LOCAL_JOBS"
        self.jobs = pool_size(jobs or settings.value("local_jobs") or "auto", examples)
        self._spools: dict[str, Spool] = {}

    def _spool(self, host: str | None = None) -> Spool:
        host = host or os.uname().nodename
        if host not in self._spools:
            self._spools[host] = Spool(host)
        return self._spools[host]

    def hand_over(self, document: JSON) -> LocalProxy:
        """Put a task into the queue and see that there is somebody to run it."""
        return self._hand_over([document])[0]

    def batch_submit(self, nodes: Iterable[tuple[Any, Any, Any, Any]]) -> list[LocalProxy]:
        """Start many tasks, each ``(spec, parameters, state, metadata)``, and return their proxies."""
        return self._hand_over([self.document(*node) for node in nodes])

    def _hand_over(self, documents: list[JSON]) -> list[LocalProxy]:
        spool = self._spool()
        spool.prepare()
        spool.add(documents)
        try:
            self.supervise()
        except EnvironmentUnavailable:  # who is told so must not find that they ran later
            for document in documents:
                spool.cancel(document["id"])
            raise
        proxies = [LocalProxy(document["id"], spool.host) for document in documents]
        for proxy, document in zip(proxies, documents, strict=True):
            proxy.datamodel = document["datamodel"]
        return proxies

    def supervise(self) -> None:
        """See that there is a supervisor, if there is something to do."""
        spool = self._spool()
        if not (spool.names(QUEUE) or spool.names(ACTIVE)):
            return
        if spool.is_supervised():
            spool.wake()
            return
        start_supervisor(self.jobs, spool)

    def ask(self, resultproxy: LocalProxy) -> Answer:
        """Return how a task is."""
        answer = self._spool(resultproxy.host).ask(resultproxy.task_id)
        if answer["status"] in ("waiting", "running") and resultproxy.host == os.uname().nodename:
            self._revive()
        return answer

    def _revive(self) -> None:
        if not self._spool().is_supervised():
            with suppress(EnvironmentUnavailable):  # how tasks are is known all the same
                self.supervise()

    def ask_many(self, resultproxies: Sequence[LocalProxy]) -> list[Answer | PacktivityError]:
        """Return how many tasks are; each folder is listed once."""
        told: list[Answer | PacktivityError] = []
        listed: dict[str, dict[str, str]] = {}
        for proxy in resultproxies:
            spool = self._spool(proxy.host)
            if proxy.host not in listed:
                waiting = dict.fromkeys(spool.names(QUEUE), "waiting")
                listed[proxy.host] = {**waiting, **dict.fromkeys(spool.names(ACTIVE), "running")}
            status = listed[proxy.host].get(proxy.task_id)
            told.append({"status": status} if status else self._asked(proxy))
        if any(isinstance(answer, dict) and answer["status"] in ("waiting", "running") for answer in told):
            self._revive()
        return told

    def document(self, spec: Any, parameters: Any, state: Any, metadata: Any = None) -> JSON:
        """Return a task document; what it logs goes to its files only, because nobody sees standard error."""
        document = super().document(spec, parameters, state, metadata)
        document["config"]["exec"] = {"logging_level": "CRITICAL", **document["config"]["exec"]}
        return document

    def record_of(self, resultproxy: LocalProxy) -> str | None:
        """Return the path that the record of a task has or will have; None where it is not known."""
        return self._spool(resultproxy.host).record_of(resultproxy.task_id)

    def cancel(self, resultproxy: LocalProxy) -> None:
        """End a task, or see that it never begins."""
        self._spool(resultproxy.host).cancel(resultproxy.task_id)
        self._revive()


def start_supervisor(jobs: int, spool: Spool) -> None:
    """Start a supervisor, and return when it is there.

    :raises EnvironmentUnavailable: it cannot be started.
    """
    from packtivity.runtimes.helpers import forget, start_module

    path = f"{spool.root}/supervisor.log"
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        process = start_module("packtivity.backends.supervisor", str(jobs), stderr=log)
    finally:
        os.close(log)
    forget(process)
    if process.returncode > 0:  # one that somebody has killed is started again by whoever asks
        raise EnvironmentUnavailable("the supervisor of detached tasks cannot be started", hint=f"Why, {path} says.")
