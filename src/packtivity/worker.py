"""What a worker does with a task document, wherever it runs: run it, or say how it went when it has been run.

A document may come from anywhere. It says what to run, yet nothing is imported that the user of the worker has not
configured: leaf types have to be of modules that ``PACKTIVITY_PLUGINS`` names.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from packtivity import record, record_fields, settings
from packtivity.datamodel.allowed_types import check_datamodel
from packtivity.errors import PacktivityError, TaskCancelled, WorkerLost
from packtivity.plugins import enable_plugins
from packtivity.runtimes.cancellation import CancelFile
from packtivity.task import Task, run_task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from packtivity.runtimes.process import Cancellation
    from packtivity.types import JSON


def run_envelope(
    envelope: Mapping[str, Any],
    cancel: Cancellation | None = None,
    patience: float | None = None,
    leaves_on: Iterable[int] = (),
) -> dict[str, Any]:
    """Run what an engine has brought, in a process of a user who may run it; see :mod:`packtivity.backends.engine`.

    :param cancel: what else ends the task, and obeys its cancel file, too; by default that file alone.
    :param patience: seconds to wait for another run of the same task to end before ``waiting`` is returned; for ever by
        default.
    :param leaves_on: signals with which the engine ends this process, for a reason of its own: the task is ended, and is to
        be delivered again. Without ``cancel`` only, and in the main thread.
    :returns: as :func:`answer`; ``waiting`` for a task that is to be delivered again.
    :raises ConfigurationError: there is no task document in it.
    """
    enable_plugins()
    task = Task.from_json(envelope.get("task") or {})
    if cancel is not None:
        return answer(envelope["task"], cancel)
    try:
        path = record_path(task)
    except PacktivityError:  # which the task then fails with
        path = None
    with CancelFile(path and record.cancel_path(path), patience) as asked, _handled(leaves_on, asked.leave):
        return answer(envelope["task"], asked)


@contextmanager
def _handled(numbers: Iterable[int], handler: Callable[..., None]) -> Iterator[None]:
    """Let signals that would end this process be handled inside the block."""
    import signal

    ours = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def answer(document: Mapping[str, Any], cancel: Cancellation | None = None) -> dict[str, Any]:
    """Run a task and return how it went, as JSON; a task whose record is there already is not run again.

    :returns: ``status`` (``succeeded``, ``failed``, ``cancelled``), ``result``, ``error`` and ``record``: the path.
    :raises ConfigurationError: the document is none.
    """
    said = _answer(document, cancel)
    path = said.get("record")
    if path:  # nobody needs to be asked any more to end it
        with suppress(OSError):
            os.unlink(record.cancel_path(path))
    return said


def _answer(document: Mapping[str, Any], cancel: Cancellation | None) -> dict[str, Any]:
    task = Task.from_json(document)
    _let_go_of_ignored_signals()
    try:
        check_datamodel(task.datamodel)
        state = task.load_state()
        path = record_place(state, task.metadata, task.id)
        told = path and final(path, task.id, mend=True)
        if told:
            return told
        result = run_task(task, cancel, state)
    except record.TaskOver:
        return (final(path, task.id, mend=True) if path else None) or failed(
            task, WorkerLost("its record has vanished")
        )
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - a plug-in may raise anything: the task failed
        if cancel is not None and cancel.is_given_back(error):
            return {"status": "waiting"}  # nobody is there to hear it, and somebody else will run the task
        return failed(task, error)
    return {"status": "succeeded", "result": result.json(), "error": None, "record": path}


_let_go = False


def _let_go_of_ignored_signals() -> None:
    """See that the task does not inherit that signals are ignored, as workers of pools and engines do."""
    import signal
    import threading

    if threading.current_thread() is not threading.main_thread():
        return
    global _let_go  # noqa: PLW0603 - handlers are of the process
    if _let_go:
        return
    _let_go = True
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, _nothing)  # a handler ignores it as well, and is not inherited


def _nothing(*_: object) -> None:
    return


def failed(task: Task, error: BaseException) -> dict[str, Any]:
    """Return the answer for a task that has failed, and see that there is a record of it."""
    path = None
    try:
        path = record_path(task)
        if path and not final(path, task.id, mend=True):
            about = {"id": task.id, "name": (task.metadata or {}).get("name"), "parameters": task.parameters}
            record.failed_before(path, about, error)
    except PacktivityError as second:
        error.add_note(str(second))
    status = "cancelled" if isinstance(error, (TaskCancelled, KeyboardInterrupt)) else "failed"
    hidden = record_fields.secrets(settings.environment(), task.parameters)
    return {
        "status": status,
        "result": None,
        "error": record_fields.masked(record_fields.failure(error), hidden),
        "record": path,
    }


def record_path(task: Task) -> str | None:
    """Return where the record of a task with an id is, or will be; None for one without.

    :raises PacktivityError: its state cannot be used.
    """
    return record_place(task.load_state(), task.metadata, task.id)


def record_place(state: Any, metadata: JSON, task_id: str | None) -> str | None:
    """Return where the record of a task with an id belongs; None for one without."""
    home = record.home(state, task_id) if task_id is not None else None
    return home and record.record_path(home, metadata, task_id)


def final(path: str, task_id: str | None, *, mend: bool = False) -> dict[str, Any] | None:
    """Return what a record says about a task; None when it says nothing, or is about another one.

    :param mend: see that it has its second name, too; for the task's runner and its owner.
    :raises StateError: it is there and cannot be read.
    """
    found = record.read_outcome(path)
    if found is None or found.get("id") != task_id:
        return None
    if mend and task_id is not None:
        record.give_second_name(path, task_id, found)
    return {"status": found["status"], "result": found.get("result"), "error": found.get("error"), "record": path}


def left_behind(path: str | None, task_id: str) -> dict[str, Any] | None:
    """Return how a task is that has no record, by what lies where its record belongs; None when nothing does.

    A state file that somebody has locked is of a running task, any other of one whose runner died.
    """
    from packtivity import lease

    state = lease.of_task(path, task_id) if path else None
    if state is not None:
        if lease.is_held(state):
            return {"status": "running"}
        error = {"type": "WorkerLost", "message": "whoever ran this task died before it was over"}
        return (final(path, task_id) if path else None) or {"status": "failed", "result": None, "error": error}
    return final(path, task_id) if path else None
