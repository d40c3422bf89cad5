"""Processes killed at random: no task lost, none running twice at a time, no success that did not finish, no hang."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from pathlib import Path

import pytest

from packtivity import record
from packtivity.backendutils import backend_from_string, load_proxy
from packtivity.statecontexts import LocalFSState

BIN = Path(sys.executable).parent
MARK = "PACKTIVITY_TEST_ARENA"

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
from packtivity.statecontexts import LocalFSState
name, root, count, spec = sys.argv[1], sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4])
_, backend = backend_from_string(name)
proxies = []
for n in range(count):
    state = LocalFSState([f"{root}/{n}"])
    state.ensure()
    given = {"seconds": round(random.uniform(0.02, 0.25), 3), "n": n, "out": "{workdir}/out"}
    proxy = backend.submit(spec, given, state, {"name": "task"})
    with open(f"{root}/{n}.new", "w") as file:
        json.dump(proxy.json(), file)
    os.rename(f"{root}/{n}.new", f"{root}/{n}.proxy")
print("submitted", flush=True)
"""


class Arena:
    """A folder, and an environment by which everything that was started in it is found."""

    def __init__(self, folder: Path, seed: int, **environment: str) -> None:
        self.root = folder / "tasks"
        self.root.mkdir()
        self.mark = uuid.uuid4().hex
        self.random = random.Random(seed)
        self.kills = 0
        self.started: list[subprocess.Popen[bytes]] = []
        self.environment = {
            **os.environ,
            MARK: self.mark,
            "PACKTIVITY_STATE_DIR": str(folder / "state"),
            "PACKTIVITY_LOGGING_STREAM_LEVEL": "CRITICAL",
            **environment,
        }

    def start(self, *argv: str) -> subprocess.Popen[bytes]:
        with (self.root.parent / "log").open("ab") as log:
            process = subprocess.Popen(
                argv, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self.started.append(process)
        return process

    def submitter(self, backend: str, count: int) -> subprocess.Popen[bytes]:
        return self.start(sys.executable, "-c", SUBMIT, backend, str(self.root), str(count), json.dumps(TASK))

    def processes(self) -> dict[int, str]:
        """Every living process of the arena, with its command line."""
        found = {}
        for name in filter(str.isdigit, os.listdir("/proc")):
            with suppress(OSError):
                if self.mark.encode() in Path(f"/proc/{name}/environ").read_bytes():
                    found[int(name)] = Path(f"/proc/{name}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        return found

    def kill_one(self, *kinds: str) -> None:
        """Kill a process whose command line has one of these words in it."""
        victims = [pid for pid, line in self.processes().items() if any(kind in line for kind in kinds)]
        if victims:
            with suppress(ProcessLookupError):
                os.kill(self.random.choice(victims), signal.SIGKILL)
                self.kills += 1

    def kill_all(self) -> None:
        for _ in range(50):
            living = self.processes()
            for process in self.started:
                process.poll()
            if not living and all(process.returncode is not None for process in self.started):
                return
            for pid in living:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        raise AssertionError(self.processes())

    def proxies(self) -> dict[int, dict[str, object]]:
        return {int(path.stem): json.loads(path.read_text()) for path in self.root.glob("*.proxy")}

    def judge(self, number: int, status: str, error: object) -> None:
        """Hold what is said of a task against what it left."""
        folder = self.root / str(number)
        assert not (folder / "twice").exists(), f"task {number} ran beside itself"
        assert status in ("succeeded", "failed")
        if status == "succeeded":
            assert (folder / "out").read_text() == f"{number}\n"
            found = record.read_outcome(str(folder / "_packtivity" / "task.outcome.json"))
            assert found["status"] == "succeeded"
        else:
            # a child that has not yet become the task's shell looks like the worker it comes from, and is hit as well
            assert error["type"] == "WorkerLost" or error.get("returncode") == -9, error  # type: ignore[index,attr-defined]


@pytest.fixture
def arena(tmp_path, monkeypatch):
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


def settle(arena, seconds=90.0, tend=lambda: None):
    """Ask until every task that was submitted is over, and judge each; how many there were of each status."""
    told: dict[str, int] = {}
    deadline = time.monotonic() + seconds
    waiting = {n: load_proxy(document) for n, document in arena.proxies().items()}
    while waiting:
        tend()
        for number, (proxy, backend) in list(waiting.items()):
            answer = backend.ask(proxy)
            if answer["status"] in ("waiting", "running"):
                continue
            arena.judge(number, answer["status"], answer.get("error"))
            told[answer["status"]] = told.get(answer["status"], 0) + 1
            del waiting[number]
        assert time.monotonic() < deadline, f"{len(waiting)} tasks hang"
        time.sleep(0.05)
    return told


def until(condition, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


ROUNDS = [pytest.param(20, 12, id="sample"), pytest.param(150, 150, id="soak", marks=pytest.mark.soak)]


@pytest.mark.parametrize(("tasks", "kills"), ROUNDS)
def test_local_survives_killed_supervisors_workers_and_clients(arena, tasks, kills):
    here = arena(1)
    here.submitter("local:2", tasks)
    until(here.proxies)
    _, backend = backend_from_string("local:2")
    while here.kills < kills:
        here.kill_one("packtivity.backends", "backend_from_string")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(MARK, here.mark)
            backend.supervise()
        if not any("backend_from_string" in line for line in here.processes().values()) and len(here.proxies()) < tasks:
            break
        time.sleep(here.random.uniform(0.05, 0.3))
    told = settle(here)
    assert sum(told.values()) == len(here.proxies())


@pytest.mark.parametrize(("tasks", "kills"), ROUNDS)
def test_a_pool_survives_killed_workers(arena, tasks, kills):
    here = arena(2)
    client = here.submitter("multiproc:2", tasks)
    until(here.proxies)
    while here.kills < kills and client.poll() is None:
        here.kill_one("packtivity.backends.serve")
        time.sleep(here.random.uniform(0.05, 0.3))
    told = settle(here)
    assert sum(told.values()) == tasks
    assert client.wait(30) == 0


@pytest.mark.parametrize("rounds", [pytest.param(2, id="sample"), pytest.param(60, id="soak", marks=pytest.mark.soak)])
def test_the_tasks_of_a_killed_client_are_ended_and_called_failed(arena, rounds):
    here = arena(3)
    for _ in range(rounds):
        shutil.rmtree(here.root)
        here.root.mkdir()
        client = here.submitter("multiproc:2", 12)
        until(here.proxies)
        time.sleep(here.random.uniform(0, 0.6))
        client.kill()
        client.wait()
        until(lambda: not here.processes())
        told = settle(here)
        assert sum(told.values()) == len(here.proxies())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_after_a_reboot_everything_is_told_or_done(arena):
    here = arena(4)
    here.submitter("local:2", 12)
    until(lambda: len(here.proxies()) == 12)
    time.sleep(0.3)
    here.kill_all()
    assert {load_proxy(p)[0].task_id for p in here.proxies().values()}
    told = settle(here)
    assert told == {"succeeded": 12}


# A task that talks to the broker at the moment it dies is called failed (ConnectionError), about once in a hundred: the
# broker is killed in the soak only, until the worker tries again.
CELERY = [pytest.param(20, 10, False, id="sample"), pytest.param(150, 150, True, id="soak", marks=pytest.mark.soak)]


@pytest.mark.parametrize(("tasks", "kills", "broker"), CELERY)
def test_celery_survives_killed_workers_and_broker(arena, redis, tmp_path, request, tasks, kills, broker):
    pytest.importorskip("celery", reason="pip install 'packtivity[celery]'")
    port = free_port()
    address = f"redis://127.0.0.1:{port}"
    here = arena(5, PACKTIVITY_CELERY_REDIS_BROKER=f"{address}/0", PACKTIVITY_CELERY_VISIBILITY_TIMEOUT="4")
    server = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"]
    server += ["--appendfsync", "always", "--dir", str(tmp_path), "--enable-debug-command", "no"]
    worker = [str(BIN / "celery"), "-A", "packtivity.asyncbackends.default_celeryapp", "worker", "-c", "2"]
    worker += ["--loglevel", "WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat"]

    running: dict[str, subprocess.Popen[bytes]] = {}
    request.addfinalizer(lambda: end(running.get("redis")))

    def tend():
        for name, argv in (("redis", server), ("celery", worker)):
            if name not in running or running[name].poll() is not None:
                running[name] = here.start(*argv)
        until(lambda: _listens(port))

    tend()
    client = here.submitter("celery", tasks)
    assert client.wait(60) == 0
    while here.kills < kills:
        if broker and here.kills % 5 == 4:  # Redis writes its title over its environment
            running["redis"].kill()
            running["redis"].wait()
            here.kills += 1
        else:
            here.kill_one("celery")
        tend()
        time.sleep(here.random.uniform(0.2, 0.8))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("packtivity.backends.celery.default_celeryapp", _fresh_app())
        told = settle(here, 120, tend)
    assert sum(told.values()) == tasks


def end(program):
    if program is not None:
        program.kill()
        program.wait()


def _fresh_app():
    from packtivity.backends.celery import make_app

    return make_app()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_poisonous_task_ends_as_failed_and_harms_nobody(celery_redis, tmp_path):
    poison = {**TASK, "process": {"process_type": "string-interpolated-cmd", "cmd": "kill -9 $PPID; sleep 5"}}
    states = [LocalFSState([str(tmp_path / str(n))]) for n in range(4)]
    for state in states:
        state.ensure()
    given = {"seconds": 0.05, "n": 1, "out": "{workdir}/out"}
    proxies = [
        celery_redis.submit(poison if n == 1 else TASK, given, state, {"name": "task"})
        for n, state in enumerate(states)
    ]
    until(lambda: all(celery_redis.ready(proxy) for proxy in proxies), 60)
    assert [celery_redis.successful(proxy) for proxy in proxies] == [True, False, True, True]
    assert celery_redis.fail_info(proxies[1])[0] == "WorkerLost"


def test_a_task_longer_than_the_visibility_timeout_runs_once(celery_redis, tmp_path):
    state = LocalFSState([str(tmp_path / "long")])
    state.ensure()
    given = {"seconds": 7, "n": 1, "out": "{workdir}/out"}
    proxy = celery_redis.submit(TASK, given, state, {"name": "task"})
    until(lambda: celery_redis.ready(proxy), 40)
    assert celery_redis.successful(proxy)
    assert not (tmp_path / "long" / "twice").exists()
    assert record.read_outcome(celery_redis.record_of(proxy))["attempts"] == 1


def test_a_cancelled_task_ends_on_every_backend(celery_redis, tmp_path):
    for name in ("multiproc:1", "local:2", "celery"):
        backend = celery_redis if name == "celery" else backend_from_string(name)[1]
        state = LocalFSState([str(tmp_path / name)])
        state.ensure()
        proxy = backend.submit(TASK, {"seconds": 60, "n": 1, "out": "{workdir}/out"}, state, {"name": "task"})
        until(lambda folder=tmp_path / name: (folder / "busy").exists())
        backend.cancel(proxy)
        until(lambda backend=backend, proxy=proxy: backend.ready(proxy), 30)
        assert not backend.successful(proxy), name
        assert not (tmp_path / name / "out").exists()
