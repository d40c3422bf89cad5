"""How a command ends: the message for each kind of error, and the exit code."""

from __future__ import annotations

import os
import sys
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING

from packtivity import errors, signals
from packtivity.cli.terminal import show_error, wants_colour
from packtivity.printable import escaped, printable, readable
from packtivity.registry import foreign_code

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from packtivity.types import Diagnostic

INTERNAL = 70
CANNOT_WRITE = 73
OPERATING_SYSTEM = 74
STILL_RUNNING = 75
FAILED = 6
SIGNALLED = 128
"""Added to the number of the signal that ended the command, as shells do."""

_INTERRUPT, _BROKEN_PIPE = 2, 13
_ENDS = {1: "the terminal went away", 2: "interrupted", 3: "quit", 15: "terminated"}


class CannotWrite(errors.PacktivityError):
    """A file that the command was asked to write cannot be written; nothing has been run if that was clear before."""

    exit_code = CANNOT_WRITE


class GuestFailed(errors.PacktivityError):
    """Code that is not packtivity's raised an error of its own: a plug-in, backend or log handler, which is named."""

    exit_code = 14


def exit_codes() -> list[tuple[int, str, str]]:
    """Return (code, name, meaning) for every way our commands end, sorted by code; the reference is made from it."""
    table = [
        (0, "success", "The command did what it was asked to."),
        (STILL_RUNNING, "StillRunning", "A submitted task that was asked for is not over yet (packtivity-checkproxy)."),
        (OPERATING_SYSTEM, "OSError", "The operating system refused something: disk full, permission denied."),
        (SIGNALLED + 1, "SIGHUP", "The terminal went away; the task was ended first."),
        (SIGNALLED + _INTERRUPT, "SIGINT", "Interrupted (Ctrl-C); the task was ended first."),
        (SIGNALLED + 3, "SIGQUIT", "Told to quit (Ctrl-\\); the task was ended first."),
        (SIGNALLED + _BROKEN_PIPE, "SIGPIPE", "Whoever read our output stopped reading (`| head`)."),
        (SIGNALLED + 15, "SIGTERM", "Terminated; the task was ended first."),
    ]
    # Subclasses elsewhere end with the code of their class here; which of them are imported is chance.
    listed = {__name__, errors.InvalidSpec.__module__}
    for error in _tree(errors.PacktivityError):
        if error.__module__ in listed:
            summary = (error.__doc__ or "").partition("\n\n")[0]
            table.append((error.exit_code, error.__name__, " ".join(summary.split())))
    return sorted(table)


def _tree(root: type[errors.PacktivityError]) -> Iterator[type[errors.PacktivityError]]:
    yield root
    for error in root.__subclasses__():
        yield from _tree(error)


def conclude(error: BaseException, *, debug: bool = False, validated: bool = True) -> int:
    """Print what ended the command on standard error and return the exit code to end with.

    :param error: what reached the outermost frame; ``SystemExit`` is raised again.
    :param debug: print the traceback too.
    :param validated: whether the spec was checked, so that it cannot be what is wrong.
    """
    if isinstance(error, SystemExit):
        raise error
    if isinstance(error, OSError):
        _drop_unwritable()
    if isinstance(error, BrokenPipeError) and not isinstance(error, errors.PacktivityError):
        return SIGNALLED + _BROKEN_PIPE
    if debug:
        complain("".join(traceback.format_exception(error)).rstrip("\n"))
    text, code = _explain(error)
    if code == INTERNAL and not validated and not isinstance(error, errors.PacktivityError):
        what = readable(f"{type(error).__name__}: {error}")
        hint = "It was not checked; leave out --no-validate to see what is wrong with it."
        text, code = f"error: the spec cannot be used: {what}\n  {hint}", errors.InvalidSpec.exit_code
    show_error(text)  # with colours, where there are diagnostics
    return code


def _explain(error: BaseException) -> tuple[str, int]:
    if isinstance(error, errors.PacktivityError):
        return explain(error), error.exit_code
    if isinstance(error, KeyboardInterrupt):
        number = signals.received or _INTERRUPT
        text = "\n  ".join(
            (f"error: {_ENDS.get(number) or f'ended by {signals.name_of(number)}'}", *getattr(error, "__notes__", ()))
        )
        return readable(text), SIGNALLED + number
    if isinstance(error, MemoryError):
        return "error: out of memory", OPERATING_SYSTEM
    if isinstance(error, OSError) and error.strerror:
        return _refused(error), OPERATING_SYSTEM
    if isinstance(error, UnicodeEncodeError):
        shown = ascii(error.object[error.start])
        hint = "Set PYTHONIOENCODING=utf-8."
        return f"error: the output cannot be written as {error.encoding}: it has {shown}\n  {hint}", OPERATING_SYSTEM
    what = printable(" ".join(f"{type(error).__name__}: {error}".split()))
    if guest := _blame(error):
        hint = "It is not part of packtivity: tell those who wrote it. Run again with --debug to see where."
        return f"error: {printable(guest)}: {what}\n  {hint}", GuestFailed.exit_code
    return f"error: internal error: {what} (please report this; run again with --debug to see where)", INTERNAL


def _blame(error: BaseException) -> str:
    """Say what somebody else's code was asked to be and which function of it failed; empty when none did."""
    for frame, _ in reversed([*traceback.walk_tb(error.__traceback__)]):
        module = str(frame.f_globals.get("__name__", ""))
        for guest, purpose in foreign_code.items():
            if purpose and f"{module}.".startswith(f"{guest}."):
                return f"{purpose}: {module}:{frame.f_code.co_qualname} failed"
    return ""


def _refused(error: OSError) -> str:
    if error.filename:
        return readable(f"error: {error.strerror}: {error.filename}")
    try:
        os.getcwd()
    except FileNotFoundError:
        return "error: the current directory is not there any more\n  Change to one that is (cd)."
    except OSError:
        pass
    return f"error: {error.strerror}"


def explain(error: errors.PacktivityError) -> str:
    """Return the message for an error; where there are diagnostics, they say most of it."""
    diagnostics = getattr(error, "diagnostics", None)
    if not diagnostics:
        return f"error: {readable(str(error))}"
    # The message of an invalid document is made of its diagnostics.
    is_told = diagnostics[0].message in str(error)
    summary = _SUMMARY.get(error.exit_code, "not valid") if is_told else readable(str(error))
    return f"{render_diagnostics(diagnostics)}\nerror: {summary}"


_SUMMARY = {1: "the spec is not valid", 4: "the parameters cannot be read", 5: "the state file cannot be read"}


def render_diagnostics(diagnostics: Iterable[Diagnostic], form: str = "text") -> str:
    """Return diagnostics as text for standard error, coloured if that is a terminal that wants it."""
    from packtivity.spec.reporters import render

    color = form == "text" and wants_colour(sys.stderr)
    return render(tuple(diagnostics), form, color=color).rstrip("\n")


def complain(text: str) -> None:
    """Print on standard error; a closed or full one is no reason to fail."""
    show_error(escaped(text))


def warn(text: str) -> None:
    """Print a warning on standard error."""
    complain(f"warning: {readable(text)}")


def _drop_unwritable() -> None:
    """Forget what cannot be written on standard output, which some Pythons keep and try to write again at exit."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError, AttributeError):
        with suppress(OSError, ValueError, AttributeError), open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), sys.stdout.fileno())
