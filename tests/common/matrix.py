"""The table of images, container tools and callers that the tests of homes fill in, printed when they have run."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pytest

CELL = "home of an image"
"""The property of a test that is a cell: image, tool with caller, and what was found."""

LEGEND = "uid and home of the task inside; -N: in N of the places that were tried it could not read or write"


def cell(found: dict[str, str], answers: Iterable[str]) -> str:
    """Return a cell from what a task has found out."""
    refused = sum(found.get(name) != "yes" for name in answers)
    return f"{found['uid']} {found['home']}" + (f" -{refused}" if refused else "")


def lines(reports: Iterable[pytest.TestReport]) -> list[str]:
    """Return the table: a row for each image, a column for each tool in each caller's hands."""
    cells = {
        (image, column): text
        for report in reports
        for name, value in report.user_properties
        if name == CELL
        for image, column, text in [value]
    }
    columns = sorted({column for _, column in cells})
    rows = [["image", *columns]]
    rows += [
        [image, *(cells.get((image, column), "") for column in columns)] for image in sorted({i for i, _ in cells})
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = ["  ".join(f"{text:{width}}" for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [*table, LEGEND] if cells else []
