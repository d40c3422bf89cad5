"""Says how a run ended, in words: for the log, for the record, and as the error of one that failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packtivity.errors import TaskFailed, TaskTimeout
from packtivity.signals import name_of

if TYPE_CHECKING:
    from packtivity.types import Completed, Execution

_TAIL_LINES = 20
_SHOWN = 200
_ADVICE = {
    126: "The shell found the program but could not run it: is it executable?",
    127: "The shell did not find the program: is it installed, and on the PATH?",
    -9: "Nothing but the system or a person does that; often memory ran out.",
}


def ending(returncode: int) -> str:
    """Return in words how a process ended: ``exit code 3``, ``killed by SIGKILL``."""
    return f"exit code {returncode}" if returncode >= 0 else f"killed by {name_of(-returncode, 'signal ')}"


def check(execution: Execution, completed: Completed, written: str | None, *, out_of_memory: bool = False) -> None:
    """Raise the error of a run that failed; return when it succeeded.

    :param written: absolute path of the log with all output.
    :param out_of_memory: whether it was killed because it used too much memory.
    :raises TaskFailed: it ended with an exit code other than 0.
    :raises TaskTimeout: it ran longer than it may.
    """
    code, limit = completed.returncode, execution.limits.memory
    if code == 0 and not completed.timed_out:
        return
    where = f"\nAll output: {written}" if written else ""
    text = completed.tail.decode("utf-8", "replace")
    last = "\n".join(map(_printable, text.splitlines()[-_TAIL_LINES:]))
    indented = "\n".join(f"  | {line}" for line in last.splitlines())
    shown = f"{_short(execution)}\nLast output:\n{indented}" if last else f"{_short(execution)}\nIt wrote no output."
    if completed.timed_out:
        raise TaskTimeout(
            f"the task was ended because it ran longer than {execution.timeout:g} s: {shown}{where}",
            hint="Give it more time, or look at what it was waiting for.",
        )
    how = f"failed with {ending(code)}" if code >= 0 else f"was killed ({name_of(-code)})"
    message, hint = f"the task {how}: {shown}{where}", _ADVICE.get(code, "")
    if out_of_memory:
        of = f" of {limit / 2**20:.0f} MiB" if limit else ""
        message, last = f"the task ran out of memory{of} and was killed{where}", text
        hint = "Give it more (--memory)." if limit else "Run it on a machine with more memory."
    raise TaskFailed(message, returncode=code, command=execution.argv, output=last, log=written, hint=hint)


def _short(execution: Execution) -> str:
    """Name what ran in one line: the command itself, or the interpreter with the first line of its script."""
    argv = execution.argv
    text = argv[2] if argv[:2] == ("sh", "-c") and len(argv) == 3 else " ".join(argv)
    lines = text.strip().splitlines() or [""]
    line = _printable(lines[0]) + (" …" if len(lines) > 1 else "")
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…"


def _printable(line: str) -> str:
    return "".join(c if c.isprintable() or c == "\t" else "�" for c in line)
