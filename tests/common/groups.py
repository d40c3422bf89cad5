"""Seconds per group of tests, a group being a folder of ``tests``; ``tests/README.md`` has what each may take."""

from __future__ import annotations

import re
import resource
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pytest

TESTS = Path(__file__).resolve().parents[1]
TOP = "test_*.py"
"""The group of the files that are in no folder."""

CPU = "cpu_seconds"
"""The property of a report that says how much processor time a test took, with the children it waited for."""


def group_of(nodeid: str) -> str:
    """Return the group of a test: the first folder of its path below ``tests``."""
    parts = nodeid.partition("::")[0].split("/")
    parts = parts[parts.index("tests") + 1 :] if "tests" in parts else parts
    return parts[0] if len(parts) > 1 else TOP


def cpu_seconds() -> float:
    """Return the processor time of this process and of the children it has waited for, in seconds."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


@dataclass
class Usage:
    """What a group took: wall and processor seconds, summed over its tests; how many ended in which way."""

    seconds: float = 0.0
    cpu: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)


def add_up(reports: Iterable[pytest.TestReport]) -> dict[str, Usage]:
    """Return the usage of each group."""
    found: dict[str, Usage] = defaultdict(Usage)
    for report in reports:
        usage = found[group_of(report.nodeid)]
        usage.seconds += report.duration
        if report.when == "call" or not report.passed:
            usage.outcomes[report.outcome] += 1
        if report.when == "teardown":
            usage.cpu += sum(float(str(value)) for name, value in report.user_properties if name == CPU)
    return dict(found)


def lines(usages: dict[str, Usage]) -> Iterator[str]:
    """Say it as a table, the group that took longest first."""
    yield f"{'group':<16}{'tests':>7}{'skipped':>9}{'seconds':>9}{'CPU':>8}"
    for name, usage in sorted(usages.items(), key=lambda item: -item[1].seconds):
        tests, skipped = usage.outcomes.total(), usage.outcomes["skipped"]
        yield f"{name:<16}{tests:>7}{skipped:>9}{usage.seconds:>9.1f}{usage.cpu:>8.1f}"


def folders() -> set[str]:
    """Return the groups that there are: folders with tests in them, and :data:`TOP`."""
    return {group_of(f"tests/{path.relative_to(TESTS)}") for path in TESTS.rglob("test_*.py")}


def rows(table: str) -> dict[str, list[str]]:
    """Return the cells of each group in the table of ``tests/README.md``, by name."""
    found = re.findall(r"^\| `([^`]+)` \|(.*)\|$", table.partition("| group |")[2], re.MULTILINE)
    return {name: [cell.strip() for cell in cells.split("|")] for name, cells in found}
