"""Hold branch coverage against the thresholds in pyproject.toml; exit with 1 where it falls short.

usage: check_coverage.py COVERAGE.json

Coverage is counted as coverage.py counts with branches on: lines run and branches taken, of all there are.
"""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PREFIX = "src/packtivity/"


def percent(files: dict[str, Any], path: str) -> float:
    """Return the coverage of all files below ``path``; a path without files is a mistake in the table.

    :raises LookupError: nothing below ``path`` was measured.
    """
    done = possible = 0
    for name, measured in files.items():
        if name.startswith(PREFIX + path):
            summary = measured["summary"]
            done += summary["covered_lines"] + summary["covered_branches"]
            possible += summary["num_statements"] + summary["num_branches"]
    if not possible:
        raise LookupError(f"no coverage was measured below {PREFIX}{path}")
    return 100 * done / possible


def worst(files: dict[str, Any], path: str) -> list[str]:
    """Return the files below ``path`` with lines or branches missing, the poorest first."""
    below = [(name, found) for name, found in files.items() if name.startswith(PREFIX + path)]
    below.sort(key=lambda item: item[1]["summary"]["percent_covered"])
    return [
        f"    {name}: {found['summary']['percent_covered']:.1f} %, lines {found['missing_lines'][:12]}"
        for name, found in below
        if found["summary"]["percent_covered"] < 100
    ]


def main(report: Path) -> int:
    thresholds = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["packtivity"]["coverage"]
    files = json.loads(report.read_text("utf-8"))["files"]
    failed = False
    for path, threshold in thresholds.items():
        reached = percent(files, path)
        short = reached < threshold
        failed = failed or short
        print(f"{'FAIL' if short else 'ok  '} {path:16} {reached:6.2f} % (at least {threshold} %)")
        if short:
            print("\n".join(worst(files, path)))
    return int(failed)


if __name__ == "__main__":
    try:
        sys.exit(main(Path(sys.argv[1])))
    except LookupError as error:
        sys.exit(f"{error}; measure first: make coverage")
