"""What a worker does with a task document, wherever it runs: run it, or say how it went when it has been run.

A document may come from anywhere. It says what to run, yet nothing is imported that the user of the worker has not
configured: leaf types have to be of modules that ``PACKTIVITY_PLUGINS`` names.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from packtivity import folders, record, record_fields, seal, settings
from packtivity.datamodel.leafmodel import check_datamodel
from packtivity.errors import PacktivityError, StateError, TaskCancelled, WorkerLost
from packtivity.files import write_whole
from packtivity.notes import RunNotes
from packtivity.plugins import enable_plugins
from packtivity.runtimes.cancellation import CancelFile, handled
from packtivity.task import Task, run_task

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from packtivity.runtimes.process import Cancellation
    from packtivity.types import JSON, ParametersLike


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
    with CancelFile(path and record.cancel_path(path), patience) as asked, handled(leaves_on, asked.leave):
        return answer(envelope["task"], asked)


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


_let_go = False


def _let_go_of_ignored_signals() -> None:
    """See that the task does not inherit that signals are ignored, as workers of pools and engines do."""
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
    """Return the answer for a task that has failed, and see that there is a record of it; one that is there counts."""
    path = None
    try:
        path = record_path(task)
        if path and not final(path, task.id, key_of(task), mend=True):
            about = {"id": task.id, "name": (task.metadata or {}).get("name"), "parameters": task.parameters}
            _record_failure(path, about, error, key_of(task))
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
    status = "cancelled" if isinstance(error, (TaskCancelled, KeyboardInterrupt)) else "failed"
    hidden = record_fields.secrets(settings.environment(), parameters)
    said = record_fields.masked(record_fields.failure(error), hidden)
    return {"status": status, "result": None, "error": said, "record": path}


def _record_failure(path: str, about: Mapping[str, Any], error: BaseException, sealed_by: str | None = None) -> None:
    """Write the record of a task that could not even begin; nothing happens when that cannot be written.

    :param about: ``id``, ``name`` and ``parameters``.
    """
    now = record_fields.moment(time.time())
    hidden = record_fields.secrets(settings.environment(), about.get("parameters"))
    document = {
        "version": record.VERSION,
        "key": None,
        "status": "cancelled" if isinstance(error, (TaskCancelled, KeyboardInterrupt)) else "failed",
        "started": now,
        "ended": now,
        "seconds": 0.0,
        **record_fields.ending(RunNotes()),
        "attempts": 0,
        "error": record_fields.masked(record_fields.failure(error), hidden),
        **dict.fromkeys(("job", "command", "workdir", "image", "result")),
        **record_fields.masked(dict(about), hidden),
        "missing": [],
        "warnings": [],
        "published": [],
        "versions": record_fields.versions(),
    }
    try:
        if os.path.dirname(path) == f"{settings.state_dir()}/tasks":
            folders.state("tasks")
        content = json.dumps(document, separators=(",", ":"), default=str).encode("utf-8", "backslashreplace")
        stays = (lambda: record.is_over(path, sealed_by)) if sealed_by else None
        write_whole(path, seal.sealed(content, sealed_by), sync=True, stays=stays)
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
