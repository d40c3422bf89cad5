"""Parameter sets: files of them, and ranges."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from fractions import Fraction
from json import JSONDecodeError
from typing import TYPE_CHECKING, Any, TextIO

from packtivity.cli.parameters import read_value
from packtivity.errors import LoadError, ParameterError
from packtivity.spec.yamltext import MAX_DEPTH, encodable, too_deep

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from packtivity.types import Diagnostic

_MOST = 1_000_000
"""Parameter sets that one command takes."""


class Sets:
    """Parameter sets.

    :ivar rows: what each has of its own, parameter name → value.
    :ivar plain: ``NAME=VALUE`` for parameters that all have alike.
    :ivar problems: warnings about how values are written.
    """

    def __init__(self, rows: list[dict[str, Any]], plain: list[str], file: str | None, lines: list[int]) -> None:
        self.rows, self.plain = rows, plain
        self.problems: tuple[Diagnostic, ...] = ()
        self._file, self._lines = file, lines
        self._each = len(rows) // len(lines) if lines else 1

    def where(self, number: int) -> str:
        """Say where a set comes from: ``FILE:LINE``, or its number when it is from no file."""
        return f"{self._file}:{self._lines[number // self._each]}" if self._lines else f"parameter set {number}"

    def repeated(self) -> list[tuple[int, int]]:
        """Return the numbers of sets that are there before, and of the first of their like."""
        seen: dict[str, int] = {}
        first = [seen.setdefault(json.dumps(row, sort_keys=True), number) for number, row in enumerate(self.rows)]
        return [(number, before) for number, before in enumerate(first) if before != number]


def parameter_sets(over: str | None, given: Sequence[str]) -> Sets:
    """Return the sets: lines of a file and ranges, each with each.

    :param given: ``NAME=VALUE``; a value ``A..B`` or ``A..B..STEP`` is a range, its ends included.
    :raises ParameterError: a file or range cannot be used, or a parameter is given more than once.
    :raises LoadError: a file cannot be read.
    """
    doubts = _Doubts()
    numbered = list(_rows(over, doubts)) if over else []
    if over and not numbered:
        raise ParameterError(f"{over} has no parameter set in it", hint="Write one a line.")
    rows, plain, scanned = [row for _, row in numbered] or [{}], list[str](), set[str]()
    columns = {name for row in rows for name in row}
    for text in given:
        name, _, value = text.partition("=")
        values = span(value)
        if name in columns or name in scanned or (values and any(name == each.partition("=")[0] for each in plain)):
            where = f"with -p and in {over}" if name in columns else "with -p more than once, and as a range"
            raise ParameterError(f"the parameter {name!r} is given {where}", hint="Give it in one way only.")
        if values is None:
            plain.append(text)
        else:
            scanned.add(name)
            _check_number(text, len(rows) * len(values))
            rows = [{**row, name: each} for row in rows for each in values]
    sets = Sets(rows, plain, over, [line for line, _ in numbered])
    sets.problems = doubts.told()
    return sets


def span(text: str) -> list[Any] | None:
    """Return the values of a range; None when the text is none.

    :raises ParameterError: it has no end, because its step leads away from it, or more values than can be run.
    """
    parts = text.split("..")
    numbers = [_number(part) for part in parts]
    if len(parts) not in (2, 3) or None in numbers:
        return None
    first, last = Fraction(parts[0]), Fraction(parts[1])
    step = Fraction(parts[2]) if len(parts) == 3 else Fraction(1 if last >= first else -1)
    if step == 0 or (last - first) / step < 0:
        raise ParameterError(f"range {text!r} never gets to its end", hint="Write FIRST..LAST or FIRST..LAST..STEP.")
    count = int((last - first) / step) + 1
    _check_number(text, count)
    whole = all(isinstance(number, int) for number in numbers)
    return [int(first + step * i) if whole else float(first + step * i) for i in range(count)]


def _check_number(text: str, count: int) -> None:
    """Refuse what would fill the memory before anything runs, most likely a slip of the finger."""
    if count > _MOST:
        raise ParameterError(
            f"range {text!r} makes {count:,} parameter sets, more than {_MOST:,}", hint="Run it in several parts."
        )


def _number(text: str) -> int | float | None:
    for kind in (int, float):
        try:
            found = kind(text)
        except ValueError:
            continue
        return found if abs(found) < float("inf") else None
    return None


class _Doubts:
    """Warnings about cells of a table: the first of each kind in a column, and how many are like it."""

    def __init__(self) -> None:
        self._first: dict[tuple[str, str], Diagnostic] = {}
        self._counts = Counter[tuple[str, str]]()

    def note(self, column: str, text: str, problems: Sequence[Diagnostic]) -> None:
        """Keep what there is to say of a cell; a reader of CSV takes quotes away, so the advice has them doubled."""
        for problem in problems:
            hint = re.sub(f'"{re.escape(text.strip())}", in quotes,?', _quoted_cell(f'"{text.strip()}"'), problem.hint)
            self._first.setdefault((column, problem.code), problem._replace(hint=hint))
            self._counts[column, problem.code] += 1

    def told(self) -> tuple[Diagnostic, ...]:
        """Return the warnings."""
        return tuple(
            one._replace(message=f"{one.message} ({count} cells of the column {key[0]!r} are such)")
            if count > 1
            else one
            for key, one in self._first.items()
            for count in [self._counts[key]]
        )


def _rows(name: str, doubts: _Doubts) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        with open(name, encoding="utf-8-sig", newline="") as file:
            yield from _csv_rows(name, file, doubts) if name.lower().endswith(".csv") else _json_rows(name, file)
    except OSError as error:
        raise LoadError.of(error, f"parameter sets {name}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ParameterError(f"parameter sets {name}: not UTF-8") from None


def _json_rows(name: str, file: TextIO) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line.rstrip(), object_pairs_hook=_mapping, parse_constant=_refused)
            if too_deep(row, MAX_DEPTH):
                raise RecursionError
            if "\\u" in line and not encodable(row):
                raise ValueError("half a surrogate pair is no character; write the character itself instead of escapes")
        except RecursionError:
            problem = "nested too deep"
        except JSONDecodeError as error:
            problem = f"not JSON: {error.msg} in column {error.colno}"
        except ValueError as error:
            problem = str(error)
        else:
            if isinstance(row, dict):
                yield number, row
                continue
            problem = "not a mapping"
        raise ParameterError(f"{name}:{number}: {problem}", hint="Write one mapping a line.")


def _mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"the name {_twice([name for name, _ in pairs])!r} is there twice")
    return found


def _refused(word: str) -> None:
    raise ValueError(f"not JSON: {word} is no number of JSON; write it as a text")


def _twice(names: Sequence[str]) -> str:
    return next(name for position, name in enumerate(names) if name in names[:position])


def _csv_rows(name: str, file: TextIO, doubts: _Doubts) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(file, strict=True)
    try:
        columns = reader.fieldnames or []
        if len(set(columns)) < len(columns):
            raise ParameterError(f"{name}:1: there are two columns {_twice(columns)!r}")
        if not all(columns):
            raise ParameterError(f"{name}:1: a column has no name")
        for row in reader:
            where = f"{name}:{reader.line_num}"
            if None in row or None in row.values():
                count = sum(value is not None for key, value in row.items() if key) + len(row.get(None, ()))
                raise ParameterError(f"{where}: {count} values for {len(columns)} columns: {', '.join(columns)}")
            found = {key: read_value(value, where, _cell) for key, value in row.items()}
            for key, cell in found.items():
                doubts.note(key, row[key], cell.problems)
            yield reader.line_num, {key: cell.data for key, cell in found.items()}
    except csv.Error as error:
        raise ParameterError(f"{name}:{reader.reader.line_num}: not CSV: {error}") from None


def _cell(quoted: str) -> str:
    return f"write in the file: {_quoted_cell(quoted)}"


def _quoted_cell(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'
