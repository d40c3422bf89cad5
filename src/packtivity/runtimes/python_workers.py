"""Starts processes of our own that run tasks for this one; tasks themselves are started by ``process``."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias

from packtivity import settings
from packtivity.errors import EnvironmentUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


Child: TypeAlias = subprocess.Popen[bytes]


def start_module(module: str, *arguments: str, stderr: int | None = None) -> Child:
    """Start ``python -m module`` with pipes to its input and from its output, in a session of its own.

    It is the same interpreter with the same search path, and it has no terminal: Ctrl-C is not for it.

    :param stderr: descriptor for its standard error; ours by default.
    :raises EnvironmentUnavailable: it cannot be started.
    """
    try:
        return subprocess.Popen(
            [sys.executable, *interpreter_options(), "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=settings.caller_environment(),
            start_new_session=True,
        )
    except OSError as error:
        raise EnvironmentUnavailable.of(error, f"a worker cannot be started: {error.strerror}") from error


def interpreter_options() -> list[str]:
    """Return what makes the interpreter import and warn about what this one does; in UTF-8 mode, whatever the locale is.

    By itself ``-m`` puts the current directory first, whose ``json.py`` may be anybody's.
    """
    try:
        here = os.getcwd()
    except OSError:  # somebody has removed it
        here = ""
    is_searched = "" in sys.path or here in sys.path
    return ["-X", "utf8", *(() if is_searched else ("-P",)), *(f"-W{warning}" for warning in sys.warnoptions)]


_TELL = """"$@"; printf '\\n%s\\n' "$?" >&2"""
"""A shell that says how a command has ended, where the kernel throws that away, and 127 when it is not there."""


def run_command(
    argv: Sequence[str], environment: Mapping[str, str], *, stdin: str = "", timeout: float
) -> subprocess.CompletedProcess[str]:
    """Run a short command of an engine, and return what it says and how it ended.

    :param timeout: seconds, after which it is killed.
    :raises OSError: it cannot be started.
    :raises subprocess.TimeoutExpired: it took too long.
    """
    ignored = signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN  # by the program that we are in
    told = ("sh", "-c", _TELL, "sh", *argv) if ignored else argv
    done = subprocess.run(
        told, input=stdin, env=environment, timeout=timeout, capture_output=True, text=True, check=False
    )
    if ignored:
        done.stderr, _, code = done.stderr.rstrip("\n").rpartition("\n")
        done.returncode = int(code) if code.isdigit() else 255
        if code == "127":
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), argv[0])
    return done


def detach() -> bool:
    """Continue as a process that has no parent waiting and no terminal; false in the process that was called.

    To be called before there are threads.
    """
    if os.fork():
        return False
    os.setsid()
    return True


def forget(process: subprocess.Popen[Any]) -> None:
    """Wait for a process and close its pipes; may be called again."""
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(OSError):  # nothing reads what was still to be written
                stream.close()
    process.wait()
