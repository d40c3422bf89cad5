"""Runs what was planned as a process: output to the logs, notes for the record, an error that says what went wrong."""

from __future__ import annotations

import shlex
import signal
from typing import TYPE_CHECKING

from packtivity import notes
from packtivity.errors import TaskFailed, TaskTimeout
from packtivity.logfiles import mkdir_p
from packtivity.runtimes import process
from packtivity.tasklog import run_log, step_log

if TYPE_CHECKING:
    from logging import Logger

    from packtivity.handlers.config import ExecutionConfig
    from packtivity.types import Completed, Execution, Metadata, State

_TAIL_LINES = 20
_SHOWN = 200


def execute(
    execution: Execution, config: ExecutionConfig, state: State | None, metadata: Metadata | None
) -> Completed | None:
    """Run what was planned, output going to the log of the topic ``run``; log and run nothing when it is a dry run.

    :raises TaskFailed: it ended with an exit code other than 0.
    :raises TaskTimeout: it ran longer than it may.
    :raises StateError: the work directory cannot be made, or a log not written.
    """
    with step_log(config, metadata, state) as step:
        log_execution(step, execution)
        if config.dry_run():
            step.info("dry run: not run")
            return None
        if execution.workdir is not None and execution.image is None:
            mkdir_p(execution.workdir)
        with run_log(config, metadata, state) as log:
            try:
                completed = process.run(
                    execution,
                    log=log,
                    reporter=config.reporter,
                    grace=config.grace,
                    cancel=config.cancel,
                    keep=notes.current().held,
                    noted=True,
                )
            except KeyboardInterrupt as interrupt:
                process.note_end(interrupt, None if log is None else log.path)
                raise
            written = log.path if log is not None else None
        log_completed(step, completed)
        check(execution, completed, written)
        return completed


def log_execution(step: Logger, execution: Execution) -> None:
    """Log what is about to run; values of variables are left out."""
    notes.current().execution = execution
    step.info("running: %s", shlex.join(execution.argv))
    if execution.stdin:
        step.debug("standard input:\n%s", execution.stdin.decode("utf-8", "replace"))
    if execution.workdir:
        step.debug("in directory: %s", execution.workdir)
    if not execution.inherit_env or execution.env:
        kind = "added to the caller's environment" if execution.inherit_env else "clean environment"
        step.debug("%s: %s", kind, ", ".join(sorted(execution.env)) or "nothing")


def log_completed(step: Logger, completed: Completed) -> None:
    """Log how a run ended and what it used."""
    notes.current().completed = completed
    step.info(
        "%s after %.3f s (CPU %.3f s, memory %.1f MB, output %d bytes)",
        ending(completed.returncode),
        completed.ended - completed.started,
        completed.cpu,
        completed.max_rss / 1e6,
        completed.output_bytes,
    )


def ending(returncode: int) -> str:
    """Return in words how a process ended: ``exit code 3``, ``killed by SIGKILL``."""
    return f"exit code {returncode}" if returncode >= 0 else f"killed by {signal_name(-returncode, 'signal ')}"


def signal_name(number: int, unknown: str = "SIG") -> str:
    """Return ``SIGKILL`` for 9; of a signal without a name, ``unknown`` and its number."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"{unknown}{number}"


def check(execution: Execution, completed: Completed, written: str | None, advice: str = "") -> None:
    """Raise the error of a run that failed; return when it succeeded.

    :param written: absolute path of the log with all output.
    :param advice: what may be wrong, when more is known than an exit code says.
    :raises TaskFailed: it ended with an exit code other than 0.
    :raises TaskTimeout: it ran longer than it may.
    """
    if completed.returncode == 0 and not completed.timed_out:
        return
    last = "\n".join(map(_printable, completed.tail.decode("utf-8", "replace").splitlines()[-_TAIL_LINES:]))
    where = f"\nAll output: {written}" if written else ""
    indented = "\n".join(f"  | {line}" for line in last.splitlines())
    shown = f"\nLast output:\n{indented}" if last else "\nIt wrote no output."
    if completed.timed_out:
        raise TaskTimeout(
            f"the task was ended because it ran longer than {execution.timeout:g} s: {_short(execution)}{shown}{where}",
            hint="Give it more time, or look at what it was waiting for.",
        )
    code = completed.returncode
    how = f"failed with {ending(code)}" if code >= 0 else f"was killed ({signal_name(-code)})"
    raise TaskFailed(
        f"the task {how}: {_short(execution)}{shown}{where}",
        returncode=completed.returncode,
        command=execution.argv,
        output=last,
        log=written,
        hint=advice or _ADVICE.get(code, ""),
    )


def _short(execution: Execution) -> str:
    """Name what ran in one line: the command itself, or the interpreter with the first line of its script."""
    argv = execution.argv
    text = argv[2] if argv[:2] == ("sh", "-c") and len(argv) == 3 else " ".join(argv)
    lines = text.strip().splitlines() or [""]
    line = _printable(lines[0]) + (" …" if len(lines) > 1 else "")
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…"


def _printable(line: str) -> str:
    return "".join(c if c.isprintable() or c == "\t" else "�" for c in line)


_ADVICE = {
    126: "The shell found the program but could not run it: is it executable?",
    127: "The shell did not find the program: is it installed, and on the PATH?",
    -9: "Nothing but the system or a person does that; often memory ran out.",
}
