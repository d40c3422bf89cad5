"""The root of the errors in :mod:`packtivity.errors`, in a module of its own because :class:`InvalidSpec` is made late."""

from __future__ import annotations

from typing import Any, ClassVar


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
