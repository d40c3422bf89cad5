"""jq programs and JSONPath expressions, run on plain JSON. The libraries are imported when something is asked."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from functools import lru_cache
from json import dumps, loads
from typing import Any

from packtivity.datamodel.leaves import map_leaves
from packtivity.errors import ParameterError, PublishError
from packtivity.types import JSON


class JqError(PublishError, ValueError):
    """A jq program cannot be compiled, fails on its input, or gives nothing (also a ``ValueError``, as ``jq``'s)."""


class JsonPathError(ParameterError, IndexError):
    """A JSONPath expression cannot be read or finds nothing (also an ``IndexError``, as in upstream 0.17.1)."""


def run_jq(program: str, data: object, *, multiple_output: bool = False, text_output: bool = False) -> JSON:
    """Run a jq program.

    Numbers that pass through unchanged stay exactly what they were: ``12345678901234567890`` and ``1.0``
    (upstream 0.17.1 rounds the one and makes ``1`` of the other). This needs a ``jq`` package that has jq 1.7 or
    later inside; with an older one only the program ``.`` is exact.

    :param multiple_output: return a list of all outputs instead of the first.
    :param text_output: return all outputs as JSON text, a line each.
    :raises JqError: the program cannot be compiled, fails, or gives nothing although one output is wanted.
    """
    outputs = iter((data,)) if program.strip() == "." else _outputs(program, data)
    try:
        if text_output:
            return "\n".join(map(dumps, outputs))
        return list(outputs) if multiple_output else next(outputs)
    except StopIteration:
        raise JqError(f"jq program gives no output: {program}") from None


def _outputs(program: str, data: object) -> Iterator[JSON]:
    compiled, as_text = _compiled(program)
    try:
        for output in compiled.input(text=_input_text(data)):
            yield loads(output, parse_float=_number) if as_text else output
    except ValueError as error:
        raise JqError(f"jq program fails: {program}\n  {error}") from None


def _input_text(data: object) -> str:
    """Write a document for jq, so that it gives each number back in a form that Python reads as it was.

    :raises ParameterError: it is no JSON.
    """
    try:
        text = dumps(data)
        if not re.search(r"\d\.\d{16}e\+16", text):
            return text
        # jq drops the exponent of 1.2345678901234567e+16, which makes it an integer: write it with a point instead.
        mark = "number"
        while mark in text:
            mark += "'"
        marked = dumps(map_leaves(data, lambda leaf: f"{mark}{leaf:.1f}" if _loses_point(leaf) else leaf))
    except TypeError as error:
        raise ParameterError(f"jq program cannot be given its input: {error}") from None
    return re.sub(f'"{mark}(-?\\d+\\.0)"', r"\1", marked)


def _loses_point(leaf: object) -> bool:
    return isinstance(leaf, float) and 1e16 <= abs(leaf) < 1e17


def _number(text: str) -> float | int:
    """Read a number that jq wrote with a point or an exponent.

    jq writes a large exponent with ``E`` for a number that it only passed on, with ``e`` for one that it computed;
    computed ones are whole numbers wherever they can be, as in upstream 0.17.1.
    """
    number = float(text)
    return int(number) if "e" in text and number.is_integer() else number


@lru_cache(maxsize=128)
def _compiled(program: str) -> tuple[Any, bool]:
    """Compile a program, so that it gives JSON text wherever jq can be trusted to keep numbers in that."""
    import jq

    if _keeps_numbers():
        try:
            # Two newlines: from jq 1.8 on, a backslash continues a comment on the next line.
            return jq.compile(f"{program}\n\n| tojson"), True
        except ValueError:
            pass  # the program alone gives the error that its author understands
    try:
        return jq.compile(program), False
    except ValueError as error:
        raise JqError(f"jq program cannot be compiled: {program}\n  {error}") from None


@lru_cache(maxsize=1)
def _keeps_numbers() -> bool:
    import jq

    exact = "[12345678901234567890,1.0]"
    return bool(jq.compile("tojson").input(text=exact).first() == exact)


def find_jsonpath(expression: str, data: object) -> list[Any]:
    """Return what a JSONPath expression finds.

    :raises JsonPathError: it cannot be read.
    """
    return [match.value for match in _parsed(expression).find(data)]


@lru_cache(maxsize=128)
def _parsed(expression: str) -> Any:
    from jsonpath_ng.parser import parse

    try:
        with warnings.catch_warnings():
            # `|` is deprecated there, but specs have it, and who runs one cannot help it.
            warnings.simplefilter("ignore", DeprecationWarning)
            return parse(expression)
    except Exception as error:  # noqa: BLE001 - the parser raises bare Exception, too
        raise JsonPathError(f"JSONPath expression cannot be read: {expression}\n  {error}") from None
