"""The error for a task that ran and failed; apart from the others because importing subprocess is dear."""

from __future__ import annotations

from subprocess import CalledProcessError
from typing import TYPE_CHECKING, ClassVar

from packtivity.errors import PacktivityError

if TYPE_CHECKING:
    from collections.abc import Sequence


class TaskFailed(PacktivityError, RuntimeError, CalledProcessError):
    """The task's command ended with an exit code other than 0, or by a signal.

    Ancestors: ``RuntimeError`` as upstream 0.17.1 raised, ``subprocess.CalledProcessError`` as recast-atlas catches.

    :param returncode: exit code of the command; negative for a signal, as in :mod:`subprocess`.
    :param command: argv as run, with secrets already masked.
    :param output: the last lines the command wrote, decoded for reading.
    :param log: absolute path of the run log, when there is one.
    """

    exit_code: ClassVar[int] = 6

    def __init__(
        self,
        message: str,
        *,
        returncode: int,
        command: Sequence[str],
        output: str = "",
        log: str | None = None,
        hint: str = "",
    ) -> None:
        CalledProcessError.__init__(self, returncode, list(command), output)
        self.args = (message,)
        self.message = message
        self.hint = hint
        self.log = log

    __str__ = PacktivityError.__str__
    __reduce__ = PacktivityError.__reduce__
