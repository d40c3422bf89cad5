"""Fixtures every test may ask for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import family
import groups
import matrix
import needs
import pytest
import slurms
from arena import MARK, Arena
from forks import Forks
from needs import missing
from webs import Web, serve

from packtivity.statecontexts import LocalFSState

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


LEFT = pytest.StashKey[int]()
"""How many tests were left out for want of nothing but ``make test-engines``."""


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark what needs an engine and what has to stay together, and let long matrices take longer than others.

    Marks are read when all tests are collected, by pytest to leave some out and by xdist to group them.
    """
    if needs.ENGINE_FIXTURES & set(getattr(item, "fixturenames", ())):
        item.add_marker(needs.MARK)
    if item.get_closest_marker("soak"):
        item.add_marker(pytest.mark.timeout(7200))
    together = needs.together(item)
    if together and not item.get_closest_marker("xdist_group"):
        item.add_marker(pytest.mark.xdist_group(together))


@pytest.hookimpl(tryfirst=True)  # before tests are left out by their marks
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Remember all tests."""
    config.stash[needs.COLLECTED] = list(items)


NAMES = pytest.StashKey[tempfile.TemporaryDirectory[str]]()
"""Where processes that run tests side by side write which of these stay together."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep tests together that have to be."""
    if config.getoption("dist") != "loadgroup":
        return None
    from together import Together

    return Together(config, log, Path(config.stash[NAMES].name))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a process that is about to start where to write."""
    if NAMES not in node.config.stash:
        node.config.stash[NAMES] = tempfile.TemporaryDirectory(prefix="packtivity-names-")
        node.config.add_cleanup(node.config.stash[NAMES].cleanup)
    node.workerinput["names"] = f"{node.config.stash[NAMES].name}/{node.gateway.id}.json"


@pytest.hookimpl(tryfirst=True)  # before it is said that all tests are collected
def pytest_collection_finish(session: pytest.Session) -> None:
    """Write which tests stay together."""
    if names := getattr(session.config, "workerinput", {}).get("names"):
        from together import write_names

        write_names(Path(names), session.items)


def pytest_deselected(items: list[pytest.Item]) -> None:
    """Count the tests that need an engine and are left out."""
    for item in items:
        config = item.config
        if f"not {needs.MARK}" not in config.option.markexpr or item.get_closest_marker("soak"):
            continue
        if item.get_closest_marker(needs.MARK):
            config.stash[LEFT] = config.stash.get(LEFT, 0) + 1


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Let the process that reports know, where tests run side by side."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left"] = session.config.stash.get(LEFT, 0)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Hear it: every one of them has collected all tests."""
    node.config.stash[LEFT] = getattr(node, "workeroutput", {}).get("left", 0)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Know which test runs."""
    needs.running.append(item)
    try:
        return (yield)
    finally:
        needs.running.pop()


BEGAN = pytest.StashKey[float]()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Look at the clock of the processor."""
    item.stash[BEGAN] = groups.cpu_seconds()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Note how much processor time a test took."""
    if call.when == "teardown" and BEGAN in item.stash:
        item.user_properties.append((groups.CPU, f"{groups.cpu_seconds() - item.stash[BEGAN]:.3f}"))
    return (yield)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say how long each group took, and what was left out."""
    reports = [
        report
        for outcome in ("passed", "failed", "error", "skipped")
        for report in terminalreporter.stats.get(outcome, ())
        if isinstance(report, pytest.TestReport)
    ] + [report for report in terminalreporter.stats.get("", ()) if isinstance(report, pytest.TestReport)]
    usages = groups.add_up(reports)
    if len(usages) > 1:
        terminalreporter.section("seconds by group")
        terminalreporter.write_line("\n".join(groups.lines(usages)))
    if table := matrix.lines(reports):
        terminalreporter.section("images x tools x callers")
        terminalreporter.write_line("\n".join(table))
    if left := config.stash.get(LEFT, 0):
        terminalreporter.write_line(f"{left} tests skipped; `make test-engines` runs them", yellow=True)


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


@pytest.fixture
def web() -> Iterator[Web]:
    """A server that can be GitHub, GitLab or anything else."""
    yield from serve()


@pytest.fixture
def other_web() -> Iterator[Web]:
    """A second server: another port is another host as far as tokens are concerned."""
    yield from serve()


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands of Slurm talk to the one for tests."""
    needs.need_engine(slurms.is_up(), "Slurm")
    for name, value in slurms.CONFIG.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def own_records(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep what is known of tasks in a directory of the test's own, and the step log off standard error."""
    monkeypatch.setenv("PACKTIVITY_LOGGING_STREAM_LEVEL", "CRITICAL")
    monkeypatch.setenv("PACKTIVITY_STATE_DIR", str(tmp_path / "state"))


@pytest.fixture
def arena(tmp_path, monkeypatch) -> Iterator[Any]:
    """Make places to kill processes in; whatever was started in one is ended with the test."""
    made = []

    def make(seed, **environment):
        found = Arena(tmp_path, seed, **environment)
        for name, value in found.environment.items():
            if name.startswith("PACKTIVITY_"):
                monkeypatch.setenv(name, value)
        monkeypatch.delenv(MARK)
        made.append(found)
        return found

    yield make
    for each in made:
        for process in each.started:
            process.kill()
        each.kill_all()


@pytest.fixture
def state(tmp_path: Path) -> LocalFSState:
    """Return a state with one read-write directory, which is there."""
    made = LocalFSState([str(tmp_path / "work")])
    made.ensure()
    return made


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
def original_programs(oracle: str) -> Iterator[Forks]:
    """Programs of packtivity 0.17.1."""
    forks = Forks(oracle, "packtivity.backendutils", "packtivity.syncbackends", "click")  # its cli knows where it began
    yield forks
    forks.close()


@pytest.fixture(scope="session")
def data_oracle(converse: Callable[[str], Conversation]) -> Conversation:
    """The data model, states and globs of packtivity 0.17.1 in one process."""
    return converse("data.py")
