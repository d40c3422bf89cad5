"""The command ``packtivity doctor``: which container tools work here."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from packtivity.cli import start
from packtivity.cli.terminal import say, say_json
from packtivity.runtimes.doctor import examine

if TYPE_CHECKING:
    from packtivity.cli.declarations import DoctorOptions

NOTHING_WORKS = 10
_MARKS = {"works": "ok", "warning": "!!", "broken": "NO", "missing": "--"}


def report(options: DoctorOptions) -> int:
    """Carry out ``packtivity doctor`` and return its exit code."""
    start.allow_interrupts()
    findings = examine()
    default = findings["default"]
    if options.format == "json":
        tables = {key: [asdict(finding) for finding in findings[key]] for key in ("runtimes", "needs")}
        say_json({"default": default, **tables}, indent=2)
        return NOTHING_WORKS if default is None else 0
    for finding in (*findings["runtimes"], *findings["needs"]):
        version = f" {finding.version}" if finding.version else ""
        say(f"{_MARKS[finding.status]}  {finding.subject}{version}: {finding.detail}")
        if finding.tasks:
            say(f"      tasks run as {finding.tasks}")
        if finding.advice:
            say(f"      {finding.advice}")
    asked = findings["asked"]
    until = f"{asked} does, which PACKTIVITY_CONTAINER_RUNTIME asks for" if asked else "one of these does"
    say(f"Containers run with: {default or f'nothing that works, until {until}'}")
    return NOTHING_WORKS if default is None else 0
