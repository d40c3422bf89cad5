"""A tree of YAML nodes to plain JSON data, with everything there is to say about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import yaml

from packtivity.datamodel.leaves import key_text as json_key
from packtivity.spec.source_text import MAX_DEPTH, MOST_MISTAKES, BadText, Text
from packtivity.spec.yamlnodes import too_deep
from packtivity.types import JSON, Diagnostic, Path

Pairs: TypeAlias = list[tuple[yaml.Node, yaml.Node]]

_TAG = "tag:yaml.org,2002:"
_STRING, _MERGE = _TAG + "str", _TAG + "merge"
_TEXTS = frozenset({_STRING, _TAG + "timestamp", _TAG + "value", _MERGE})
_PAIR_LISTS = frozenset({_TAG + "omap", _TAG + "pairs"})
_NOT_JSON = {_TAG + "binary": "bytes", _TAG + "set": "a set"}
_KNOWN = frozenset({"str", "int", "float", "bool", "null", "seq", "map", "timestamp"})
_NAMES = {_TAG + "bool": "true or false", _TAG + "int": "a whole number", _TAG + "float": "a number"}
_EXPANSION = 20_000_000
"""Characters, and 16 for each value, that aliases may make of a text beyond ten times its own length."""


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
            _refuse_expansion(node, self.text)
        data = self._value(node, ())
        if self._mistakes:
            raise BadText(self._mistakes)
        return data

    def problems(self) -> tuple[Diagnostic, ...]:
        """Return the warnings, each once: what an anchor says stands in several places."""
        return tuple({(problem.code, problem.position): problem for problem in reversed(self._warnings)}.values())[::-1]

    def _refuse(self, node: yaml.Node, code: str, message: str, path: Path, hint: str) -> None:
        if len(self._mistakes) < MOST_MISTAKES:
            self._mistakes.append(self.text.diagnostic(node.start_mark.index, code, message, hint, path))

    def _warn(self, node: yaml.Node, code: str, message: str, path: Path, hint: str) -> None:
        if len(self._warnings) < MOST_MISTAKES:
            self._warnings.append(self.text.diagnostic(node.start_mark.index, code, message, hint, path, "warning"))

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
        self._check_merges(node, path)
        entries = pairs(node)
        first: dict[JSON, str] = {}
        for key_node, value_node in entries:
            key = key_text(key_node)
            if key is None:
                message = f"a key must be a string, but this is {_kind(key_node)}"
                hint = "Put it in quotes; a value that begins with '{placeholder}' needs quotes too."
                self._refuse(key_node, "not-json", message, path, hint)
                continue
            if key_node.tag != _STRING and isinstance(key_node, yaml.ScalarNode):
                # Upstream makes a Python dictionary first, and there 1, 1.0 and true are one key.
                key = first.setdefault(scalar(key_node), key)
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
                place = self.text.position(first[key].start_mark.index)
                message = f"the key {key!r} stands here again; it stood already at {place}, and the last one counts"
                hint = "Remove one of the two, or give it another name."
                self._warn(key_node, "duplicate-key", message, (*path, key), hint)
            else:
                first[key] = key_node

    def _check_merges(self, node: yaml.MappingNode, path: Path) -> None:
        merged = [value for key, value in node.value if key.tag == _MERGE]
        for value in merged:
            for one in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                if not isinstance(one, yaml.MappingNode):
                    message = f"'<<' merges mappings, but this is {_kind(one)}"
                    self._refuse(one, "bad-merge", message, path, 'Merge an anchored mapping, or quote the key: "<<".')

    def _pair_list(self, node: yaml.SequenceNode, path: Path) -> list[JSON]:
        found: list[JSON] = []
        for index, item in enumerate(node.value):
            if isinstance(item, yaml.MappingNode) and len(item.value) == 1:
                found.append([self._value(one, (*path, index, at)) for at, one in enumerate(item.value[0])])
            else:
                tag = node.tag.removeprefix(_TAG)
                message = f"a list tagged !!{tag} holds mappings of one key each"
                self._refuse(item, "not-json", message, (*path, index), f"Remove the tag !!{tag}.")
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
                return self._refuse(node, "invalid-character", "half a surrogate pair is no character", path, hint)
            message = f"{shown!r} cannot be read as {_NAMES[node.tag]}"
            return self._refuse(node, "not-json", message, path, "If text is meant, put it in quotes.")
        if node.tag == _TAG + "timestamp":
            message = f"{node.value} is a date in YAML 1.1; the text is taken as it stands"
            self._warn(node, "date-as-string", message, path, f'Write "{node.value}", in quotes.')
        elif isinstance(value, float) and value - value != 0:
            message = f"{node.value} is a number that JSON has no way to write"
            self._warn(node, "not-json", message, path, f'If text is meant, write "{node.value}".')
        return value

    def _bad_tag(self, node: yaml.Node, path: Path) -> None:
        name = node.tag.removeprefix(_TAG)
        shown = f"!!{name}" if name != node.tag else name
        if node.tag in _NOT_JSON:
            message = f"{shown} makes {_NOT_JSON[node.tag]}, which JSON does not have"
            return self._refuse(node, "not-json", message, path, "")
        message = f"the tag {shown} {f'does not go with {_kind(node)}' if name in _KNOWN else 'is not known here'}"
        return self._refuse(
            node, "unknown-tag", message, path, f"Remove the tag; if {shown} is meant as text, put it in quotes."
        )


def _kind(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        return f"{node.value[:40]!r}"
    return "a mapping" if isinstance(node, yaml.MappingNode) else "a list"


# --- keys and values -------------------------------------------------------------------------------------------


def pairs(node: yaml.MappingNode) -> Pairs:
    """Return keys and values of a mapping in their order, those merged with ``<<`` first (YAML 1.1, merge key)."""
    merged: Pairs = []
    for value in (value for key, value in node.value if key.tag == _MERGE):
        for one in reversed(value.value) if isinstance(value, yaml.SequenceNode) else [value]:
            merged += pairs(one) if isinstance(one, yaml.MappingNode) else []
    return merged + [(key, value) for key, value in node.value if key.tag != _MERGE]


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


# --- aliases ---------------------------------------------------------------------------------------------------


def _refuse_expansion(root: yaml.Node, text: Text) -> None:
    """Measure what aliases make of a text before anything is made.

    :raises BadText: an alias stands inside what it stands for, or the result would be huge.
    """
    measures: dict[int, tuple[int, int]] = {}
    limit = _EXPANSION + 10 * len(text.content)
    for node in _leaves_first(root):
        at, sizes = node.start_mark.index, [measures.get(id(child)) for child in _children(node)]
        if None in sizes:
            hint = "Let the alias name an anchor (&) that ends before it."
            raise text.error(at, "circular-alias", "this contains an alias (*) to itself", hint)
        known = [size for size in sizes if size]
        depth = 1 + max((size[0] for size in known), default=0)
        size = 16 + sum(size[1] for size in known) + (0 if known else len(node.value))
        if depth > MAX_DEPTH + 1:
            raise too_deep(at, text)
        if size > limit:
            message = f"aliases make more than {limit:,} characters of this text of {len(text.content):,}"
            hint = "Does somebody mean harm (a 'billion laughs' file)? Aliases of aliases multiply."
            raise text.error(at, "too-large", message, hint)
        measures[id(node)] = depth, size


def _leaves_first(root: yaml.Node) -> Iterator[yaml.Node]:
    """Yield every node once, what it holds before it (unless it holds itself), without recursion."""
    seen: set[int] = set()
    waiting: list[tuple[yaml.Node, bool]] = [(root, False)]
    while waiting:
        node, done = waiting.pop()
        if done:
            yield node
        elif id(node) not in seen:
            seen.add(id(node))
            waiting.append((node, True))
            waiting.extend((child, False) for child in _children(node))


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [child for pair in node.value for child in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []
