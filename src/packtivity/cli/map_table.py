"""The table of a map: one line for each parameter set, from the records."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any, TextIO

from packtivity.cli.errors import CannotWrite
from packtivity.cli.terminal import named_leaves
from packtivity.errors import PacktivityError
from packtivity.files import replacing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Entry = dict[str, Any]

_FIRST = ("number", "directory", "status")
_LAST = ("seconds", "attempts", "error")


def write_table(entries: Callable[[], Iterator[Entry]], rows: Sequence[dict[str, Any]], path: str) -> None:
    """Write the table as JSON when the name says so, else as CSV; an older one stays until it is complete.

    :param entries: gives number, directory, status, parameters, result, seconds, attempts and error of each set.
    :param rows: the parameters of the sets.
    :raises CannotWrite: it cannot be written.
    """
    try:
        # A file's name need not be UTF-8; JSON writes what is not as an escape, and so does the CSV.
        how: dict[str, Any] = {"encoding": "utf-8", "errors": "backslashreplace", "newline": ""}
        with replacing(path) as temporary, open(temporary, "x", **how) as file:
            if path.lower().endswith(".json"):
                _write_json(entries(), file)
            else:
                _write_csv(entries, {name for row in rows for name, _ in named_leaves(row)}, file)
    except PacktivityError:
        raise  # a record cannot be read
    except OSError as error:
        raise CannotWrite.of(error, f"{path} cannot be written: {error.strerror}") from None


def _write_json(entries: Iterator[Entry], file: TextIO) -> None:
    file.write("[")
    file.writelines((",\n" if number else "\n") + json.dumps(entry) for number, entry in enumerate(entries))
    file.write("\n]\n")


def _write_csv(entries: Callable[[], Iterator[Entry]], given: set[str], file: TextIO) -> None:
    """Write after a first pass over the records, because the columns are only known after the last one."""
    columns: dict[str, None] = {}
    for entry in entries():
        columns.update(dict.fromkeys(_cells(entry, given)))
    writer = csv.DictWriter(file, [*_FIRST, *columns, *_LAST])
    writer.writeheader()
    for entry in entries():
        writer.writerow({**{name: entry[name] for name in (*_FIRST, *_LAST)}, **_cells(entry, given)})


def _cells(entry: dict[str, Any], given: set[str]) -> dict[str, str]:
    """Return parameters and result as cells, each in a column of its own in all lines.

    A result is ``result.NAME`` where a parameter of any set has its name, and a parameter ``parameter.NAME`` where a
    column of every table has it.
    """
    ours, cells = {*_FIRST, *_LAST, ""}, dict[str, str]()
    for name, value in named_leaves(entry["parameters"]) if entry["parameters"] else ():
        cells[f"parameter.{name}" if name in ours else name] = _cell(value)
    for name, value in named_leaves(entry["result"]) if entry["result"] not in (None, {}) else ():
        cells[f"result.{name}" if name in ours | given else name] = _cell(value)
    return cells


def _cell(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
