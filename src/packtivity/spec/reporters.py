"""Diagnostics for programs: JSON of our own, SARIF 2.1.0 and GitHub's workflow commands."""

from __future__ import annotations

from json import dumps
from typing import TYPE_CHECKING, Any

from packtivity.errors import UsageError
from packtivity.printable import escaped
from packtivity.spec.diagnostics import CODES, FORMATS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from packtivity.types import Diagnostic, Position

JSON_VERSION = 1
"""Version of the JSON format; it rises when a key changes its meaning or goes away, not when one is added."""

_SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def report(ordered: Sequence[Diagnostic], format: str) -> str:
    """Return diagnostics in a format for programs, without a newline at the end.

    :raises UsageError: there is no such format.
    """
    if format not in _REPORTERS:
        raise UsageError(f"no format is called {format!r}", hint=f"There are: {', '.join(FORMATS)}.")
    return _REPORTERS[format](ordered)


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
    where = one.position
    return {
        "severity": one.severity,
        "code": one.code,
        "message": one.message,
        "path": list(one.path),
        "file": where.file if where else None,
        "line": where.line if where else None,
        "column": where.column if where else None,
        "excerpt": one.excerpt,
        "expected": one.expected,
        "hint": one.hint,
    }


# --- SARIF -----------------------------------------------------------------------------------------------------


def report_sarif(ordered: Sequence[Diagnostic]) -> str:
    """Return a SARIF 2.1.0 log with one run; the rules are the codes that occur, columns count characters."""
    codes = sorted({one.code for one in ordered})
    driver = {
        "name": "packtivity-validate",
        "rules": [_rule(code) for code in codes],
    }
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [_result(one, codes.index(one.code)) for one in ordered],
    }
    return dumps({"$schema": _SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2)


def _rule(code: str) -> dict[str, Any]:
    severity, meaning, remedy = CODES[code]
    return {
        "id": code,
        "shortDescription": {"text": meaning},
        "help": {"text": remedy},
        "defaultConfiguration": {"level": severity},
    }


def _result(one: Diagnostic, rule: int) -> dict[str, Any]:
    text = ". ".join(filter(None, (one.message, f"Expected: {one.expected}" if one.expected else "", one.hint)))
    result: dict[str, Any] = {
        "ruleId": one.code,
        "ruleIndex": rule,
        "level": one.severity,
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
    from urllib.parse import quote

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
    told = ",".join(f"{name}={_escaped(value, ':,')}" for name, value in properties.items())
    text = "\n".join(filter(None, (one.message, f"expected: {one.expected}" if one.expected else "", one.hint)))
    return f"::{one.severity} {told}::{_escaped(text)}"


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
