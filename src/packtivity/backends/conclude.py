"""The end of a task that nobody of ours has written down.

An engine without a worker of ours has collected how a task went (:meth:`packtivity.backends.engine.Engine.collect`). The
owner's process puts its output into the run log, publishes its result and writes its record (:func:`finish`); whoever else
asks is told what would come of that (:func:`compute`), and nothing is written.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from packtivity import lease, notes, record, settings, worker
from packtivity.backends.observe import ending_of, from_answer
from packtivity.backends.proxies import shows_hidden
from packtivity.checks import check_outputs
from packtivity.errors import (
    BackendError,
    EnvironmentUnavailable,
    PacktivityError,
    ProxyError,
    StateError,
    TaskCancelled,
    TaskFailed,
    TaskTimeout,
    WorkerLost,
)
from packtivity.handlers.execution_handlers import check, ending
from packtivity.runtimes.plan import shell_argv
from packtivity.task import Run, build_job, configure
from packtivity.tasklog import log_failure, run_log, step_log
from packtivity.types import Completed, Execution

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from logging import Logger

    from packtivity.backends.engine import Collected, Engine, Submission
    from packtivity.backends.status import Decision, TaskStatus
    from packtivity.task import Task
    from packtivity.types import Diagnostic, Job, Parameters, RunLog

_TAIL = 1 << 13
_SAY_NOTHING = (ProxyError, BackendError, OSError)
"""Errors of ours or of the engine's, which say nothing of the task."""


def finish(
    engine: Engine,
    submission: Submission,
    task: Task,
    claim: str | None,
    *,
    cancel: bool = False,
    warn: Callable[[Diagnostic], None] | None = None,
) -> TaskStatus | None:
    """Write down how a task of one's own went, and return that; what its record says already stays.

    :param claim: path of the file that its runner would lock.
    :param cancel: end it, after its output was taken and before its record is written.
    :param warn: called with each warning.
    :returns: None when another run of the same task has the lock now.
    :raises BackendError: the engine cannot be asked now, or has not ended it; nothing is concluded then.
    :raises StateError: something cannot be written.
    """
    work = _Work(task, engine.collect(submission, task), warn)
    path = worker.record_place(work.state, task.metadata, task.id)
    taken = None
    if claim is not None and settings.current().record:
        taken = lease.attempt(claim)
        if taken is None:
            return None
    with _writer(work, taken) as writer:
        ending = ending_of(path, str(task.id), own=True)
        if ending is not None:
            return ending
        return work.write(writer, path, (lambda: _end(engine, submission)) if cancel else None)


def _end(engine: Engine, submission: Submission) -> None:
    """End a task of which nobody but its engine takes care.

    :raises BackendError: it still has it.
    """
    engine.kill([submission])
    (native,) = engine.look([submission])
    if native.said not in ("ended", "gone"):
        raise BackendError(
            f"the engine {engine.name} has not ended the task {submission.id} yet: {native.reason or native.said}",
            hint=native.hint or "Ask again.",
        )


def compute(engine: Engine, submission: Submission, task: Task) -> TaskStatus:
    """Return how a task went that may be somebody else's; nothing is written.

    :raises BackendError: the engine cannot be asked now.
    :raises ProxyError: the result has a value in it that is not in a proxy's document.
    """
    work = _Work(task, engine.collect(submission, task))
    try:
        result = work.publish(work.ended(None, None))
    except _SAY_NOTHING:
        raise
    except Exception as error:  # noqa: BLE001 - a plug-in may raise anything: the task failed
        return from_answer(worker.unwritten(error, None, task.parameters))
    if shows_hidden(result.json()):
        raise ProxyError(
            "the result has a parameter in it whose value is not kept in proxy documents",
            hint="Ask as the user who submitted the task, with the same PACKTIVITY_STATE_DIR, or give the parameter "
            "another name.",
        )
    return from_answer({"status": "succeeded", "result": result.json()})


@contextmanager
def of_this_machine() -> Iterator[None]:
    """See that a disk that cannot be used is said to be that: it says nothing of the task.

    :raises StateError: it cannot be used.
    """
    try:
        yield
    except OSError as error:
        raise StateError(f"the task's files cannot be used now: {error}", hint="Ask again.") from error


@contextmanager
def _writer(work: _Work, taken: lease.Lease | None) -> Iterator[record.RecordWriter | None]:
    """Give the writer of the record; None where none is wanted."""
    home = record.home(work.state, work.task.id)
    if taken is None or home is None:
        yield None
        return
    task, collected = work.task, work.collected
    key = record.task_key(task.spec, task.parameters, work.state)
    writer = record.RecordWriter(taken, home, task.metadata, key, task.parameters, work.state, work.exec_config)
    try:
        writer.ran(collected.started, collected.ended, max(1, collected.attempts))
        yield writer
    finally:
        writer.close()


class _Ended(NamedTuple):
    """What ran, how it ended, and the path of the run log."""

    execution: Execution
    completed: Completed
    written: str | None


class _Work:
    """What is done about one task."""

    def __init__(self, task: Task, collected: Collected, warn: Callable[[Diagnostic], None] | None = None) -> None:
        self.task, self.collected, self.state = task, collected, task.load_state()
        config = {**task.config, "exec": {**(task.config.get("exec") or {}), "task_id": task.id}}
        pack_config, self.exec_config = configure(config)
        self.exec_config.warn, self.exec_config.seal = warn, task.seal
        self._run = Run(task.spec, task.parameters, self.state, task.metadata, pack_config, self.exec_config)

    def write(self, writer: record.RecordWriter | None, path: str | None, end: Callable[[], None] | None) -> TaskStatus:
        """Write logs and record, and return what the record says."""
        path = path if writer is not None else None
        try:
            result = self._logged(end).json()
            if writer is not None:
                writer.succeeded(result)
        except _SAY_NOTHING:
            raise
        except Exception as error:  # noqa: BLE001 - a plug-in may raise anything: the task failed
            if writer is not None:
                writer.failed(error)
            return from_answer(worker.unwritten(error, path, self.task.parameters))
        return from_answer({"status": "succeeded", "result": result, "record": path})

    def _logged(self, end: Callable[[], None] | None) -> Parameters:
        about = self.exec_config, self.task.metadata, self.state
        with step_log(*about) as log:
            try:
                with run_log(*about) as run:
                    ended = self.ended(log, run)
                if end is not None:
                    end()
                    raise TaskCancelled("the task was cancelled")
                result = self.publish(ended)
                log.info("publishing data: %s", result)
                check_outputs(self.task.spec["publisher"], result, self.state, self.exec_config, log)
            except Exception as error:
                log_failure(log, error)
                raise
            return result

    def publish(self, ended: _Ended) -> Parameters:
        """Return the result.

        :raises PacktivityError: the task has failed, or it cannot be published.
        """
        _refuse(self.collected, ended)
        return self._run.bound().publish()

    def ended(self, log: Logger | None, run: RunLog | None) -> _Ended:
        """Note what ran and how it ended, and get its output."""
        collected = self.collected
        size, tail = _copy(collected, log, run)
        bound = self._run.bound()
        job = build_job(bound.spec["process"], bound.parameters, bound.state, bound.pack_config)
        (argv, stdin), image = shell_argv(job, self.task.spec["environment"]), collected.image[0] or None
        execution = Execution(argv, stdin, collected.workdir, image=image, timeout=collected.timeout)
        now = time.time()
        completed = Completed(
            returncode=-1 if collected.returncode is None else collected.returncode,
            started=collected.started or now,
            ended=collected.ended or now,
            output_bytes=size,
            tail=tail,
            timed_out=collected.cause == "timeout",
        )
        self._note(job, execution, completed, log)
        return _Ended(execution, completed, run.path if run is not None else None)

    def _note(self, job: Job, execution: Execution, completed: Completed, log: Logger | None) -> None:
        collected = self.collected
        known = collected.returncode is not None
        noted, image = notes.current(), execution.image
        noted.job, noted.execution, noted.usage = job, execution, None
        noted.image = {"reference": image, "digest": collected.image[1] or None} if image else None
        noted.out_of_memory = collected.cause == "memory" if known else None
        if known or completed.timed_out:
            noted.completed = completed
        if known and log is not None:
            log.info("%s after %.0f s", ending(completed.returncode), completed.ended - completed.started)


def _copy(collected: Collected, log: Logger | None, run: RunLog | None) -> tuple[int, bytes]:
    """Put the output into the run log; returns its size and its end."""
    size, tail = 0, b""
    for piece in collected.output:
        if isinstance(piece, bytes):
            size, tail = size + len(piece), (tail + piece)[-_TAIL:]
            if run is not None:
                run.write(piece)
            continue
        if log is not None:
            log.warning("%s", piece)
        if run is not None:
            run.note(piece)
    return size, tail


def _refuse(collected: Collected, ended: _Ended) -> None:
    """Raise what says why a task failed; return when it did not.

    :raises PacktivityError: it failed.
    """
    where = f"\nAll output: {ended.written}" if ended.written and ended.completed.output_bytes else ""
    message, hint = f"{collected.reason}{where}", collected.hint
    if collected.cause == "cancel":
        raise TaskCancelled("the task was cancelled")
    if collected.cause == "lost":
        raise WorkerLost(message, hint=hint)
    if collected.cause == "refused":
        raise EnvironmentUnavailable(message, hint=hint)
    if collected.cause == "memory":
        raise TaskFailed(
            message,
            returncode=ended.completed.returncode,
            command=ended.execution.argv,
            output=ended.completed.tail.decode("utf-8", "replace"),
            log=ended.written,
            hint=hint,
        )
    check(ended.execution, ended.completed, ended.written)


def error_of_lost(decision: Decision, attempts: int, *, began: bool) -> PacktivityError:
    """Return the error of a task that nobody runs any more."""
    reason = f": {decision.reason}" if decision.reason else ""
    if decision.cause == "cancel":
        return TaskCancelled("the task was cancelled" if began else "the task was cancelled before it began")
    if decision.cause == "timeout":
        return TaskTimeout(f"the engine ended the task, whose time was over{reason}")
    if decision.cause == "refused":
        return EnvironmentUnavailable(f"the engine does not run the task{reason}")
    if decision.cause == "memory":
        return WorkerLost(f"the engine ended the task, which ran out of memory{reason}", hint="Give it more memory.")
    how = f"whoever ran this task died with it, {attempts} times" if attempts > 1 else "whoever ran this task died"
    return WorkerLost(f"{how}{reason}", hint="Does it use up the memory, or kill its parent? Its run log may tell.")
