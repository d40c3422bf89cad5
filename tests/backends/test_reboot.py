"""Everything of ours killed at a random moment, as when the machine stops: what is said afterwards is true."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from pathlib import Path

import jsonschema
import pytest

from packtivity import lease, record
from packtivity.backendutils import backend_from_string, load_proxy
from packtivity.errors import ProxyError
from packtivity.statecontexts import LocalFSState
from packtivity.syncbackends import defaultsyncbackend
from packtivity.task import Task
from packtivity.worker import answer

MARK = "PACKTIVITY_TEST_REBOOT"
SPEC = {
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
for n in range(count):
    state = LocalFSState([f"{root}/{n}"])
    state.ensure()
    given = {"seconds": round(random.uniform(0, 0.2), 3), "n": n, "out": "{workdir}/out"}
    proxy = backend.submit(spec, given, state, {"name": "task"})
    with open(f"{root}/{n}.new", "w") as file:
        json.dump(proxy.json(), file)
    os.rename(f"{root}/{n}.new", f"{root}/{n}.proxy")
"""


def living(mark):
    """Return every process that was started with the mark in its environment."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            stopped = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
            if not stopped and mark.encode() in Path(f"/proc/{name}/environ").read_bytes():
                found.append(int(name))
    return found


def stop_the_machine(mark):
    """Kill every process with the mark, by process id, until there is none."""
    deadline = time.monotonic() + 20
    while pids := living(mark):
        assert time.monotonic() < deadline
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def judge(folder, number, status, error):
    assert not (folder / "twice").exists()
    if status == "succeeded":
        assert (folder / "out").read_text() == f"{number}\n"
        found = json.loads((folder / "_packtivity" / "task.outcome.json").read_text())
        jsonschema.Draft4Validator(record.schema()).validate(found)
        assert found["status"] == "succeeded"
    else:
        assert (status, error["type"]) == ("failed", "WorkerLost")


@pytest.mark.parametrize("rounds", [pytest.param(2, id="sample"), pytest.param(25, id="soak", marks=pytest.mark.soak)])
@pytest.mark.parametrize("name", ["local:2", "multiproc:2", "foregroundasync"])
def test_what_is_said_after_the_machine_has_stopped_is_true(tmp_path, monkeypatch, name, rounds):
    chance = random.Random(name)
    for turn in range(rounds):
        root = tmp_path / str(turn)
        root.mkdir()
        monkeypatch.setenv("PACKTIVITY_STATE_DIR", str(root / "state"))
        mark = uuid.uuid4().hex
        argv = [sys.executable, "-c", SUBMIT, name, str(root), "10", json.dumps(SPEC)]
        client = subprocess.Popen(
            argv, env={**os.environ, MARK: mark}, stdin=subprocess.DEVNULL, start_new_session=True
        )
        deadline = time.monotonic() + 30
        while not list(root.glob("*.proxy")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 1.2))
        stop_the_machine(mark)
        client.wait()
        told = settle(root)
        assert told["unknown"] == 0
        if name.startswith("local"):
            assert told["failed"] == 0
        if name == "foregroundasync":
            run_again_what_was_cut_off(root)


def settle(root):
    """Ask for every task that has a proxy until it is over, and judge what is said."""
    told = {"succeeded": 0, "failed": 0, "unknown": 0}
    for path in root.glob("*.proxy"):
        proxy, backend = load_proxy(json.loads(path.read_text()))
        deadline = time.monotonic() + 60
        while not backend.ready(proxy):
            assert time.monotonic() < deadline, path
            time.sleep(0.05)
        status = "succeeded" if backend.successful(proxy) else "failed"
        kind, message = backend.fail_info(proxy) or ("", "")
        judge(root / path.stem, int(path.stem), status, {"type": kind, "message": message})
        told[status] += 1
    return told


def run_again_what_was_cut_off(root):
    for folder in (path for path in root.iterdir() if path.name.isdigit()):
        left = list((folder / "_packtivity").glob("*.state.json")) if (folder / "_packtivity").is_dir() else []
        assert not any(lease.is_held(str(path)) for path in left)
        if (root / f"{folder.name}.proxy").exists():
            continue
        given = {"seconds": 0, "n": int(folder.name), "out": "{workdir}/out"}
        defaultsyncbackend().run(SPEC, given, LocalFSState([str(folder)]), {"name": "task"})
        judge(folder, int(folder.name), "succeeded", None)


@pytest.fixture
def stranger():
    """Somebody else's process, which has the number of one of ours that is dead."""
    process = subprocess.Popen(["sleep", "300"])
    yield process
    process.kill()
    process.wait()


def multiproc_proxy(tmp_path, runner):
    place = str(tmp_path / "_packtivity" / "task.a.outcome.json")
    return {"proxyname": "MultiProcProxy", "proxydetails": {"task_id": "a", "record": place, "runner": runner}}


def test_a_process_that_has_the_number_of_a_dead_one_is_not_taken_for_it(tmp_path, stranger):
    genuine = lease.runner(stranger.pid)
    assert lease.is_alive(genuine) is True
    for change in ({"began": "1"}, {"boot": "another"}):
        assert lease.is_alive({**genuine, **change}) is False
        proxy, backend = load_proxy(multiproc_proxy(tmp_path, {**genuine, **change}))
        with suppress(ProxyError):  # where nothing at all is left of it
            assert backend.ready(proxy)
            assert not backend.successful(proxy)
            assert backend.fail_info(proxy)[0] == "WorkerLost"
    proxy, backend = load_proxy(multiproc_proxy(tmp_path, {**genuine, "host": "elsewhere"}))
    with pytest.raises(ProxyError):
        backend.ready(proxy)
    assert stranger.poll() is None


@pytest.mark.parametrize("began", ["1", "own"])
def test_a_forged_state_file_neither_stops_a_task_nor_ends_anybody(tmp_path, stranger, began):
    state = LocalFSState([str(tmp_path / "work")])
    state.ensure()
    document = Task.of(SPEC, {"seconds": 0, "n": 7, "out": "{workdir}/out"}, state, {"name": "task"}, id="a").to_json()
    runner = lease.runner(stranger.pid)
    key = record.task_key(SPEC, document["parameters"], state, {"name": "task"})
    forged = {
        "status": "running",
        "id": "a",
        "attempts": 1,
        "runner": {**runner, **({"began": began} if began == "1" else {})},
    }
    Path(record.state_path(str(state.metadir), {"name": "task"}, key)).write_text(json.dumps(forged))
    assert answer(document)["status"] == "succeeded"
    assert record.read_outcome(f"{state.metadir}/task.outcome.json")["attempts"] == 2
    assert stranger.poll() is None


def test_a_supervisor_s_number_given_to_somebody_else_does_not_hold_up_its_tasks(tmp_path, monkeypatch, stranger):
    """Locks tell who is there, numbers do not: what a supervisor before the stop had begun is begun again."""
    monkeypatch.setenv("PACKTIVITY_STATE_DIR", str(tmp_path / "state"))
    _, backend = backend_from_string("local:2")
    state = LocalFSState([str(tmp_path / "work")])
    state.ensure()
    spool = backend._spool()
    spool.prepare()
    document = backend.document(SPEC, {"seconds": 0, "n": 1, "out": "{workdir}/out"}, state, {"name": "task"})
    spool.add([document])
    spool.move(document["id"], "queue", "active")
    Path(spool.root, "supervisor").write_text(str(stranger.pid))
    proxy, backend = load_proxy(
        {"proxyname": "LocalProxy", "proxydetails": {"task_id": document["id"], "host": spool.host}}
    )
    deadline = time.monotonic() + 30
    while not backend.ready(proxy):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert backend.successful(proxy)
    assert stranger.poll() is None
