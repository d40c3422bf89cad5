"""Frozen dataclasses that are cheap to define.

``dataclasses.dataclass`` writes and compiles half a dozen functions for each class: half a millisecond, which a
command pays at every start, for every class it imports. Here all classes share their methods, and only attribute
look-up finds out what differs. Checkers of types are shown the one of the standard library, which means the same:

    if TYPE_CHECKING:
        from dataclasses import dataclass
    else:
        from packtivity.values import dataclass
"""

from __future__ import annotations

import dataclasses
from dataclasses import MISSING, FrozenInstanceError
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable


def dataclass(*, frozen: bool, slots: bool = False, eq: bool = True) -> Callable[[type], type]:
    """Make a class a frozen dataclass; :func:`dataclasses.fields` and :func:`dataclasses.replace` know it.

    :param frozen: must be true: there is no other kind here.
    :param slots: whether instances have slots in place of a dictionary.
    :param eq: compare by value; otherwise by identity.
    :raises ValueError: ``frozen`` is false.
    """
    if not frozen:
        raise ValueError("a dataclass that is not frozen is made by dataclasses.dataclass")

    def decorate(cls: type) -> type:
        made: Any = dataclasses.dataclass(init=False, repr=False, eq=False, slots=slots)(cls)
        made.__init__, made.__repr__, made.__reduce__ = _init, _repr, _reduce
        made.__setattr__, made.__delattr__ = _refuse, _refuse
        if eq:
            made.__eq__, made.__hash__ = _equal, _hash
        return made  # type: ignore[no-any-return]

    return decorate


def _init(self: Any, *args: Any, **given: Any) -> None:
    fields = type(self).__dataclass_fields__
    if len(args) > len(fields):
        raise TypeError(f"{type(self).__name__} has {len(fields)} fields, not {len(args)}")
    left = iter(fields.items())
    for value, (name, _) in zip(args, left, strict=False):
        if name in given:
            raise TypeError(f"{type(self).__name__}: {name!r} is given twice")
        object.__setattr__(self, name, value)
    for name, field in left:
        object.__setattr__(self, name, given.pop(name) if name in given else _default(self, name, field))
    if given:
        raise TypeError(f"{type(self).__name__} has no field {next(iter(given))!r}")


def _default(self: Any, name: str, field: Any) -> Any:
    if field.default is not MISSING:
        return field.default
    if field.default_factory is not MISSING:
        return field.default_factory()
    raise TypeError(f"{type(self).__name__}: {name!r} is missing")


def _values(self: Any) -> tuple[Any, ...]:
    return tuple(getattr(self, name) for name in self.__dataclass_fields__)


def _compared(self: Any) -> tuple[Any, ...]:
    return tuple(getattr(self, name) for name, field in self.__dataclass_fields__.items() if field.compare)


def _repr(self: Any) -> str:
    shown = (f"{name}={getattr(self, name)!r}" for name, field in self.__dataclass_fields__.items() if field.repr)
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _equal(self: Any, other: object) -> Any:
    return _compared(self) == _compared(other) if type(other) is type(self) else NotImplemented


def _hash(self: Any) -> int:
    return hash(_compared(self))


def _reduce(self: Any) -> tuple[Any, ...]:
    return type(self), _values(self)


def _refuse(self: Any, name: str, *_: Any) -> NoReturn:
    raise FrozenInstanceError(f"{type(self).__name__}.{name} cannot be changed")
