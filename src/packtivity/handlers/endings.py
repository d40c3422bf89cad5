"""Says how a run ended, in words: for the log, for the record, and as the error of one that failed."""

from __future__ import annotations

import os
import re
import signal
from stat import S_ISDIR, S_ISREG
from typing import TYPE_CHECKING

from packtivity.errors import TaskFailed, TaskTimeout
from packtivity.signals import name_of

if TYPE_CHECKING:
    from packtivity.types import Completed, Execution

_TAIL_LINES = 20
_SHOWN = 200
_SHELLS = frozenset({"sh", "bash", "dash", "ash", "ksh", "zsh"})


def ending(returncode: int) -> str:
    """Return in words how a process ended: ``exit code 3``, ``killed by SIGKILL``."""
    return f"exit code {returncode}" if returncode >= 0 else f"killed by {name_of(-returncode, 'signal ')}"


def check(
    execution: Execution, completed: Completed, written: str | None, *, out_of_memory: bool = False, advice: str = ""
) -> None:
    """Raise the error of a run that failed; return when it succeeded.

    :param written: absolute path of the log with all output.
    :param out_of_memory: whether it was killed because it used too much memory.
    :param advice: what may be wrong, where more is known than an exit code says.
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
    message, hint = f"the task {how}: {shown}{where}", advice or _advice(execution, code, last)
    if out_of_memory:
        of = f" of {limit / 2**20:.0f} MiB" if limit else ""
        message, last = f"the task ran out of memory{of} and was killed{where}", text
        hint = "Give it more (--memory)." if limit else "Run it on a machine with more memory."
    raise TaskFailed(message, returncode=code, command=execution.argv, output=last, log=written, hint=hint)


def _short(execution: Execution) -> str:
    """Name what ran in one line: the command's first line, or interpreter and first command of a script."""
    argv, script = execution.argv, _script(execution)
    text = argv[2] if argv[:2] == ("sh", "-c") and len(argv) == 3 else " ".join(argv)
    if execution.stdin and script:
        lines = [line for line in script.splitlines() if line.strip() and not line.lstrip().startswith(("#", "set "))]
        text = f"script ({text}): " + "\n".join(lines or script.splitlines())
    lines = text.strip().splitlines() or [""]
    line = _printable(lines[0]) + (" …" if len(lines) > 1 else "")
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…"


def _script(execution: Execution) -> str:
    """Return what the shell or another interpreter reads."""
    if execution.stdin:
        return execution.stdin.decode("utf-8", "replace").strip()
    return execution.argv[2] if execution.argv[:2] == ("sh", "-c") and len(execution.argv) == 3 else ""


def _printable(line: str) -> str:
    return "".join(c if c.isprintable() or c == "\t" else "�" for c in line)


# --- the likely cause ------------------------------------------------------------------------------------------

_SIGNALS = {
    "SIGKILL": "Nothing but the system or a person does that; often memory ran out: `dmesg` or a batch system tells, and "
    "--memory sets what a container may use.",
    "SIGTERM": "A batch system whose time was over or a person does that, or the task itself (`kill`, `timeout`).",
    "SIGPIPE": "It wrote to a pipe that nobody read any more, such as one to `head`.",
    "SIGXCPU": "Its CPU time was used up: `ulimit -t`.",
    "SIGXFSZ": "It wrote a larger file than it may: `ulimit -f`.",
    "SIGILL": "It may be built for another CPU than this one.",
}
_CRASHES = frozenset({"SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL"})
_NOT_RUN = re.compile(
    r"(?:^|: )([^\s:]+): (?:command not found|not found|No such file or directory|Permission denied|Is a directory"
    r"|cannot execute|Exec format error|\S+: bad interpreter)"
)
"""How shells say that a program was not run (dash, bash, busybox)."""


def _advice(execution: Execution, code: int, output: str) -> str:
    """Return the likely cause of an exit code and where to look; empty where the code alone tells nothing."""
    if code in (126, 127):
        named = [match[1] for line in output.splitlines()[-3:] if (match := _NOT_RUN.search(line))]
        words = _script(execution).split()
        program = named[-1] if named else words[0] if len(words) == 1 else ""
        return _advice_on_program(execution, code, program)
    number = -code if code < 0 else code - 128
    if not 0 < number < signal.NSIG:
        return ""
    name = name_of(number)
    cause = _SIGNALS.get(name, "")
    if name in _CRASHES:
        cause = f"It crashed; the last output may tell why. {cause}".strip()
    if not cause or code < 0:
        return cause
    return f"Exit code {code} of a shell: a program that it ran got {name}. {cause}"


def _advice_on_program(execution: Execution, code: int, program: str) -> str:
    """Return why a shell did not find a program (127), or could not run it (126)."""
    place = f"in the image {execution.image}" if execution.image else "here"
    if "/" not in program:
        if code == 126:
            return "The shell found the program but could not run it: is it executable?"
        return f"The shell did not find {program or 'the program'}: is it installed {place}, and on the PATH?"
    path = os.path.join(execution.workdir or ("" if execution.image else os.getcwd()), program)
    known = _look_at(path) if _is_visible(execution, path) else None
    if known is not None:
        return known
    if code == 126:
        return f"{program} {place} could not be run: is it executable (chmod +x), and built for this kind of machine?"
    return f"Is there a file {path} {place}, and the program that its first line (#!) names? Paths such as ./x begin there."


def _is_visible(execution: Execution, path: str) -> bool:
    """Return whether a task sees the same at a path as we do here; links that it has made lead nowhere else."""
    if execution.image is None:
        return True
    shared = [os.path.realpath(mount.destination) for mount in execution.mounts if mount.kind == "bind"]
    real = os.path.realpath(path)
    return any(real.startswith(f"{directory.rstrip('/')}/") and os.path.isdir(directory) for directory in shared)


def _look_at(path: str) -> str | None:
    """Return what keeps a program from running; None where that cannot be seen."""
    try:
        mode = os.lstat(path).st_mode
        if S_ISDIR(mode):
            return f"{path} is a directory."
        if not S_ISREG(mode):
            return None
        if not mode & 0o111:
            return f"{path} is not executable: chmod +x, or run it with its interpreter."
        with open(path, "rb") as file:
            first = file.readline(256)
    except FileNotFoundError:
        return f"There is no file {path}; paths such as ./x begin in the directory that the task is in."
    except (OSError, ValueError):
        return None
    if not first.startswith(b"#!"):
        return f"{path} is there, and cannot be run: is it built for this kind of machine, and is its loader there?"
    line = _printable(first[2:].decode("utf-8", "replace").rstrip("\n").replace("\r", "\\r")).strip()
    if first.endswith(b"\r\n"):
        return f"Lines of {path} end as on Windows, so the program that its first line names is {line!r}: use dos2unix."
    return f"{path} is run by {line!r}, as its first line says: is that there?"


def went_on(execution: Execution | None) -> str:
    """Return what to do about a script that goes on after a line that failed; empty for one that does not, or is none."""
    if execution is None:
        return ""
    script = _script(execution)
    words = execution.argv[2].rpartition("&&")[2].split() if execution.stdin and len(execution.argv) == 3 else ["sh"]
    ends = [word for word in words[1:] if word.startswith("-") and not word.startswith("--") and "e" in word]
    if not words or os.path.basename(words[0]) not in _SHELLS or ends or re.search(_ERREXIT, script):
        return ""
    if not re.search(r"[\n;]", script.strip()):
        return ""
    return "A line that fails does not end the script (it has no `set -e`): look for the first error in the run log."


def eaten(execution: Execution | None) -> str:
    """Return which command may have read the rest of a script from standard input, where both are; empty for none."""
    if execution is None or not execution.stdin:
        return ""
    for line in _script(execution).splitlines()[:-1]:
        found = re.search(_READS, line)
        if found and not re.search(r"[<|]", line):
            return (
                f"The script stands on standard input, and {found[1]} may have read the lines after it: "
                f"write {found[1]} … </dev/null."
            )
    return ""


_READS = r"(?:^|[;&(]|\b(?:then|do|else)\b)\s*(cat(?=\s*(?:>|$))|ssh|root|srun|mpirun|mpiexec|ffmpeg|tee)(?=\s|$)"
"""Commands that read standard input though no file is named, as they are first used in scripts of this field."""
_ERREXIT = r"(?m)(?:^|[;&|]|\bthen\b)\s*set\s+(?:-\S+\s+)*(?:-[a-zA-Z]*e|-o\s+errexit)"
