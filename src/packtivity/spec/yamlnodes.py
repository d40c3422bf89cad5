"""YAML text to nodes, which know their places, and what the parser refuses explained.

The C parser makes the nodes; where libyaml is missing, PyYAML's own parser does. A text the C parser refuses is
tried again with the other one: upstream 0.17.1 reads with that, it accepts a little more (surrogate pairs), and so
messages are the same on every machine. Nodes to values: :mod:`packtivity.spec.yamldata`.
"""

from __future__ import annotations

import re
from graphlib import CycleError, TopologicalSorter

import yaml

from packtivity.registry import nearest
from packtivity.spec.source_text import MAX_DEPTH, BadText, Text

_SAFE_DEPTH = 500
"""The C parser calls itself once for each level; with 50,000 it takes the whole process down, in a small thread sooner."""
_SLOW_PARSER_LIMIT = 200_000
"""Characters up to which a refused text is tried again with the slow parser (about a second)."""
_EXPANSION = 20_000_000
"""Characters, and 16 for each value, that aliases may make of a text beyond ten times its own length."""


_Slow = yaml.SafeLoader
_Quick: type[yaml.SafeLoader | yaml.CSafeLoader] = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader


def compose(text: Text) -> yaml.Node | None:
    """Return the root node of the one document in ``text``, ``None`` for an empty text.

    :raises BadText: it is not YAML, or nested too deep to be read at all.
    """
    brackets, indentation = text.content.count("[") + text.content.count("{"), r"[ \-?:\t]{201,}"
    if brackets > _SAFE_DEPTH or re.search(indentation, text.content):  # it may be deep
        _refuse_depth(text)
    try:
        # Behind the beginning a byte order mark is a character; libyaml drops it.
        return _single(_Slow if "\ufeff" in text.content else _Quick, text.content)
    except (yaml.YAMLError, RecursionError) as quick_error:
        error: Exception = quick_error
    if _Quick is not _Slow and len(text.content) <= _SLOW_PARSER_LIMIT:
        try:
            return _single(_Slow, text.content)
        except (yaml.YAMLError, RecursionError) as slow_error:
            error = slow_error
    raise _explained(error, text)


def _single(loader: type[yaml.SafeLoader | yaml.CSafeLoader], content: str) -> yaml.Node | None:
    parser = loader(content)
    try:
        return parser.get_single_node()
    finally:
        parser.dispose()


def _refuse_depth(text: Text) -> None:
    """Look through a text that might be nested deep, without recursion."""
    depth = 0
    parser = _Quick(text.content)
    try:
        while parser.check_event():
            event = parser.get_event()
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
                if depth > MAX_DEPTH:
                    raise too_deep(event.start_mark.index if event.start_mark else 0, text)
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
    except yaml.YAMLError:
        return  # reported with more care by compose()
    finally:
        parser.dispose()


def too_deep(offset: int, text: Text) -> BadText:
    """Return the error for what stands at ``offset`` inside too many lists and mappings."""
    message = f"lists and mappings stand more than {MAX_DEPTH} deep inside each other here"
    return text.error(offset, "too-deep", message, "Write it flatter.")


def refuse_expansion(root: yaml.Node, text: Text) -> None:
    """Measure what aliases make of a text before anything is made, without recursion.

    :raises BadText: an alias stands inside what it stands for, or the result would be huge.
    """
    children: dict[yaml.Node, list[yaml.Node]] = {}
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if node not in children:
            inner = node.value if isinstance(node, yaml.CollectionNode) else []
            is_mapping = isinstance(node, yaml.MappingNode)
            children[node] = [child for pair in inner for child in pair] if is_mapping else inner
            waiting += children[node]
    try:
        leaves_first = list(TopologicalSorter(children).static_order())
    except CycleError as error:
        at = max(node.start_mark.index for node in error.args[1])
        hint = "Let the alias name an anchor (&) that ends before it."
        raise text.error(at, "circular-alias", "this contains an alias (*) to itself", hint) from None
    depths: dict[yaml.Node, int] = {}
    sizes: dict[yaml.Node, int] = {}
    limit = _EXPANSION + 10 * len(text.content)
    for node in leaves_first:
        depths[node] = 1 + max((depths[child] for child in children[node]), default=0)
        sizes[node] = 16 + (sum(sizes[child] for child in children[node]) or len(node.value))
        if depths[node] > MAX_DEPTH + 1:
            raise too_deep(node.start_mark.index, text)
        if sizes[node] > limit:
            message = f"aliases make more than {limit:,} characters of this text of {len(text.content):,}"
            hint = "Does somebody mean harm (a 'billion laughs' file)? Aliases of aliases multiply."
            raise text.error(node.start_mark.index, "too-large", message, hint)


# --- what the parser refuses ------------------------------------------------------------------------------------------

_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ANCHOR = re.compile(r"&([\w-]+)")
_KEY = re.compile(r"( *(?:- +)*)[\w.$-]+")
_QUOTE = "Put the value in quotes, or write it as a block after '|'."
_CLOSED = re.compile(r"""(?:^|[:?,\[{-])\s*(?:[&!]\S+\s+)*('[^'\n]*'|"[^"\n]*")\Z""", re.MULTILINE)
_PATTERN = "If text is meant (a pattern, say), put it in quotes."
_INDENT = "Look at the indentation of this line and of those above."
_BLOCK = (
    "Look at the indentation, and at quotes and braces: a value that begins with '{', '[', '\"' or \"'\" has to be "
    "all of it inside; put such a value in quotes, or write it as a block after '|'."
)


def _explained(error: Exception, text: Text) -> BadText:
    """Return what to tell the user about a text that :mod:`yaml` refused."""
    if isinstance(error, RecursionError):
        message = f"lists and mappings stand more than {MAX_DEPTH} deep inside each other"
        return text.error(0, "too-deep", message, "Write it flatter.")
    if unprintable := _UNPRINTABLE.search(text.content):
        message = f"character U+{ord(unprintable[0]):04X} is not allowed in YAML"
        hint = 'Remove it; inside double quotes it can be written as an escape such as "\\x07".'
        return text.error(unprintable.start(), "invalid-character", message, hint)
    if not isinstance(error, yaml.MarkedYAMLError):
        return text.error(0, "yaml-syntax", f"not YAML: {error}", "")
    mark = error.problem_mark or error.context_mark
    offset = mark.index if mark else 0
    problem, context, begin = str(error.problem or error.context or ""), error.context or "", error.context_mark
    found = _opened(problem, context, begin.index, text.content) if begin else None
    if found and begin:
        offset = begin.index
    elif problem == "second occurrence" and begin:
        found = f"an anchor of this name stands already at line {begin.line + 1}", "Give each anchor a name of its own."
    message, hint = found or _meaning(problem, text.content, offset)
    if hint in {_BLOCK, _INDENT} and context and begin and begin.index != offset:
        message += f" ({context.removeprefix('while ')} that begins at line {begin.line + 1})"
    return text.error(offset, "yaml-syntax", message, hint)


def _opened(problem: str, context: str, start: int, content: str) -> tuple[str, str] | None:
    """Explain what was begun at ``start`` and does not end."""
    if problem == "found unexpected end of stream":
        hint = 'Close it; a quote inside single quotes is written twice, inside double quotes as \\".'
        return "this quote is opened and never closed", hint
    if problem.endswith("but got '<stream end>'") and "flow" in context:
        return f"this {content[start : start + 1]} is opened and never closed", f"Close it. If text is meant: {_QUOTE}"
    return (
        ("* stands for an anchor, and no name follows it", _PATTERN) if context == "while scanning an alias" else None
    )


def _meaning(problem: str, content: str, offset: int) -> tuple[str, str]:
    """Return message and hint for a problem of the parser."""
    if "cannot start any token" in problem:
        if content[offset : offset + 1] == "\t":
            hint = "Indent with spaces: YAML does not allow tabs there."
            return "a tab stands where indentation or a value is expected", hint
        return f"no plain value may begin with {content[offset : offset + 1]!r}", _QUOTE
    if problem.startswith("found undefined alias"):
        return _undefined_alias(content, offset)
    if problem == "but found another document":
        hint = "Remove the '---', or keep each document in a file of its own."
        return "a second document begins here, and one is expected", hint
    if problem.startswith("mapping values are not allowed"):
        return _too_far_in(content, offset) or ("a ': ' is not allowed inside a plain value", _QUOTE)
    if problem.startswith("could not find expected ':'"):
        return "the key before this has no ': ' behind it", "Write 'key: value', with a blank behind the colon."
    if problem.startswith(("expected <block end>", "did not find expected key")):
        before = content[content.rfind("\n", 0, offset) + 1 : offset]
        if opened := re.search(r"""(?:^|[:?-])\s+(?:[&!]\S+\s+)*([\[{"'])""", before):
            message = f"the value that begins with {opened[1]} has ended, and something follows it"
            return message, _own_quotes(
                content, offset
            ) or "Put the whole value in quotes, or write it as a block after '|'."
        return "this does not go on with what stands above it", _INDENT
    hint = _own_quotes(content, offset) or _BLOCK if "expected" in problem else ""
    return f"not YAML: {problem}", hint


def _own_quotes(content: str, offset: int) -> str | None:
    """Explain a quoted text that a quote of its own has ended, such as ``'it's done'``."""
    closed = _CLOSED.search(content, content.rfind("\n", 0, offset) + 1, offset)
    mark = closed[1][0] if closed else ""
    rest = re.compile(rf"(.*?){mark}(?=[ \t\r]*(?:$|#|[,}}\]]))", re.MULTILINE).match(content, offset)
    if not closed or not rest:
        return None
    inner = closed[1][1:] + rest[1]
    other, escaped = ('"', "''") if mark == "'" else ("'", '\\"')
    written = f"{other}{inner}{other}"
    if other in inner or "\\" in inner:
        written = f"{mark}{inner.replace(mark, escaped)}{mark}"
    return f"The text has {mark} in it, which ends it: write {written}"


def _too_far_in(content: str, offset: int) -> tuple[str, str] | None:
    """Explain a key that stands deeper than the key above it, and so goes on with that one's value."""
    start = content.rfind("\n", 0, offset) + 1
    key = _KEY.fullmatch(content, start, offset)
    lines = content[:start].splitlines()
    above = next((number for number in range(len(lines), 0, -1) if lines[number - 1].strip()), None)
    before = _KEY.match(lines[above - 1]) if above else None
    if not key or not before or len(before[1]) >= len(key[1]):
        return None
    columns = f"line {above} begins in column {len(before[1]) + 1}, this line in column {len(key[1]) + 1}"
    hint = f"Keys that belong together begin in the same column: {columns}."
    return "this line is indented deeper than the key above, and so goes on with its value", hint


def _undefined_alias(content: str, offset: int) -> tuple[str, str]:
    found = re.compile(r"\*([^\s,\[\]{}]*)").match(content, offset)
    name = found[1] if found else ""
    near = nearest(name, _ANCHOR.findall(content))
    message = f"*{name} stands for the anchor &{name}, and there is none before it"
    return message, f"Did you mean *{near}?" if near else _PATTERN
