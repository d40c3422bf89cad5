"""What PyYAML says about a text it cannot read, said to a person: where, why, and how to mend it."""

from __future__ import annotations

import re
from typing import Any

import yaml

from packtivity.registry import nearest
from packtivity.spec.yamltext import MAX_DEPTH, locate
from packtivity.types import Diagnostic

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
        return _told(text, source, 0, "too-deep", message, "Write it flatter.")
    unprintable = _UNPRINTABLE.search(text)
    if unprintable:
        message = f"character U+{ord(unprintable[0]):04X} is not allowed in YAML"
        hint = 'Remove it; inside double quotes it can be written as an escape such as "\\x07".'
        return _told(text, source, unprintable.start(), "invalid-character", message, hint)
    if not isinstance(error, yaml.MarkedYAMLError):
        return _told(text, source, 0, "yaml-syntax", f"not YAML: {error}", "")
    return _marked(error, text, source)


def _told(text: str, source: str, offset: int, code: str, message: str, hint: str) -> Diagnostic:
    position, excerpt = locate(text, source, min(offset, len(text)))
    return Diagnostic("error", code, message, position=position, excerpt=excerpt, hint=hint)


def _marked(error: yaml.MarkedYAMLError, text: str, source: str) -> Diagnostic:
    problem = str(error.problem or error.context or "")
    mark: Any = error.problem_mark or error.context_mark
    offset = mark.index if mark else 0
    if problem == "found unexpected end of stream" and error.context_mark:
        message = "this quote is opened and never closed"
        hint = 'Close it; a quote inside single quotes is written twice, inside double quotes as \\".'
        return _told(text, source, error.context_mark.index, "yaml-syntax", message, hint)
    if problem.endswith("but got '<stream end>'") and "flow" in (error.context or "") and error.context_mark:
        start = error.context_mark.index
        message = f"this {text[start : start + 1]} is opened and never closed"
        return _told(text, source, start, "yaml-syntax", message, f"Close it. If text is meant: {_QUOTE}")
    if error.context == "while scanning an alias" and error.context_mark:
        message = "* stands for an anchor, and no name follows it"
        return _told(text, source, error.context_mark.index, "yaml-syntax", message, _PATTERN)
    if problem.startswith("found undefined alias"):
        return _undefined_alias(text, source, offset)
    if problem == "but found another document":
        hint = "Remove the '---', or keep each document in a file of its own."
        return _told(text, source, offset, "yaml-syntax", "a second document begins here, and one is expected", hint)
    if problem == "second occurrence" and error.context_mark:
        message = f"an anchor of this name stands already at line {error.context_mark.line + 1}"
        return _told(text, source, offset, "yaml-syntax", message, "Give each anchor a name of its own.")
    message, hint = _said(problem, text, offset)
    since = _since(error, offset) if hint in {_BLOCK, _INDENT} else ""
    return _told(text, source, offset, "yaml-syntax", f"{message}{since}", hint)


def _since(error: yaml.MarkedYAMLError, offset: int) -> str:
    """Say what was being read when the problem came, and where that begins."""
    what = str(error.context or "").removeprefix("while ")
    mark: Any = error.context_mark
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
    return _told(text, source, offset, "yaml-syntax", message, hint)
