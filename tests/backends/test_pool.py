"""The pool of worker processes: tasks in order, cancelled, and workers killed with them."""

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

    def behind_a_long_one(self, cmd: str, count: int = 3):
        """The worker that runs a long task, the long task, and the short ones that wait behind it."""
        self.warm()
        long = self.submit(cmd)
        short = [self.submit(TRIVIAL) for _ in range(count)]
        until(lambda: list(self.folder(long).glob("_packtivity/*.state.json")))
        return long._worker, long, short


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


def test_what_comes_after_a_long_task_is_run_by_another_worker(tasks):
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


def test_a_task_that_waits_can_be_cancelled_and_the_others_go_on(tasks):
    here = tasks(1)
    _, long, short = here.behind_a_long_one("until test -e go; do sleep 0.05; done; echo >> ran")
    waiting = short[0]
    waiting.cancel()
    assert waiting.future.result(30)["status"] == "cancelled"
    assert not long.future.done()
    here.folder(long).joinpath("go").touch()
    others = [job for job in (long, *short) if job is not waiting]
    assert [job.future.result(30)["status"] for job in others] == ["succeeded"] * 3
    assert here.ran(waiting) == 0
    assert [here.ran(job) for job in others] == [1, 1, 1]


def test_cancelling_the_running_task_lets_those_that_wait_run(tasks):
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
        workers = [job._worker for job in here.pool._jobs()]
        living = [worker._process.pid for worker in workers if worker is not None]
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
for proxy in [submit("warm", "true") for _ in range(8)]:
    backend.result(proxy)
tasks = [submit("long", "sleep 20; echo >> ran"), *(submit(f"short{n}", "echo >> ran") for n in range(3))]
while not os.path.exists(sys.argv[1] + "/long/_packtivity"):
    time.sleep(0.01)
with open(sys.argv[1] + "/proxies.new", "w") as file:
    json.dump([proxy.json() for proxy in tasks], file)
os.rename(sys.argv[1] + "/proxies.new", sys.argv[1] + "/proxies")
"""


def test_nothing_that_waits_begins_once_the_client_is_killed(tmp_path):
    from packtivity.backendutils import load_proxy

    client = subprocess.Popen([sys.executable, "-c", CLIENT, str(tmp_path), json.dumps(spec("true"))])
    try:
        until((tmp_path / "proxies").exists)
    finally:
        client.kill()
        client.wait()
    for document in json.loads((tmp_path / "proxies").read_text()):
        proxy, backend = load_proxy(document)
        until(lambda backend=backend, proxy=proxy: backend.ready(proxy))
        assert backend.fail_info(proxy)[0] == "WorkerLost"
    assert not list(tmp_path.glob("short*/_packtivity/*"))
    assert not list(tmp_path.glob("*/ran"))


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
    until(lambda: first.is_given)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    others = [here.submit(TRIVIAL) for _ in range(3)]
    until(lambda: here.pool._changed._waiters)  # the thread that could not start one waits for the first
    monkeypatch.undo()
    here.folder(first).joinpath("go").touch()
    assert {job.future.result(30)["status"] for job in others} == {"succeeded"}
