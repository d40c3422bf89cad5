"""Parameters as they are given to commands: YAML files and ``NAME=YAML``, and where each one is written."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from packtivity.errors import ParameterError
from packtivity.registry import nearest
from packtivity.spec.yamltext import BadText, Parsed, parse
from packtivity.types import Diagnostic, Position

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from packtivity.types import Path


class Parameters:
    """Parameters put together from several texts; they know their places as a :class:`~packtivity.spec.document.Document` does.

    :param files: YAML or JSON files, each a mapping; later ones win. ``-`` is standard input.
    :param given: ``NAME=YAML``, split at the first ``=``; they win over files, later ones over earlier.
    :ivar data: parameter name → value.
    :raises ParameterError: a file cannot be read or is not a mapping, a value is not YAML, a ``=`` is missing.
    """

    source = "parameters"

    def __init__(self, files: Iterable[str] = (), given: Iterable[str] = ()) -> None:
        self.data: dict[str, Any] = {}
        self.problems: tuple[Diagnostic, ...] = ()
        self._texts: list[Parsed] = []
        self._origin: dict[str, tuple[Parsed, Path]] = {}
        for name in files:
            try:
                text = self._kept(parse(_read(name), name))
            except BadText as error:
                raise _with_hint(error, _quoted_line(error.diagnostics[0].excerpt)) from None
            if text.data is None:
                message, hint = f"parameter file {name} is empty", "Write lines NAME: VALUE."
                place = Position(name, 1, 1)
                self.problems += (Diagnostic("warning", "empty-parameter-file", message, position=place, hint=hint),)
            if not isinstance(text.data, (dict, type(None))):
                kind = "a list" if isinstance(text.data, list) else "a single value"
                raise ParameterError(
                    f"parameter file {name}: is {kind}, but must be a mapping",
                    hint="Write lines of the form NAME: VALUE.",
                )
            for key, value in (text.data or {}).items():
                self.data[key], self._origin[key] = value, (text, (key,))
        for assignment in given:
            key, value = _split(assignment)
            text = self._kept(read_value(value, f"-p {key}", partial(_option, key)))
            self.data[key], self._origin[key] = text.data, (text, ())

    def _kept(self, text: Parsed) -> Parsed:
        self._texts.append(text)
        self.problems += text.problems
        return text

    def position(self, path: Path, *, key: bool = False) -> Position | None:
        """Return where the value (or its key) stands."""
        text, place = self._find(path)
        return text.position(place, key=key) if text else None

    def offset_position(self, path: Path, offset: int) -> Position | None:
        """Return where a character of the string at ``path`` stands."""
        text, place = self._find(path)
        return text.offset_position(place, offset) if text else None

    def excerpt(self, position: Position) -> str:
        """Return the line of text that a position is in."""
        return next((text.line(position.line) for text in self._texts if text.source == position.file), "")

    def _find(self, path: Path) -> tuple[Parsed | None, Path]:
        text, place = self._origin.get(str(path[0]) if path else "", (None, ()))
        return text, (*place, *path[1:])


def getinit_data(initfiles: Iterable[str], parameters: Iterable[str]) -> dict[str, Any]:
    """Return parameters by name (upstream 0.17.1 has this name); arguments and errors are those of :class:`Parameters`."""
    return Parameters(initfiles, parameters).data


def _split(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator:
        raise ParameterError(
            f"parameter {text!r} has no '='",
            hint=f"Write -p NAME=VALUE. If {text!r} is a parameter file, give it after the spec without -p.",
        )
    if not name.strip():
        raise ParameterError(f"parameter {text!r} has no name before the '='", hint="Write -p NAME=VALUE.")
    return name, value


def read_value(text: str, source: str, how: Callable[[str], str]) -> Parsed:
    """Read one value.

    :param how: returns what to do to give the text itself, for its YAML in quotes.
    :raises ParameterError: it is not YAML.
    """
    try:
        parsed = parse(text, source)
    except BadText as error:
        quoted = _quoted(text)
        raise _with_hint(error, quoted and f"For this text, {how(quoted)}") from None
    node = parsed.node() if "#" in text else None
    end = node.end_mark.index if node else 0
    if "#" in text and text[end:].lstrip().startswith("#"):
        message = "what follows # is a comment in YAML, and is not in the value"
        place, quoted = parsed.place(text.index("#", end)), _quoted(text)
        hint, line = quoted and f"For this text, {how(quoted)}", parsed.line(place.line)
        parsed.problems += (Diagnostic("warning", "not-as-written", message, (), place, line, hint=hint),)
    return parsed


def _with_hint(error: BadText, hint: str) -> BadText:
    first, *others = error.diagnostics
    return BadText([first._replace(hint=hint), *others]) if hint else error


def _option(name: str, quoted: str) -> str:
    return f"type: -p {shlex.quote(name)}={shlex.quote(quoted)}"


def _quoted_line(line: str) -> str:
    """Return the line to write in a file for one such as ``out: {workdir}/x``, whose value is meant as text."""
    found = re.fullmatch(r"\s*([^{}#]*[:-]\s+)(\{\w+\}[^#]*?)\s*", line)
    text = _quoted(found[2]) if found else ""
    return f"Write: {found[1]}{text}" if found and text else ""


def _quoted(value: str) -> str:
    """Return the YAML of a text, in double quotes; empty for what no text can be."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        return text if parse(text, "").data == value else ""
    except BadText:
        return ""


def _read(name: str) -> str:
    try:
        if name == "-":
            if sys.stdin is None:
                raise ParameterError("parameter file -: standard input is closed", hint="Give parameters with -p.")
            return sys.stdin.read()
        with open(name, encoding="utf-8-sig") as file:
            return file.read()
    except OSError as error:
        hint = f"If this is a parameter, write -p {name}." if "=" in name else _near(name)
        raise ParameterError.of(error, f"parameter file {name}: {error.strerror}", hint=hint) from None
    except UnicodeDecodeError as error:
        raise ParameterError(
            f"parameter file {name}: not UTF-8 text (byte {error.start})", hint="Save the file as UTF-8."
        ) from None


def _near(name: str) -> str:
    """Return a hint at the file that was meant, empty if there is none of nearly this name."""
    directory, file = os.path.split(name)
    try:
        there = os.listdir(directory or ".")
    except OSError:
        return ""
    near = nearest(file, there) if file not in there else None
    return f"Did you mean {os.path.join(directory, near)!r}?" if near else ""
