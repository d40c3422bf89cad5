"""Real container engines, as ``tools/setup-engines.sh`` starts them, and tasks run on them by root and others."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from needs import missing, need_engine

from packtivity import record

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
SETUP = ROOT / "tools" / "setup-engines.sh"
STATE = Path("/var/lib/packtivity-engines")
SCHEMA = record.schema()
TOOLS = ("docker", "podman", "apptainer")


@dataclass(frozen=True)
class Person:
    """Somebody who runs tasks: name, ids, how they call Python, and their environment."""

    name: str
    uid: int
    gid: int
    python: str
    env: dict[str, str]

    def popen(self, argv: list[str], **more: Any) -> subprocess.Popen[bytes]:
        if self.uid != os.getuid():
            groups = os.getgrouplist(self.name, self.gid)
            more |= {"user": self.uid, "group": self.gid, "extra_groups": groups}
        more.setdefault("env", self.env)
        return subprocess.Popen(argv, cwd="/", **more)

    def run(self, argv: list[str], timeout: float = 120, **more: Any) -> subprocess.CompletedProcess[bytes]:
        process = self.popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)
        try:
            out, err = process.communicate(timeout=timeout)
        finally:
            process.kill()
            process.wait()
        return subprocess.CompletedProcess(argv, process.returncode, out, err)


@dataclass
class Lab:
    """One container tool in one person's hands."""

    tool: str
    person: Person
    image: str
    python_image: str
    folder: Path
    count: int = 0
    network: str = "none"
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """Return what the tool is: Apptainer has Singularity's name as well."""
        return "apptainer" if self.tool == "singularity" else self.tool

    def workdir(self, name: str = "") -> Path:
        self.count += 1
        path = self.folder / f"{self.count}{name}"
        path.mkdir()
        os.chown(path, self.person.uid, self.person.gid)
        return path

    def spec(self, process: Any, publisher: Any = None, **environment: Any) -> dict[str, Any]:
        process = {"process_type": "string-interpolated-cmd", "cmd": process} if isinstance(process, str) else process
        image, _, tag = self.image.rpartition(":")
        return {
            "process": process,
            "environment": {"environment_type": "docker-encapsulated", "image": image, "imagetag": tag, **environment},
            "publisher": publisher or {"publisher_type": "frompar-pub", "outputmap": {"out": "out"}},
        }

    def argv(self, spec: Any, parameters: Any, workdir: Path, *options: str, command: str = "runcli") -> list[str]:
        where = self.folder / f"spec-{self.count}-{os.urandom(3).hex()}"
        where.mkdir()
        (where / "spec.json").write_text(json.dumps(spec))
        (where / "parameters.json").write_text(json.dumps(parameters))
        code = f"from packtivity.cli import {command}; {command}()"
        return [
            self.person.python, "-c", code, "--runtime", self.tool, "--network", self.network, *options,
            "-w", str(workdir), str(where / "spec.json"), str(where / "parameters.json"),
        ]  # fmt: skip

    def run(self, spec: Any, parameters: Any, workdir: Path, *options: str, **more: Any) -> Result:
        env = {**self.person.env, **self.extra, **more.pop("env", {})}
        done = self.person.run(self.argv(spec, parameters, workdir, *options), env=env, **more)
        if (workdir / "_packtivity" / "packtivity_syncbackend.outcome.json").exists():
            self.record(workdir)
        return Result(done.returncode, done.stdout.decode(), done.stderr.decode(), workdir)

    def record(self, workdir: Path) -> dict[str, Any]:
        """Return the record of a task, which fits the schema."""
        written = json.loads((workdir / "_packtivity" / "packtivity_syncbackend.outcome.json").read_text())
        jsonschema.Draft4Validator(SCHEMA).validate(written)
        return dict(written)

    def program(self, code: str, *arguments: str, **more: Any) -> subprocess.CompletedProcess[bytes]:
        env = {**self.person.env, **self.extra, **more.pop("env", {})}
        return self.person.run([self.person.python, "-c", code, *arguments], env=env, **more)

    def containers(self) -> list[str]:
        """Return the containers of ours that there are."""
        if self.kind == "apptainer":
            return []
        listing = [self.tool, "ps", "-a", "--filter", "name=packtivity-", "--format", "{{.Names}}"]
        return self.person.run(listing).stdout.decode().split()


@dataclass(frozen=True)
class Result:
    """What ``packtivity-run`` said and left."""

    code: int
    out: str
    err: str
    workdir: Path

    def log(self, topic: str = "run") -> str:
        return (self.workdir / "_packtivity" / f"packtivity_syncbackend.{topic}.log").read_text()

    def lines(self) -> list[str]:
        """Return what the task itself wrote, after the line with which a log begins."""
        lines = [line.split(" | ", 3)[3] for line in self.log().splitlines()]
        return lines[1:] if lines and lines[0].startswith("starting file logging for topic: run") else lines

    @property
    def note(self) -> dict[str, Any]:
        text = (self.workdir / "_packtivity" / "packtivity_syncbackend.container.json").read_text()
        return dict(json.loads(text))


@pytest.fixture(scope="session")
def engines() -> dict[str, str]:
    """Variables that lead to the engines."""
    need_engine((STATE / "run").is_dir(), "what the container engines need")
    text = subprocess.run([str(SETUP), "env"], capture_output=True, text=True, check=True).stdout
    found = dict(item.split("=", 1) for item in text.removeprefix("export ").split())
    asked = ["curl", "-sf", f"http://{found['PACKTIVITY_TEST_REGISTRY']}/v2/"]
    answer = subprocess.run(asked, capture_output=True, check=False)
    need_engine(answer.returncode == 0, "the registry of the container engines")
    return found


@pytest.fixture(scope="session")
def lab_folder() -> Iterator[Path]:
    """A folder that everybody may enter, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="packtivity-tests-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def _environment(engines: dict[str, str], home: str, cache: Path) -> dict[str, str]:
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": home,
        "LANG": "C.UTF-8",
        "DOCKER_HOST": engines["DOCKER_HOST"],
        "PACKTIVITY_CACHE_DIR": str(cache),
        "APPTAINER_NOHTTPS": "1",
    }


@pytest.fixture(scope="session")
def caller(engines: dict[str, str], lab_folder: Path) -> Person:
    """Whoever runs the tests."""
    me = pwd.getpwuid(os.getuid())
    env = _environment(engines, os.environ.get("HOME", me.pw_dir), lab_folder / "cache-caller")
    return Person(me.pw_name, me.pw_uid, me.pw_gid, sys.executable, env)


@pytest.fixture(scope="session")
def ordinary(engines: dict[str, str], lab_folder: Path) -> Person:
    """The ordinary user that the set-up script makes."""
    if os.getuid() != 0:
        pytest.skip("only root can become the ordinary user; the tests by the caller are by one already")
    entry = pwd.getpwnam(engines["PACKTIVITY_TEST_USER"])
    home = engines["PACKTIVITY_TEST_HOME"]
    env = _environment(engines, home, Path(home) / f"cache-{os.getpid()}")
    env["XDG_RUNTIME_DIR"] = engines["PACKTIVITY_TEST_RUNTIME_DIR"]
    person = Person(entry.pw_name, entry.pw_uid, entry.pw_gid, sys.executable, env)
    try:
        reachable = person.run([sys.executable, "-c", "import packtivity.cli"]).returncode == 0
    except PermissionError:
        reachable = False
    return person if reachable else _with_copy(person, lab_folder)


def _with_copy(person: Person, folder: Path) -> Person:
    """Give somebody who may not read this environment (below /root, for example) a copy of it."""
    python = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    if not os.path.exists(python):
        missing(f"{python}, which the ordinary user can run", "put Python where all may run it")
    packages = next(Path(entry) for entry in sys.path if entry.endswith("site-packages"))
    copy = folder / "site-packages"
    if not copy.exists():
        wanted = ("click", "yaml", "_yaml", "jq", "jsonpointer", "attr", "requests", "urllib3", "idna")
        ignore = shutil.ignore_patterns("__pycache__")
        for path in packages.iterdir():
            if path.name.startswith((*wanted, "certifi", "charset_normalizer")):
                (shutil.copytree(path, copy / path.name, ignore=ignore) if path.is_dir() else None) or (
                    path.is_file() and (copy.mkdir(exist_ok=True), shutil.copy(path, copy))
                )
        shutil.copytree(ROOT / "src" / "packtivity", copy / "packtivity", ignore=ignore)
    return Person(person.name, person.uid, person.gid, python, {**person.env, "PYTHONPATH": str(copy)})


def usable(tool: str) -> None:
    if shutil.which(tool) is None:
        if tool in ("apptainer", "singularity") and (STATE / "no-apptainer").exists():
            pytest.skip(f"Apptainer could not be installed: {(STATE / 'no-apptainer').read_text().strip()}")
        need_engine(False, tool)


@pytest.fixture(
    params=[
        *(f"{tool}-{who}" for tool in TOOLS for who in ("caller", "ordinary")),
        *(pytest.param(f"singularity-{who}", marks=pytest.mark.soak) for who in ("caller", "ordinary")),
    ]
)
def lab(request: pytest.FixtureRequest, engines: dict[str, str], lab_folder: Path) -> Lab:
    """Each container tool, in the hands of the caller (root, in CI) and of an ordinary user."""
    tool, _, who = request.param.partition("-")
    usable(tool)
    person = request.getfixturevalue(who)
    folder = lab_folder / f"{request.param}-{os.urandom(4).hex()}"
    folder.mkdir()
    os.chown(folder, person.uid, person.gid)
    registry = engines["PACKTIVITY_TEST_REGISTRY"]
    return Lab(tool, person, f"{registry}/test/busybox:1.0", f"{registry}/test/python:1.0", folder)
