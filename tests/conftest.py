"""Fixtures every test may ask for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import family
import pytest
from needs import missing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parent.parent
ORACLE = ROOT / ".oracle" / "bin" / "python"
CORPUS = ROOT.parent / "shared" / "corpus" / "specs.jsonl"


def pytest_configure() -> None:
    """Let commands that tests start hear of Ctrl-C and its like: who runs us in the background does not."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let long matrices take longer than a test that hangs may."""
    for item in items:
        if item.get_closest_marker("soak"):
            item.add_marker(pytest.mark.timeout(7200))


@pytest.fixture(scope="session")
def oracle() -> str:
    """Interpreter with packtivity 0.17.1, in an environment of its own."""
    if not ORACLE.exists():
        missing("packtivity 0.17.1 in .oracle", "run 'make oracle'")
    return str(ORACLE)


@pytest.fixture(scope="session", params=["family", *(["corpus"] if CORPUS.exists() else [])])
def corpus(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """Specs with what packtivity 0.17.1 made of them: the family, and real ones, which are kept outside the repository."""
    if request.param == "family":
        return family.rows()
    with CORPUS.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


class Conversation:
    """A process that answers questions: one JSON document a line, each way."""

    def __init__(self, interpreter: str, script: Path) -> None:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PACKTIVITY_")}
        self.process = subprocess.Popen(
            [interpreter, "-W", "ignore", str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )

    def __call__(self, question: Any) -> Any:
        """Return the answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(question).encode() + b"\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def ask(self, operation: str, **question: Any) -> Any:
        """Return the answer of a script that knows several operations."""
        return self({"operation": operation, **question})

    def end(self) -> None:
        """Close its input, which ends it, and wait."""
        self.process.communicate(timeout=10)


@pytest.fixture(scope="session")
def converse(oracle: str) -> Iterator[Callable[[str], Conversation]]:
    """Start a script of tests/oracles, which answers with packtivity 0.17.1 until the tests end."""
    started: list[Conversation] = []

    def start(script: str) -> Conversation:
        started.append(Conversation(oracle, ROOT / "tests" / "oracles" / script))
        return started[-1]

    yield start
    for conversation in started:
        conversation.end()


@pytest.fixture(scope="session")
def data_oracle(converse: Callable[[str], Conversation]) -> Conversation:
    """The data model, states and globs of packtivity 0.17.1 in one process."""
    return converse("data.py")
