"""How a command ends: the message for each kind of error, and the exit code."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from packtivity import errors
from packtivity.cli import signals

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from packtivity.types import Diagnostic

WRONG_USAGE = 2
INTERNAL = 70
CANNOT_WRITE = 73
OPERATING_SYSTEM = 74
STILL_RUNNING = 75
FAILED = 6
SIGNALLED = 128
"""Added to the number of the signal that ended the command, as shells do."""

_INTERRUPT, _BROKEN_PIPE = 2, 13
_ENDS = {1: "the terminal went away", 2: "interrupted", 15: "terminated"}


class CannotWrite(errors.PacktivityError):
    """A file that the command was asked to write cannot be written; nothing has been run if that was clear before."""

    exit_code = CANNOT_WRITE


def exit_codes() -> list[tuple[int, str, str]]:
    """Return (code, name, meaning) for every way our commands end, sorted by code; the reference is made from it."""
    table = [
        (0, "success", "The command did what it was asked to."),
        (STILL_RUNNING, "StillRunning", "A submitted task that was asked for is not over yet (packtivity-checkproxy)."),
        (OPERATING_SYSTEM, "OSError", "The operating system refused something: disk full, permission denied."),
        (SIGNALLED + 1, "SIGHUP", "The terminal went away; the task was ended first."),
        (SIGNALLED + _INTERRUPT, "SIGINT", "Interrupted (Ctrl-C); the task was ended first."),
        (SIGNALLED + _BROKEN_PIPE, "SIGPIPE", "Whoever read our output stopped reading (`| head`)."),
        (SIGNALLED + 15, "SIGTERM", "Terminated; the task was ended first."),
    ]
    ours = [error for error in _tree(errors.PacktivityError) if error.__module__.startswith("packtivity.")]
    return sorted({*table, *((error.exit_code, error.__name__, _summary(error)) for error in ours)})


def _tree(root: type[errors.PacktivityError]) -> Iterator[type[errors.PacktivityError]]:
    yield from (errors.InvalidSpec, errors.TaskFailed)
    waiting = [root]
    while waiting:
        error = waiting.pop()
        waiting += error.__subclasses__()
        if error not in (errors.InvalidSpec, errors.TaskFailed):
            yield error


def _summary(error: type[errors.PacktivityError]) -> str:
    first = (error.__doc__ or "").partition("\n\n")[0]
    return " ".join(first.split())


def conclude(error: BaseException, *, debug: bool = False) -> int:
    """Print what ended the command on standard error and return the exit code to end with.

    :param error: what reached the outermost frame; ``SystemExit`` is raised again.
    :param debug: print the traceback too.
    """
    if isinstance(error, SystemExit):
        raise error
    if isinstance(error, BrokenPipeError):
        _stop_writing()
        return SIGNALLED + _BROKEN_PIPE
    if debug:
        import traceback

        complain("".join(traceback.format_exception(error)).rstrip("\n"))
    text, code = _explain(error)
    complain(text)
    return code


def _explain(error: BaseException) -> tuple[str, int]:
    if isinstance(error, errors.PacktivityError):
        return explain(error), error.exit_code
    if isinstance(error, KeyboardInterrupt):
        number = signals.received or _INTERRUPT
        return f"error: {_ENDS.get(number, 'ended by a signal')}", SIGNALLED + number
    if isinstance(error, MemoryError):
        return "error: out of memory", OPERATING_SYSTEM
    if isinstance(error, OSError) and error.strerror:
        where = f": {error.filename}" if error.filename else ""
        return f"error: {error.strerror}{where}", OPERATING_SYSTEM
    what = " ".join(f"{type(error).__name__}: {error}".split())
    return f"error: internal error: {what} (please report this; run again with --debug to see where)", INTERNAL


def explain(error: errors.PacktivityError) -> str:
    """Return the message for an error; where there are diagnostics, they say most of it."""
    diagnostics = getattr(error, "diagnostics", None)
    if not diagnostics:
        return f"error: {error}"
    # The message of an invalid document is made of its diagnostics.
    told_already = diagnostics[0].message in str(error)
    return f"{told(diagnostics)}\nerror: {_SUMMARY.get(error.exit_code, 'not valid') if told_already else error}"


_SUMMARY = {1: "the spec is not valid", 4: "the parameters cannot be read"}


def printable(text: str) -> str:
    """Return one line without the characters that would steer a terminal."""
    text = text.rstrip("\r").replace("\t", "    ")
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def told(diagnostics: Iterable[Diagnostic], form: str = "text") -> str:
    """Return diagnostics as text for standard error, coloured if that is a terminal that wants it."""
    from packtivity.cli.terminal import wants_colour
    from packtivity.spec.diagnostics import render

    color = form == "text" and wants_colour(sys.stderr)
    return render(tuple(diagnostics), form, color=color).rstrip("\n")


def complain(text: str) -> None:
    """Print on standard error; a closed or full one is no reason to fail."""
    try:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
    except UnicodeEncodeError:
        sys.stderr.write(text.encode("ascii", "backslashreplace").decode("ascii") + "\n")
    except (OSError, ValueError, AttributeError):
        pass


def warn(text: str) -> None:
    """Print a warning on standard error."""
    complain(f"warning: {text}")


def _stop_writing() -> None:
    """Point standard output at nothing, so that the interpreter does not stumble when it flushes at exit."""
    try:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
        os.close(nothing)
    except (OSError, ValueError):
        pass
