"""The end of a task that nobody of ours has written down.

An engine without a worker of ours has collected how a task went (:meth:`packtivity.backends.engine.Engine.collect`). The
owner's process puts its output into the run log, publishes its result and writes its record (:func:`finish`); whoever else
asks is told what would come of that (:func:`compute`), and nothing is written.
"""

from __future__ import annotations

import logging
import time
from contextlib import closing, contextmanager, nullcontext
from typing import TYPE_CHECKING

from packtivity import lease, notes, record, record_fields, settings, worker
from packtivity.backends.proxies import HIDDEN
from packtivity.backends.status import TaskStatus
from packtivity.backends.task_files import ending_of
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
from packtivity.task import attempt, walk
from packtivity.tasklog import run_log, step_log
from packtivity.types import Completed, Execution

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from logging import Logger

    from packtivity.backends.engine import Collected, Engine, Submission
    from packtivity.backends.status import Decision
    from packtivity.task import Run, Task
    from packtivity.types import Diagnostic, Job, Parameters, Part, RunLog

_TAIL = 1 << 13
_silent = logging.getLogger(__name__)
_silent.addHandler(logging.NullHandler())


@contextmanager
def _of_this_machine() -> Iterator[None]:
    """See that a disk that cannot be used is said to be that: it says nothing of the task.

    :raises StateError: it cannot be used.
    """
    try:
        yield
    except PacktivityError:
        raise
    except OSError as error:
        raise StateError.of(error, f"the task's files cannot be used now: {error}", hint="Ask again.") from error


@_of_this_machine()
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
    collected, run = engine.collect(submission, task), task.to_run()
    run.exec_config.warn = warn
    about = run.exec_config, run.metadata, run.state

    def replay(job: Job, environment: Part, *_: object) -> None:
        with step_log(*about) as log, run_log(*about) as output:
            execution, completed = _replay(collected, job, environment, log, output)
            written = output.path if output is not None else None
        if cancel:
            _end(engine, submission)
            raise TaskCancelled("the task was cancelled")
        _check(collected, execution, completed, written)

    path = worker.record_place(run.state, task.metadata, task.id)
    taken = None
    if claim is not None and settings.current().record:
        taken = lease.attempt(claim)
        if taken is None:
            return None
    with closing(_writer(run, task, collected, taken)) if taken is not None else nullcontext() as writer:
        already = ending_of(path, str(task.id), own=True)
        return already or _outcome(lambda: attempt(run._replace(execute=replay)), task, writer, path)


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


def _writer(run: Run, task: Task, collected: Collected, taken: lease.Lease) -> record.RecordWriter:
    home, key = str(record.home(run.state, task.id)), record.task_key(task.spec, task.parameters, run.state)
    writer = record.RecordWriter(taken, home, task.metadata, key, task.parameters, run.state, run.exec_config)
    writer.ran(collected.started, collected.ended, max(1, collected.attempts))
    return writer


def _outcome(
    publish: Callable[[], Parameters], task: Task, writer: record.RecordWriter | None = None, path: str | None = None
) -> TaskStatus:
    """Return how a task went, and write the record where there is a writer for it."""
    path = path if writer is not None else None
    try:
        result = publish().json()
        if writer is not None:
            writer.succeeded(result)
    except (ProxyError, BackendError):  # of ours or of the engine's: they say nothing of the task
        raise
    except Exception as error:  # a plug-in may raise anything: the task failed
        if isinstance(error, OSError) and not isinstance(error, PacktivityError):  # nor does a disk that is away
            raise
        if writer is not None:
            writer.failed(error)
        return TaskStatus.from_answer(worker.unwritten(error, path, task.parameters))
    return TaskStatus("succeeded", result, record=path)


@_of_this_machine()
def compute(engine: Engine, submission: Submission, task: Task) -> TaskStatus:
    """Return how a task went that may be somebody else's; nothing is written.

    :raises BackendError: the engine cannot be asked now.
    :raises ProxyError: the result has a value in it that is not in a proxy's document.
    """
    collected, run = engine.collect(submission, task), task.to_run()

    def replay(job: Job, environment: Part, *_: object) -> None:
        _check(collected, *_replay(collected, job, environment, _silent, None), None)

    status = _outcome(lambda: walk(run._replace(execute=replay).bound(), _silent), task)
    if any(HIDDEN in text for text in record_fields.strings(status.result)):
        raise ProxyError(
            "the result has a parameter in it whose value is not kept in proxy documents",
            hint="Ask as the user who submitted the task, with the same PACKTIVITY_STATE_DIR, or give the parameter "
            "another name.",
        )
    return status


def _replay(
    collected: Collected, job: Job, environment: Part, log: Logger, output: RunLog | None
) -> tuple[Execution, Completed]:
    """Log what a task has printed, and note what ran and how it ended, as if it had run here."""
    size, tail = 0, b""
    for piece in collected.output:
        if isinstance(piece, bytes):
            size, tail = size + len(piece), (tail + piece)[-_TAIL:]
        else:
            log.warning("%s", piece)
        if output is not None:
            output.write(piece) if isinstance(piece, bytes) else output.note(piece)
    (argv, stdin), image, known = (
        shell_argv(job, environment),
        collected.image[0] or None,
        collected.returncode is not None,
    )
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
    noted = notes.current()
    noted.execution, noted.usage = execution, None
    noted.image = {"reference": image, "digest": collected.image[1] or None} if image else None
    noted.out_of_memory = collected.cause == "memory" if known else None
    noted.completed = completed if known or completed.timed_out else None
    if known:
        log.info("%s after %.0f s", ending(completed.returncode), completed.ended - completed.started)
    return execution, completed


def _check(collected: Collected, execution: Execution, completed: Completed, written: str | None) -> None:
    """Raise what says why a task failed; return when it did not.

    :param written: path of the run log.
    :raises PacktivityError: it failed.
    """
    where = f"\nAll output: {written}" if written and completed.output_bytes else ""
    message, hint = f"{collected.reason}{where}", collected.hint
    if collected.cause == "cancel":
        raise TaskCancelled("the task was cancelled")
    if collected.cause == "lost":
        raise WorkerLost(message, hint=hint)
    if collected.cause == "refused":
        raise EnvironmentUnavailable(message, hint=hint)
    if collected.cause == "memory":
        output = completed.tail.decode("utf-8", "replace")
        code, argv = completed.returncode, execution.argv
        raise TaskFailed(message, returncode=code, command=argv, output=output, log=written, hint=hint)
    check(execution, completed, written)


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
