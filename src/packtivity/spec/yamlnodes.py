"""YAML text to nodes, which know where they stand, and single nodes to values; whole trees: ``yamldata``.

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
    from collections.abc import Callable

    from packtivity.types import Path

    Pairs = list[tuple[yaml.Node, yaml.Node]]

TAG = "tag:yaml.org,2002:"
STRING, MERGE = TAG + "str", TAG + "merge"
TEXTS = frozenset({STRING, TAG + "timestamp", TAG + "value", MERGE})
_TRUE = frozenset({"yes", "true", "on"})
_FALSE = frozenset({"no", "false", "off"})

_SAFE_DEPTH = 500
"""The C parser calls itself once for each level; with 50,000 it takes the whole process down, in a small thread sooner."""
_SLOW_PARSER_LIMIT = 200_000
"""Characters up to which a refused text is tried again with the slow parser (about a second)."""


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
            return STRING
        return TAG + "seq" if kind is yaml.SequenceNode else TAG + "map"


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
    if sum(map(text.count, "[{-?:")) > _SAFE_DEPTH and _may_be_deep(text):  # one of these opens each level
        _refuse_depth(text, source)
    try:
        # Behind the beginning a byte order mark is a character; libyaml drops it.
        return _single(_Slow if "\ufeff" in text else _Quick, text)
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


def _may_be_deep(text: str) -> bool:
    """Tell whether there are many brackets, or a line that begins with much indentation."""
    if text.count("[") + text.count("{") > _SAFE_DEPTH:
        return True
    return any(run.end() - run.start() > 200 for run in re.finditer(r"[ \-?:\t]{2,}", text))


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
                    raise too_deep(event.start_mark, text, source)
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
    except yaml.YAMLError:
        return  # told with more care by compose()
    finally:
        parser.dispose()


def too_deep(mark: Any, text: str, source: str) -> BadText:
    """Return the error for what stands at ``mark`` inside too many lists and mappings."""
    message = f"lists and mappings stand more than {MAX_DEPTH} deep inside each other here"
    return BadText([diagnostic(mark, text, source, "too-deep", message, hint="Write it flatter.")])


def diagnostic(
    mark: Any, text: str, source: str, code: str, message: str, path: Path = (), *, hint: str = "", warn: bool = False
) -> Diagnostic:
    """Return what there is to tell about the place ``mark`` of a text; ``path`` is the place in the data."""
    position, excerpt = locate(text, source, mark.index)
    return Diagnostic("warning" if warn else "error", code, message, path, position, excerpt, hint=hint)


def pairs(node: yaml.MappingNode) -> Pairs:
    """Return keys and values of a mapping in their order, those merged with ``<<`` first (YAML 1.1, merge key)."""
    if not any(key.tag == MERGE for key, _ in node.value):
        return list(node.value)
    own: Pairs = []
    merged: Pairs = []
    for key, value in node.value:
        if key.tag != MERGE:
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
    if node.tag == STRING and node.value.isascii():
        return str(node.value)
    try:
        value = scalar(node)
    except (ValueError, ArithmeticError, KeyError):
        return None
    from packtivity.datamodel.leaves import key_text as json_key

    return json_key(value)


def scalar(node: yaml.ScalarNode) -> JSON:
    """Return the value of a scalar.

    :raises ValueError, ArithmeticError: it does not have the form its tag asks for, or half a surrogate pair.
    :raises KeyError: the tag is none that JSON has values for.
    """
    if node.tag in TEXTS:
        return node.value if node.value.isascii() else joined(node.value)
    return _SCALARS[node.tag](node.value)


def joined(text: str) -> str:
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
    TAG + "null": lambda _: None,
    TAG + "bool": _boolean,
    TAG + "int": _whole,
    TAG + "float": _float,
}
