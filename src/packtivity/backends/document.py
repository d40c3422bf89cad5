"""The verbs of every backend whose tasks are given to an engine as documents; see :mod:`packtivity.backends.engine`."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from threading import Event
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from packtivity import datamodel, record, seal
from packtivity.backends.base import PythonCallableAsyncBackend, error_of, spec_of
from packtivity.backends.keeper import Keeper
from packtivity.backends.proxies import TaskProxy
from packtivity.backends.task_files import Entry
from packtivity.errors import PacktivityError
from packtivity.task import ASYNC_NAME, Task

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from packtivity.backends.engine import Engine
    from packtivity.backends.status import TaskStatus

_POLL = (0.002, 0.5)
"""Seconds between looks while a result is waited for: at first, and at most."""


P = TypeVar("P", bound=TaskProxy)


class DocumentBackend(PythonCallableAsyncBackend, Generic[P]):
    """Gives tasks to an engine; a subclass says which.

    :param engine: whatever runs tasks.
    :param config: configuration, as other backends take it.
    :cvar proxy_class: class of the proxies of its tasks.
    """

    proxy_class: type[P]

    def __init__(self, engine: Engine, config: Mapping[str, Any] | None = None) -> None:
        super().__init__(config)
        self.engine = engine
        self.keeper = Keeper(engine)

    # --- submitting ---

    def submit(self, spec: Any, parameters: Any, state: Any, metadata: Any = None) -> P:
        """Start a task and return its proxy."""
        return self.batch_submit([(spec, parameters, state, metadata)])[0]

    def batch_submit(self, nodes: Iterable[tuple[Any, Any, Any, Any]]) -> list[P]:
        """Start many tasks, each ``(spec, parameters, state, metadata)``, and return their proxies.

        :raises PacktivityError: one cannot be given away; then none of them runs.
        """
        given = list(nodes)
        entries = [self.entry(spec_of(spec), *rest) for spec, *rest in given]
        handles = self.keeper.submit(entries)
        return [
            self._proxy(entry, handle, getattr(node[2], "datamodel", None))
            for entry, handle, node in zip(entries, handles, given, strict=True)
        ]

    def _proxy(self, entry: Entry, handle: str, model: Any) -> P:
        proxy = self.proxy_class(entry.id, entry.place, entry.record)
        proxy.handle, proxy.datamodel = handle, model
        return proxy

    def document(self, spec: Any, parameters: Any, state: Any, metadata: Any = None) -> dict[str, Any]:
        """Return a task document with an id of its own."""
        config = {**self.pack_config.to_json(), "exec": self.exec_config.to_json()}
        task_id = seal.own_id(f"{time.time_ns():016x}-{os.urandom(4).hex()}")  # later ones sort after earlier ones
        key = seal.own_record_key(task_id)
        task = Task.of(spec, parameters, state, metadata or {"name": ASYNC_NAME}, config, task_id)
        return replace(task, seal=key).to_json()

    def entry(self, spec: Any, parameters: Any, state: Any, metadata: Any = None) -> Entry:
        """Return what its owner keeps of a task that is about to be given away."""
        document = self.document(spec, parameters, state, metadata)
        task_id, metadata = document["id"], document["metadata"]
        home, claim = record.home(state, task_id), None
        if home is not None and self.engine.keeps:
            claim = record.state_path(home, record.task_key(spec, document["parameters"], state))
        return Entry(
            id=task_id,
            engine=self.engine.name,
            place=self.engine.place(),
            record=home and record.record_path(home, metadata, task_id),
            claim=claim,
            submitted=time.time(),
            about={"name": metadata.get("name"), "workdir": state.readwrite[0] if state and state.readwrite else None},
            task=document,
        )

    # --- asking ---

    def status(self, resultproxy: P) -> TaskStatus:
        """Return how a task is.

        :raises ProxyError: nobody knows the task.
        :raises BackendError: its engine has been away for longer than anybody waits.
        """
        (answer,) = self.statuses([resultproxy])
        if isinstance(answer, PacktivityError):
            raise answer
        return answer

    def statuses(self, resultproxies: Sequence[P]) -> list[TaskStatus | PacktivityError]:
        """Return how tasks are, in one go; an error in place of each that nobody can tell of."""
        self.keeper.warn = self.exec_config.warn
        return self.keeper.statuses(resultproxies)

    def ready(self, resultproxy: P) -> bool:
        """Return whether the task is over."""
        return self.status(resultproxy).is_over

    def successful(self, resultproxy: P) -> bool:
        """Return whether the task is over and has succeeded."""
        return self.status(resultproxy).status == "succeeded"

    def result(self, resultproxy: P) -> Any:
        """Return the result, waiting for it if need be.

        :raises TaskFailed: the task failed; or another error, the one it failed with.
        """
        status = self.wait(resultproxy)
        if status.status != "succeeded":
            raise error_of(status.error)
        return datamodel.create(status.result, resultproxy.datamodel)

    def wait(self, resultproxy: P) -> TaskStatus:
        """Return the status of a task when it is over.

        :raises PacktivityError: as :meth:`status`.
        """
        pause, longest = _POLL
        while not (status := self.status(resultproxy)).is_over:
            Event().wait(pause)
            pause = min(pause * 1.5, longest)
        return status

    def fail_info(self, resultproxy: P) -> tuple[str, str] | None:
        """Return type and message of the error; None for a task that is not over or has succeeded."""
        error = self.status(resultproxy).error
        return None if error is None else (error.get("type", "TaskFailed"), error.get("message", ""))

    def record_of(self, resultproxy: P) -> str | None:
        """Return the path that the record of a task has or will have; None where it is not known."""
        return self.keeper.record_of(resultproxy)

    # --- ending ---

    def cancel(self, resultproxy: P) -> None:
        """End a task, or see that it never begins; one that is over stays as it is.

        :raises ProxyError: nobody knows the task.
        :raises BackendError: it is not the asker's own.
        """
        (refused,) = self.cancel_many([resultproxy])
        if refused is not None:
            raise refused

    def cancel_many(self, resultproxies: Sequence[P]) -> list[PacktivityError | None]:
        """End tasks in one go; for each None, or why that cannot be done."""
        return self.keeper.cancel(resultproxies)
