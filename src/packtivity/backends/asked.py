"""What backends share that run task documents elsewhere: everything is found out by asking one question.

A subclass says how a task document is given away (:meth:`AskedBackend.hand_over`) and how a task is
(:meth:`AskedBackend.ask`). An answer is JSON: ``status`` is ``waiting``, ``running``, ``succeeded``, ``failed`` or
``cancelled``; ``result`` and ``error`` (``type``, ``message``, perhaps ``returncode``) are there when it is over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from packtivity import datamodel
from packtivity.backends.base import PythonCallableAsyncBackend
from packtivity.backends.document import new_id
from packtivity.backends.failures import error_of
from packtivity.backends.observe import from_answer
from packtivity.errors import PacktivityError, ProxyError, StateError
from packtivity.task import ASYNC_NAME, Task

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from packtivity.backends.status import TaskStatus
    from packtivity.types import JSON

Answer = dict[str, Any]
OVER = frozenset({"succeeded", "failed", "cancelled"})
_POLL = (0.002, 0.5)
"""Seconds between questions while a result is waited for: at first, and at most."""


class AskedBackend(PythonCallableAsyncBackend):
    """Base for backends that run task documents."""

    def hand_over(self, document: JSON) -> Any:
        """Give a task document to the engine and return a proxy; every subclass has its own."""
        raise NotImplementedError(f"{type(self).__name__} has no hand_over")

    def ask(self, resultproxy: Any) -> Answer:
        """Return how a task is; every subclass has its own.

        :raises ProxyError: nobody knows the task.
        """
        raise NotImplementedError(f"{type(self).__name__} has no ask")

    def ask_many(self, resultproxies: Sequence[Any]) -> list[Answer | PacktivityError]:
        """Return how many tasks are, in one go where the engine can; the error for those that nobody can tell of."""
        return [self._asked(proxy) for proxy in resultproxies]

    def ask_waiting(self, resultproxies: Sequence[Any]) -> list[Answer | PacktivityError]:
        """Return how many tasks are, for who asks until they are over: an engine that is away may come back."""
        return self.ask_many(resultproxies)

    def _asked(self, proxy: Any) -> Answer | PacktivityError:
        try:
            return self.ask(proxy)
        except (ProxyError, StateError) as error:
            return error

    def status(self, resultproxy: Any) -> TaskStatus:
        """Return how a task is."""
        return from_answer(self.ask(resultproxy))

    def statuses(self, resultproxies: Sequence[Any]) -> list[TaskStatus | PacktivityError]:
        """Return how tasks are; an error in place of those that nobody can tell of."""
        answers = self.ask_waiting(resultproxies)
        return [each if isinstance(each, PacktivityError) else from_answer(each) for each in answers]

    def document(self, spec: Any, parameters: Any, state: Any, metadata: Any = None) -> JSON:
        """Return a task document with an id of its own."""
        config = {**self.pack_config.to_json(), "exec": self.exec_config.to_json()}
        task = Task.of(spec, parameters, state, metadata or {"name": ASYNC_NAME}, config, new_id())
        return task.to_json()

    def submit(self, spec: Any, parameters: Any, state: Any, metadata: Any = None) -> Any:
        """Start a task and return its proxy."""
        return self.hand_over(self.document(spec, parameters, state, metadata))

    def batch_submit(self, nodes: Iterable[tuple[Any, Any, Any, Any]]) -> list[Any]:
        """Start many tasks, each ``(spec, parameters, state, metadata)``, and return their proxies."""
        return [self.submit(*node) for node in nodes]

    def ready(self, resultproxy: Any) -> bool:
        """Return whether the task is over."""
        return self.ask(resultproxy)["status"] in OVER

    def successful(self, resultproxy: Any) -> bool:
        """Return whether the task is over and has succeeded."""
        return bool(self.ask(resultproxy)["status"] == "succeeded")

    def result(self, resultproxy: Any) -> Any:
        """Return the result, waiting for it if need be.

        :raises TaskFailed: the task failed; or another error, the one it failed with.
        """
        answer = self.wait(resultproxy)
        if answer["status"] != "succeeded":
            raise error_of(answer.get("error"))
        return datamodel.create(answer["result"], getattr(resultproxy, "datamodel", None))

    def wait(self, resultproxy: Any) -> Answer:
        """Return the answer of a task when it is over."""
        from threading import Event

        pause, idle = _POLL[0], Event()
        while (answer := self.ask(resultproxy))["status"] not in OVER:
            idle.wait(pause)
            pause = min(pause * 1.5, _POLL[1])
        return answer

    def fail_info(self, resultproxy: Any) -> tuple[str, str] | None:
        """Return type and message of the error; None for a task that is not over or has succeeded."""
        error = self.ask(resultproxy).get("error")
        return None if error is None else (error.get("type", "TaskFailed"), error.get("message", ""))

    def record_of(self, resultproxy: Any) -> str | None:
        """Return the path that the record of a task has or will have; None where it is not known."""
        path = getattr(resultproxy, "record", None)
        return path if isinstance(path, str) else None

    def cancel(self, resultproxy: Any) -> None:
        """Ask for the end of a task; every subclass has its own."""
        raise NotImplementedError(f"a {type(self).__name__} cannot cancel")
