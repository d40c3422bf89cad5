"""YAML text to nodes, which know their places, and single nodes to values; whole trees: :mod:`packtivity.spec.yamldata`.

The C parser makes the nodes; where libyaml is missing, PyYAML's own parser does. A text the C parser refuses is
tried again with the other one: upstream 0.17.1 reads with that, it accepts a little more (surrogate pairs), and so
messages are the same on every machine.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias

import yaml

from packtivity.datamodel.leaves import key_text as json_key
from packtivity.registry import nearest
from packtivity.spec.source_text import MAX_DEPTH, BadText, error_at, locate
from packtivity.types import JSON, Diagnostic, Path

Pairs: TypeAlias = list[tuple[yaml.Node, yaml.Node]]

TAG = "tag:yaml.org,2002:"
STRING, MERGE = TAG + "str", TAG + "merge"
TEXTS = frozenset({STRING, TAG + "timestamp", TAG + "value", MERGE})

_SAFE_DEPTH = 500
"""The C parser calls itself once for each level; with 50,000 it takes the whole process down, in a small thread sooner."""
_SLOW_PARSER_LIMIT = 200_000
"""Characters up to which a refused text is tried again with the slow parser (about a second)."""


_Slow = yaml.SafeLoader
_Quick: type[yaml.SafeLoader | yaml.CSafeLoader] = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader


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


def _single(loader: type[yaml.SafeLoader | yaml.CSafeLoader], text: str) -> yaml.Node | None:
    parser = loader(text)
    try:
        return parser.get_single_node()
    finally:
        parser.dispose()


def _compose_slowly(text: str, source: str, error: Exception) -> yaml.Node | None:
    if _Quick is not _Slow and len(text) <= _SLOW_PARSER_LIMIT:
        try:
            return _single(_Slow, text)
        except (yaml.YAMLError, RecursionError) as slow_error:
            error = slow_error
    raise BadText([explain(error, text, source)]) from None


def _may_be_deep(text: str) -> bool:
    """Return whether there are many brackets, or a line that begins with much indentation."""
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
                    raise too_deep(event.start_mark.index if event.start_mark else 0, text, source)
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
    except yaml.YAMLError:
        return  # reported with more care by compose()
    finally:
        parser.dispose()


def too_deep(offset: int, text: str, source: str) -> BadText:
    """Return the error for what stands at ``offset`` inside too many lists and mappings."""
    message = f"lists and mappings stand more than {MAX_DEPTH} deep inside each other here"
    return BadText([diagnostic(offset, text, source, "too-deep", message, hint="Write it flatter.")])


def diagnostic(
    offset: int,
    text: str,
    source: str,
    code: str,
    message: str,
    path: Path = (),
    *,
    hint: str = "",
    warn: bool = False,
) -> Diagnostic:
    """Return what there is to tell about the place ``offset`` of a text; ``path`` is the place in the data."""
    position, excerpt = locate(text, source, offset)
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
    return json_key(value)


def scalar(node: yaml.ScalarNode) -> JSON:
    """Return the value of a scalar.

    :raises ValueError, ArithmeticError: it does not have the form its tag asks for, or half a surrogate pair.
    :raises KeyError: the tag is none that JSON has values for.
    """
    if node.tag in TEXTS:
        return node.value if node.value.isascii() else joined(node.value)
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
    TAG + "null": lambda _: None,
    TAG + "bool": _CONSTRUCTOR.construct_yaml_bool,
    TAG + "int": _CONSTRUCTOR.construct_yaml_int,
    TAG + "float": _CONSTRUCTOR.construct_yaml_float,
}


def joined(text: str) -> str:
    """Make one character of each surrogate pair, which JSON texts write as two escapes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    return text


# --- what the parser refuses ------------------------------------------------------------------------------------------

_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ANCHOR = re.compile(r"&([\w-]+)")
_KEY = re.compile(r"( *(?:- +)*)[\w.$-]+")
_TAB = "Indent with spaces: YAML does not allow tabs there."
_QUOTE = "Put the value in quotes, or write it as a block after '|'."
_PATTERN = "If text is meant (a pattern, say), put it in quotes."
_INDENT = "Look at the indentation of this line and of those above."
_BLOCK = (
    "Look at the indentation, and at quotes and braces: a value that begins with '{', '[', '\"' or \"'\" has to be "
    "all of it inside; put such a value in quotes, or write it as a block after '|'."
)


def explain(error: Exception, text: str, source: str) -> Diagnostic:
    """Return what to tell the user about a text that :mod:`yaml` refused."""
    if isinstance(error, RecursionError):
        message = f"lists and mappings stand more than {MAX_DEPTH} deep inside each other"
        return error_at(text, source, 0, "too-deep", message, "Write it flatter.")
    unprintable = _UNPRINTABLE.search(text)
    if unprintable:
        message = f"character U+{ord(unprintable[0]):04X} is not allowed in YAML"
        hint = 'Remove it; inside double quotes it can be written as an escape such as "\\x07".'
        return error_at(text, source, unprintable.start(), "invalid-character", message, hint)
    if not isinstance(error, yaml.MarkedYAMLError):
        return error_at(text, source, 0, "yaml-syntax", f"not YAML: {error}", "")
    return _marked(error, text, source)


def _marked(error: yaml.MarkedYAMLError, text: str, source: str) -> Diagnostic:
    problem = str(error.problem or error.context or "")
    mark = error.problem_mark or error.context_mark
    offset = mark.index if mark else 0
    if problem == "found unexpected end of stream" and error.context_mark:
        message = "this quote is opened and never closed"
        hint = 'Close it; a quote inside single quotes is written twice, inside double quotes as \\".'
        return error_at(text, source, error.context_mark.index, "yaml-syntax", message, hint)
    if problem.endswith("but got '<stream end>'") and "flow" in (error.context or "") and error.context_mark:
        start = error.context_mark.index
        message = f"this {text[start : start + 1]} is opened and never closed"
        return error_at(text, source, start, "yaml-syntax", message, f"Close it. If text is meant: {_QUOTE}")
    if error.context == "while scanning an alias" and error.context_mark:
        message = "* stands for an anchor, and no name follows it"
        return error_at(text, source, error.context_mark.index, "yaml-syntax", message, _PATTERN)
    if problem.startswith("found undefined alias"):
        return _undefined_alias(text, source, offset)
    if problem == "but found another document":
        hint = "Remove the '---', or keep each document in a file of its own."
        return error_at(text, source, offset, "yaml-syntax", "a second document begins here, and one is expected", hint)
    if problem == "second occurrence" and error.context_mark:
        message = f"an anchor of this name stands already at line {error.context_mark.line + 1}"
        return error_at(text, source, offset, "yaml-syntax", message, "Give each anchor a name of its own.")
    message, hint = _said(problem, text, offset)
    since = _since(error, offset) if hint in {_BLOCK, _INDENT} else ""
    return error_at(text, source, offset, "yaml-syntax", f"{message}{since}", hint)


def _since(error: yaml.MarkedYAMLError, offset: int) -> str:
    """Say what was being read when the problem came, and where that begins."""
    what = str(error.context or "").removeprefix("while ")
    mark = error.context_mark
    if not mark or mark.index == offset or not what:
        return ""
    return f" ({what} that begins at line {mark.line + 1})"


def _said(problem: str, text: str, offset: int) -> tuple[str, str]:
    if "cannot start any token" in problem:
        return _bad_start(text[offset : offset + 1])
    if problem.startswith("mapping values are not allowed"):
        return _too_deep(text, offset) or ("a ': ' is not allowed inside a plain value", _QUOTE)
    if problem.startswith("could not find expected ':'"):
        return "the key before this has no ': ' behind it", "Write 'key: value', with a blank behind the colon."
    if problem.startswith(("expected <block end>", "did not find expected key")):
        return _after_block(text, offset)
    return f"not YAML: {problem}", _BLOCK if "expected" in problem else ""


def _too_deep(text: str, offset: int) -> tuple[str, str] | None:
    """Explain a key that stands deeper than the key above it, and so goes on with that one's value."""
    start = text.rfind("\n", 0, offset) + 1
    key = _KEY.fullmatch(text, start, offset)
    lines = text[:start].splitlines()
    above = next((number for number in range(len(lines), 0, -1) if lines[number - 1].strip()), None)
    before = _KEY.match(lines[above - 1]) if above else None
    if not key or not before or len(before[1]) >= len(key[1]):
        return None
    columns = f"line {above} begins in column {len(before[1]) + 1}, this line in column {len(key[1]) + 1}"
    hint = f"Keys that belong together begin in the same column: {columns}."
    return "this line is indented deeper than the key above, and so goes on with its value", hint


def _after_block(text: str, offset: int) -> tuple[str, str]:
    before = text[text.rfind("\n", 0, offset) + 1 : offset]
    opened = re.search(r"""(?:^|[:?-])\s+(?:[&!]\S+\s+)*([\[{"'])""", before)
    if opened:
        message = f"the value that begins with {opened[1]} has ended, and something follows it"
        return message, "Put the whole value in quotes, or write it as a block after '|'."
    return "this does not go on with what stands above it", _INDENT


def _bad_start(character: str) -> tuple[str, str]:
    if character == "\t":
        return "a tab stands where indentation or a value is expected", _TAB
    return f"no plain value may begin with {character!r}", _QUOTE


def _undefined_alias(text: str, source: str, offset: int) -> Diagnostic:
    found = re.compile(r"\*([^\s,\[\]{}]*)").match(text, offset)
    name = found[1] if found else ""
    near = nearest(name, _ANCHOR.findall(text))
    message = f"*{name} stands for the anchor &{name}, and there is none before it"
    hint = f"Did you mean *{near}?" if near else _PATTERN
    return error_at(text, source, offset, "yaml-syntax", message, hint)
