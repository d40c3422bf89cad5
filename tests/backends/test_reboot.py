"""Everything of ours killed at a random moment, as when the machine stops: what is said afterwards is true."""

from __future__ import annotations

import json
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import jsonschema
import pytest
from arena import TASK, Arena
from waiting import until

from packtivity import claims, record, runners
from packtivity.backends.engines.local import Queue
from packtivity.backends.task_files import TaskFiles
from packtivity.backendutils import backend_from_string, load_proxy
from packtivity.errors import ProxyError
from packtivity.statecontexts import LocalFSState
from packtivity.syncbackends import defaultsyncbackend
from packtivity.task import Task
from packtivity.worker import answer


class Machine(Arena):
    """Where everything is killed at once, so that nothing is left to say how a command ended."""

    def judge(self, number, status, error):
        super().judge(number, status, error)
        if status == "succeeded":
            found = record.read_outcome(str(self.root / str(number) / "_packtivity" / "task.outcome.json"))
            jsonschema.Draft4Validator(record.schema()).validate(found)
        else:
            assert error["type"] == "WorkerLost"

    def told(self):
        """Ask for every task that has a proxy until it is over, judge what is said and count it."""
        found = {"succeeded": 0, "failed": 0}
        for number, document in self.proxies().items():
            proxy, backend = load_proxy(document)
            until(lambda proxy=proxy, backend=backend: backend.ready(proxy), 60)
            status = "succeeded" if backend.successful(proxy) else "failed"
            kind, message = backend.fail_info(proxy) or ("", "")
            self.judge(number, status, {"type": kind, "message": message})
            found[status] += 1
        return found

    def run_again_what_was_cut_off(self):
        for folder in (path for path in self.root.iterdir() if path.name.isdigit()):
            left = list((folder / "_packtivity").glob("*.state.json")) if (folder / "_packtivity").is_dir() else []
            assert not any(claims.is_held(str(path)) for path in left)
            if (self.root / f"{folder.name}.proxy").exists():
                continue
            given = {"seconds": 0, "n": int(folder.name), "out": "{workdir}/out"}
            defaultsyncbackend().run(TASK, given, LocalFSState([str(folder)]), {"name": "task"})
            self.judge(int(folder.name), "succeeded", None)


@pytest.mark.parametrize("rounds", [pytest.param(2, id="sample"), pytest.param(25, id="soak", marks=pytest.mark.soak)])
@pytest.mark.parametrize("name", ["local:2", "multiproc:2", "foregroundasync"])
def test_what_is_said_after_the_machine_has_stopped_is_true(tmp_path, monkeypatch, name, rounds):
    for turn in range(rounds):
        (tmp_path / str(turn)).mkdir()
        here = Machine(tmp_path / str(turn), f"{name} {turn}")
        monkeypatch.setenv("PACKTIVITY_STATE_DIR", here.environment["PACKTIVITY_STATE_DIR"])
        here.submitter(name, 10, longest=0.2)
        until(here.proxies)
        time.sleep(here.random.uniform(0, 1.2))
        here.kill_all()
        told = here.told()
        if name.startswith("local"):
            assert told["failed"] == 0
        if name == "foregroundasync":
            here.run_again_what_was_cut_off()


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
    genuine = runners.runner(stranger.pid)
    assert runners.is_alive(genuine) is True
    for change in ({"began": "1"}, {"boot": "another"}):
        assert runners.is_alive({**genuine, **change}) is False
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
    document = Task.of(TASK, {"seconds": 0, "n": 7, "out": "{workdir}/out"}, state, {"name": "task"}, id="a").to_json()
    runner = runners.runner(stranger.pid)
    key = record.task_key(TASK, document["parameters"], state)
    forged = {
        "status": "running",
        "id": "a",
        "attempts": 1,
        "runner": {**runner, **({"began": began} if began == "1" else {})},
    }
    Path(record.state_path(str(state.metadir), key)).write_text(json.dumps(forged))
    assert answer(document)["status"] == "succeeded"
    assert record.read_outcome(f"{state.metadir}/task.outcome.json")["attempts"] == 2
    assert stranger.poll() is None


def test_a_supervisor_s_number_given_to_somebody_else_does_not_hold_up_its_tasks(tmp_path, monkeypatch, stranger):
    """Locks tell who is there, numbers do not: what a supervisor before the stop had begun is begun again."""
    monkeypatch.setenv("PACKTIVITY_STATE_DIR", str(tmp_path / "state"))
    _, backend = backend_from_string("local:2")
    state = LocalFSState([str(tmp_path / "work")])
    state.ensure()
    queue, files = Queue(), TaskFiles()
    queue.prepare()
    entry = backend.entry(TASK, {"seconds": 0, "n": 1, "out": "{workdir}/out"}, state, {"name": "task"})
    files.write([entry], sync=True)
    queue.add(entry.id)
    Path(queue.root, "supervisor").write_text(str(stranger.pid))
    proxy, backend = load_proxy({"proxyname": "LocalProxy", "proxydetails": {"task_id": entry.id, "host": queue.host}})
    until(lambda: backend.ready(proxy))
    assert backend.successful(proxy)
    assert stranger.poll() is None
