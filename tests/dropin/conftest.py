"""Worlds: environments with another program in them, with this package or with the original beneath it."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from forks import Forks
from needs import missing, need_engine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
WORKFLOWS = ROOT / "tests" / "workflows"
WORLDS = ROOT / ".worlds"
ORACLE = ROOT / ".oracle"
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
WORLD = os.environ.get("PACKTIVITY_TEST_WORLD", "yadage")
TIMEOUT = 600
"""Seconds after which a run is held for hung: the original takes minutes for some, with the oldest jq on a busy machine."""


def place_of(world: str) -> Path:
    """Return the folder of a finished world."""
    folder = WORLDS / f"{world.replace(':', '-')}-{VERSION}"
    if not (folder / "stamp").exists():
        missing(f"the world {world} for Python {VERSION}", f"run 'python tools/worlds.py {world}'")
    return folder


def clean_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without settings that would change what is compared."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PACKTIVITY_", "YADAGE_"))}
    kept.pop("PYTHONPATH", None)
    return {**kept, **extra}


@dataclass(frozen=True)
class Workflow:
    """A workflow of tests/workflows with what it is given."""

    name: str
    parameters: dict[str, Any]
    tasks: int
    inputs: dict[str, str] = field(default_factory=dict)
    fails: bool = False
    platform: bool = False

    @classmethod
    def read(cls, name: str) -> Workflow:
        case = yaml.safe_load((WORKFLOWS / name / "case.yml").read_text(encoding="utf-8"))
        assert case.pop("about")
        return cls(name, **case)


@dataclass(frozen=True)
class Outcome:
    """What a run of a workflow has left."""

    returncode: int
    log: str
    folder: Path

    @property
    def snapshot(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "_yadage" / "yadage_snapshot_workflow.json").read_text())
        return found

    def document(self, *, proxies: bool) -> Any:
        """Return the engine's whole account of the run, with names in place of random identifiers and of its folder."""
        return canonical(self.snapshot, str(self.folder), proxies=proxies)

    def files(self) -> dict[str, str]:
        """Return the digest of every file that a task has written."""
        found = (path for path in self.folder.rglob("*") if path.is_file())
        return {
            str(path.relative_to(self.folder)): hashlib.sha256(
                path.read_bytes().replace(str(self.folder).encode(), b"RUN")
            ).hexdigest()
            for path in found
            if not {"_packtivity", "_yadage"} & set(path.relative_to(self.folder).parts)
        }

    def states(self) -> dict[str, str]:
        return {name_of(node): node["state"] for node in self.snapshot["dag"]["nodes"]}

    def results(self) -> dict[str, Any]:
        return {name_of(node): node["result"] for node in self.snapshot["dag"]["nodes"]}

    def proxies(self) -> set[str]:
        """Return the kinds of proxy that tasks which run something have."""
        return {node["proxy"]["proxyname"] for node in self.snapshot["dag"]["nodes"] if node["proxy"] and runs(node)}


def runs(node: dict[str, Any]) -> bool:
    return not node["task"]["metadata"]["wflow_hints"].get("is_purepub")


def name_of(node: dict[str, Any]) -> str:
    metadata = node["task"]["metadata"]
    return f"{metadata['wflow_offset']}/{metadata['wflow_stage']}/{metadata['wflow_stage_node_idx']}"


def canonical(snapshot: dict[str, Any], folder: str, *, proxies: bool) -> Any:
    names = {node["id"]: name_of(node) for node in snapshot["dag"]["nodes"]}
    names |= {
        rule["id"]: f"rule {rule['offset']}/{rule['rule']['name']}" for rule in snapshot["rules"] + snapshot["applied"]
    }
    text = json.dumps(snapshot)
    for identifier, name in {folder: "RUN", **names}.items():
        text = text.replace(identifier, name)
    document = json.loads(text)
    for node in document["dag"]["nodes"]:
        del node["timestamps"]
        unnumber(node["task"]["state"])
        unnumber(((node["proxy"] or {}).get("proxydetails") or {}).get("statedata"))
    for rule in document["applied"]:
        rule["rule"]["state_provider"]["init_states"].sort(key=lambda state: state["identifier"])
    document["dag"]["edges"].sort()
    return document if proxies else without_proxies(document)


def without_proxies(document: Any) -> Any:
    for node in document["dag"]["nodes"]:
        del node["proxy"]
    return document


def unnumber(state: dict[str, Any] | None) -> None:
    """Forget the order of directories to read: the engine takes them out of a set, anew in each run."""
    if state and len(state["readonly"]) > 1:
        state["readonly"] = sorted(directory["path"] for directory in state["readonly"])


def differing(found: Any, expected: Any, where: str = "") -> Iterator[str]:
    """Say where two documents differ."""
    if isinstance(found, dict) and isinstance(expected, dict):
        for key in sorted({*found, *expected}):
            yield from differing(found.get(key, "(none)"), expected.get(key, "(none)"), f"{where}/{key}")
    elif isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        for index, (each, other) in enumerate(zip(found, expected, strict=True)):
            yield from differing(each, other, f"{where}/{index}")
    elif type(found) is not type(expected) or found != expected:
        yield f"{where}: {found!r}, and with the original {expected!r}"


class Engine:
    """yadage-run of one environment."""

    def __init__(self, environment: Path, place: Path, **settings: str) -> None:
        self.environment = environment
        self.place = place
        self.settings = settings

    def command(self, workflow: Workflow, backend: str, *options: str) -> list[str]:
        folder = self.place / "run"
        init = folder / "init"
        init.mkdir(parents=True, exist_ok=True)
        for name, content in workflow.inputs.items():
            if not (init / name).exists():
                (init / name).write_text(content)
        parameters = self.place / "parameters.yml"
        parameters.write_text(yaml.safe_dump(workflow.parameters, sort_keys=False))
        program = str(self.environment / "bin" / "yadage-run")
        arguments = [str(folder), "workflow.yml", str(parameters), "-t", str(WORKFLOWS / workflow.name)]
        return [program, *arguments, "-b", backend, "-u", "0.01", *options]

    @property
    def log(self) -> str:
        """What the last run has printed so far."""
        return (self.place / "engine.log").read_text(encoding="utf-8", errors="replace")

    def start(self, workflow: Workflow, backend: str, *options: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start a run; whoever does this ends it, and all of its process group."""
        command = self.command(workflow, backend, *options)
        with (self.place / "engine.log").open("wb") as log:
            return subprocess.Popen(
                command,
                cwd=self.place,
                env=clean_environment({**self.settings, **environment}),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def run(self, workflow: Workflow, backend: str = "foregroundasync", *options: str, **environment: str) -> Outcome:
        process = self.start(workflow, backend, *options, **environment)
        try:
            process.wait(timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            pytest.fail(f"yadage-run did not end:\n{self.log[-3000:]}")
        return Outcome(process.returncode, self.log, self.place / "run")

    def drive(self, program: Path, workflow: Workflow, **environment: str) -> Outcome:
        """Run a workflow by a program that calls the engine itself."""
        self.command(workflow, "")
        arguments = [program, WORKFLOWS / workflow.name, self.place / "parameters.yml"]
        done = self.script([str(argument) for argument in arguments], **environment)
        return Outcome(done.returncode, done.stdout + done.stderr, self.place / "run")

    def keep(self, label: str) -> Path:
        """Move what the last run has left out of the way of the next, and return where it is."""
        return (self.place / "run").rename(self.place / label)

    def python(self, code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.script(["-c", code, *arguments], **environment)

    def script(self, arguments: Sequence[str], **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.environment / "bin" / "python"), *arguments],
            cwd=self.place,
            env=clean_environment({**self.settings, **environment}),
            check=False,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )


def place_of_the_original() -> Path:
    """Return the same world with 0.17.1 in it; for tests of every day, where nobody asked for a world, .oracle will do."""
    if "PACKTIVITY_TEST_WORLD" in os.environ:
        return place_of(f"{WORLD}:original")
    if not (ORACLE / "bin" / "yadage-run").exists():
        missing("the workflow engine in .oracle", "run 'make oracle'")
    return ORACLE


class Original(Engine):
    """The engine with 0.17.1 beneath it, a copy of one process each time, unless it has to find other modules."""

    def __init__(self, forks: Forks, place: Path) -> None:
        super().__init__(place_of_the_original(), place, PYTHONPATH=str(HERE / "sorted_listings"))
        self.forks = forks

    def run(self, workflow: Workflow, backend: str = "foregroundasync", *options: str, **environment: str) -> Outcome:
        if "PYTHONPATH" in environment:
            return super().run(workflow, backend, *options, **environment)
        command = self.command(workflow, backend, *options)
        log = self.place / "engine.log"
        log.write_text("")
        done = self.forks.run(command, self.place, clean_environment({**self.settings, **environment}), log=log)
        return Outcome(done.returncode, self.log, self.place / "run")


@pytest.fixture(scope="session")
def original_engines() -> Iterator[Forks]:
    """Give the process that runs of the engine with 0.17.1 are copies of."""
    python = place_of_the_original() / "bin" / "python"
    forks = Forks(str(python), "yadage.steering", PYTHONPATH=str(HERE / "sorted_listings"))
    yield forks
    forks.close()


@pytest.fixture
def ours(tmp_path: Path) -> Engine:
    """The workflow engine with this package beneath it."""
    return Engine(place_of(WORLD), tmp_path)


@pytest.fixture
def original(original_engines: Forks, tmp_path: Path) -> Engine:
    """The same engine with packtivity 0.17.1 beneath it."""
    return Original(original_engines, tmp_path)


@pytest.fixture(scope="session")
def originally(
    original_engines: Forks, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., tuple[Any, dict[str, str]]]:
    """Return what the original makes of a workflow: the engine's account and the digests of the files."""
    known: dict[str, tuple[Any, dict[str, str]]] = {}

    def run(
        case: Workflow, backend: str = "foregroundasync", *, proxies: bool = True, **environment: str
    ) -> tuple[Any, dict[str, str]]:
        key = f"{case} {backend} {environment}"
        if key not in known:
            engine = Original(original_engines, tmp_path_factory.mktemp("original"))
            outcome = engine.run(case, backend, **environment)
            assert outcome.returncode == int(case.fails), outcome.log
            known[key] = outcome.document(proxies=True), outcome.files()
        document, files = copy.deepcopy(known[key])
        return document if proxies else without_proxies(document), files

    return run


@pytest.fixture(scope="session")
def workflow() -> Any:
    """Read a workflow by its name."""
    return Workflow.read


@pytest.fixture(scope="session")
def differences() -> Callable[[Any, Any], list[str]]:
    """Compare two documents; True and 1, 1 and 1.0 are not the same."""
    return lambda found, expected: list(differing(found, expected))


@pytest.fixture(scope="session")
def written() -> Callable[[Path], dict[Path, tuple[int, int, int]]]:
    """Return what would tell that a file was written again, the engine's own papers apart."""

    def look(folder: Path) -> dict[Path, tuple[int, int, int]]:
        files = (file for file in folder.rglob("*") if file.is_file() and "_yadage" not in file.parts)
        return {file: (file.stat().st_mtime_ns, file.stat().st_ino, file.stat().st_size) for file in files}

    return look


@pytest.fixture(scope="session")
def foregroundasync() -> tuple[str, dict[str, str]]:
    """Name the backend that runs tasks in the engine's own process."""
    return "foregroundasync", {}


@pytest.fixture(scope="session")
def multiproc() -> tuple[str, dict[str, str]]:
    """Name the backend with worker processes."""
    return "multiproc:2", {}


@pytest.fixture(scope="session")
def celery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str]]]:
    """Start a broker and a worker of the world, and name the backend."""
    server = shutil.which("redis-server")
    need_engine(server, "redis-server")
    place = tmp_path_factory.mktemp("celery")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    quiet = {"cwd": place, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    broker = subprocess.Popen([str(server), "--port", port, "--bind", "127.0.0.1", "--save", ""], **quiet)  # type: ignore[call-overload]
    environment = {"PACKTIVITY_CELERY_REDIS_BROKER": f"redis://127.0.0.1:{port}/0"}
    program = place_of(WORLD) / "bin" / "celery"
    command = [str(program), "-A", "packtivity.asyncbackends.default_celeryapp", "worker", "-c", "2", "-l", "WARNING"]
    with (place / "worker.log").open("w") as log:
        worker = subprocess.Popen(
            command, cwd=place, stdout=log, stderr=log, env=clean_environment(environment), start_new_session=True
        )
    yield "celery", environment
    worker.terminate()
    worker.wait(timeout=30)
    broker.terminate()
    broker.wait(timeout=30)


@pytest.fixture(scope="session")
def ipcluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str]]]:
    """Start a cluster of two engines of the world, and name the backend."""
    place = tmp_path_factory.mktemp("ipcluster")
    program = place_of(WORLD) / "bin" / "ipcluster"
    if not program.exists():
        pytest.skip(f"there is no ipyparallel in the world {WORLD}")
    environment = {"IPYTHONDIR": str(place)}
    with (place / "cluster.log").open("w") as log:
        cluster = subprocess.Popen(
            [str(program), "start", "-n", "2"],
            cwd=place,
            stdout=log,
            stderr=log,
            env=clean_environment(environment),
            start_new_session=True,
        )
    wait_for_engines(place, environment)
    yield "ipcluster", environment
    cluster.send_signal(signal.SIGINT)
    cluster.wait(timeout=60)


def wait_for_engines(place: Path, environment: dict[str, str]) -> None:
    code = "import ipyparallel; ipyparallel.Client().wait_for_engines(2, timeout=60)"
    python = place_of(WORLD) / "bin" / "python"
    deadline = time.monotonic() + 90
    while subprocess.run(
        [str(python), "-c", code], cwd=place, env=clean_environment(environment), capture_output=True, check=False
    ).returncode:
        assert time.monotonic() < deadline, (place / "cluster.log").read_text()
        time.sleep(0.5)


@pytest.fixture(scope="session")
def world() -> Callable[[], Path]:
    """Return where the world is that tests use."""
    return lambda: place_of(WORLD)
