"""Our cheap frozen dataclasses behave as those of the standard library."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any

import pytest

from packtivity import values


def body(field: Any = values.field) -> dict[str, Any]:
    def double(self: Any) -> int:
        return int(self.number * 2)

    return {
        "__doc__": "A value.",
        "__annotations__": {"number": int, "name": str, "more": list, "hidden": int},
        "name": "x",
        "more": field(default_factory=list),
        "hidden": field(default=0, repr=False, compare=False),
        "double": double,
        "__module__": __name__,
        "__qualname__": "Value",
    }


def pair(**options: Any) -> tuple[Any, Any]:
    theirs = dataclasses.dataclass(frozen=True, **options)(type("Value", (), body(dataclasses.field)))
    return values.dataclass(frozen=True, **options)(type("Value", (), body())), theirs


Value = values.dataclass(frozen=True, slots=True)(type("Value", (), body()))


@pytest.mark.parametrize("slots", [True, False])
@pytest.mark.parametrize(
    ("args", "given"),
    [((1,), {}), ((1, "y"), {"hidden": 4}), ((), {"number": 3, "more": [1]}), ((1, "a", [2], 3), {})],
)
def test_made_shown_and_listed_alike(slots: bool, args: tuple[Any, ...], given: dict[str, Any]) -> None:
    ours, theirs = (made(*args, **given) for made in pair(slots=slots))
    assert repr(ours) == repr(theirs)
    assert dataclasses.asdict(ours) == dataclasses.asdict(theirs)
    for one, other in zip(dataclasses.fields(ours), dataclasses.fields(theirs), strict=True):
        assert (one.name, one.type, one.default, one.repr, one.compare) == (
            other.name,
            other.type,
            other.default,
            other.repr,
            other.compare,
        )
    assert type(ours).__match_args__ == type(theirs).__match_args__
    assert dataclasses.is_dataclass(ours)
    assert ours.double() == theirs.double()
    assert hasattr(ours, "__dict__") == hasattr(theirs, "__dict__") == (not slots)


@pytest.mark.parametrize(
    ("args", "given"), [((), {}), ((1, 2, 3, 4, 5), {}), ((1,), {"number": 2}), ((1,), {"nothing": 2})]
)
def test_wrong_arguments_are_refused_alike(args: tuple[Any, ...], given: dict[str, Any]) -> None:
    for made in pair(slots=True):
        with pytest.raises(TypeError):
            made(*args, **given)


def test_compared_by_value_without_what_is_not_compared() -> None:
    assert Value(1, hidden=1) == Value(1, hidden=2)
    assert Value(1) != Value(2)
    assert Value(1) != (1, "x", [], 0)
    assert hash(Value(1, more=())) == hash(Value(1, more=(), hidden=9))
    other = pair(slots=True)[0]
    assert Value(1) != other(1)


def test_compared_by_identity_when_asked_to() -> None:
    made = values.dataclass(frozen=True, eq=False)(type("Value", (), body()))
    one = made(1)
    assert one != made(1)
    assert len({one, made(1)}) == 2


def test_frozen() -> None:
    for made in pair(slots=True):
        value = made(1)
        with pytest.raises(dataclasses.FrozenInstanceError):
            value.number = 2
        with pytest.raises(dataclasses.FrozenInstanceError):
            del value.number
        assert value.number == 1


def test_defaults_are_not_shared() -> None:
    one, two = Value(1), Value(1)
    one.more.append(1)
    assert two.more == []


def test_replaced_copied_and_pickled() -> None:
    value = Value(1, more=[1], hidden=5)
    assert dataclasses.replace(value, number=2) == Value(2, more=[1])
    for again in (copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value))):
        assert again == value
        assert again.hidden == 5


def test_what_is_not_frozen_is_not_made_here() -> None:
    with pytest.raises(ValueError, match="frozen"):
        values.dataclass(frozen=False)
