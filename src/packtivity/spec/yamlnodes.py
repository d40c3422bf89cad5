"""YAML text to nodes, which know where they stand, and nodes to plain data.

The C parser makes the nodes; where libyaml is missing, PyYAML's own parser does. A text the C parser refuses is
tried again with the other one: upstream 0.17.1 reads with that, it accepts a little more (surrogate pairs), and so
messages are the same on every machine.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml

from packtivity.spec.yamltext import MAX_DEPTH, BadText, locate
from packtivity.types import JSON, Diagnostic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from packtivity.types import Path

    Pairs = list[tuple[yaml.Node, yaml.Node]]

_TAG = "tag:yaml.org,2002:"
_STRING, _MERGE = _TAG + "str", _TAG + "merge"
_TEXTS = frozenset({_STRING, _TAG + "timestamp", _TAG + "value", _MERGE})
_PAIR_LISTS = frozenset({_TAG + "omap", _TAG + "pairs"})
_NOT_JSON = {_TAG + "binary": "bytes", _TAG + "set": "a set"}
_TRUE = frozenset({"yes", "true", "on"})
_FALSE = frozenset({"no", "false", "off"})

_SAFE_BRACKETS = 1000
"""The C parser calls itself once for each level; with 20,000 it takes the whole process down."""
_DEEP_BLOCK = re.compile(r"[ \-?:\t]{400}")
_SLOW_PARSER_LIMIT = 200_000
"""Characters up to which a refused text is tried again with the slow parser (about a second)."""
_EXPANSION = 20_000_000
"""Characters, and 16 for each value, that aliases may make of a text beyond ten times its own length."""


class _Composing(yaml.resolver.Resolver):
    """What both parsers share: finding the tag of a plain scalar, without the search for paths nobody sets."""

    def descend_resolver(self, current_node: Any, current_index: Any) -> None:
        """Do nothing: there are no path resolvers."""

    def ascend_resolver(self) -> None:
        """Do nothing."""

    def resolve(self, kind: type[yaml.Node], value: str | None, implicit: Any) -> str:
        """Return the tag of an untagged node, by the patterns of YAML 1.1."""
        if kind is yaml.ScalarNode:
            if implicit[0]:
                for tag, pattern in self.yaml_implicit_resolvers.get(value[:1] if value else "", ()):
                    if pattern.match(value):
                        return str(tag)
            return _STRING
        return _TAG + "seq" if kind is yaml.SequenceNode else _TAG + "map"


class _Slow(_Composing, yaml.reader.Reader, yaml.scanner.Scanner, yaml.parser.Parser, yaml.composer.Composer):
    def __init__(self, text: str) -> None:
        yaml.reader.Reader.__init__(self, text)
        yaml.scanner.Scanner.__init__(self)
        yaml.parser.Parser.__init__(self)
        yaml.composer.Composer.__init__(self)
        yaml.resolver.Resolver.__init__(self)


_Quick: Callable[[str], Any] = _Slow
if yaml.__with_libyaml__:
    from yaml._yaml import CParser

    class _C(_Composing, CParser):
        def __init__(self, text: str) -> None:
            CParser.__init__(self, text)
            yaml.resolver.Resolver.__init__(self)

    _Quick = _C


def compose(text: str, source: str) -> yaml.Node | None:
    """Return the root node of the one document in ``text``, ``None`` for an empty text.

    :raises BadText: it is not YAML, or nested too deep to be read at all.
    """
    if text.count("[") + text.count("{") > _SAFE_BRACKETS or _DEEP_BLOCK.search(text):
        _refuse_depth(text, source)
    try:
        return _single(_Quick, text)
    except (yaml.YAMLError, RecursionError) as error:
        return _compose_slowly(text, source, error)


def _single(loader: Callable[[str], Any], text: str) -> yaml.Node | None:
    parser = loader(text)
    try:
        node: yaml.Node | None = parser.get_single_node()
        return node
    finally:
        parser.dispose()


def _compose_slowly(text: str, source: str, error: Exception) -> yaml.Node | None:
    if _Quick is not _Slow and len(text) <= _SLOW_PARSER_LIMIT:
        try:
            return _single(_Slow, text)
        except (yaml.YAMLError, RecursionError) as slow_error:
            error = slow_error
    from packtivity.spec.yamlerrors import explain

    raise BadText([explain(error, text, source)]) from None


def _refuse_depth(text: str, source: str) -> None:
    """Look through a text that might be nested deep, without recursion."""
    depth = 0
    parser = _Quick(text)
    try:
        while parser.check_event():
            event = parser.get_event()
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
                if depth > MAX_DEPTH:
                    raise _too_deep(event.start_mark, text, source)
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
    except yaml.YAMLError:
        return  # told with more care by compose()
    finally:
        parser.dispose()


def _too_deep(mark: Any, text: str, source: str) -> BadText:
    message = f"lists and mappings stand more than {MAX_DEPTH} deep inside each other here"
    return BadText([_diagnostic(mark, text, source, "too-deep", message, hint="Write it flatter.")])


def _diagnostic(
    mark: Any, text: str, source: str, code: str, message: str, path: Path = (), *, hint: str = "", warn: bool = False
) -> Diagnostic:
    position, excerpt = locate(text, source, mark.index)
    return Diagnostic("warning" if warn else "error", code, message, path, position, excerpt, hint=hint)


def pairs(node: yaml.MappingNode) -> Pairs:
    """Return keys and values of a mapping in their order, those merged with ``<<`` first (YAML 1.1, merge key)."""
    if not any(key.tag == _MERGE for key, _ in node.value):
        return list(node.value)
    own: Pairs = []
    merged: Pairs = []
    for key, value in node.value:
        if key.tag != _MERGE:
            own.append((key, value))
        elif isinstance(value, yaml.MappingNode):
            merged += pairs(value)
        elif isinstance(value, yaml.SequenceNode):
            for one in reversed(value.value):
                merged += pairs(one) if isinstance(one, yaml.MappingNode) else []
    return merged + own


def key_text(node: yaml.Node) -> str | None:
    """Return the string a key becomes in JSON (as :func:`json.dumps` writes it), ``None`` when it cannot be one."""
    if not isinstance(node, yaml.ScalarNode):
        return None
    if node.tag == _STRING and node.value.isascii():
        return str(node.value)
    try:
        value = scalar(node)
    except (ValueError, ArithmeticError, KeyError):
        return None
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float):
        return {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}.get(repr(value), repr(value))
    return str(value)


def scalar(node: yaml.ScalarNode) -> JSON:
    """Return the value of a scalar.

    :raises ValueError, ArithmeticError: it does not have the form its tag asks for, or half a surrogate pair.
    :raises KeyError: the tag is none that JSON has values for.
    """
    if node.tag in _TEXTS:
        return node.value if node.value.isascii() else _joined(node.value)
    return _SCALARS[node.tag](node.value)


def _joined(text: str) -> str:
    """Make one character of each surrogate pair, which JSON texts write as two escapes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    return text


def _boolean(text: str) -> bool:
    lowered = text.lower()
    if lowered in _TRUE or lowered in _FALSE:
        return lowered in _TRUE
    raise ValueError("expected true or false")


def _signed(text: str) -> tuple[int, str]:
    digits = text.replace("_", "").lower()
    sign = -1 if digits[:1] == "-" else 1
    return sign, digits[1:] if digits[:1] in {"-", "+"} else digits


def _whole(text: str) -> int:
    """Read an integer of YAML 1.1: ``0b1``, ``0x1f``, ``010`` (octal) and ``1:30`` (base 60) too."""
    sign, digits = _signed(text)
    if ":" in digits:
        number = 0
        for part in digits.split(":"):
            number = number * 60 + int(part)
    elif digits[:2] in {"0b", "0x"}:
        number = int(digits[2:], 2 if digits[1] == "b" else 16)
    else:
        number = int(digits, 8 if digits[:1] == "0" else 10)
    if len(digits) > 3000:
        str(number)  # raises ValueError where the number could not be written down again
    return sign * number


def _float(text: str) -> float:
    """Read a float of YAML 1.1: ``.inf``, ``.nan`` and ``1:30.5`` (base 60) too."""
    sign, digits = _signed(text)
    if digits in {".inf", ".nan"}:
        return sign * float(digits[1:])
    if ":" not in digits:
        return sign * float(digits)
    number = 0.0
    for part in digits.split(":"):
        number = number * 60 + float(part)
    return sign * number


_SCALARS: dict[str, Callable[[str], JSON]] = {
    _TAG + "null": lambda _: None,
    _TAG + "bool": _boolean,
    _TAG + "int": _whole,
    _TAG + "float": _float,
}


class Reader:
    """Makes plain data of one node tree and gathers what there is to say about it.

    :ivar references: whether some mapping has a key ``$ref``.
    """

    def __init__(self, text: str, source: str) -> None:
        self.text = text
        self.source = source
        self.references = False
        self._problems: list[Diagnostic] = []

    def read(self, node: yaml.Node | None) -> JSON:
        """Return the data.

        :raises BadText: with every mistake there is.
        """
        if node is None:
            return None
        if "*" in self.text:
            self._refuse_expansion(node)
        data = self._value(node, ())
        mistakes = [problem for problem in self._problems if problem.severity == "error"]
        if mistakes:
            raise BadText(mistakes)
        return data

    def problems(self) -> tuple[Diagnostic, ...]:
        """Return the warnings, each once: what an anchor says stands in several places."""
        return tuple({(problem.code, problem.position): problem for problem in reversed(self._problems)}.values())[::-1]

    def _say(self, node: yaml.Node, code: str, message: str, path: Path, *, hint: str, warn: bool = False) -> None:
        found = _diagnostic(node.start_mark, self.text, self.source, code, message, path, hint=hint, warn=warn)
        self._problems.append(found)

    def _value(self, node: yaml.Node, path: Path) -> JSON:
        if isinstance(node, yaml.ScalarNode):
            if node.tag == _STRING and node.value.isascii():
                return node.value
            return self._scalar(node, path)
        if len(path) >= MAX_DEPTH:
            raise _too_deep(node.start_mark, self.text, self.source)
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
        for key_node, value_node in entries:
            key = key_text(key_node)
            if key is None:
                self._bad_key(key_node, path)
                continue
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
            if key is None or key_node.tag == _MERGE:
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
            if key.tag != _MERGE or isinstance(value, yaml.MappingNode):
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
                tag = node.tag.removeprefix(_TAG)
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
        if node.tag == _TAG + "timestamp":
            message = f"{node.value} is a date in YAML 1.1; the text is taken as it stands"
            self._say(node, "date-as-string", message, path, hint=f'Write "{node.value}", in quotes.', warn=True)
        elif isinstance(value, float) and value - value != 0:
            message = f"{node.value} is a number that JSON has no way to write"
            self._say(node, "not-json", message, path, hint=f'If text is meant, write "{node.value}".', warn=True)
        return value

    def _bad_scalar(self, node: yaml.ScalarNode, path: Path) -> None:
        if node.tag in _TEXTS:
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
        shown = "!!" + node.tag.removeprefix(_TAG) if node.tag.startswith(_TAG) else node.tag
        if node.tag in _NOT_JSON:
            self._say(node, "not-json", f"{shown} makes {_NOT_JSON[node.tag]}, which JSON does not have", path, hint="")
            return
        known = node.tag.removeprefix(_TAG) in {"str", "int", "float", "bool", "null", "seq", "map", "timestamp"}
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
                found = [_diagnostic(node.start_mark, self.text, self.source, "circular-alias", message, hint=_ALIAS)]
                raise BadText(found)
            sizes = [measure for measure in children if measure]
            depth = 1 + max((measure[0] for measure in sizes), default=0)
            size = 16 + sum(measure[1] for measure in sizes) + (len(node.value) if not sizes else 0)
            if depth > MAX_DEPTH + 1:
                raise _too_deep(node.start_mark, self.text, self.source)
            if size > limit:
                message = f"aliases make more than {limit:,} characters of this text of {len(self.text):,}"
                hint = "Does somebody mean harm (a 'billion laughs' file)? Aliases of aliases multiply."
                raise BadText([_diagnostic(node.start_mark, self.text, self.source, "too-large", message, hint=hint)])
            measures[id(node)] = depth, size


_ALIAS = "Let the alias name an anchor (&) that ends before it."
_SURROGATE_HINT = "Write the character itself instead of escapes."
_NAMES = {_TAG + "bool": "true or false", _TAG + "int": "a whole number", _TAG + "float": "a number"}


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
