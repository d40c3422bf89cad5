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
from packtivity.backendutils import backend_from_string, load_proxy
from packtivity.errors import PacktivityError, ProxyError
from packtivity.statecontexts import LocalFSState

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
from packtivity.statecontexts import LocalFSState
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
        self.parts, self.began = 0, 0.0
        self.engines: list[subprocess.Popen[bytes]] = []
        self.clients: list[subprocess.Popen[bytes]] = []
        self.kills: Counter[str] = Counter()

    def start(self, *argv: str, folder: Path | None = None) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                argv,
                cwd=folder,
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
        return parts == self.parts or time.monotonic() - self.began < 10

    def tend(self, *, restore: bool | None = None, engines: int = 2) -> None:
        """Start again what is not there, as whoever runs the cluster would."""
        if not self.is_whole():
            if restore is None:
                restore = self.controller is None or self.random.random() < 0.5
            self.stop_controller()
            self.began = time.monotonic()
            self.controller = self.start(
                str(BIN / "ipcontroller"), "--restore" if restore else "--reuse", "--HeartMonitor.period=1000"
            )
            if not restore:  # the new controller does not know them
                self.stop_engines()
            until(lambda: self.port_listens() or self.controller.poll() is not None, 60)
            time.sleep(0.5)
        self.engines = [engine for engine in self.engines if engine.poll() is None]
        while len(self.engines) < engines:
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

        self.tend(restore=False)
        file = str(self.ipython / "profile_default" / "security" / "ipcontroller-client.json")
        with Client(file, timeout=30) as client:
            client.wait_for_engines(engines, timeout=60, interactive=False)

    def drop_strangers(self) -> None:
        """End engines that the controller does not know: it listened to them before it was killed, or never did."""
        from ipyparallel import Client

        if not self.is_whole():
            return
        file = str(self.ipython / "profile_default" / "security" / "ipcontroller-client.json")
        with suppress(TimeoutError), Client(file, timeout=5) as client:
            asked = [client[number].apply_async(os.getpid) for number in client.ids]
            deadline = time.monotonic() + 6
            while not all(each.ready() for each in asked) and time.monotonic() < deadline:
                time.sleep(0.1)
            known = {each.get() for each in asked if each.ready() and each.successful()}
            for engine in self.engines:
                if engine.pid not in known:
                    engine.kill()

    def stop_controller(self) -> None:
        for pid in self.having("ipcontroller"):
            kill(pid)
        if self.controller is not None:
            self.controller.wait()
        # A process that ends has no environment any more while its ports are still open.
        until(lambda: not self.having("ipcontroller") and not self.port_listens())

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

    def about(self, hanging) -> str:
        """Everything that may tell why tasks are not over."""
        proxy, backend = next(iter(hanging.values()))
        files = list((self.root / str(next(iter(hanging)))).rglob("*"))
        stranded, queues = vars(backend.cluster._stranded), backend.client.queue_status(verbose=True)
        return f"tasks {list(hanging)} hang: {vars(proxy)} {files} {stranded} {queues} {self.processes()}"

    def settle(self, seconds: float = 120.0) -> Counter[str]:
        """Ask until every task is over, and judge each; how many there were of each kind."""
        told: Counter[str] = Counter()
        waiting = {number: load_proxy(document) for number, document in self.proxies().items()}
        deadline, check = time.monotonic() + seconds, time.monotonic() + 20
        while waiting:
            self.tend()
            if time.monotonic() > check:
                self.drop_strangers()
                check = time.monotonic() + 20
            backend = next(iter(waiting.values()))[1]
            for number, answer in zip(
                list(waiting), backend.ask_many([proxy for proxy, _ in waiting.values()]), strict=True
            ):
                if isinstance(answer, PacktivityError):
                    assert "no task" not in str(answer), answer  # all but that may be said while it is started again
                    continue
                if answer["status"] in ("waiting", "running"):
                    continue
                told[self.judge(number, answer)] += 1
                del waiting[number]
            assert time.monotonic() < deadline, self.about(waiting)
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


def submit(farm, name, seconds=0.1, spec=TASK):
    """Submit one task and return where it runs and its proxy file."""
    _, backend = backend_from_string("ipcluster")
    state = LocalFSState([str(farm.root / name)])
    state.ensure()
    proxy = backend.submit(spec, {"seconds": seconds, "n": 1, "out": "{workdir}/out"}, state, {"name": "task"})
    (farm.root / f"{name}.json").write_text(json.dumps(proxy.json()))
    return farm.root / name, farm.root / f"{name}.json"


def wait(*proxies, seconds=60):
    """Ask, as another program would, until all tasks are over, and return how they are."""
    loaded = [load(proxy) for proxy in proxies]
    until(lambda: all(backend.ready(proxy) for proxy, backend in loaded), seconds)
    return [backend.ask(proxy)["status"] for proxy, backend in loaded]


def ask(farm, *arguments):
    done = farm.command("packtivity-checkproxy", "--format", "json", *map(str, arguments))
    assert "Traceback" not in done.stderr
    return done.returncode, [each["status"] for each in json.loads(done.stdout)] if done.stdout else done.stderr


def load(proxy):
    return load_proxy(json.loads(proxy.read_text()))


def test_a_running_task_is_cancelled_with_all_its_processes(farm):
    spec = {**TASK, "process": {"process_type": "string-interpolated-cmd", "cmd": "sleep 77 & touch begun; sleep 77"}}
    (farm.root / "cancelled.yml").write_text(json.dumps(spec))
    given = ("-p", "n=1", "-p", 'out="{workdir}/out"', "-w", "cancelled")
    done = farm.command("packtivity-run", "-b", "ipcluster", "--async", *given, "cancelled.yml")
    assert done.returncode == 0, done.stderr
    folder, proxy = farm.root / "cancelled", farm.root / "proxy.json"
    until((folder / "begun").exists)
    assert ask(farm, proxy) == (75, ["running"])
    assert farm.having("sleep 77")
    ask(farm, "--cancel", proxy)
    assert ask(farm, "--wait", "--timeout", "10", proxy) == (6, ["cancelled"])
    assert not farm.having("sleep 77")
    assert record.read_outcome(str(folder / "_packtivity" / "packtivity.outcome.json"))["status"] == "cancelled"
    assert not [
        path for path in (folder / "_packtivity").iterdir() if "cancel" in path.name or "task.json" in path.name
    ]


def test_a_waiting_task_that_is_cancelled_never_begins(farm):
    busy = [submit(farm, f"busy{n}", 2) for n in range(2)]
    folder, proxy = submit(farm, "never")
    handle, backend = load(proxy)
    backend.cancel(handle)
    assert backend.ask(handle)["status"] == "cancelled"
    assert wait(*[each for _, each in busy]) == ["succeeded"] * 2
    time.sleep(0.5)
    assert not (folder / "out").exists()
    assert ask(farm, proxy) == (6, ["cancelled"])


def test_a_task_whose_engine_is_killed_is_run_by_another_while_the_client_waits(farm):
    (farm.root / "waits.yml").write_text(json.dumps(TASK))
    given = ("-p", "seconds=2", "-p", "n=5", "-p", 'out="{workdir}/out"', "-w", "waits", "waits.yml")
    client = farm.start(str(BIN / "packtivity-run"), "-b", "ipcluster", *given, folder=farm.root)
    until((farm.root / "waits" / "busy").exists)
    states = list((farm.root / "waits" / "_packtivity").glob("*.state.json"))
    kill(json.loads(states[0].read_text())["runner"]["pid"])
    assert client.wait(60) == 0
    assert (farm.root / "waits" / "out").read_text() == "5\n"
    assert not (farm.root / "waits" / "twice").exists()
    assert record.read_outcome(str(farm.root / "waits" / "_packtivity" / "packtivity.outcome.json"))["attempts"] == 2
    farm.ready()


@pytest.mark.soak
def test_a_task_that_kills_its_engines_ends_as_failed(farm):
    poison = {**TASK, "process": {"process_type": "string-interpolated-cmd", "cmd": "kill -9 $PPID; sleep 9"}}
    _, proxy = submit(farm, "poison", spec=poison)
    _, healthy = submit(farm, "healthy")
    handle, backend = load(proxy)
    until(lambda: farm.tend() or backend.ready(handle), 90)
    assert backend.fail_info(handle)[0] == "WorkerLost"
    assert wait(healthy) == ["succeeded"]
    farm.ready()


def test_after_everything_was_killed_the_truth_is_told_of_every_task(farm):
    done, over = submit(farm, "over")
    assert wait(over) == ["succeeded"]
    running = [submit(farm, f"running{n}", 3) for n in range(2)]
    until(lambda: all((folder / "busy").exists() for folder, _ in running))
    waiting, last = submit(farm, "waiting")
    unknown = farm.root / "unknown.json"
    text = last.read_text().replace(load(last)[0].task_id, "0123456789abcdef-0000000000")
    unknown.write_text(text)
    farm.kill_everything()
    kill_by_folder(farm.root)
    proxies = (over, *[proxy for _, proxy in running], last, unknown)
    assert ask(farm, *proxies) == (12, ["succeeded", "unknown", "unknown", "unknown", "unknown"])
    farm.ready()
    assert ask(farm, unknown, over) == (12, ["unknown", "succeeded"])
    assert ask(farm, "--wait", "--timeout", "60", *proxies[:-1]) == (0, ["succeeded"] * 4)
    for folder in (done, waiting, *[folder for folder, _ in running]):
        assert (folder / "out").read_text() == "1\n"
        assert not (folder / "twice").exists()


@pytest.mark.soak
def test_engines_that_died_with_their_controller_are_not_waited_for(farm):
    for pid in (farm.engines[0].pid, *farm.having("engine.nanny"), farm.controller.pid):
        kill(pid)
    farm.controller.wait()
    farm.tend(restore=True, engines=1)
    submitted = [submit(farm, f"ghost{number}")[1] for number in range(6)]
    assert wait(*submitted, seconds=90) == ["succeeded"] * 6
    farm.kill_everything()
    farm.ready()


@pytest.mark.soak
def test_tasks_go_on_where_the_scheduler_believes_that_every_engine_is_busy(farm):
    for engine in farm.engines:
        os.kill(engine.pid, signal.SIGSTOP)  # it does not connect before tasks were given to it
    kill(farm.controller.pid)
    farm.controller.wait()
    farm.tend(restore=True)
    submitted = [submit(farm, f"stuck{number}")[1] for number in range(6)]
    time.sleep(1)
    for engine in farm.engines:
        os.kill(engine.pid, signal.SIGCONT)
    assert wait(*submitted, seconds=90) == ["succeeded"] * 6
    farm.kill_everything()
    farm.ready()


@pytest.mark.soak
def test_two_who_ask_at_once_give_a_forgotten_task_away_once(farm):
    folder, proxy = submit(farm, "twins", 30)
    until((folder / "busy").exists)
    farm.kill_everything()
    kill_by_folder(farm.root)
    farm.ready()
    script = """
import sys, json
from packtivity.backendutils import load_proxy
proxy, backend = load_proxy(json.load(open(sys.argv[1])))
backend.wait(proxy)
"""
    askers = [farm.start(sys.executable, "-c", script, str(proxy)) for _ in range(2)]
    until(lambda: len(farm.having("sleep 30")) == 1, 40)
    time.sleep(2)
    assert len(farm.having("sleep 30")) == 1
    handle, backend = load(proxy)
    assert backend.client.queue_status()["unassigned"] == 0
    ask(farm, "--cancel", proxy)
    assert [each.wait(20) for each in askers] == [0, 0]
    assert backend.ask(handle)["status"] == "cancelled"
    assert not (folder / "twice").exists()


@pytest.mark.soak
def test_a_controller_that_dies_while_tasks_are_submitted_is_told_or_loses_none(farm):
    client = farm.submitter(5000, 30)
    until(lambda: len(farm.proxies()) > 3)
    kill(farm.controller.pid)
    client.wait(60)
    told = farm.settle()
    assert told == {"succeeded": len(farm.proxies())}
    farm.ready()


@pytest.fixture(scope="module")
def finished(farm):
    """The proxy of a task that is over."""
    _, proxy = submit(farm, "edited")
    assert wait(proxy) == ["succeeded"]
    return json.loads(proxy.read_text())


@pytest.mark.parametrize(
    ("edit", "code", "text"),
    [
        ({"task_id": "another-id"}, 12, "its record is not the one of its task_id"),
        ({"record": "/etc/passwd"}, 12, "its record is not the one of its task_id"),
        ({"record": "relative.ID.outcome.json"}, 12, "its record is not the one of its task_id"),
        ({"message": 7}, 12, "has no task_id and message"),
        ({"message": None}, 12, "has no task_id and message"),
        ({"message": "nobody"}, 0, ""),
        ({"cluster": ["x"]}, 12, "has no task_id and message"),
    ],
)
def test_a_proxy_edited_by_hand_is_refused_or_harmless(farm, finished, edit, code, text):
    proxy = farm.root / "edited.json"
    proxy.write_text(json.dumps({**finished, "proxydetails": {**finished["proxydetails"], **edit}}))
    done = farm.command("packtivity-checkproxy", str(proxy))
    assert (done.returncode, text in done.stderr) == (code, True), done.stderr


def test_the_message_of_another_task_gives_nobody_elses_result(farm):
    _, one = submit(farm, "one")
    folder, other = submit(farm, "other")
    assert wait(one, other) == ["succeeded"] * 2
    document = json.loads(other.read_text())
    document["proxydetails"]["message"] = json.loads(one.read_text())["proxydetails"]["message"]
    other.write_text(json.dumps(document))
    for path in (folder / "_packtivity").glob("*.outcome.json"):
        path.unlink()
    with pytest.raises(ProxyError, match="is of another task"):
        wait(other)


def test_a_task_that_is_delivered_twice_is_run_once(farm):
    _, backend = backend_from_string("ipcluster")
    state = LocalFSState([str(farm.root / "delivered")])
    state.ensure()
    proxy = backend.submit(TASK, {"seconds": 1, "n": 1, "out": "{workdir}/out"}, state, {"name": "task"})
    ticket = next(Path(state.metadir).glob("*.task.json"))
    again = backend.cluster.give([ticket.read_text()], 0)[0]
    assert backend.wait(proxy)["status"] == "succeeded"
    assert json.loads(again.result(30))["status"] == "succeeded"
    assert not (farm.root / "delivered" / "twice").exists()
    assert record.read_outcome(proxy.record)["attempts"] == 1
    assert len(list(Path(state.metadir).glob("*.outcome.json"))) == 2


@pytest.mark.parametrize(
    ("options", "text"),
    [({}, "no controller has written"), ({"profile": "nightly"}, "there is no profile 'nightly'")],
)
def test_a_cluster_that_is_not_there_is_said_without_waiting_for_it(farm, tmp_path, options, text):
    (tmp_path / "profile_default" / "security").mkdir(parents=True)
    (tmp_path / "options.yml").write_text(json.dumps(options))
    (farm.root / "nobody.yml").write_text(json.dumps(TASK))
    done = farm.command(
        *("packtivity-run", "-b", "ipcluster", "--async", "-p", "seconds=1", "-p", "n=1", "-p", "out=o", "nobody.yml"),
        IPYTHONDIR=str(tmp_path),
        PACKTIVITY_ASYNCBACKEND_OPTS=str(tmp_path / "options.yml"),
    )
    assert (done.returncode, "Waiting" in done.stdout) == (11, False)
    assert text in done.stderr
    assert "ipcluster start" in done.stderr


def test_a_controller_that_has_died_is_said(farm, tmp_path):
    security = tmp_path / "profile_default" / "security"
    security.mkdir(parents=True)
    file = json.loads((farm.ipython / "profile_default" / "security" / "ipcontroller-client.json").read_text())
    (security / "ipcontroller-client.json").write_text(json.dumps({**file, "registration": 9}))
    _, proxy = submit(farm, "orphan", 0)
    asked = farm.command("packtivity-checkproxy", str(proxy), IPYTHONDIR=str(tmp_path))
    if "successful: True" not in asked.stdout:  # its record was not there yet
        assert asked.returncode == 12
        assert "gone" in asked.stderr
    (farm.root / "nobody.yml").write_text(json.dumps(TASK))
    argv = ("packtivity-run", "-b", "ipcluster", "-p", "seconds=1", "-p", "n=1", "-p", "out=o", "nobody.yml")
    done = farm.command(*argv, IPYTHONDIR=str(tmp_path))
    assert (done.returncode, "Waiting" in done.stdout) == (11, False)
    assert "controller of the ipyparallel cluster is gone" in done.stderr


def kill_by_folder(root):
    """End what tasks have left behind, which a power failure would."""
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            if os.readlink(f"/proc/{name}/cwd").startswith(str(root)):
                kill(int(name))


ROUNDS = [
    pytest.param(1, 14, 5, id="sample"),
    pytest.param(int(os.environ.get("PACKTIVITY_SOAK_KILLS", "100")), 24, 0, id="soak", marks=pytest.mark.soak),
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
