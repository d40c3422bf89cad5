"""Text to plain data: YAML 1.1 as upstream 0.17.1 reads it, and JSON, which is YAML too.

What differs from ``yaml.safe_load``: dates stay strings, keys become the strings :func:`json.dumps` would write,
repeated keys are reported, and anything that is not JSON is an error with a position. Nothing here opens files;
where a document comes from is the business of :mod:`packtivity.spec.sources`.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from packtivity.spec.source_text import MAX_DEPTH, BadText, Text, decode
from packtivity.types import JSON, Diagnostic, JSONValue, Path, Position

if TYPE_CHECKING:
    import yaml


__all__ = ["MAX_DEPTH", "BadText", "Parsed", "encodable", "load_yaml", "parse", "too_deep"]


@dataclass(eq=False, repr=False)
class Parsed(Text):
    """A text with its data.

    :ivar data: plain JSON data; nothing in it is shared, so it may be changed.
    :ivar problems: warnings.
    """

    data: JSON
    problems: tuple[Diagnostic, ...] = ()
    _node: yaml.Node | None = None

    def node(self) -> yaml.Node | None:
        """Return the root of the YAML node tree; that of a JSON text is made when first asked for."""
        if self._node is None and self.data is not None:
            from packtivity.spec import yamlnodes

            # Tabs between the tokens of a JSON text are no YAML; inside its strings there are none.
            self._node = yamlnodes.compose(Text(self.content.replace("\t", " "), self.source))
        return self._node

    def warnings(self) -> tuple[Diagnostic, ...]:
        """Return what there is to say about a text that was read as JSON: of numbers that are text in YAML."""
        from packtivity.spec import yamldata

        reader = yamldata.Reader(self)
        with suppress(BadText):  # a key of JSON can be too long for YAML
            reader.read(self.node())
        return reader.problems()

    def position(self, path: Path, *, key: bool = False) -> Position | None:
        """Return where the value at ``path``, or its key, begins; ``None`` when it is not written there."""
        entry = self._entry(path)
        if entry is None:
            return None if path else Position(self.source, 1, 1)  # an empty text
        mark = (entry[0] if key and entry[0] else entry[1]).start_mark
        return Position(self.source, mark.line + 1, mark.column + 1)

    def offset_position(self, path: Path, offset: int) -> Position | None:
        """Return where one character of the string at ``path`` is written.

        :param offset: counted in characters from 0; past the end means the end.
        :return: exact for every style for characters that are not blank, and for blanks that are written as they are;
            the beginning of the value when it is no string.
        """
        from packtivity.spec import yamldata

        entry = self._entry(path)
        index = yamldata.source_index(self.content, entry[1], offset) if entry else None
        return self.position(path) if index is None else self.place(index)

    def written(self, path: Path) -> str | None:
        """Return a scalar as it is written, without quotes; ``None`` for anything else."""
        entry = self._entry(path)
        return str(entry[1].value) if entry and not isinstance(entry[1].value, list) else None

    def _entry(self, path: Path) -> tuple[yaml.Node | None, yaml.Node] | None:
        from packtivity.spec import yamldata

        root = self.node()
        return None if root is None else yamldata.find(root, path)


def parse(content: bytes | str, source: str) -> Parsed:
    """Read a text.

    :param source: its name in positions.
    :raises BadText: it is not text, not YAML, not JSON data, or so deep or large that nobody means it.
    """
    text = decode(content, source)
    data = read_json(text.content) if text.content[:1] in {"{", "["} else None
    if data is not None:
        parsed = Parsed(text.content, source, data)
        if len(text.content) <= _CHECKED and _TEXT_NUMBER.search(text.content):
            parsed.problems = parsed.warnings()
        return parsed
    from packtivity.spec import yamldata, yamlnodes  # PyYAML is a third-party library, and JSON does without

    node = yamlnodes.compose(text)
    reader = yamldata.Reader(text)
    return Parsed(text.content, source, reader.read(node), reader.problems(), node)


def load_yaml(content: bytes | str, source: str = "<text>") -> JSON:
    """Return the data of a YAML text: dates stay strings, keys become strings, an empty text is ``None``.

    :raises BadText: (a :class:`~packtivity.errors.ParameterError`) it is not YAML, or not JSON data.
    """
    return parse(content, source).data


_TEXT_NUMBER = re.compile(r"[\[,:\s]-?\d+(?:\.\d+[eE]\d|[eE])")
"""A number of JSON that is text in YAML 1.1, such as ``1e-05``; or something like it inside a string."""
_CHECKED = 1_000_000
"""Characters of a JSON text that is looked through for such numbers; YAML nodes of more take seconds."""


# --- JSON ------------------------------------------------------------------------------------------------------


def read_json(text: str) -> JSON:
    """Return the data of a JSON list or mapping, with the meaning it has as YAML 1.1.

    ``None`` for a text that has to be read as YAML: because it is not JSON, or there is something to report about it.
    """
    if any(line_break in text for line_break in "\x85\u2028\u2029"):
        return None  # YAML 1.1 folds lines there, even inside a string
    try:
        data = json.loads(text, object_pairs_hook=_mapping, parse_float=_number, parse_constant=str)
    except (ValueError, RecursionError):
        return None
    # Only an escape can bring half a surrogate pair into decoded text.
    return None if too_deep(data, MAX_DEPTH) or ("\\u" in text and not encodable(data)) else data


def _mapping(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _number(literal: str) -> float | str:
    """Read a number as YAML 1.1 does: a float has a point, and a sign in its exponent; ``1e5`` is a string."""
    mantissa, _, exponent = literal.lower().partition("e")
    return float(literal) if "." in mantissa and exponent[:1] in {"", "+", "-"} else literal


def too_deep(data: JSONValue, limit: int) -> bool:
    """Return whether lists and mappings are nested more than ``limit`` deep."""
    if not isinstance(data, (dict, list)):
        return False
    return limit < 1 or any(too_deep(value, limit - 1) for value in (data.values() if isinstance(data, dict) else data))


def encodable(data: JSONValue) -> bool:
    """Return whether no text in a document has half a surrogate pair."""
    try:
        json.dumps(data, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True
