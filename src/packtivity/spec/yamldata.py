"""A tree of YAML nodes to plain JSON data, with everything there is to say about it."""

from __future__ import annotations

from collections.abc import Iterator

import yaml

from packtivity.spec.source_text import MAX_DEPTH, MOST_MISTAKES, BadText, locate
from packtivity.spec.yamlnodes import MERGE, STRING, TAG, TEXTS, diagnostic, key_text, pairs, scalar, too_deep
from packtivity.types import JSON, Diagnostic, Path

_PAIR_LISTS = frozenset({TAG + "omap", TAG + "pairs"})
_NOT_JSON = {TAG + "binary": "bytes", TAG + "set": "a set"}
_KNOWN = frozenset({"str", "int", "float", "bool", "null", "seq", "map", "timestamp"})
_EXPANSION = 20_000_000
"""Characters, and 16 for each value, that aliases may make of a text beyond ten times its own length."""


class Reader:
    """Makes plain data of one node tree and gathers what there is to say about it.

    :ivar references: whether some mapping has a key ``$ref``.
    """

    def __init__(self, text: str, source: str) -> None:
        self.text = text
        self.source = source
        self.references = False
        self._mistakes: list[Diagnostic] = []
        self._warnings: list[Diagnostic] = []

    def read(self, node: yaml.Node | None) -> JSON:
        """Return the data.

        :raises BadText: with every mistake there is.
        """
        if node is None:
            return None
        if "*" in self.text:
            self._refuse_expansion(node)
        data = self._value(node, ())
        if self._mistakes:
            raise BadText(self._mistakes)
        return data

    def problems(self) -> tuple[Diagnostic, ...]:
        """Return the warnings, each once: what an anchor says stands in several places."""
        return tuple({(problem.code, problem.position): problem for problem in reversed(self._warnings)}.values())[::-1]

    def _say(self, node: yaml.Node, code: str, message: str, path: Path, *, hint: str, warn: bool = False) -> None:
        kept = self._warnings if warn else self._mistakes
        if len(kept) < MOST_MISTAKES:
            kept.append(
                diagnostic(node.start_mark.index, self.text, self.source, code, message, path, hint=hint, warn=warn)
            )

    def _value(self, node: yaml.Node, path: Path) -> JSON:
        if isinstance(node, yaml.ScalarNode):
            if node.tag == STRING and node.value.isascii():
                return node.value
            return self._scalar(node, path)
        if len(path) >= MAX_DEPTH:
            raise too_deep(node.start_mark.index, self.text, self.source)
        if node.tag == TAG + "map" and isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if node.tag == TAG + "seq" and isinstance(node, yaml.SequenceNode):
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
                self._bad_key(key_node, path)
                continue
            if key_node.tag != STRING and isinstance(key_node, yaml.ScalarNode):
                # Upstream makes a Python dictionary first, and there 1, 1.0 and true are one key.
                key = first.setdefault(scalar(key_node), key)
            found[key] = self._value(value_node, (*path, key))
        if len(found) < len(entries):
            self._tell_repeated(node, path)
        if "$ref" in found:
            self.references = True
        return found

    def _tell_repeated(self, node: yaml.MappingNode, path: Path) -> None:
        first: dict[str, yaml.Node] = {}
        for key_node, _ in node.value:
            key = key_text(key_node)
            if key is None or key_node.tag == MERGE:
                continue
            if key in first:
                place, _ = locate(self.text, self.source, first[key].start_mark.index)
                message = f"the key {key!r} stands here again; it stood already at {place}, and the last one counts"
                hint = "Remove one of the two, or give it another name."
                self._say(key_node, "duplicate-key", message, (*path, key), hint=hint, warn=True)
            else:
                first[key] = key_node

    def _check_merges(self, node: yaml.MappingNode, path: Path) -> None:
        for key, value in node.value:
            if key.tag != MERGE or isinstance(value, yaml.MappingNode):
                continue
            wrong = [value]
            if isinstance(value, yaml.SequenceNode):
                wrong = [one for one in value.value if not isinstance(one, yaml.MappingNode)]
            for one in wrong:
                message = f"'<<' merges mappings, but this is {_kind(one)}"
                self._say(one, "bad-merge", message, path, hint='Merge an anchored mapping, or quote the key: "<<".')

    def _pair_list(self, node: yaml.SequenceNode, path: Path) -> list[JSON]:
        found: list[JSON] = []
        for index, item in enumerate(node.value):
            if isinstance(item, yaml.MappingNode) and len(item.value) == 1:
                key, value = item.value[0]
                found.append([self._value(key, (*path, index, 0)), self._value(value, (*path, index, 1))])
            else:
                tag = node.tag.removeprefix(TAG)
                message = f"a list tagged !!{tag} holds mappings of one key each"
                self._say(item, "not-json", message, (*path, index), hint=f"Remove the tag !!{tag}.")
        return found

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> JSON:
        try:
            value = scalar(node)
        except KeyError:
            return self._bad_tag(node, path)
        except (ValueError, ArithmeticError):
            return self._bad_scalar(node, path)
        if node.tag == TAG + "timestamp":
            message = f"{node.value} is a date in YAML 1.1; the text is taken as it stands"
            self._say(node, "date-as-string", message, path, hint=f'Write "{node.value}", in quotes.', warn=True)
        elif isinstance(value, float) and value - value != 0:
            message = f"{node.value} is a number that JSON has no way to write"
            self._say(node, "not-json", message, path, hint=f'If text is meant, write "{node.value}".', warn=True)
        return value

    def _bad_scalar(self, node: yaml.ScalarNode, path: Path) -> None:
        if node.tag in TEXTS:
            self._say(node, "invalid-character", "half a surrogate pair is no character", path, hint=_SURROGATE_HINT)
            return
        shown = node.value if len(node.value) <= 40 else f"{node.value[:40]}… ({len(node.value)} characters)"
        message = f"{shown!r} cannot be read as {_NAMES[node.tag]}"
        self._say(node, "not-json", message, path, hint="If text is meant, put it in quotes.")

    def _bad_key(self, node: yaml.Node, path: Path) -> None:
        message = f"a key must be a string, but this is {_kind(node)}"
        hint = "Put it in quotes; a value that begins with '{placeholder}' needs quotes too."
        self._say(node, "not-json", message, path, hint=hint)

    def _bad_tag(self, node: yaml.Node, path: Path) -> None:
        shown = "!!" + node.tag.removeprefix(TAG) if node.tag.startswith(TAG) else node.tag
        if node.tag in _NOT_JSON:
            self._say(node, "not-json", f"{shown} makes {_NOT_JSON[node.tag]}, which JSON does not have", path, hint="")
            return
        known = node.tag.removeprefix(TAG) in _KNOWN
        message = f"the tag {shown} does not go with {_kind(node)}" if known else f"the tag {shown} is not known here"
        hint = f"Remove the tag; if {shown} is meant as text, put it in quotes."
        self._say(node, "unknown-tag", message, path, hint=hint)

    def _refuse_expansion(self, root: yaml.Node) -> None:
        """Measure what aliases make of the text before anything is made.

        :raises BadText: an alias stands inside what it stands for, or the result would be huge.
        """
        measures: dict[int, tuple[int, int]] = {}
        limit = _EXPANSION + 10 * len(self.text)
        for node in _leaves_first(root):
            if id(node) in measures:
                continue
            children = [measures.get(id(child)) for child in _children(node)]
            if None in children:
                message = "this contains an alias (*) to itself"
                found = [
                    diagnostic(node.start_mark.index, self.text, self.source, "circular-alias", message, hint=_ALIAS)
                ]
                raise BadText(found)
            sizes = [measure for measure in children if measure]
            depth = 1 + max((measure[0] for measure in sizes), default=0)
            size = 16 + sum(measure[1] for measure in sizes) + (len(node.value) if not sizes else 0)
            if depth > MAX_DEPTH + 1:
                raise too_deep(node.start_mark.index, self.text, self.source)
            if size > limit:
                message = f"aliases make more than {limit:,} characters of this text of {len(self.text):,}"
                hint = "Does somebody mean harm (a 'billion laughs' file)? Aliases of aliases multiply."
                raise BadText(
                    [diagnostic(node.start_mark.index, self.text, self.source, "too-large", message, hint=hint)]
                )
            measures[id(node)] = depth, size


_ALIAS = "Let the alias name an anchor (&) that ends before it."
_SURROGATE_HINT = "Write the character itself instead of escapes."
_NAMES = {TAG + "bool": "true or false", TAG + "int": "a whole number", TAG + "float": "a number"}


def _kind(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        return f"{node.value[:40]!r}"
    return "a mapping" if isinstance(node, yaml.MappingNode) else "a list"


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [child for pair in node.value for child in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


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
