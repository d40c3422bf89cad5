"""What a worker does with a task document, wherever it runs: run it, or say how it went when it has been run.

A document may come from anywhere. It says what to run, yet nothing is imported that the user of the worker has not
configured: leaf types have to be of modules that ``PACKTIVITY_PLUGINS`` names.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any

from packtivity import folders, record, record_fields, seal, settings
from packtivity.datamodel.leafmodel import check_datamodel
from packtivity.errors import PacktivityError, StateError, WorkerLost
from packtivity.files import write_whole
from packtivity.notes import RunNotes
from packtivity.plugins import enable_plugins
from packtivity.runtimes.cancellation import CancelFile
from packtivity.signals import ENDING, handled, like_interrupts, nothing
from packtivity.task import Task, run_task
from packtivity.tasklog import safe_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from packtivity.runtimes.cancellation import Cancellation
    from packtivity.types import JSON, ParametersLike


def run_envelope(
    envelope: Mapping[str, Any], patience: float | None = None, leaves_on: Sequence[int] = ()
) -> dict[str, Any]:
    """Run what an engine has brought, in a process of a user who may run it; see :mod:`packtivity.backends.engine`.

    :param patience: seconds to wait for another run of the same task to end before ``waiting`` is returned; for ever by
        default.
    :param leaves_on: signals with which the engine ends this process, for a reason of its own: the task is ended, and is to
        be delivered again; others of their kind end it for good. For a program of ours, in the main thread.
    :returns: as :func:`answer`; ``waiting`` for a task that is to be delivered again.
    :raises ConfigurationError: there is no task document in it.
    """
    enable_plugins()
    task = Task.from_json(envelope.get("task") or {})
    try:
        path = record_path(task)
    except PacktivityError:  # which the task then fails with
        path = None
    with CancelFile(path and record.cancel_path(path), patience) as asked, handled(leaves_on, asked.leave):
        with like_interrupts() if leaves_on else nullcontext():
            return answer(envelope["task"], asked)


def answer(document: Mapping[str, Any], cancel: Cancellation | None = None) -> dict[str, Any]:
    """Run a task and return how it went, as JSON; a task whose record is there already is not run again.

    :returns: ``status`` (``succeeded``, ``failed``, ``cancelled``), ``result``, ``error`` and ``record``: the path.
    :raises ConfigurationError: the document is none.
    """
    with handled(
        (signal.SIGINT, *ENDING), nothing, signal.SIG_IGN
    ):  # as workers of pools and engines ignore them, and the task must not
        said = _answer(document, cancel)
    path = said.get("record")
    if path:  # nobody needs to be asked any more to end it
        with suppress(OSError):
            os.unlink(record.cancel_path(path))
    return said


def _answer(document: Mapping[str, Any], cancel: Cancellation | None) -> dict[str, Any]:
    task = Task.from_json(document)
    try:
        check_datamodel(task.datamodel)
        state = task.load_state()
        path = record_place(state, task.metadata, task.id)
        told = path and final(path, task.id, key_of(task), mend=True)
        if told:
            return told
        result = run_task(task, cancel, state)
    except record.TaskOver:
        told = final(path, task.id, key_of(task), mend=True) if path else None
        return told or failed(task, WorkerLost("its record has vanished"))
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - a plug-in may raise anything: the task failed
        if isinstance(error, record.GivenBack) or (cancel is not None and cancel.gives_back(error)):
            return {"status": "waiting"}  # nobody is there to hear it, and somebody else will run the task
        return failed(task, error)
    return {"status": "succeeded", "result": result.json(), "error": None, "record": path}


def failed(task: Task, error: BaseException) -> dict[str, Any]:
    """Return the answer for a task that has failed, and see that there is a record of it; one that is there counts."""
    path = None
    try:
        path = record_path(task)
        if path and not final(path, task.id, key_of(task), mend=True):
            _record_failure(path, task, error, key_of(task))
        told = final(path, task.id, key_of(task)) if path else None
        if told:
            return told
    except PacktivityError as second:
        error.add_note(str(second))
    return unwritten(error, path, task.parameters)


def unwritten(error: BaseException, path: str | None = None, parameters: ParametersLike = None) -> dict[str, Any]:
    """Return the answer for a task that has failed; nothing is written.

    :param path: of its record.
    """
    hidden = record_fields.secrets(settings.environment(), parameters)
    said = record_fields.masked(record_fields.failure(error), hidden)
    return {"status": record_fields.status_of(error), "result": None, "error": said, "record": path}


def _record_failure(path: str, task: Task, error: BaseException, sealed_by: str | None = None) -> None:
    """Write the record of a task that could not even begin; nothing happens when that cannot be written."""
    now = time.time()
    document = record_fields.document(
        {"version": record.VERSION, "id": task.id, "key": None, "name": safe_name(task.metadata)},
        RunNotes(),
        span=(now, now),
        attempts=0,
        parameters=task.parameters,
        error=error,
    )
    try:
        if os.path.dirname(path) == f"{settings.state_dir()}/tasks":
            folders.state("tasks")
        stays = (lambda: record.is_over(path, sealed_by)) if sealed_by else None
        write_whole(path, seal.sealed(record_fields.encoded(document), sealed_by), sync=True, stays=stays)
    except StateError:
        return


def key_of(task: Task) -> str | None:
    """Return the key by which the record of a task is sealed: it has come with it, or is made of the user's own one.

    None for a task that neither has a key nor is this user's; any record of it counts.
    """
    return task.seal or (seal.own_record_key(task.id) if task.id is not None else None)


def record_path(task: Task) -> str | None:
    """Return where the record of a task with an id is, or will be; None for one without.

    :raises PacktivityError: its state cannot be used.
    """
    return record_place(task.load_state(), task.metadata, task.id)


def record_place(state: Any, metadata: JSON, task_id: str | None) -> str | None:
    """Return where the record of a task with an id belongs; None for one without."""
    home = record.home(state, task_id) if task_id is not None else None
    return home and record.record_path(home, metadata, task_id)


def final(path: str, task_id: str | None, key: str | None = None, *, mend: bool = False) -> dict[str, Any] | None:
    """Return what a record says about a task; None when it says nothing, or is about another one.

    :param key: by which it has to be sealed; None for one that cannot be verified here, which counts all the same.
    :param mend: see that it has its second name, too; for the task's runner and its owner.
    :raises StateError: it is there and cannot be read.
    """
    found, sealed = record.read_sealed(path, key)
    if found is None or found.get("id") != task_id or (key is not None and not sealed):
        return None
    if mend and task_id is not None:
        record.give_second_name(path, task_id, found)
    return {"status": found["status"], "result": found.get("result"), "error": found.get("error"), "record": path}
