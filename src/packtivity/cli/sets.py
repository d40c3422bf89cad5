"""Parameter sets: files of them, and ranges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from packtivity.errors import LoadError, ParameterError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def parameter_sets(over: str | None, given: Sequence[str]) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the sets, each with each, and those of ``given`` that are no ranges.

    :param given: ``NAME=VALUE``; a value ``A..B`` or ``A..B..STEP`` is a range, its ends included.
    :raises ParameterError: a file or range cannot be used.
    :raises LoadError: a file cannot be read.
    """
    rows = list(_rows(over)) if over else [{}]
    plain = []
    for text in given:
        name, _, value = text.partition("=")
        values = span(value)
        if values is None:
            plain.append(text)
        else:
            rows = [{**row, name: each} for row in rows for each in values]
    return rows, plain


def span(text: str) -> list[Any] | None:
    """Return the values of a range; None when the text is none.

    :raises ParameterError: it has no end, because its step leads away from it.
    """
    parts = text.split("..")
    numbers = [_number(part) for part in parts]
    if len(parts) not in (2, 3) or None in numbers:
        return None
    from fractions import Fraction

    first, last = Fraction(parts[0]), Fraction(parts[1])
    step = Fraction(parts[2]) if len(parts) == 3 else Fraction(1 if last >= first else -1)
    if step == 0 or (last - first) / step < 0:
        raise ParameterError(f"range {text!r} never gets to its end", hint="Write FIRST..LAST or FIRST..LAST..STEP.")
    count = int((last - first) / step) + 1
    whole = all(isinstance(number, int) for number in numbers)
    return [int(first + step * i) if whole else float(first + step * i) for i in range(count)]


def _number(text: str) -> int | float | None:
    for kind in (int, float):
        try:
            found = kind(text)
        except ValueError:
            continue
        return found if abs(found) < float("inf") else None
    return None


def _rows(name: str) -> Iterator[dict[str, Any]]:
    try:
        with open(name, encoding="utf-8", newline="") as file:
            yield from _csv_rows(name, file) if name.lower().endswith(".csv") else _json_rows(name, file)
    except OSError as error:
        raise LoadError(f"parameter sets {name}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ParameterError(f"parameter sets {name}: not UTF-8") from None


def _json_rows(name: str, file: Any) -> Iterator[dict[str, Any]]:
    import json

    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ParameterError(f"{name}:{number}: not JSON: {error}", hint="Write one mapping a line.") from None
        if not isinstance(row, dict):
            raise ParameterError(f"{name}:{number}: not a mapping", hint="Write one mapping a line.")
        yield row


def _csv_rows(name: str, file: Any) -> Iterator[dict[str, Any]]:
    import csv

    from packtivity.spec.yamltext import load_yaml

    reader = csv.DictReader(file)
    for row in reader:
        where = f"{name}:{reader.line_num}"
        if None in row or None in row.values():
            raise ParameterError(f"{where}: has another number of values than the first line has names")
        yield {key: load_yaml(value, where) for key, value in row.items()}
