"""Fixtures every test may ask for."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
ORACLE = ROOT / ".oracle" / "bin" / "python"
CORPUS = ROOT.parent / "shared" / "corpus" / "specs.jsonl"


def missing(what: str, remedy: str) -> None:
    """Skip on a laptop, fail in continuous integration, where everything is meant to be there."""
    message = f"{what} is not here; {remedy}"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="session")
def oracle() -> str:
    """Interpreter with packtivity 0.17.1, in an environment of its own."""
    if not ORACLE.exists():
        missing("packtivity 0.17.1 in .oracle", "run 'make oracle'")
    return str(ORACLE)


@pytest.fixture(scope="session")
def corpus() -> list[dict[str, Any]]:
    """Real specs with what packtivity 0.17.1 made of them; kept outside the repository."""
    if not CORPUS.exists():
        pytest.skip(f"the corpus of real specs is not here: {CORPUS}")
    with CORPUS.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]
