"""Every error this package raises on purpose, as one tree.

Each class says when it is raised, what the user should do, and which exit code a command ends with.
Some classes carry an ancestor from elsewhere (``KeyError``, ``RuntimeError``) because programs written for
packtivity 0.17.1 catch those. Two ancestors are dear to import, so the classes that have them are made on
first use: :class:`InvalidSpec` (``jsonschema.ValidationError``) and :class:`TaskFailed`
(``subprocess.CalledProcessError``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from packtivity._invalid_spec import InvalidSpec
    from packtivity._task_failed import TaskFailed

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


class PacktivityError(Exception):
    """Root of the tree: catch this to catch everything raised on purpose.

    :param message: what is wrong, and where.
    :param hint: what to do now; printed on a line of its own.
    """

    exit_code: ClassVar[int] = 70
    """What a command ends with when this error reaches it (70: an error inside packtivity itself)."""

    def __init__(self, message: str = "", *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self.__dict__.copy())


def _rebuild(cls: type[PacktivityError], args: tuple[Any, ...], state: dict[str, Any]) -> PacktivityError:
    """Make an error again without calling ``__init__``, whose arguments differ from class to class."""
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


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
    found: type[PacktivityError]
    if name == "InvalidSpec":
        from packtivity._invalid_spec import InvalidSpec

        found = InvalidSpec
    elif name == "TaskFailed":
        from packtivity._task_failed import TaskFailed

        found = TaskFailed
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found
    return found
