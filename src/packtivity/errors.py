"""Every error this package raises on purpose, as one tree.

Each class says when it is raised, what the user should do, and which exit code a command ends with.
Some classes carry an ancestor from elsewhere (``KeyError``, ``RuntimeError``) because programs written for
packtivity 0.17.1 catch those. :class:`InvalidSpec` has ``jsonschema.ValidationError``, and is made on first use because
importing that library takes long.
"""

from __future__ import annotations

from collections.abc import Sequence
from subprocess import CalledProcessError
from typing import TYPE_CHECKING, Any, ClassVar

from packtivity.root_error import PacktivityError

if TYPE_CHECKING:
    from packtivity._invalid_spec import InvalidSpec

__all__ = [
    "BackendError",
    "ConfigurationError",
    "EnvironmentUnavailable",
    "InvalidSpec",
    "LoadError",
    "MissingOutput",
    "MissingParameter",
    "PacktivityError",
    "ParameterError",
    "ProxyError",
    "PublishError",
    "StateError",
    "TaskCancelled",
    "TaskFailed",
    "TaskTimeout",
    "UnsafeDirectory",
    "UsageError",
    "WorkerLost",
]


class UsageError(PacktivityError):
    """A command was called with options that do not go together; read its ``--help``."""

    exit_code = 2


class LoadError(PacktivityError, RuntimeError):
    """A document could not be fetched: no such file, no such address, time-out, too large, offline.

    Ancestor ``RuntimeError`` as upstream 0.17.1 raised.
    """

    exit_code = 3


class ParameterError(PacktivityError):
    """A parameter document or value cannot be used: not YAML, not a mapping, a placeholder that nothing gives."""

    exit_code = 4


class MissingParameter(ParameterError, KeyError):
    """The spec uses a parameter that was not given; pass it with ``-p NAME=VALUE`` or in a parameter file."""

    # KeyError prints the repr of its argument; the message is meant to be read.
    __str__ = PacktivityError.__str__


class StateError(PacktivityError):
    """A directory of the state is missing, is not a directory, or cannot be read or written."""

    exit_code = 5


class UnsafeDirectory(StateError):
    """A directory for records, caches or private files can be written to, or was made, by another user of the machine."""

    exit_code = 15


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


class TaskTimeout(PacktivityError, RuntimeError):
    """The task ran longer than its time limit and was ended; raise ``--timeout`` or look at the run log."""

    exit_code = 7


class TaskCancelled(PacktivityError, RuntimeError):
    """The program that started the task asked for its end; nothing is wrong with the task itself."""

    exit_code = 130


class PublishError(PacktivityError):
    """The task ran, but its result cannot be made: a file is missing, is not YAML, or a jq program fails."""

    exit_code = 8


class MissingOutput(PublishError):
    """A published path does not exist after the run (raised under ``--strict``; a warning otherwise)."""

    exit_code = 9


class EnvironmentUnavailable(PacktivityError, RuntimeError):
    """What the spec asks to run in is not there: no container tool, no terminal to ask a person at."""

    exit_code = 10


class ConfigurationError(PacktivityError):
    """A setting, plug-in or backend name cannot be used; the message names the variable and the nearest name."""

    exit_code = 11


class BackendError(ConfigurationError, RuntimeError):
    """A backend string names nothing, or the backend it names cannot be started here."""


class ProxyError(PacktivityError, RuntimeError):
    """A proxy document is not one of ours, or names a task that nobody knows."""

    exit_code = 12


class WorkerLost(PacktivityError, RuntimeError):
    """Whoever ran the task was killed, or its machine stopped, and it is not tried again."""

    exit_code = 13


def __getattr__(name: str) -> Any:
    if name != "InvalidSpec":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from packtivity._invalid_spec import InvalidSpec  # imports jsonschema

    globals()[name] = InvalidSpec
    return InvalidSpec
