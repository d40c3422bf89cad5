"""Names of JSON's types and lists of names, as they are said in messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from packtivity.types import JSON

_TYPES = {
    "string": "a string",
    "object": "a mapping",
    "array": "a list",
    "boolean": "true or false",
    "number": "a number",
    "null": "null",
}


def json_type(value: JSON) -> str:
    """Return the JSON Schema name of a value's type; ``unknown`` for what has no form in JSON."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "number"
    for kind, name in ((str, "string"), (dict, "object"), (list, "array")):
        if isinstance(value, kind):
            return name
    return "unknown"


def article(type_name: str) -> str:
    """Return a type as the sentence *x is …* wants it."""
    return "a boolean (true or false)" if type_name == "boolean" else _TYPES.get(type_name, "no JSON value")


def expected_types(types: str | list[str]) -> str:
    """Return what a schema's ``type`` asks for."""
    names = [types] if isinstance(types, str) else types
    return listed([_TYPES[name] for name in names], last="or")


def listed(names: Sequence[str], *, last: str = "and") -> str:
    """Return ``a, b and c``."""
    *most, final = names or [""]
    return f"{', '.join(most)} {last} {final}" if most else final


def quoted(names: Sequence[str]) -> str:
    """Return names in quotes, joined by *and*; ``nothing else`` for none."""
    return listed([repr(name) for name in names]) or "nothing else"
