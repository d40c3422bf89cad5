"""A tree of YAML nodes to plain JSON data, with everything there is to say about it, and where in it a value stands."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from itertools import accumulate
from typing import TypeAlias

import yaml

from packtivity.datamodel.leaves import key_text as json_key
from packtivity.spec.source_text import LINE_BREAK, MAX_DEPTH, MOST_MISTAKES, BadText, Text
from packtivity.spec.yamlnodes import refuse_expansion, too_deep
from packtivity.types import JSON, Diagnostic, Path, Severity

Pairs: TypeAlias = list[tuple[yaml.Node, yaml.Node]]
Entry: TypeAlias = "tuple[yaml.Node | None, yaml.Node]"

_TAG = "tag:yaml.org,2002:"
_STRING, _MERGE = _TAG + "str", _TAG + "merge"
_TEXTS = frozenset({_STRING, _TAG + "timestamp", _TAG + "value", _MERGE})
_PAIR_LISTS = frozenset({_TAG + "omap", _TAG + "pairs"})
_NOT_JSON = {_TAG + "binary": "bytes", _TAG + "set": "a set"}
_KNOWN = frozenset({"str", "int", "float", "bool", "null", "seq", "map", "timestamp"})
_NAMES = {_TAG + "bool": "true or false", _TAG + "int": "a whole number", _TAG + "float": "a number"}


class Reader:
    """Makes plain data of one node tree and gathers what there is to say about it."""

    def __init__(self, text: Text) -> None:
        self.text = text
        self._mistakes: list[Diagnostic] = []
        self._warnings: list[Diagnostic] = []

    def read(self, node: yaml.Node | None) -> JSON:
        """Return the data.

        :raises BadText: with every mistake there is.
        """
        if node is None:
            return None
        if "*" in self.text.content:
            refuse_expansion(node, self.text)
        data = self._value(node, ())
        if self._mistakes:
            raise BadText(self._mistakes)
        return data

    def problems(self) -> tuple[Diagnostic, ...]:
        """Return the warnings, each once: what an anchor says stands in several places."""
        return tuple({(problem.code, problem.position): problem for problem in reversed(self._warnings)}.values())[::-1]

    def _say(
        self, node: yaml.Node, code: str, message: str, path: Path, hint: str, severity: Severity = "error"
    ) -> None:
        kept = self._mistakes if severity == "error" else self._warnings
        if len(kept) < MOST_MISTAKES:
            kept.append(self.text.diagnostic(node.start_mark.index, code, message, hint, path, severity))

    def _value(self, node: yaml.Node, path: Path) -> JSON:
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        if len(path) >= MAX_DEPTH:
            raise too_deep(node.start_mark.index, self.text)
        if node.tag == _TAG + "map" and isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if node.tag == _TAG + "seq" and isinstance(node, yaml.SequenceNode):
            return [self._value(item, (*path, index)) for index, item in enumerate(node.value)]
        if node.tag in _PAIR_LISTS and isinstance(node, yaml.SequenceNode):
            return self._pair_list(node, path)
        return self._bad_tag(node, path)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, JSON]:
        found: dict[str, JSON] = {}
        for one in sorted(_merged(node), key=lambda one: one.start_mark.index):
            if not isinstance(one, yaml.MappingNode):
                hint = 'Merge an anchored mapping, or quote the key: "<<".'
                self._say(one, "bad-merge", f"'<<' merges mappings, but this is {_kind(one)}", path, hint)
        entries = pairs(node)
        first: dict[JSON, str] = {}
        for key_node, value_node in entries:
            key = key_text(key_node)
            if key is None:
                message = f"a key must be a string, but this is {_kind(key_node)}"
                hint = "Put it in quotes; a value that begins with '{placeholder}' needs quotes too."
                self._say(key_node, "not-json", message, path, hint)
                continue
            if key_node.tag != _STRING and isinstance(key_node, yaml.ScalarNode):
                # Upstream makes a Python dictionary first, and there 1, 1.0 and true are one key.
                value = scalar(key_node)
                self._check_looks(key_node, value, (*path, key))
                key = first.setdefault(value, key)
            found[key] = self._value(value_node, (*path, key))
        if len(found) < len(entries):
            self._tell_repeated(node, path)
        return found

    def _tell_repeated(self, node: yaml.MappingNode, path: Path) -> None:
        first: dict[str, yaml.Node] = {}
        for key_node, _ in node.value:
            key = key_text(key_node)
            if key is None or key_node.tag == _MERGE:
                continue
            if key in first:
                place = self.text.place(first[key].start_mark.index)
                message = f"the key {key!r} stands here again; it stood already at {place}, and the last one counts"
                hint = "Remove one of the two, or give it another name."
                self._say(key_node, "duplicate-key", message, (*path, key), hint, "warning")
            else:
                first[key] = key_node

    def _pair_list(self, node: yaml.SequenceNode, path: Path) -> list[JSON]:
        found: list[JSON] = []
        for index, item in enumerate(node.value):
            if isinstance(item, yaml.MappingNode) and len(item.value) == 1:
                found.append([self._value(one, (*path, index, at)) for at, one in enumerate(item.value[0])])
            else:
                tag = node.tag.removeprefix(_TAG)
                message = f"a list tagged !!{tag} holds mappings of one key each"
                self._say(item, "not-json", message, (*path, index), f"Remove the tag !!{tag}.")
        return found

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> JSON:
        try:
            value = scalar(node)
        except KeyError:
            return self._bad_tag(node, path)
        except (ValueError, ArithmeticError):
            shown = node.value if len(node.value) <= 40 else f"{node.value[:40]}… ({len(node.value)} characters)"
            if node.tag in _TEXTS:
                hint = "Write the character itself instead of escapes."
                return self._say(node, "invalid-character", "half a surrogate pair is no character", path, hint)
            message = f"{shown!r} cannot be read as {_NAMES[node.tag]}"
            return self._say(node, "not-json", message, path, "If text is meant, put it in quotes.")
        if node.tag == _TAG + "timestamp":
            message = f"{node.value} is a date in YAML 1.1; the text is taken as it stands"
            self._say(node, "date-as-string", message, path, f'Write "{node.value}", in quotes.', "warning")
        elif isinstance(value, float) and value - value != 0:
            message = f"{node.value} is a number that JSON has no way to write"
            self._say(node, "not-json", message, path, f'If text is meant, write "{node.value}".', "warning")
        else:
            self._check_looks(node, value, path)
        return value

    def _check_looks(self, node: yaml.ScalarNode, value: JSON, path: Path) -> None:
        """Warn of a plain value that YAML 1.1 reads otherwise than most people and YAML 1.2."""
        is_plain = not node.style and "!" not in self.text.content[node.start_mark.index : node.end_mark.index]
        found = _otherwise(node.value, value) if is_plain else None
        if found and sum(one.code == "not-as-written" for one in self._warnings) < _MOST_ODD:
            what, other, meaning = found
            option = f"{self.text.source}=" if self.text.source.startswith("-p ") else ""
            text = f"""{option}'"{node.value}"'""" if option else f'"{node.value}", in quotes,'
            hint = f"Write {text} for the text, or {option}{other} for the {meaning}."
            self._say(node, "not-as-written", f"{node.value} is {what}", path, hint, "warning")

    def _bad_tag(self, node: yaml.Node, path: Path) -> None:
        name = node.tag.removeprefix(_TAG)
        shown = f"!!{name}" if name != node.tag else name
        if node.tag in _NOT_JSON:
            message = f"{shown} makes {_NOT_JSON[node.tag]}, which JSON does not have"
            return self._say(node, "not-json", message, path, "")
        message = f"the tag {shown} {f'does not go with {_kind(node)}' if name in _KNOWN else 'is not known here'}"
        return self._say(
            node, "unknown-tag", message, path, f"Remove the tag; if {shown} is meant as text, put it in quotes."
        )


_EXPONENT = re.compile(r"([-+]?(?:\d+\.?\d*|\.\d+))[eE]([-+]?)(\d+)")
_THOUSANDS = re.compile(r"[-+]?\d{1,3}(?:_\d{3})+(?:\.\d*)?")
_MOST_ODD = 10
"""How many values of one text that are not read as they look are reported; data that a program wrote may have thousands."""


def _otherwise(written: str, value: JSON) -> tuple[str, str, str] | None:
    """Return what YAML 1.1 makes of a plain value that looks like something else, and what to write for what else."""
    if isinstance(value, bool):
        word = str(value).lower()
        return None if written.lower() == word else (f"{word} in YAML 1.1", word, "truth value")
    if isinstance(value, str):
        if found := _EXPONENT.fullmatch(written):
            mantissa = found[1] if "." in found[1] else f"{found[1]}.0"
            what = "text in YAML 1.1, where a number has a point and its exponent a sign"
            return what, f"{mantissa}e{found[2] or '+'}{found[3]}", "number"
        what = "text in YAML 1.1, where a number that begins with 0 has base 8"
        return (what, str(int(written)), "number") if re.fullmatch(r"[-+]?0\d+", written) else None
    if not isinstance(value, int | float) or _THOUSANDS.fullmatch(written):
        return None
    if ":" in written:
        return f"the number {value} in YAML 1.1 (base 60)", str(value), "number"
    if re.fullmatch(r"[-+]?0[0-7_]+", written):
        return f"the number {value} in YAML 1.1 (base 8)", str(int(written.replace("_", ""))), "number"
    return (f"the number {value} in YAML 1.1", str(value), "number") if "_" in written else None


def _kind(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        return f"{node.value[:40]!r}"
    return "a mapping" if isinstance(node, yaml.MappingNode) else "a list"


# --- keys and values -------------------------------------------------------------------------------------------


def pairs(node: yaml.MappingNode) -> Pairs:
    """Return keys and values of a mapping in their order, those merged with ``<<`` first (YAML 1.1, merge key)."""
    merged: Pairs = []
    for one in _merged(node):
        merged += pairs(one) if isinstance(one, yaml.MappingNode) else []
    return merged + [(key, value) for key, value in node.value if key.tag != _MERGE]


def _merged(node: yaml.MappingNode) -> list[yaml.Node]:
    """Return what a mapping merges, what counts least first."""
    values = [value for key, value in node.value if key.tag == _MERGE]
    return [one for value in values for one in (value.value[::-1] if isinstance(value, yaml.SequenceNode) else [value])]


def key_text(node: yaml.Node) -> str | None:
    """Return the string a key becomes in JSON (as :func:`json.dumps` writes it), ``None`` when it cannot be one."""
    if not isinstance(node, yaml.ScalarNode):
        return None
    try:
        return json_key(scalar(node))
    except (ValueError, ArithmeticError, KeyError):
        return None


def scalar(node: yaml.ScalarNode) -> JSON:
    """Return the value of a scalar.

    :raises ValueError, ArithmeticError: it does not have the form its tag asks for, or half a surrogate pair.
    :raises KeyError: the tag is none that JSON has values for.
    """
    if node.tag in _TEXTS:
        return joined(node.value)
    construct = _CONSTRUCTORS[node.tag]
    try:
        value = construct(node)
    except OverflowError:  # a float in base 60 without end
        return float("-inf" if node.value.startswith("-") else "inf")
    except LookupError:
        raise ValueError("not of the form that the tag asks for") from None
    if isinstance(value, int):
        str(value)  # raises ValueError where the number is too long to be written down again
    return value


_CONSTRUCTOR = yaml.constructor.SafeConstructor()
_CONSTRUCTORS: dict[str, Callable[[yaml.ScalarNode], JSON]] = {
    _TAG + "null": lambda _: None,
    _TAG + "bool": _CONSTRUCTOR.construct_yaml_bool,
    _TAG + "int": _CONSTRUCTOR.construct_yaml_int,
    _TAG + "float": _CONSTRUCTOR.construct_yaml_float,
}


def joined(text: str) -> str:
    """Make one character of each surrogate pair, which JSON texts write as two escapes."""
    return text if text.isascii() else text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")


# --- places ----------------------------------------------------------------------------------------------------

_SPACE = frozenset(" \t\n\r\x85\u2028\u2029")
_BLANK_ESCAPES = frozenset({"t", "n", "r", " ", "N", "L", "P", "\t", "\n", "\r", "\r\n", "\x85", "\u2028", "\u2029"})
_CHARACTER = {
    '"': re.compile(r"\\(?:u[dD][89abAB]..\\u....|x..|u.{4}|U.{8}|\r\n|.)|.", re.DOTALL),
    "'": re.compile("''|.", re.DOTALL),
}
"""How one character is written, by the style of the scalar; other styles write it as it is."""


def find(node: yaml.Node, path: Path) -> Entry | None:
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


def source_index(text: str, node: yaml.Node, offset: int) -> int | None:
    """Return where a character of a string is written, ``None`` for what is no string.

    The characters that are not blank are aligned: folding and indentation change blanks only.
    """
    if not isinstance(node, yaml.ScalarNode):
        return None
    whole, counts = _counted(node.value)
    nth = counts[min(offset, len(whole))]
    start, written = node.start_mark.index, _written(text, node)
    if offset < len(whole) and whole[offset] not in _SPACE:
        return written[nth] if nth < len(written) else start
    # A blank: as far behind the last character before it as in the value.
    value = whole[:offset]
    blanks = len(value) - len(value.rstrip("".join(_SPACE)))
    last = start if node.style in {"'", '"'} else start - 1
    if nth and written:
        last = written[min(nth, len(written)) - 1]
    return min(last + 1 + blanks, node.end_mark.index)


@lru_cache(maxsize=2)
def _counted(value: str) -> tuple[str, list[int]]:
    """Return a string and how many of its characters before each are not blank; kept, because many places are asked for."""
    whole = joined(value)
    return whole, list(accumulate((character not in _SPACE for character in whole), initial=0))


@lru_cache(maxsize=2)
def _written(text: str, node: yaml.ScalarNode) -> list[int]:
    """Return where each character of a scalar that is not blank is written."""
    start, end = node.start_mark.index, node.end_mark.index
    if node.style in {"|", ">"}:
        first_line = LINE_BREAK.search(text, start)
        start = first_line.end() if first_line else len(text)
    elif node.style in {"'", '"'}:
        start, end = start + 1, end - 1
    characters = _CHARACTER.get(node.style or "", re.compile(".", re.DOTALL)).finditer(text, start, end)
    return [match.start() for match in characters if not _is_blank(match[0])]


def _is_blank(written: str) -> bool:
    if written[0] != "\\":
        return written in _SPACE
    if len(written) == 12:  # the two halves of a surrogate pair, as JSON has it
        return False
    return chr(int(f"0x{written[2:]}", 0)) in _SPACE if len(written) > 3 else written[1:] in _BLANK_ESCAPES
