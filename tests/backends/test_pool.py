"""The pool of worker processes: tasks sent ahead, taken back, cancelled, and workers killed with several of them."""

from __future__ import annotations

import gc
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from specs import command_spec, constant
from waiting import until

from packtivity import record
from packtivity.backends.engines.multiproc import MultiProcBackend
from packtivity.backends.pool import Pool
from packtivity.statecontexts import LocalFSState

if TYPE_CHECKING:
    from pathlib import Path


def spec(cmd):
    return command_spec(cmd, constant({"a": 1}))


TRIVIAL = "echo >> ran"


class Tasks:
    """A pool, and one directory for each task."""

    def __init__(self, root: Path, size: int) -> None:
        self.root, self.pool, self._documents = root, Pool(size), MultiProcBackend(size)
        self.jobs = []

    def submit(self, cmd: str):
        state = LocalFSState([str(self.root / str(len(self.jobs)))])
        state.ensure()
        self.jobs.append(self.pool.submit(self._documents.document(spec(cmd), {}, state, {"name": "t"})))
        return self.jobs[-1]

    def folder(self, job) -> Path:
        return self.root / str(self.jobs.index(job))

    def ran(self, job) -> int:
        """How often it has run."""
        file = self.folder(job) / "ran"
        return len(file.read_text().splitlines()) if file.exists() else 0

    def warm(self) -> None:
        """See that the workers are there and their last tasks were short."""
        for _ in range(3):
            for job in [self.submit("true") for _ in range(8)]:
                job.future.result(30)

    def loaded(self):
        """A worker that has something ahead."""
        return next((worker for worker in list(self.pool._busy) if len(worker.jobs) > 1), None)

    def behind_a_long_one(self, cmd: str, count: int = 3):
        """A worker that runs a long task and has short ones ahead: the worker, the long one, the short ones."""
        for _ in range(50):
            self.warm()
            long = self.submit(cmd)
            short = [self.submit(TRIVIAL) for _ in range(count)]
            time.sleep(0.05)
            worker = self.loaded()
            if worker is not None and worker.jobs[0] is long:
                return worker, long, short
            for job in (long, *short):
                job.cancel()
                job.future.result(30)
        raise AssertionError("nothing was ever sent ahead")


@pytest.fixture
def tasks(tmp_path):
    made = []

    def make(size):
        made.append(Tasks(tmp_path, size))
        return made[-1]

    yield make
    for each in made:
        each.pool.close()
    gc.collect()


def test_short_tasks_are_sent_ahead_and_long_ones_are_not(tasks):
    here = tasks(1)
    most = 0
    for job in [here.submit("true") for _ in range(60)]:
        worker = here.loaded()
        most = max(most, len(worker.jobs) if worker else 0)
        job.future.result(30)
    assert 1 < most <= 4
    slow = [here.submit("sleep 0.08") for _ in range(6)]
    slow[2].future.result(30)
    until(lambda: len(next(iter(here.pool._busy)).jobs) == 1)
    for job in slow:
        job.future.result(30)


def test_what_is_behind_a_long_task_is_taken_back_when_another_worker_has_nothing_to_do(tasks):
    here = tasks(2)
    for _ in range(10):
        here.warm()
        long = here.submit("sleep 4")
        short = [here.submit(TRIVIAL) for _ in range(7)]
        began = time.monotonic()
        for job in short:
            assert job.future.result(30)["status"] == "succeeded"
        assert time.monotonic() - began < 3
        assert not long.future.done()
        long.cancel()
        assert long.future.result(30)["status"] == "cancelled"
        assert [here.ran(job) for job in short] == [1] * 7


def test_a_task_that_was_sent_ahead_can_be_cancelled_and_the_others_go_on(tasks):
    here = tasks(1)
    worker, long, short = here.behind_a_long_one("sleep 0.5; echo >> ran")
    ahead = worker.jobs[1]
    ahead.cancel()
    assert ahead.future.result(30)["status"] == "cancelled"
    assert not long.future.done()
    others = [job for job in (long, *short) if job is not ahead]
    assert [job.future.result(30)["status"] for job in others] == ["succeeded"] * 3
    assert here.ran(ahead) == 0
    assert [here.ran(job) for job in others] == [1, 1, 1]


def test_cancelling_the_running_task_lets_what_is_ahead_run(tasks):
    here = tasks(1)
    _, long, short = here.behind_a_long_one("sleep 30; echo >> ran")
    long.cancel()
    assert long.future.result(30)["status"] == "cancelled"
    assert [job.future.result(30)["status"] for job in short] == ["succeeded"] * 3
    assert here.ran(long) == 0


def test_a_waiting_task_is_cancelled_at_once(tasks):
    here = tasks(1)
    long = here.submit("sleep 30")
    waiting = here.submit(TRIVIAL)
    waiting.cancel()
    assert waiting.future.done()
    long.cancel()
    assert long.future.result(30)["status"] == "cancelled"
    assert here.submit(TRIVIAL).future.result(30)["status"] == "succeeded"
    assert here.ran(waiting) == 0


def test_whatever_is_cancelled_at_any_moment_gets_one_answer(tasks):
    here = tasks(2)
    chance = random.Random(5)
    for _ in range(6):
        jobs = [here.submit(TRIVIAL) for _ in range(30)]
        for job in chance.sample(jobs, 20):
            job.cancel()
            time.sleep(chance.uniform(0, 0.003))
        for job in jobs:
            status = job.future.result(30)["status"]
            assert status in ("succeeded", "cancelled")
            assert here.ran(job) <= 1
            if status == "succeeded":
                assert here.ran(job) == 1


def test_only_the_running_task_of_a_killed_worker_counts_an_attempt(tasks):
    here = tasks(1)
    worker, long, short = here.behind_a_long_one("[ -e again ] || (touch again; sleep 20) && echo >> ran")
    until(lambda: list(here.folder(long).glob("_packtivity/*.state.json")))
    os.kill(worker._process.pid, signal.SIGKILL)
    assert [job.future.result(30)["status"] for job in (long, *short)] == ["succeeded"] * 4
    assert [job.attempts for job in (long, *short)] == [1, 0, 0, 0]
    written = record.read_outcome(str(here.folder(long) / "_packtivity" / "t.outcome.json"))
    assert written["attempts"] == 2
    assert [here.ran(job) for job in (long, *short)] == [1] * 4


def test_a_task_that_kills_its_workers_fails_and_costs_nobody_elses(tasks):
    here = tasks(2)
    here.warm()
    jobs = [here.submit("kill -9 $PPID; sleep 5" if number == 7 else TRIVIAL) for number in range(20)]
    poison = jobs.pop(7)
    assert [job.future.result(60)["status"] for job in jobs] == ["succeeded"] * 19
    assert poison.future.result(60)["error"]["type"] == "WorkerLost"
    assert [here.ran(job) for job in jobs] == [1] * 19


@pytest.mark.parametrize(
    ("count", "kills"), [pytest.param(150, 15, id="sample"), pytest.param(3000, 250, id="soak", marks=pytest.mark.soak)]
)
def test_workers_killed_among_short_tasks_lose_and_double_nothing(tasks, count, kills):
    here = tasks(2)
    # the lock goes with the process, so what finds it taken runs beside another run of the same task
    cmd = "exec 9>busy; flock -n 9 || echo >> twice; sleep 0.005; echo >> ran"
    jobs = [here.submit(cmd) for _ in range(count)]
    chance = random.Random(7)
    for _ in range(kills):
        with here.pool._lock:
            living = [worker._process.pid for worker in here.pool._busy]
        if living:
            with suppress(ProcessLookupError):
                os.kill(chance.choice(living), signal.SIGKILL)
        time.sleep(chance.uniform(0, 0.08))
    for job in jobs:
        answer = job.future.result(120)
        # a worker that is hit before its child has become the shell takes the child along
        assert answer["status"] == "succeeded" or answer["error"]["type"] in ("WorkerLost", "TaskFailed"), answer
        assert not (here.folder(job) / "twice").exists()
        if answer["status"] == "succeeded":
            assert here.ran(job) >= 1
            found = record.read_outcome(answer["record"])
            assert (found["status"], found["exit_code"]) == ("succeeded", 0)


CLIENT = """
import json, os, sys, time
from packtivity.backends.engines.multiproc import MultiProcBackend
from packtivity.statecontexts import LocalFSState
backend, spec = MultiProcBackend(1), json.loads(sys.argv[2])
def submit(number, cmd):
    state = LocalFSState([f"{sys.argv[1]}/{number}"])
    state.ensure()
    return backend.submit({**spec, "process": {**spec["process"], "cmd": cmd}}, {}, state, {"name": "t"})
for turn in range(1000):
    for proxy in [submit("warm", "true") for _ in range(8)]:
        backend.result(proxy)
    long = submit(f"{turn}/long", "sleep 20; echo >> ran")
    short = [submit(f"{turn}/short{n}", "echo >> ran") for n in range(3)]
    time.sleep(0.1)
    if any(len(worker.jobs) > 1 and worker.jobs[0] is long.job for worker in backend.engine.pool._busy):
        break
    for proxy in (long, *short):
        backend.cancel(proxy)
        proxy.job.future.result()
with open(sys.argv[1] + "/proxies.new", "w") as file:
    json.dump([turn, [proxy.json() for proxy in (long, *short)]], file)
os.rename(sys.argv[1] + "/proxies.new", sys.argv[1] + "/proxies")
"""


def test_nothing_that_was_sent_ahead_begins_once_the_client_is_killed(tmp_path):
    from packtivity.backendutils import load_proxy

    client = subprocess.Popen([sys.executable, "-c", CLIENT, str(tmp_path), json.dumps(spec("true"))])
    try:
        until((tmp_path / "proxies").exists)
    finally:
        client.kill()
        client.wait()
    turn, documents = json.loads((tmp_path / "proxies").read_text())
    for document in documents:
        proxy, backend = load_proxy(document)
        until(lambda backend=backend, proxy=proxy: backend.ready(proxy))
        assert backend.fail_info(proxy)[0] == "WorkerLost"
    time.sleep(0.3)
    assert not list((tmp_path / str(turn)).glob("short*/_packtivity/*"))
    assert not list((tmp_path / str(turn)).glob("*/ran"))


def test_a_pool_that_is_given_to_many_threads_answers_each_of_them(tasks):
    here = tasks(2)
    found = []

    def give(number):
        state = LocalFSState([str(here.root / f"thread{number}")])
        state.ensure()
        for _ in range(10):
            job = here.pool.submit(here._documents.document(spec("true"), {}, state, {"name": f"t{number}"}))
            found.append(job.future.result(60)["status"])

    threads = [threading.Thread(target=give, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    assert found == ["succeeded"] * 60


def test_a_worker_that_cannot_be_started_is_an_error_of_the_task(tasks, monkeypatch):
    from packtivity.errors import EnvironmentUnavailable

    here = tasks(1)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(EnvironmentUnavailable, match="worker cannot be started"):
        here.submit("true").future.result(10)
    monkeypatch.undo()
    assert here.submit("true").future.result(30)["status"] == "succeeded"


def test_a_second_worker_that_cannot_be_started_leaves_all_tasks_to_the_first(tasks, monkeypatch):
    here = tasks(2)
    first = here.submit("while ! test -e go; do sleep 0.05; done")
    until(lambda: here.folder(first).joinpath("_packtivity").exists())
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    others = [here.submit(TRIVIAL) for _ in range(3)]
    until(lambda: here.pool._talking == 1)
    monkeypatch.undo()
    here.folder(first).joinpath("go").touch()
    assert {job.future.result(30)["status"] for job in others} == {"succeeded"}
