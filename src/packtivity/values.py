"""Frozen dataclasses that are cheap to define.

``dataclasses.dataclass`` writes and compiles half a dozen functions for each class: half a millisecond, which a
command pays at every start, for every class it imports. Here all classes share their methods, only attribute look-up
finds out what differs, and :mod:`dataclasses` itself is imported when somebody asks for its fields. Checkers of types
are shown the one of the standard library, which means the same:

    if TYPE_CHECKING:
        from dataclasses import dataclass, field
    else:
        from packtivity.values import dataclass, field
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_MISSING: Any = object()


class Field:
    """What is known of one attribute; the same as in a :class:`dataclasses.Field`."""

    __slots__ = ("compare", "default", "default_factory", "metadata", "name", "repr")

    def __init__(self, **known: Any) -> None:
        self.name: str = known.get("name", "")
        self.default = known.get("default", _MISSING)
        self.default_factory = known.get("default_factory", _MISSING)
        self.repr: bool = known.get("repr", True)
        self.compare: bool = known.get("compare", True)
        self.metadata: Mapping[str, Any] | None = known.get("metadata")

    def standard(self) -> Any:
        """Return it for :mod:`dataclasses`."""
        from dataclasses import field as standard_field

        given = {"default": self.default, "default_factory": self.default_factory}
        default = {name: value for name, value in given.items() if value is not _MISSING}
        return standard_field(**default, repr=self.repr, compare=self.compare, metadata=self.metadata, kw_only=False)


def field(**known: Any) -> Any:
    """Describe an attribute: ``default`` or ``default_factory``, ``repr``, ``compare``, ``metadata``."""
    return Field(**known)


def fields(cls: type) -> tuple[Any, ...]:
    """Return what is known of a class's attributes, in their order."""
    return tuple(cls.__fields__.values())  # type: ignore[attr-defined]


class _StandardFields:
    """The attribute that :mod:`dataclasses` knows its classes by, made when it is asked for."""

    def __get__(self, instance: Any, owner: Any) -> Any:
        from dataclasses import make_dataclass

        annotations = owner.__annotations__
        listed = [(name, annotations[name], known.standard()) for name, known in owner.__fields__.items()]
        made: Any = vars(make_dataclass(owner.__name__, listed))["__dataclass_fields__"]
        owner.__dataclass_fields__ = made
        return made


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
        body = {name: value for name, value in vars(cls).items() if name not in ("__dict__", "__weakref__")}
        body["__qualname__"] = cls.__qualname__
        known = {name: _field(name, body.pop(name, _MISSING)) for name in body.get("__annotations__", ())}
        if slots:
            body["__slots__"] = tuple(known)
        else:
            body |= {name: one.default for name, one in known.items() if one.default is not _MISSING}
        body |= {"__fields__": known, "__match_args__": tuple(known), "__dataclass_fields__": _StandardFields()}
        # Made anew with everything in place: methods that are added to a class cost several times as much.
        return type(cls)(cls.__name__, cls.__bases__, {**body, **_METHODS, **(_BY_VALUE if eq else {})})

    return decorate


def _field(name: str, given: Any) -> Field:
    known = given if isinstance(given, Field) else Field(default=given)
    known.name = name
    return known


def _init(self: Any, *args: Any, **given: Any) -> None:
    fields = type(self).__fields__
    if len(args) > len(fields):
        raise TypeError(f"{type(self).__name__} has {len(fields)} fields, not {len(args)}")
    left = iter(fields.items())
    for value, (name, _) in zip(args, left, strict=False):
        if name in given:
            raise TypeError(f"{type(self).__name__}: {name!r} is given twice")
        object.__setattr__(self, name, value)
    for name, known in left:
        object.__setattr__(self, name, given.pop(name) if name in given else _default(self, name, known))
    if given:
        raise TypeError(f"{type(self).__name__} has no field {next(iter(given))!r}")


def _default(self: Any, name: str, known: Field) -> Any:
    if known.default is not _MISSING:
        return known.default
    if known.default_factory is not _MISSING:
        return known.default_factory()
    raise TypeError(f"{type(self).__name__}: {name!r} is missing")


def _values(self: Any) -> tuple[Any, ...]:
    return tuple(getattr(self, name) for name in self.__fields__)


def _compared(self: Any) -> tuple[Any, ...]:
    return tuple(getattr(self, name) for name, known in self.__fields__.items() if known.compare)


def _repr(self: Any) -> str:
    shown = (f"{name}={getattr(self, name)!r}" for name, known in self.__fields__.items() if known.repr)
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _equal(self: Any, other: object) -> Any:
    return _compared(self) == _compared(other) if type(other) is type(self) else NotImplemented


def _hash(self: Any) -> int:
    return hash(_compared(self))


def _reduce(self: Any) -> tuple[Any, ...]:
    return type(self), _values(self)


def _refuse(self: Any, name: str, *_: Any) -> NoReturn:
    from dataclasses import FrozenInstanceError

    raise FrozenInstanceError(f"{type(self).__name__}.{name} cannot be changed")


_METHODS = {
    "__init__": _init,
    "__repr__": _repr,
    "__reduce__": _reduce,
    "__setattr__": _refuse,
    "__delattr__": _refuse,
}
_BY_VALUE = {"__eq__": _equal, "__hash__": _hash}
