"""An ipyparallel cluster of our own, whose clients, engines, nannies, controller and schedulers are killed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from packtivity import record
from packtivity.backendutils import load_proxy
from packtivity.errors import BackendError, ProxyError
from packtivity.statecontexts import LocalFSState  # noqa: F401

pytest.importorskip("ipyparallel", reason="pip install 'packtivity[ipyparallel]'")

BIN = Path(sys.executable).parent
MARK = "PACKTIVITY_TEST_FARM"

# The lock goes with the process, so what finds it taken runs beside another run of the same task.
TASK = {
    "process": {
        "process_type": "interpolated-script-cmd",
        "script": "exec 9>busy; flock -n 9 || {{ echo >> twice; exit 42; }}\nsleep {seconds}\necho {n} > {out}\n",
        "interpreter": "sh",
    },
    "environment": {"environment_type": "localproc-env"},
    "publisher": {"publisher_type": "frompar-pub", "outputmap": {"o": "out"}},
}

SUBMIT = """
import json, os, random, sys
from packtivity.backendutils import backend_from_string
from packtivity.statecontexts import LocalFSState  # noqa: F401
root, first, count, spec = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), json.loads(sys.argv[4])
_, backend = backend_from_string("ipcluster")
for n in range(first, first + count):
    state = LocalFSState([f"{root}/{n}"])
    state.ensure()
    given = {"seconds": round(random.uniform(0.02, 1.5), 3), "n": n, "out": "{workdir}/out"}
    proxy = backend.submit(spec, given, state, {"name": "task"})
    with open(f"{root}/{n}.new", "w") as file:
        json.dump(proxy.json(), file)
    os.rename(f"{root}/{n}.new", f"{root}/{n}.proxy")
"""


class Farm:
    """A controller and two engines in a folder, and somebody who starts again what has died."""

    def __init__(self, folder: Path, seed: int = 1) -> None:
        self.root, self.log, self.random = folder / "tasks", folder / "log", random.Random(seed)
        self.root.mkdir()
        self.mark = uuid.uuid4().hex
        self.ipython = folder / "ipython"
        self.ipython.mkdir()
        self.settings = {
            "IPYTHONDIR": str(self.ipython),
            "PACKTIVITY_STATE_DIR": str(folder / "state"),
            "PACKTIVITY_LOGGING_STREAM_LEVEL": "CRITICAL",
        }
        self.controller: subprocess.Popen[bytes] | None = None
        self.parts = 0
        self.engines: list[subprocess.Popen[bytes]] = []
        self.clients: list[subprocess.Popen[bytes]] = []
        self.kills: Counter[str] = Counter()

    def start(self, *argv: str) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                argv,
                env={**os.environ, **self.settings, MARK: self.mark},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def command(self, *argv: str, **extra: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(BIN / argv[0]), *argv[1:]],
            cwd=self.root,
            env={**os.environ, **self.settings, **extra},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=90,
        )

    def submitter(self, first: int, count: int) -> subprocess.Popen[bytes]:
        argv = (sys.executable, "-c", SUBMIT, str(self.root), str(first), str(count), json.dumps(TASK))
        self.clients.append(self.start(*argv))
        return self.clients[-1]

    # --- what runs ---

    def processes(self) -> dict[int, str]:
        found = {}
        for name in filter(str.isdigit, os.listdir("/proc")):
            with suppress(OSError):
                if self.mark.encode() in Path(f"/proc/{name}/environ").read_bytes():
                    found[int(name)] = Path(f"/proc/{name}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        return found

    def having(self, word: str) -> list[int]:
        return [pid for pid, line in self.processes().items() if word in line]

    def is_whole(self) -> bool:
        """Whether nothing of the controller is missing."""
        if self.controller is None or self.controller.poll() is not None:
            return False
        parts = len(self.having("ipcontroller"))
        self.parts = max(self.parts, parts)
        return parts == self.parts

    def tend(self) -> None:
        """Start again what is not there, as whoever runs the cluster would."""
        if not self.is_whole():
            restore = self.controller is None or self.random.random() < 0.5
            self.stop_controller()
            self.parts = 0
            self.controller = self.start(
                str(BIN / "ipcontroller"), "--restore" if restore else "--reuse", "--HeartMonitor.period=1000"
            )
            if not restore:  # the new controller does not know them
                self.stop_engines()
            until(lambda: self.port_listens() or self.controller.poll() is not None, 60)
            time.sleep(0.5)
        self.engines = [engine for engine in self.engines if engine.poll() is None]
        while len(self.engines) < 2:
            self.engines.append(self.start(str(BIN / "ipengine")))

    def port_listens(self) -> bool:
        import socket

        file = self.ipython / "profile_default" / "security" / "ipcontroller-client.json"
        try:
            ports = json.loads(file.read_text())
        except (OSError, ValueError):
            return False
        with socket.socket() as one, socket.socket() as two:
            here = [
                each.connect_ex(("127.0.0.1", ports[name])) for each, name in ((one, "registration"), (two, "task"))
            ]
        return here == [0, 0]

    def ready(self, engines: int = 2) -> None:
        from ipyparallel import Client

        self.tend()
        file = str(self.ipython / "profile_default" / "security" / "ipcontroller-client.json")
        with Client(file, timeout=30) as client:
            client.wait_for_engines(engines, timeout=60, interactive=False)

    def stop_controller(self) -> None:
        for pid in self.having("ipcontroller"):
            kill(pid)
        if self.controller is not None:
            self.controller.wait()
        until(lambda: not self.having("ipcontroller"))

    def stop_engines(self) -> None:
        for engine in self.engines:
            engine.kill()
            engine.wait()
        self.engines.clear()

    def kill_everything(self) -> None:
        """End everything at once, as a power failure would."""
        until(lambda: not [kill(pid) for pid in self.processes()] and not self.processes())
        for each in (*self.engines, *self.clients, *filter(None, [self.controller])):
            each.wait()
        self.engines.clear()
        self.controller = None

    def kill_one(self) -> None:
        kind, word = self.random.choice(KINDS)
        victims = self.having(word)
        if kind == "controller":
            victims = [self.controller.pid] if self.controller is not None else []
        elif kind == "scheduler":
            victims = [pid for pid in victims if self.controller is not None and pid != self.controller.pid]
        if victims:
            kill(self.random.choice(victims))
            self.kills[kind] += 1

    # --- what became of it ---

    def proxies(self) -> dict[int, dict[str, object]]:
        return {int(path.stem): json.loads(path.read_text()) for path in self.root.glob("*.proxy")}

    def judge(self, number: int, answer: dict[str, object]) -> str:
        """Hold what is said of a task against what it left."""
        folder, status, error = self.root / str(number), answer["status"], answer.get("error")
        assert not (folder / "twice").exists(), f"task {number} ran beside itself"
        found = record.read_outcome(str(folder / "_packtivity" / "task.outcome.json")) or {}
        if status == "succeeded":
            assert (folder / "out").read_text() == f"{number}\n"
            assert found["status"] == "succeeded"
            return "succeeded"
        # a child that has not yet become the task's shell looks like the engine it comes from, and is hit as well
        assert error["type"] == "WorkerLost" or error.get("returncode") == -9, error
        return error["type"]

    def settle(self, seconds: float = 120.0) -> Counter[str]:
        """Ask until every task is over, and judge each; how many there were of each kind."""
        told: Counter[str] = Counter()
        waiting = {number: load_proxy(document) for number, document in self.proxies().items()}
        deadline = time.monotonic() + seconds
        while waiting:
            self.tend()
            backend = next(iter(waiting.values()))[1]
            for number, answer in zip(
                list(waiting), backend.ask_many([proxy for proxy, _ in waiting.values()]), strict=True
            ):
                assert not isinstance(answer, ProxyError), answer
                if isinstance(answer, BackendError) or answer["status"] in ("waiting", "running"):
                    continue
                told[self.judge(number, answer)] += 1
                del waiting[number]
            assert time.monotonic() < deadline, f"tasks {list(waiting)} hang: {self.log.read_text()[-3000:]}"
            time.sleep(0.1)
        return told


KINDS = (
    ("client", "backend_from_string"),
    ("engine", "bin/ipengine"),
    ("engine", "bin/ipengine"),
    ("nanny", "engine.nanny"),
    ("controller", "bin/ipcontroller"),
    ("scheduler", "bin/ipcontroller"),
)


def kill(pid: int) -> int:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return pid


def until(condition, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="module")
def farm(tmp_path_factory):
    made = Farm(tmp_path_factory.mktemp("farm"))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in made.settings.items():
            patch.setenv(name, value)
        made.ready()
        yield made
        made.kill_everything()


@pytest.fixture(autouse=True)
def _as_the_farm(farm, monkeypatch):
    for name, value in farm.settings.items():
        monkeypatch.setenv(name, value)
    for old in farm.root.glob("*.proxy"):
        old.unlink()
    yield
    from packtivity.backends import ipyparallel

    for cluster in ipyparallel._clusters.values():
        cluster.close()
    ipyparallel._clusters.clear()


ROUNDS = [
    pytest.param(1, 14, 5, id="sample"),
    pytest.param(int(os.environ.get("PACKTIVITY_SOAK_KILLS", "120")), 60, 0, id="soak", marks=pytest.mark.soak),
]


@pytest.mark.parametrize(("kills", "tasks", "most"), ROUNDS)
def test_killed_clients_engines_and_controllers_lose_no_task(farm, kills, tasks, most, capsys):
    told: Counter[str] = Counter()
    number = 1000
    farm.kills.clear()
    while farm.kills.total() < kills:
        for old in farm.root.glob("*.proxy"):
            old.unlink()
        client = farm.submitter(number, tasks)
        number += tasks
        until(lambda client=client: farm.proxies() or client.poll() is not None, 60)
        for _ in range(most or 12):
            farm.kill_one()
            time.sleep(farm.random.uniform(0.1, 1.5))
            farm.tend()
        told += farm.settle(240)
        client.kill()
        client.wait()
    with capsys.disabled():
        if not most:
            print(f"\nkills: {dict(farm.kills)}; tasks: {dict(told)}")
    assert told["succeeded"]
