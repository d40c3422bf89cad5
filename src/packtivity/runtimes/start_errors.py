"""Why a program could not be started, and what to do about it."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from packtivity import errors

if TYPE_CHECKING:
    from packtivity.types import Execution

_SCARCE = {
    errno.EMFILE: "This program has as many files open as it may (ulimit -n).",
    errno.ENFILE: "All programs together have as many files open as they may.",
    errno.EAGAIN: "There are as many processes as there may be (ulimit -u, or a limit of the container or job).",
    errno.ENOMEM: "Memory is short.",
}


def start_error(error: OSError | ValueError, execution: Execution) -> errors.PacktivityError:
    """Return what to raise for a program that could not be started."""
    program = execution.argv[0] if execution.argv else ""
    if isinstance(error, ValueError):
        return errors.ParameterError(f"{program!r} cannot be started: {error}", hint="Look for a NUL character.")
    if error.errno == errno.E2BIG:
        longest = max(len(os.fsencode(argument)) for argument in execution.argv)
        return errors.ParameterError(
            f"{program!r} cannot be started: its arguments are too long for this system (one has {longest} bytes)",
            hint="Use process_type interpolated-script-cmd, or pass long lists through a file.",
        )
    if execution.workdir is not None and error.filename == execution.workdir:
        return errors.StateError(f"work directory {execution.workdir} cannot be entered: {error.strerror}")
    hint = _SCARCE.get(error.errno or 0, "Is it installed, executable and on the PATH?")
    return errors.EnvironmentUnavailable(f"{program!r} cannot be started: {error.strerror}", hint=hint)
