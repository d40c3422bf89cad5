"""The command ``packtivity doctor``: which container tools work here."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from packtivity.cli.printing import say, say_json
from packtivity.runtimes.doctor import examine

NOTHING_WORKS = 10
_MARKS = {"works": "ok", "warning": "!!", "broken": "NO", "missing": "--"}


def report(*, as_json: bool) -> int:
    """Carry out ``packtivity doctor`` and return its exit code."""
    findings = examine()
    if as_json:
        tables = {key: [asdict(finding) for finding in findings[key]] for key in ("runtimes", "needs")}
        say_json({"default": findings["default"], **tables}, indent=2)
    else:
        _print(findings)
    return NOTHING_WORKS if findings["default"] is None else 0


def _print(findings: dict[str, Any]) -> None:
    for finding in (*findings["runtimes"], *findings["needs"]):
        version = f" {finding.version}" if finding.version else ""
        say(f"{_MARKS[finding.status]}  {finding.subject}{version}: {finding.detail}")
        if finding.tasks:
            say(f"      tasks run as {finding.tasks}")
        if finding.advice:
            say(f"      {finding.advice}")
    asked = findings["asked"]
    until = f"{asked} does, which PACKTIVITY_CONTAINER_RUNTIME asks for" if asked else "one of these does"
    say(f"Containers run with: {findings['default'] or f'nothing that works, until {until}'}")
