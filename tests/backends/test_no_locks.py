"""A file system without locks (a library makes ``flock`` fail as Lustre's does): a task still never runs twice at once."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest
from preloads import preloadable
from specs import command_spec, constant
from waiting import until

from packtivity import claims, record
from packtivity.runtimes.cancellation import Heartbeat
from packtivity.statecontexts import LocalFSState
from packtivity.task import Task

if TYPE_CHECKING:
    from pathlib import Path

NO_FLOCK = """
#include <errno.h>
int flock(int descriptor, int operation) { errno = ENOSYS; return -1; }
"""

RUNNER = """
import json, sys
from packtivity import claims
claims.BEAT, claims.LOST, claims.STALE, claims.SETTLE = 0.1, 0.6, 1.5, 0.3
from packtivity.worker import run_envelope
with open(sys.argv[1]) as file:
    print(json.dumps(run_envelope({"task": json.load(file)})))
"""

ASKER = """
import sys, time
from packtivity import claims
from packtivity.backends import task_files
claims.STALE = 1.0
while True:
    print(task_files.lock_of(sys.argv[1], sys.argv[2])[0], flush=True)
    time.sleep(0.1)
"""


@pytest.fixture(scope="session")
def preload(tmp_path_factory):
    """Return the environment of a process on a file system without locks."""
    library = preloadable(tmp_path_factory.mktemp("preload"), "noflock", NO_FLOCK)
    return {**os.environ, "LD_PRELOAD": library}


class Place:
    """A work directory, and runners that work in it."""

    def __init__(self, root: Path, environ: dict[str, str]) -> None:
        self.root, self.environ = root, {**environ, "PACKTIVITY_STATE_DIR": str(root / "state")}
        self.environ["PACKTIVITY_LOGGING_STREAM_LEVEL"] = "CRITICAL"
        self.state = LocalFSState([str(root / "work")])
        self.state.ensure()
        self.work = root / "work"
        self.started: list[subprocess.Popen[str]] = []

    def document(self, task_id: str, cmd: str) -> Path:
        spec = command_spec(cmd, constant({"a": 1}))
        path = self.root / f"{task_id}.json"
        path.write_text(json.dumps(Task.of(spec, {}, self.state, {"name": "task"}, id=task_id).to_json()))
        return path

    def run(self, document: Path) -> subprocess.Popen[str]:
        argv = [sys.executable, "-c", RUNNER, str(document)]
        runner = subprocess.Popen(argv, stdout=subprocess.PIPE, env=self.environ, text=True)
        self.started.append(runner)
        return runner

    def claim(self) -> Path:
        (found,) = (self.work / "_packtivity").glob("*.state.json")
        return found

    def record(self, task_id: str):
        return record.read_outcome(record.record_path(self.state.metadir, {"name": "task"}, task_id))


@pytest.fixture
def place(tmp_path, preload):
    made = Place(tmp_path, preload)
    yield made
    for runner in made.started:
        runner.kill()
        runner.communicate()


def answered(runner):
    return json.loads(runner.communicate(timeout=60)[0])


ALONE = "mkdir alone && echo >> runs && sleep {seconds} && rmdir alone"


def test_the_same_submission_delivered_many_times_at_once_runs_once(place):
    document = place.document("one", ALONE.format(seconds=1))
    runners = [place.run(document) for _ in range(4)]
    assert {answered(runner)["status"] for runner in runners} == {"succeeded"}
    assert (place.work / "runs").read_text() == "\n"
    assert not list((place.work / "_packtivity").glob("*.state.json"))


def test_submissions_of_the_same_task_run_one_after_the_other_for_longer_than_a_claim_becomes_stale(place):
    cmd = ALONE.format(seconds=2)
    runners = [place.run(place.document(f"n{number}", cmd)) for number in range(3)]
    assert {answered(runner)["status"] for runner in runners} == {"succeeded"}
    assert (place.work / "runs").read_text() == "\n\n\n"


def test_a_killed_runner_s_task_is_ended_and_taken_over_when_its_claim_is_stale_by_one_of_many(place):
    first = "touch begun; while test -e begun; do date +%s%N > last; sleep 0.05; done"
    document = place.document(
        "one", f"if mkdir first; then {first}; fi; {ALONE.format(seconds=0.2)}; date +%s%N > after"
    )
    runner = place.run(document)
    until((place.work / "begun").exists)
    runner.kill()
    killed = time.monotonic()
    others = [place.run(document) for _ in range(3)]
    assert {answered(each)["status"] for each in others} == {"succeeded"}
    assert time.monotonic() - killed > 1.5
    assert (place.work / "runs").read_text() == "\n"
    assert place.record("one")["attempts"] == 2
    assert int((place.work / "last").read_text()) < int((place.work / "after").read_text())
    last = (place.work / "last").read_text()
    time.sleep(0.3)
    assert (place.work / "last").read_text() == last


@pytest.mark.parametrize("loss", ["taken over", "removed", "a directory in its place"])
def test_a_runner_that_has_lost_its_claim_ends_its_task_and_writes_no_record(place, loss):
    document = place.document("one", "touch begun; while test -e begun; do date +%s%N > last; sleep 0.05; done")
    runner = place.run(document)
    until((place.work / "begun").exists)
    claim = place.claim()
    theirs = json.dumps({**json.loads(claim.read_text()), "token": "f" * 16})
    if loss == "taken over":
        claim.write_text(theirs)
    else:
        claim.unlink()
    if loss == "a directory in its place":
        claim.mkdir()
    assert answered(runner) == {"status": "waiting"}
    assert place.record("one") is None
    last = (place.work / "last").read_text()
    time.sleep(0.3)
    assert (place.work / "last").read_text() == last
    assert loss != "taken over" or claim.read_text() == theirs


def test_a_runner_that_was_stopped_for_long_finds_that_it_was_replaced(place):
    document = place.document("one", "echo >> runs; mkdir first && sleep 60; true")
    runner = place.run(document)
    until((place.work / "first").exists)
    runner.send_signal(signal.SIGSTOP)
    other = place.run(document)
    assert answered(other)["status"] == "succeeded"
    runner.send_signal(signal.SIGCONT)
    assert answered(runner)["status"] in ("succeeded", "waiting")
    assert place.record("one")["status"] == "succeeded"
    assert (place.work / "runs").read_text() == "\n\n"


def test_whoever_asks_knows_after_a_while_that_nobody_runs_a_task_any_more(place):
    document = place.document("one", "touch begun; sleep 60")
    runner = place.run(document)
    until((place.work / "begun").exists)
    argv = [sys.executable, "-c", ASKER, str(place.claim()), "one"]
    asker = subprocess.Popen(argv, stdout=subprocess.PIPE, env=place.environ, text=True)
    place.started.append(asker)
    words = [asker.stdout.readline().strip() for _ in range(15)]
    assert set(words) == {"mine"}
    runner.kill()
    assert asker.stdout.readline().strip() == "mine"
    until(lambda: asker.stdout.readline().strip() == "left")


def test_a_file_system_that_answers_no_more_does_not_keep_a_runner_from_ending_its_task(monkeypatch):
    monkeypatch.setattr(claims, "BEAT", 0.05)
    monkeypatch.setattr(claims, "LOST", 0.4)
    answers = threading.Event()
    beats = Heartbeat(answers.wait)
    try:
        began = time.monotonic()
        assert select.select([beats], [], [], 10)[0] == [beats]
        assert beats.lost
        assert time.monotonic() - began >= 0.3
    finally:
        beats.close()
        answers.set()
