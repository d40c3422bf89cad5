"""The root of the errors in :mod:`packtivity.errors`, in a module of its own because :class:`InvalidSpec` is made late."""

from __future__ import annotations

from typing import Any, ClassVar, Self, cast


class PacktivityError(Exception):
    """Root of the tree: catch this to catch everything raised on purpose.

    :param message: what is wrong, and where.
    :param hint: what to do now; printed on a line of its own.
    """

    __module__ = "packtivity.errors"  # where programs import it from
    exit_code: ClassVar[int] = 70
    """What a command ends with when this error reaches it (70: an error inside packtivity itself)."""

    def __init__(self, message: str = "", *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @classmethod
    def of(cls, error: Exception, message: str, *, hint: str = "") -> Self:
        """Return an error of this class that stands for one of the system.

        It is one of that class, too (``FileNotFoundError``), and has its ``errno``, ``strerror`` and ``filename``: programs
        written for upstream 0.17.1, which let such errors through, catch those.

        :param error: one of the system; for another the result is of this class alone.
        """
        if not isinstance(error, OSError):
            return cls(message, hint=hint)
        system = next(each for each in type(error).__mro__ if each.__module__ == "builtins")
        made = _of_both(cls, system)(message, hint=hint)
        made.errno, made.strerror, made.filename = error.errno, error.strerror, error.filename
        return cast("Self", made)

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self.__dict__.copy())


_both: dict[tuple[Any, Any], Any] = {}


def _of_both(ours: Any, theirs: Any) -> Any:
    """Return a class of errors that are of two classes, under the name of ours."""
    if (ours, theirs) not in _both:
        members = {"__module__": ours.__module__, "__doc__": ours.__doc__}
        members |= {"__str__": PacktivityError.__str__, "__reduce__": _reduced}
        _both[ours, theirs] = type(ours.__name__, (ours, theirs), members)
    return _both[ours, theirs]


def _reduced(error: Any) -> tuple[Any, ...]:
    state = {**error.__dict__, "errno": error.errno, "strerror": error.strerror, "filename": error.filename}
    return _rebuild_of_both, (*type(error).__bases__, error.args, state)


def _rebuild_of_both(ours: Any, theirs: Any, args: tuple[Any, ...], state: dict[str, Any]) -> Any:
    return _rebuild(_of_both(ours, theirs), args, state)


def _rebuild(cls: type[PacktivityError], args: tuple[Any, ...], state: dict[str, Any]) -> PacktivityError:
    """Make an error again without calling ``__init__``, whose arguments differ from class to class."""
    new = OSError.__new__ if issubclass(cls, OSError) else cls.__new__
    error: PacktivityError = new(cls, *args)
    error.args = args
    for name, value in state.items():
        setattr(error, name, value)
    return error
