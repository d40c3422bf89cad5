"""The table of a map: one line for each parameter set, from the records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from packtivity.cli.errors import CannotWrite
from packtivity.cli.leaves import named_leaves
from packtivity.files import replacing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from packtivity.cli.mapping import Sweep

_FIRST = ("number", "directory", "status")
_LAST = ("seconds", "attempts", "error")


def entries(sweep: Sweep) -> Iterator[dict[str, Any]]:
    """Give what is known of each set: number, directory, status, what differs, the result, seconds, error."""
    for number, row in enumerate(sweep.rows):
        found = sweep.outcome(number) or {"status": "unknown"}
        yield {
            "number": number,
            "directory": sweep.folder(number),
            "status": found["status"],
            "parameters": row,
            "result": found.get("result"),
            "seconds": found.get("seconds"),
            "attempts": found.get("attempts"),
            "error": (found.get("error") or {}).get("message"),
        }


def write_table(sweep: Sweep, path: str) -> None:
    """Write the table as JSON when the name says so, else as CSV; an older one stays until it is complete.

    :raises CannotWrite: it cannot be written.
    """
    try:
        # A file's name need not be UTF-8; JSON writes what is not as an escape, and so does the CSV.
        how: dict[str, Any] = {"encoding": "utf-8", "errors": "backslashreplace", "newline": ""}
        with replacing(path) as temporary, open(temporary, "x", **how) as file:
            (_write_json if path.lower().endswith(".json") else _write_csv)(sweep, file)
    except OSError as error:
        raise CannotWrite(f"{path} cannot be written: {error.strerror}") from None


def _write_json(sweep: Sweep, file: Any) -> None:
    import json

    file.write("[")
    for number, entry in enumerate(entries(sweep)):
        file.write((",\n" if number else "\n") + json.dumps(entry))
    file.write("\n]\n")


def _write_csv(sweep: Sweep, file: Any) -> None:
    """Write twice over the records, because the columns are only known after the last one."""
    import csv

    given = {name for row in sweep.rows for name, _ in named_leaves(row)}
    columns: dict[str, None] = {}
    for entry in entries(sweep):
        columns.update(dict.fromkeys(_cells(entry, given)))
    writer = csv.DictWriter(file, [*_FIRST, *columns, *_LAST])
    writer.writeheader()
    for entry in entries(sweep):
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


def _cell(value: Any) -> str:
    import json

    return value if isinstance(value, str) else json.dumps(value)
