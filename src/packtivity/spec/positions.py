"""Where in a text a value stands, found when somebody asks: the straight path pays nothing for it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from typing import TypeAlias

import yaml

from packtivity.spec.source_text import LINE_BREAK, Text
from packtivity.spec.yamldata import joined, key_text, pairs
from packtivity.types import Path, Position

Entry: TypeAlias = "tuple[yaml.Node | None, yaml.Node]"

_SPACE = frozenset(" \t\n\r\x85\u2028\u2029")
_ESCAPE = re.compile(r"\\(?:u[dD][89abAB]..\\u....|x..|u.{4}|U.{8}|\r\n|.)|.", re.DOTALL)
_BLANK_ESCAPES = frozenset({"t", "n", "r", " ", "N", "L", "P", "\t", "\n", "\r", "\r\n", "\x85", "\u2028", "\u2029"})


def position_at(text: Text, root: yaml.Node | None, path: Path, *, key: bool = False) -> Position | None:
    """Return where the value at ``path`` of one text, or its key, begins; ``None`` when it is not written there.

    :param root: its node tree; ``None`` for an empty text.
    """
    if root is None:
        return None if path else Position(text.source, 1, 1)
    found = _find(root, path)
    node = found and (found[0] if key and found[0] is not None else found[1])
    return Position(text.source, node.start_mark.line + 1, node.start_mark.column + 1) if node else None


def _find(node: yaml.Node, path: Path) -> Entry | None:
    """Return key node (or ``None``) and value node at a path."""
    entry: Entry | None = (None, node)
    for part in path:
        entry = _child(entry[1], part) if entry else None
    return entry


def _child(node: yaml.Node, part: str | int) -> Entry | None:
    if isinstance(node, yaml.MappingNode):
        if isinstance(part, str):
            return _by_key(node).get(part)
        entries = pairs(node)
        if part in {0, 1} and len(entries) == 1:  # an item of !!omap became a list of key and value
            return None, entries[0][int(part)]
        return None
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and 0 <= part < len(node.value):
        return None, node.value[part]
    return None


@lru_cache(maxsize=1024)
def _by_key(node: yaml.MappingNode) -> dict[str | None, Entry]:
    """Return the entries of a mapping by key, the last one of each; kept, because many places are asked for."""
    return {key_text(key): (key, value) for key, value in pairs(node)}


def offset_position_at(text: Text, root: yaml.Node | None, path: Path, offset: int) -> Position | None:
    """Return where one character of the string at ``path`` is written.

    :param offset: counted in characters from 0; past the end means the end.
    :return: exact for every style for characters that are not blank, and for blanks that are written as they are;
        the beginning of the value when it is no string.
    """
    found = _find(root, path) if root is not None else None
    if found and isinstance(found[1], yaml.ScalarNode):
        return text.position(_source_index(text.content, found[1], offset))
    return position_at(text, root, path)


def _source_index(text: str, node: yaml.ScalarNode, offset: int) -> int:
    """Align the characters that are not blank: folding and indentation change blanks only."""
    whole = joined(node.value)
    value = whole[:offset]
    nth = sum(1 for character in value if character not in _SPACE)
    start, written = node.start_mark.index, _written(text, node)
    if whole[offset : offset + 1] and whole[offset] not in _SPACE:
        return next(islice(written, nth, None), start)
    # A blank: as far behind the last character before it as in the value.
    blanks = len(value) - len(value.rstrip("".join(_SPACE)))
    last = start if node.style in {"'", '"'} else start - 1
    for seen, index in enumerate(written, 1):
        if seen > nth:
            break
        last = index
    return min(last + 1 + blanks, node.end_mark.index)


def _written(text: str, node: yaml.ScalarNode) -> Iterator[int]:
    """Yield where each character of a scalar that is not blank is written."""
    start, end = node.start_mark.index, node.end_mark.index
    if node.style in {"|", ">"}:
        first_line = LINE_BREAK.search(text, start)
        start = first_line.end() if first_line else len(text)
    elif node.style in {"'", '"'}:
        start, end = start + 1, end - 1
    if node.style == '"':
        yield from _double_quoted(text, start, end)
        return
    index = start
    while index < end:
        if text[index] not in _SPACE:
            yield index
        index += 2 if node.style == "'" and text[index] == "'" else 1


def _double_quoted(text: str, start: int, end: int) -> Iterator[int]:
    for match in _ESCAPE.finditer(text, start, end):
        token = match[0]
        if token[0] != "\\":
            blank = token in _SPACE
        elif len(token) == 12:  # the two halves of a surrogate pair, as JSON has it
            blank = False
        elif len(token) > 3:
            blank = chr(int(f"0x{token[2:]}", 0)) in _SPACE
        else:
            blank = token[1:] in _BLANK_ESCAPES
        if not blank:
            yield match.start()
