"""The backend ``ipcluster`` on a cluster whose clients, engines, nannies, controller and schedulers are killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from arena import BIN, TASK
from farm import Farm, end
from waiting import until

from packtivity import record
from packtivity.backends.engine import Envelope, Native, Submission
from packtivity.backends.task_files import TaskFiles
from packtivity.backendutils import backend_from_string, load_proxy
from packtivity.errors import BackendError, ProxyError
from packtivity.statecontexts import LocalFSState

pytest.importorskip("ipyparallel", reason="pip install 'packtivity[ipyparallel]'")

PORTS = ("registration", "control", "mux", "task", "iopub", "notification", "broadcast")
"""What the file of a controller has ports for."""


@pytest.fixture(scope="module")
def farm(tmp_path_factory):
    made = Farm(tmp_path_factory.mktemp("farm"))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in made.settings.items():
            patch.setenv(name, value)
        try:
            made.ready()
            yield made
        finally:
            made.kill_all()


@pytest.fixture(autouse=True)
def _as_the_farm(farm, monkeypatch):
    for name, value in farm.settings.items():
        monkeypatch.setenv(name, value)
    for old in farm.root.glob("*.proxy"):
        old.unlink()
    yield
    from packtivity.backends.engines import ipyparallel

    for engine in ipyparallel._engines.values():
        engine.cluster.close()
    ipyparallel._engines.clear()


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
    return [backend.status(proxy).status for proxy, backend in loaded]


def ask(farm, *arguments):
    done = farm.command("packtivity-checkproxy", "--format", "json", *map(str, arguments))
    assert "Traceback" not in done.stderr
    return done.returncode, [each["status"] for each in json.loads(done.stdout)] if done.stdout else done.stderr


def load(proxy):
    return load_proxy(json.loads(proxy.read_text()))


def ready(document):
    proxy, backend = load_proxy(document)
    return backend.ready(proxy)


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
    assert backend.status(handle).status == "cancelled"
    assert wait(*[each for _, each in busy]) == ["succeeded"] * 2
    time.sleep(0.5)
    assert not (folder / "out").exists()
    assert ask(farm, proxy) == (6, ["cancelled"])


@pytest.mark.engines
def test_a_task_whose_engine_is_killed_is_run_by_another_while_the_client_waits(farm):
    (farm.root / "waits.yml").write_text(json.dumps(TASK))
    given = ("-p", "seconds=2", "-p", "n=5", "-p", 'out="{workdir}/out"', "-w", "waits", "waits.yml")
    client = farm.start(str(BIN / "packtivity-run"), "-b", "ipcluster", *given, folder=farm.root)
    until((farm.root / "waits" / "busy").exists)
    states = list((farm.root / "waits" / "_packtivity").glob("*.state.json"))
    end(json.loads(states[0].read_text())["runner"]["pid"])
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


@pytest.mark.engines
def test_after_everything_was_killed_the_truth_is_told_of_every_task(farm):
    done, over = submit(farm, "over")
    assert wait(over) == ["succeeded"]
    running = [submit(farm, f"running{n}", 3) for n in range(2)]
    until(lambda: all((folder / "busy").exists() for folder, _ in running))
    waiting, last = submit(farm, "waiting")
    unknown = farm.root / "unknown.json"
    text = last.read_text().replace(load(last)[0].task_id, "0123456789abcdef-0000000000")
    unknown.write_text(text)
    farm.kill_all()
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
        end(pid)
    farm.controller.wait()
    farm.tend(restore=True, engines=1)
    submitted = [submit(farm, f"ghost{number}")[1] for number in range(6)]
    assert wait(*submitted, seconds=90) == ["succeeded"] * 6
    farm.kill_all()
    farm.ready()


@pytest.mark.soak
def test_tasks_go_on_where_the_scheduler_believes_that_every_engine_is_busy(farm):
    for engine in farm.engines:
        os.kill(engine.pid, signal.SIGSTOP)  # it does not connect before tasks were given to it
    end(farm.controller.pid)
    farm.controller.wait()
    farm.tend(restore=True)
    submitted = [submit(farm, f"stuck{number}")[1] for number in range(6)]
    time.sleep(1)
    for engine in farm.engines:
        os.kill(engine.pid, signal.SIGCONT)
    assert wait(*submitted, seconds=90) == ["succeeded"] * 6
    farm.kill_all()
    farm.ready()


@pytest.mark.soak
def test_two_who_ask_at_once_give_a_forgotten_task_away_once(farm):
    folder, proxy = submit(farm, "twins", 30)
    until((folder / "busy").exists)
    farm.kill_all()
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
    assert backend.status(handle).status == "cancelled"
    assert not (folder / "twice").exists()


@pytest.mark.soak
def test_a_controller_that_dies_while_tasks_are_submitted_is_told_or_loses_none(farm):
    client = farm.submitter("ipcluster", 30, first=5000, longest=1.5)
    until(lambda: len(farm.proxies()) > 3)
    end(farm.controller.pid)
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


def test_the_message_of_another_task_gives_nobody_elses_result(farm, monkeypatch):
    _, one = submit(farm, "one")
    folder, other = submit(farm, "other")
    assert wait(one) == ["succeeded"]
    message, task_id = load(one)[0].handle, load(other)[0].task_id
    document = json.loads(other.read_text())
    document["proxydetails"]["message"] = message
    other.write_text(json.dumps(document))
    TaskFiles().note_sent(Submission(task_id, handle=message, deliveries=1))
    for path in (folder / "_packtivity").glob("*.outcome.json"):
        path.unlink()
    assert wait(other) == ["succeeded"]
    proxy, backend = load(other)
    assert backend.result(proxy).json() == {"o": f"{folder}/out"}
    for path in (folder / "_packtivity").glob("*.outcome.json"):
        path.unlink()
    monkeypatch.setenv("PACKTIVITY_STATE_DIR", str(farm.root / "of a stranger"))
    with pytest.raises(ProxyError, match="no task .* is known"):
        wait(other)


def test_a_proxy_that_is_not_one_s_own_is_looked_for_at_one_s_own_cluster_and_runs_nothing_there(farm, monkeypatch):
    busy = [submit(farm, f"before{n}", 8) for n in range(2)]
    _, proxy = submit(farm, "behind")
    monkeypatch.setenv("PACKTIVITY_STATE_DIR", str(farm.root / "of a stranger"))
    handle, backend = load(proxy)
    until(lambda: handle.handle in backend.client.hub_history())
    sent = backend.client.hub_history()
    until(lambda: time.time() - os.stat(proxy).st_mtime > 6, 20)
    assert backend.status(handle).status == "waiting"
    assert backend.client.hub_history() == sent
    with pytest.raises(BackendError, match="not known to be yours"):
        backend.cancel(handle)
    assert not (farm.root / "of a stranger").exists()
    monkeypatch.setenv("PACKTIVITY_STATE_DIR", farm.settings["PACKTIVITY_STATE_DIR"])
    assert wait(proxy, *[each for _, each in busy]) == ["succeeded"] * 3


def test_the_cluster_that_a_proxy_names_is_not_connected_to(farm, tmp_path, monkeypatch):
    _, proxy = submit(farm, "theirs")
    assert wait(proxy) == ["succeeded"]
    with socket.create_server(("127.0.0.1", 0)) as theirs:
        security = tmp_path / "profile_default" / "security"
        security.mkdir(parents=True)
        port = theirs.getsockname()[1]
        known = json.loads(farm.connection.read_text())
        file = security / "ipcontroller-client.json"
        file.write_text(json.dumps({**known, **dict.fromkeys(PORTS, port)}))
        document = json.loads(proxy.read_text().replace(str(farm.connection), str(file)))
        monkeypatch.setenv("PACKTIVITY_STATE_DIR", str(tmp_path / "of a stranger"))
        document = json.loads(json.dumps(document).replace(document["proxydetails"]["task_id"], "an-id"))
        with pytest.raises(ProxyError, match="this is another one"):
            ready(document)
        theirs.settimeout(0.5)
        with pytest.raises(TimeoutError):
            theirs.accept()


def test_one_s_own_task_of_another_cluster_is_not_given_to_this_one(farm, tmp_path):
    busy = [submit(farm, f"here{n}", 120)[1] for n in range(2)]
    _, proxy = submit(farm, "elsewhere")
    asked = farm.command("packtivity-checkproxy", str(proxy), IPYTHONDIR=str(tmp_path))
    assert (asked.returncode, "this is another one" in asked.stderr) == (12, True), asked.stderr
    ask(farm, "--cancel", *busy)  # they have kept the engines from the other one until it was asked for
    assert wait(proxy, *busy) == ["succeeded", "cancelled", "cancelled"]
    asked = farm.command("packtivity-checkproxy", str(proxy), IPYTHONDIR=str(tmp_path))
    assert asked.returncode == 0, asked.stderr


def test_a_task_that_is_delivered_twice_is_run_once(farm):
    _, backend = backend_from_string("ipcluster")
    state = LocalFSState([str(farm.root / "delivered")])
    state.ensure()
    proxy = backend.submit(TASK, {"seconds": 1, "n": 1, "out": "{workdir}/out"}, state, {"name": "task"})
    entry = TaskFiles().read(proxy.task_id)
    (again,) = backend.engine.submit([Envelope(entry.task)])
    assert backend.wait(proxy).status == "succeeded"
    assert json.loads(backend.client.get_result(again).get(30))["status"] == "succeeded"
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
    file = json.loads((farm.connection).read_text())
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
                end(int(name))


ROUNDS = [
    pytest.param(1, 14, 5, id="sample"),
    pytest.param(int(os.environ.get("PACKTIVITY_SOAK_KILLS", "100")), 24, 0, id="soak", marks=pytest.mark.soak),
]


@pytest.mark.engines
@pytest.mark.parametrize(("kills", "tasks", "most"), ROUNDS)
def test_killed_clients_engines_and_controllers_lose_no_task(farm, kills, tasks, most, capsys):
    told: Counter[str] = Counter()
    number = 1000
    farm.killed.clear()
    while farm.kills < kills:
        for old in farm.root.glob("*.proxy"):
            old.unlink()
        client = farm.submitter("ipcluster", tasks, first=number, longest=1.5)
        number += tasks
        until(lambda client=client: farm.proxies() or client.poll() is not None, 60)
        for _ in range(most or 12):
            farm.kill_any()
            time.sleep(farm.random.uniform(0.1, 1.5))
            farm.tend()
        told += farm.settle(240)
        client.kill()
        client.wait()
    with capsys.disabled():
        if not most:
            farm.report("ipcluster", told)
    assert told["succeeded"]


@pytest.mark.parametrize("content", ["", "[]", "{", "3", '{"ssh": "x"}', '{"interface": 3}'])
def test_a_damaged_file_of_a_controller_says_nothing_of_its_addresses(tmp_path, content):
    from packtivity.backends.engines.ipyparallel_cluster import _addresses

    (tmp_path / "client.json").write_text(content)
    assert _addresses(str(tmp_path / "client.json")) == {}


@pytest.mark.parametrize("found", [None, 3, "[]", "not JSON", '{"id": "two"}', b"\xff"])
def test_what_came_back_for_somebody_else_s_message_is_refused(farm, found):
    _, backend = backend_from_string("ipcluster")
    call = backend.client.load_balanced_view().apply_async({"": found}.get, "")
    call.wait(20)
    place = backend.engine.place()
    until(lambda: backend.engine.look([Submission("one", place, call.msg_ids[0], 1, 0.0)]) == [Native("ended")], 10)


def test_what_an_engine_cannot_run_is_said(farm):
    _, backend = backend_from_string("ipcluster")
    call = backend.client.load_balanced_view().apply_async(__import__, "nothing_of_this_name")
    call.wait(20)
    submission = Submission("one", backend.engine.place(), call.msg_ids[0], 1)
    until(lambda: backend.engine.look([submission])[0].cause == "refused")
    assert "ModuleNotFoundError: No module named 'nothing_of_this_name'" in backend.engine.look([submission])[0].reason
