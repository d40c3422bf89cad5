"""Diagnostics as text: for people, and for programs as JSON of our own, SARIF 2.1.0 and GitHub's workflow commands."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from json import dumps
from typing import Any
from unicodedata import category, east_asian_width
from urllib.parse import quote

from packtivity.errors import UsageError
from packtivity.printable import escaped
from packtivity.spec.diagnostics import CODES, arrange, summary, where
from packtivity.types import Diagnostic, Position

JSON_VERSION = 1
"""Version of the JSON format; it rises when a key changes its meaning or goes away, not when one is added."""

_SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def render(diagnostics: Sequence[Diagnostic], format: str = "text", *, color: bool = False) -> str:
    """Return all diagnostics as one text without a newline at the end.

    :param format: ``text`` for people, ``json``, ``sarif`` (2.1.0) or ``github`` (workflow commands).
    :param color: whether ``text`` may have ANSI escapes.
    :raises UsageError: there is no such format.
    """
    ordered = arrange(diagnostics)
    if format == "text":
        return render_text(ordered, color=color)
    if format not in _REPORTERS:
        raise UsageError(f"unknown format {format!r}", hint=f"There are: {', '.join(FORMATS)}.")
    return _REPORTERS[format](ordered)


# --- text ------------------------------------------------------------------------------------------------------

_BOLD, _RED, _YELLOW, _BLUE, _GREEN, _RESET = ("\x1b[1m", "\x1b[31m", "\x1b[33m", "\x1b[34m", "\x1b[32m", "\x1b[0m")


_TINTS = {"error": _RED, "warning": _YELLOW, "advice": _BLUE}


def render_text(ordered: Sequence[Diagnostic], *, color: bool = False) -> str:
    """Return diagnostics for a person: place, excerpt with a caret, what was expected, what to do."""
    if not ordered:
        return ""
    text = "\n".join([*map(_block, ordered), summary(ordered)])
    return text if color else re.sub("\x1b\\[[0-9]+m", "", text)  # the texts themselves have no escapes


def _block(diagnostic: Diagnostic) -> str:
    tint = _BOLD + _TINTS[diagnostic.severity]
    place, label = _visible(where(diagnostic)), f"{diagnostic.severity}[{diagnostic.code}]"
    lines = [f"{_BOLD}{place}{_RESET}: {tint}{label}{_RESET}: {_visible(diagnostic.message)}"]
    if diagnostic.position and diagnostic.excerpt.strip():
        number = str(diagnostic.position.line)
        shown, before = _window(diagnostic.excerpt, diagnostic.position.column - 1)
        lines.append(f"  {_BLUE}{number} |{_RESET} {shown}")
        lines.append(f"  {_BLUE}{' ' * len(number)} |{_RESET} {' ' * before}{tint}^{_RESET}")
    if diagnostic.expected:
        lines.append(f"  {_BLUE}expected:{_RESET} {_visible(diagnostic.expected)}")
    if diagnostic.hint:
        hint = "\n        ".join(map(_visible, diagnostic.hint.splitlines()))
        lines.append(f"  {_GREEN}help:{_RESET} {hint}")
    return "\n".join(lines)


_WIDEST = 100


def _window(line: str, column: int) -> tuple[str, int]:
    """Return the part of a line to show and how many cells stand before the caret."""
    start = max(0, column - _WIDEST // 2) if len(line) > _WIDEST else 0
    lead = "…" if start else ""
    tail = "…" if len(line) > start + _WIDEST else ""
    shown = ["    " if cell == "\t" else _visible(cell) for cell in line[start : start + _WIDEST]]
    before = "".join(shown[: column - start])
    missing = max(0, column - start - len(shown))
    return f"{lead}{''.join(shown)}{tail}", len(lead) + display_width(before) + missing


def _visible(text: str) -> str:
    """Return text with control characters and lone surrogates shown as escapes, so that a file cannot play tricks."""
    if text.isprintable():
        return text
    kept = "\u00a0\u3000"
    return "".join(
        c if c.isprintable() or c in kept else c.encode("unicode_escape", "surrogatepass").decode() for c in text
    )


def display_width(text: str) -> int:
    """Return how many terminal cells a text takes: wide characters two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(0 if category(c) in {"Mn", "Me", "Cf"} else 1 + (east_asian_width(c) in "WF") for c in text)


# --- JSON ------------------------------------------------------------------------------------------------------


def report_json(ordered: Sequence[Diagnostic]) -> str:
    """Return ``{"version", "errors", "warnings", "diagnostics": […]}``.

    A diagnostic has ``severity, code, message, path`` (keys and list positions), ``file, line, column`` (from 1, in
    characters; all null when the place is not known), ``excerpt, expected, hint`` (texts, perhaps empty).
    """
    severities = [one.severity for one in ordered]
    document = {
        "version": JSON_VERSION,
        "errors": severities.count("error"),
        "warnings": severities.count("warning"),
        "diagnostics": [_as_json(one) for one in ordered],
    }
    return dumps(document, indent=2)


def _as_json(one: Diagnostic) -> dict[str, Any]:
    place = one.position._asdict() if one.position else dict.fromkeys(Position._fields)
    values = one._asdict() | place
    keys = ("severity", "code", "message", "path", "file", "line", "column", "excerpt", "expected", "hint")
    return {key: values[key] for key in keys}


# --- SARIF -----------------------------------------------------------------------------------------------------


_LEVELS = {"advice": "note"}


def report_sarif(ordered: Sequence[Diagnostic]) -> str:
    """Return a SARIF 2.1.0 log with one run; the rules are the codes that occur, columns count characters."""
    codes = sorted({one.code for one in ordered})
    run = {
        "tool": {"driver": {"name": "packtivity-validate", "rules": [_rule(code) for code in codes]}},
        "columnKind": "unicodeCodePoints",
        "results": [_result(one, codes.index(one.code)) for one in ordered],
    }
    return dumps({"$schema": _SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2)


def _rule(code: str) -> dict[str, Any]:
    severity, meaning, remedy = CODES[code]
    texts = {"shortDescription": {"text": meaning}, "help": {"text": remedy}}
    return {"id": code, **texts, "defaultConfiguration": {"level": _LEVELS.get(severity, severity)}}


def _result(one: Diagnostic, rule: int) -> dict[str, Any]:
    text = ". ".join(filter(None, (one.message, f"Expected: {one.expected}" if one.expected else "", one.hint)))
    result: dict[str, Any] = {
        "ruleId": one.code,
        "ruleIndex": rule,
        "level": _LEVELS.get(one.severity, one.severity),
        "message": {"text": text},
    }
    if one.position:
        result["locations"] = [{"physicalLocation": _physical(one.position, one.excerpt)}]
    return result


def _physical(where: Position, excerpt: str) -> dict[str, Any]:
    region: dict[str, Any] = {"startLine": where.line, "startColumn": where.column}
    if excerpt:
        region["snippet"] = {"text": excerpt}
    return {"artifactLocation": {"uri": _uri(where.file)}, "region": region}


def _uri(file: str) -> str:
    """Return a file name as a URI reference (RFC 3986); addresses stay as they are."""
    if "://" in file:
        return file
    path = quote(file.encode("utf-8", "surrogateescape"), safe="/!$&'()*+,;=@~")
    return f"file://{path}" if path.startswith("/") else path


# --- GitHub ----------------------------------------------------------------------------------------------------


def report_github(ordered: Sequence[Diagnostic]) -> str:
    """Return one workflow command a line, which GitHub shows beside the source in a pull request."""
    return "\n".join(_command(one) for one in ordered)


def _command(one: Diagnostic) -> str:
    properties = {"title": one.code}
    if one.position:
        where = {"file": one.position.file, "line": str(one.position.line), "col": str(one.position.column)}
        properties = where | properties
    shown = ",".join(f"{name}={_escaped(value, ':,')}" for name, value in properties.items())
    text = "\n".join(filter(None, (one.message, f"expected: {one.expected}" if one.expected else "", one.hint)))
    return f"::{'notice' if one.severity == 'advice' else one.severity} {shown}::{_escaped(text)}"


def _escaped(text: str, more: str = "") -> str:
    """Escape as GitHub's toolkit does: per cent first, then line ends, in properties also ``:`` and ``,``."""
    for character in f"%\r\n{more}":
        text = text.replace(character, f"%{ord(character):02X}")
    return escaped(text)


_REPORTERS: dict[str, Callable[[Sequence[Diagnostic]], str]] = {
    "json": report_json,
    "sarif": report_sarif,
    "github": report_github,
}
FORMATS = ("text", *_REPORTERS)
