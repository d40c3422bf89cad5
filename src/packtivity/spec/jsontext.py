"""JSON texts by the quick way, with the meaning they have when read as YAML 1.1 (as upstream 0.17.1 reads them)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from packtivity.spec.yamltext import MAX_DEPTH

if TYPE_CHECKING:
    from packtivity.types import JSON


class _Repeated(ValueError):
    """A key stands twice in one object."""


def read_json(text: str) -> tuple[JSON, bool] | None:
    """Return the data and whether a key ``$ref`` occurs, or ``None`` when the text has to be read as YAML.

    That is the case when it is no JSON, and whenever there is something to say about it.
    """
    if any(line_break in text for line_break in "\x85\u2028\u2029"):
        return None  # YAML 1.1 folds lines there, even inside a string
    try:
        data = json.loads(text, object_pairs_hook=_mapping, parse_float=_number, parse_constant=str)
    except (ValueError, RecursionError):
        return None
    # Only an escape can bring half a surrogate pair into decoded text.
    if too_deep(data, MAX_DEPTH) or ("\\u" in text and not encodable(data)):
        return None
    return data, "$ref" in text or ("\\u" in text and "$ref" in json.dumps(data))


def _mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Repeated
    return found


def _number(literal: str) -> float | str:
    """Read a number as YAML 1.1 does: a float has a point, and a sign in its exponent; ``1e5`` is a string."""
    mantissa, _, exponent = literal.lower().partition("e")
    return float(literal) if "." in mantissa and exponent[:1] in {"", "+", "-"} else literal


def too_deep(data: JSON, limit: int) -> bool:
    """Tell whether lists and mappings stand inside each other more than ``limit`` deep."""
    if isinstance(data, dict):
        return limit < 1 or any(too_deep(value, limit - 1) for value in data.values())
    if isinstance(data, list):
        return limit < 1 or any(too_deep(value, limit - 1) for value in data)
    return False


def encodable(data: JSON) -> bool:
    """Tell whether no text in it has half a surrogate pair."""
    try:
        json.dumps(data, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True
