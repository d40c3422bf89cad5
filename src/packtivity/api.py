"""What programs call: load a spec, run it here, or submit it to a backend."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Event
from types import ModuleType
from typing import Any

from packtivity import datamodel as documents
from packtivity.backends.base import defaultsyncbackend
from packtivity.backends.registry import backend_from_string
from packtivity.errors import BackendError, TaskTimeout
from packtivity.handlers.config import ExecutionConfig
from packtivity.spec import load
from packtivity.statecontexts import LocalFSState
from packtivity.task import ASYNC_NAME, load_packtivity
from packtivity.types import JSON, Backend, JSONValue, Parameters, State, SyncBackend

__all__ = ["Submission", "load", "load_packtivity", "pack_object", "run", "submit"]

TWELVE_HOURS = 43200.0


class pack_object:
    """A spec that can be called with parameters and state.

    :param spec: as :func:`load_packtivity` returns it.
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self.spec = spec

    @classmethod
    def fromspec(cls, *args: Any, **kwargs: Any) -> pack_object:
        """Load a spec, with the arguments of :func:`load_packtivity`, and make it callable."""
        return cls(load_packtivity(*args, **kwargs))

    def __call__(
        self,
        parameters: JSONValue | Parameters,
        state: State | None,
        syncbackend: SyncBackend | None = None,
        asyncbackend: Backend | None = None,
        asyncwait: bool = False,
        waitperiod: float = 0.01,
        timeout: float = TWELVE_HOURS,
        datamodel: ModuleType | None = None,
    ) -> Any:
        """Run the task and return its result, or its proxy.

        :param syncbackend: where to run it; by default in this process. ``asyncbackend`` goes before it.
        :param asyncwait: wait for the result of ``asyncbackend``; its proxy is returned otherwise.
        :param waitperiod: seconds between looking whether it is there.
        :param timeout: seconds after which waiting is given up; the task itself goes on.
        :raises TaskTimeout: the wait was given up.
        """
        parameters = (datamodel or documents).create(parameters, state.datamodel if state else None)
        if asyncbackend is None:
            if syncbackend is None:
                syncbackend = defaultsyncbackend()
            return syncbackend.run(self.spec, parameters, state)
        proxy = asyncbackend.submit(self.spec, parameters, state, metadata={"name": ASYNC_NAME})
        return wait_for(asyncbackend, proxy, waitperiod, timeout) if asyncwait else proxy


def wait_for(
    backend: Backend,
    proxy: Any,
    waitperiod: float,
    timeout: float | None,
    *,
    longest: float | None = None,
    tick: Callable[[], None] | None = None,
) -> Any:
    """Return the result of a submitted task as soon as it is there.

    :param waitperiod: seconds between questions.
    :param longest: let that time grow up to this many seconds; whoever asks too often is a burden to the engine.
    :param tick: called after each question that was answered with no.
    :raises TaskTimeout: ``timeout`` seconds have passed; the error's ``proxy`` can still be asked.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    idle = Event()
    while not backend.ready(proxy):
        if deadline is not None and time.monotonic() >= deadline:
            error = TaskTimeout(
                f"Timeout! The task was not ready after {timeout:g} s",
                hint="It goes on; ask its proxy later, or wait longer.",
            )
            error.proxy = proxy  # type: ignore[attr-defined]
            raise error
        idle.wait(waitperiod)
        if longest is not None:
            waitperiod = min(waitperiod * 1.5, longest)
        if tick is not None:
            tick()
    return backend.result(proxy)


def run(
    spec: str | Mapping[str, Any],
    parameters: JSONValue | Parameters = None,
    *,
    workdir: str | None = None,
    readonly: Sequence[str] = (),
    state: State | None = None,
    toplevel: str | None = None,
    name: str | None = None,
    backend: SyncBackend | None = None,
    **execution: Any,
) -> Parameters:
    """Run a task here and now and return its result.

    :param spec: what :func:`load` takes, or what it returns.
    :param parameters: JSON document.
    :param workdir: read-write directory, made when missing; by default the current directory.
    :param readonly: directories to read from.
    :param state: in place of the two above.
    :param name: names the log files.
    :param backend: by default the one that runs it in this process.
    :param execution: for :class:`~packtivity.handlers.config.ExecutionConfig`, such as ``timeout=60`` or
        ``strict=True``; not together with ``backend``.
    :raises TaskFailed: what the spec runs failed.
    """
    loaded, state = _inputs(spec, toplevel, state, workdir, readonly)
    if backend is None:
        backend = defaultsyncbackend({"exec": ExecutionConfig(**execution)})
    elif execution:
        raise TypeError(f"these go into the backend's own configuration: {', '.join(execution)}")
    metadata = {} if name is None else {"metadata": {"name": name}}
    result: Parameters = backend.run(loaded, {} if parameters is None else parameters, state, **metadata)
    return result


def submit(
    spec: str | Mapping[str, Any],
    parameters: JSONValue | Parameters = None,
    *,
    backend: str | Backend = "foregroundasync",
    workdir: str | None = None,
    readonly: Sequence[str] = (),
    state: State | None = None,
    toplevel: str | None = None,
    name: str = ASYNC_NAME,
) -> Submission:
    """Give a task to an asynchronous backend; arguments as for :func:`run`.

    :param backend: a backend, or the string that names one.
    :raises BackendError: there is no such backend, or it is a synchronous one.
    """
    loaded, state = _inputs(spec, toplevel, state, workdir, readonly)
    if isinstance(backend, str):
        synchronous, made = backend_from_string(backend)
        if synchronous:
            raise BackendError(f"backend {backend!r} runs tasks here and now", hint="Use packtivity.run.")
    else:
        made = backend
    data = documents.create({} if parameters is None else parameters, state.datamodel if state else None)
    return Submission(made, made.submit(loaded, data, state, metadata={"name": name}))


@dataclass(frozen=True, slots=True)
class Submission:
    """A submitted task: its proxy, and the backend that can be asked about it."""

    backend: Backend
    proxy: Any

    def json(self) -> JSON:
        """Return the proxy document."""
        return self.proxy.json()

    def ready(self) -> bool:
        """Return whether the task has ended."""
        return bool(self.backend.ready(self.proxy))

    def successful(self) -> bool:
        """Return whether the task has ended well."""
        return self.ready() and bool(self.backend.successful(self.proxy))

    def result(self, timeout: float | None = None, waitperiod: float = 0.01) -> Any:
        """Wait for the result and return it.

        :param timeout: seconds after which waiting is given up; None waits for ever.
        :raises TaskTimeout: the wait was given up.
        """
        return wait_for(self.backend, self.proxy, waitperiod, timeout)

    def fail_info(self) -> Any:
        """Return what is known about a failure, commonly type and message."""
        return self.backend.fail_info(self.proxy)


def _inputs(
    spec: str | Mapping[str, Any],
    toplevel: str | None,
    state: State | None,
    workdir: str | None,
    readonly: Sequence[str],
) -> tuple[Mapping[str, Any], Any]:
    loaded = load(spec, toplevel) if isinstance(spec, str) else spec
    if state is None:
        state = LocalFSState([workdir or "."], list(readonly))
        state.ensure()
    elif workdir is not None or readonly:
        raise TypeError("give either a state, or workdir and readonly")
    return loaded, state
