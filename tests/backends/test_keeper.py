"""The keeper, held against an engine that does and says what a test wants: what is done once, and by whom."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest
from specs import command_spec, constant
from waiting import until

from packtivity import claims, lease, record
from packtivity.backends.document import DocumentBackend
from packtivity.backends.engine import Engine, Limits, Native
from packtivity.backends.proxies import TaskProxy
from packtivity.backends.status import DELIVERIES, Decision
from packtivity.backends.task_files import TaskFiles
from packtivity.errors import BackendError, ProxyError
from packtivity.statecontexts import LocalFSState
from packtivity.worker import run_envelope

pytestmark = pytest.mark.usefixtures("own_records")

SPEC = command_spec("echo >> ran", constant({"a": 1}))


class Scripted(Engine):
    """Takes everything, runs nothing by itself, and says what it is told to say."""

    name, interval = "scripted", 0.0
    limits = Limits(arrival=0.0, lag=0.05, begin=0.2, patience=0.2)

    def __init__(self):
        self.said = Native("waiting")
        self.given, self.killed, self.looks = [], [], 0
        self.refuse = set()

    def place(self):
        return "here"

    def submit(self, envelopes):
        if "all" in self.refuse:
            raise BackendError("it is closed")
        taken = []
        for number, envelope in enumerate(envelopes):
            self.given.append(envelope)
            taken.append(BackendError("it is full") if number in self.refuse else f"handle {len(self.given)}")
        return taken

    def look(self, submissions):
        self.looks += 1
        self.submissions = submissions
        return [self.said] * len(submissions)

    def kill(self, submissions):
        self.killed += [each.id for each in submissions]


class Proxy(TaskProxy):
    name, place_name = "ScriptedProxy", "where"


class Backend(DocumentBackend[Proxy]):
    proxy_class = Proxy


@pytest.fixture
def backend():
    return Backend(Scripted())


@pytest.fixture
def node(tmp_path):
    """Make what is submitted: a task with a directory of its own."""

    def make(name="work"):
        state = LocalFSState([str(tmp_path / name)])
        state.ensure()
        return SPEC, {}, state, {"name": "task"}

    return make


def again(proxy):
    """The same proxy in another program."""
    return Proxy.fromJSON(json.loads(json.dumps(proxy.json())))


def files_in(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run(backend, number=-1):
    return run_envelope(json.loads(json.dumps(backend.engine.given[number].to_json())))


def test_a_task_is_over_when_its_record_is_there_whatever_the_engine_says(backend, node, tmp_path):
    proxy = backend.submit(*node())
    for said in ("waiting", "running", "away"):
        backend.engine.said = Native(said)
        assert not backend.ready(proxy)
    run(backend)
    backend.engine.said = Native("running")
    assert backend.result(again(proxy)).json() == {"a": 1}
    assert (tmp_path / "work" / "ran").read_text() == "\n"


def test_how_a_task_went_is_known_when_its_directory_is_not_there_any_more(backend, node, tmp_path):
    proxy = backend.submit(*node())
    run(backend)
    assert backend.ready(proxy)
    (tmp_path / "work").rename(tmp_path / "archive")
    backend.engine.said = Native("gone")
    assert backend.result(again(proxy)).json() == {"a": 1}
    assert len(backend.engine.given) == 1


def test_nothing_of_a_task_is_kept_when_it_is_over_but_how_it_went(backend, node, tmp_path):
    spec, _, state, metadata = node()
    proxy = backend.submit(spec, {"password": "hunter22!"}, state, metadata)
    (tmp_path / "state" / "tasks" / f"{proxy.task_id}.json").read_text().index("hunter22!")
    run(backend)
    backend.ready(proxy)
    kept = [path for path in (tmp_path / "state" / "tasks").iterdir() if path.name.startswith(proxy.task_id)]
    assert [path.name for path in kept] == [f"{proxy.task_id}.over"]
    assert "hunter22!" not in kept[0].read_text()
    assert kept[0].stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("said", ["gone", "ended"])
def test_a_task_that_its_engine_has_lost_is_given_to_it_again_from_the_owner_s_document(backend, node, said):
    proxy = backend.submit(*node())
    backend.engine.said = Native(said)
    until(lambda: backend.ready(proxy) or len(backend.engine.given) == 2)
    assert backend.engine.given[0].to_json() == backend.engine.given[1].to_json()
    backend.engine.said = Native("waiting")
    assert backend.status(proxy).status == "waiting"
    assert (backend.engine.submissions[0].deliveries, backend.engine.submissions[0].handle) == (2, "handle 2")
    run(backend)
    assert backend.result(proxy).json() == {"a": 1}


def test_a_shell_loop_of_single_questions_knows_for_how_long_a_task_has_been_lost(backend, node):
    proxy = backend.submit(*node())
    backend.engine.said = Native("gone")
    for _ in range(8):
        other = Backend(backend.engine)
        other.status(again(proxy))
        time.sleep(0.03)
    assert len(backend.engine.given) >= 2


def test_what_looked_wrong_once_and_right_again_begins_anew(backend, node):
    proxy = backend.submit(*node())
    for said in ("gone", "waiting", "gone"):
        backend.engine.said = Native(said)
        backend.status(again(proxy))
        time.sleep(0.06)
    assert len(backend.engine.given) == 1


def test_programs_that_ask_at_the_same_time_give_a_lost_task_away_once(backend, node):
    proxy = backend.submit(*node())
    backend.engine.said = Native("gone")
    backend.engine.limits = replace(backend.engine.limits, arrival=0.5)
    time.sleep(0.5)

    def ask():
        mine, handle = Backend(backend.engine), again(proxy)
        for _ in range(12):
            mine.status(handle)
            time.sleep(0.02)

    askers = [threading.Thread(target=ask) for _ in range(6)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert len(backend.engine.given) == 2


def test_a_task_that_is_lost_again_and_again_fails_at_last(backend, node):
    proxy = backend.submit(*node())
    backend.engine.said = Native("gone")
    until(lambda: backend.ready(proxy), 30)
    assert backend.fail_info(proxy)[0] == "WorkerLost"
    assert len(backend.engine.given) == DELIVERIES
    run(backend)  # a delivery that comes late finds the record
    assert not os.path.exists(f"{os.path.dirname(os.path.dirname(proxy.record))}/ran")


def test_a_delivery_that_fails_is_not_counted(backend, node):
    proxy = backend.submit(*node())
    backend.engine.said, backend.engine.refuse = Native("gone"), {"all"}
    for _ in range(12):
        assert not backend.ready(proxy)
        time.sleep(0.02)
    backend.engine.refuse = set()
    until(lambda: backend.ready(proxy) or len(backend.engine.given) == 2)
    backend.engine.said = Native("waiting")
    backend.status(proxy)
    assert backend.engine.submissions[0].deliveries == 2


@pytest.mark.parametrize(
    ("cause", "kind"), [("timeout", "TaskTimeout"), ("memory", "WorkerLost"), ("refused", "EnvironmentUnavailable")]
)
def test_a_task_that_its_engine_has_ended_fails_with_the_cause_and_is_not_run_again(backend, node, cause, kind):
    proxy = backend.submit(*node())
    backend.engine.said = Native("ended", "says the engine", cause=cause)
    until(lambda: backend.ready(proxy))
    assert backend.fail_info(proxy)[0] == kind
    assert "says the engine" in backend.fail_info(proxy)[1]
    assert record.read_outcome(proxy.record)["error"]["type"] == kind
    assert len(backend.engine.given) == 1


def test_a_task_is_not_concluded_while_somebody_has_its_lock(backend, node):
    proxy = backend.submit(*node())
    claim = TaskFiles().read(proxy.task_id).claim
    held = lease.take(claim)
    held.write({"id": proxy.task_id, "attempts": 1})
    backend.engine.said = Native("ended", cause="timeout")
    backend.engine.limits = replace(backend.engine.limits, revives=False)
    for _ in range(5):
        assert backend.status(proxy).status == "running"
        time.sleep(0.03)
    held.give_back()
    until(lambda: backend.ready(proxy))


WORKER = "import json, sys; from packtivity.worker import run_envelope; run_envelope(json.load(sys.stdin))"


def test_what_an_engine_has_ended_is_not_run_again_because_something_of_it_lives_on(backend, node, tmp_path):
    spec, _, state, metadata = node()
    slow = {**spec, "process": {**spec["process"], "cmd": "touch begun; sleep 60"}}
    proxy = backend.submit(slow, {}, state, metadata)
    claim = TaskFiles().read(proxy.task_id).claim
    worker = subprocess.Popen([sys.executable, "-c", WORKER], stdin=subprocess.PIPE, text=True)
    worker.stdin.write(json.dumps(backend.engine.given[0].to_json()))
    worker.stdin.close()
    until((tmp_path / "work" / "begun").exists)
    worker.kill()
    worker.wait()
    assert claims.is_held(claim)
    backend.engine.said = Native("ended", cause="cancel")
    until(lambda: backend.ready(proxy))
    assert backend.status(proxy).status == "cancelled"
    assert not claims.is_held(claim)
    assert len(backend.engine.given) == 1


def test_a_task_is_not_concluded_without_the_lock_that_another_submission_has_got_meanwhile(backend, node):
    proxy = backend.submit(*node())
    assert not backend.ready(proxy)
    entry = TaskFiles().read(proxy.task_id)
    held = lease.take(entry.claim)
    held.write({"id": "another", "attempts": 1})
    backend.keeper._conclude(proxy.known, entry, Decision("15", "lost", ("conclude",), "lost"))
    assert record.read_outcome(proxy.record) is None
    held.give_back()
    backend.keeper._conclude(proxy.known, entry, Decision("15", "lost", ("conclude",), "lost"))
    assert record.read_outcome(proxy.record)["status"] == "failed"


def test_an_engine_that_is_away_is_waited_for_and_then_said_to_be(backend, node):
    proxy = backend.submit(*node())
    backend.engine.said = Native("away", "nobody answers", "Start it.")
    assert backend.status(proxy).status == "unclear"
    assert backend.status(proxy).reason == "nobody answers"
    time.sleep(0.25)
    with pytest.raises(BackendError, match=r"nobody answers\n  Start it."):
        backend.status(proxy)
    assert Backend(backend.engine).status(again(proxy)).status == "unclear"  # another program has patience of its own


def test_a_task_that_its_engine_never_had_is_unknown(backend, node):
    proxy = backend.submit(*node())
    backend.engine.said = Native("unknown", "it is in another cluster", "Name that.")
    with pytest.raises(ProxyError, match=r"it is in another cluster\n  Name that."):
        backend.status(proxy)
    assert len(backend.engine.given) == 1


# --- submitting ------------------------------------------------------------------------------------------------


def test_nothing_is_left_of_tasks_that_the_engine_does_not_take(backend, node, tmp_path):
    backend.engine.refuse = {"all"}
    with pytest.raises(BackendError, match="closed"):
        backend.batch_submit([node("a"), node("b")])
    assert not list((tmp_path / "state" / "tasks").glob("*-*"))
    assert not list(tmp_path.rglob("*.cancel"))


def test_when_one_of_many_is_not_taken_none_of_them_runs(backend, node, tmp_path):
    backend.engine.refuse = {1}
    with pytest.raises(BackendError, match="full"):
        backend.batch_submit([node("a"), node("b"), node("c")])
    assert backend.engine.killed == [backend.engine.given[0].id, backend.engine.given[2].id]
    for number in (0, 2):
        assert run(backend, number)["status"] == "cancelled"
    assert not list(tmp_path.glob("*/ran"))


# --- cancelling ------------------------------------------------------------------------------------------------


def test_a_task_that_has_not_begun_is_cancelled_at_once_and_never_begins(backend, node, tmp_path):
    proxy = backend.submit(*node())
    backend.cancel(again(proxy))
    assert backend.status(proxy).status == "cancelled"
    assert backend.engine.killed == [proxy.task_id]
    assert run(backend)["status"] == "cancelled"
    assert not (tmp_path / "work" / "ran").exists()
    assert record.read_outcome(proxy.record)["status"] == "cancelled"
    assert not list((tmp_path / "work" / "_packtivity").glob("*.cancel"))


def test_a_task_that_waits_for_another_run_of_itself_is_cancelled_at_once(backend, node):
    proxy = backend.submit(*node())
    held = lease.take(TaskFiles().read(proxy.task_id).claim)
    held.write({"id": "another", "attempts": 1})
    assert backend.status(proxy).reason == "another run of the same task has to end first"
    backend.cancel(proxy)
    assert backend.status(proxy).status == "cancelled"
    held.give_back()
    assert run(backend)["status"] == "cancelled"


def test_a_running_task_is_ended_by_its_runner(backend, node, tmp_path):
    spec, _, state, metadata = node()
    slow = {**spec, "process": {**spec["process"], "cmd": "touch begun; sleep 60"}}
    proxy = backend.submit(slow, {}, state, metadata)
    backend.engine.said = Native("running")
    worker = threading.Thread(target=run, args=(backend,))
    worker.start()
    until((tmp_path / "work" / "begun").exists)
    assert backend.status(proxy).status == "running"
    backend.cancel(proxy)
    worker.join(10)
    assert backend.status(proxy).status == "cancelled"


def test_a_task_that_is_over_stays_as_it_was(backend, node):
    proxy = backend.submit(*node())
    run(backend)
    backend.cancel(again(proxy))
    assert backend.status(proxy).status == "succeeded"


def test_what_another_submission_has_left_stays_for_its_next_runner(backend, node):
    proxy = backend.submit(*node())
    claim = TaskFiles().read(proxy.task_id).claim
    with open(claim, "w", encoding="utf-8") as file:
        json.dump({"id": "another", "attempts": 2}, file)
    backend.cancel(proxy)
    assert backend.status(proxy).status == "cancelled"
    assert claims.read(claim) == {"id": "another", "attempts": 2}


# --- strangers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", ["waiting", "running", "gone", "ended", "away", "unknown"])
@pytest.mark.parametrize("left", [False, True])
def test_whoever_is_not_the_owner_changes_nothing(backend, node, tmp_path, monkeypatch, said, left):
    proxy = backend.submit(*node())
    if left:
        with open(TaskFiles().read(proxy.task_id).claim, "w", encoding="utf-8") as file:
            json.dump({"id": proxy.task_id, "attempts": 1}, file)
    monkeypatch.setenv("PACKTIVITY_STATE_DIR", str(tmp_path / "stranger"))
    before = files_in(tmp_path)
    backend.engine.said = Native(said)
    handle = again(proxy)
    for _ in range(4):
        Backend(backend.engine).statuses([handle])
        time.sleep(0.06)
    with pytest.raises((BackendError, ProxyError)):
        Backend(backend.engine).cancel(handle)
    assert files_in(tmp_path) == before
    assert (len(backend.engine.given), backend.engine.killed) == (1, [])


def test_a_proxy_says_where_a_task_is_and_that_is_only_used_by_who_has_no_document_of_it(backend, node, tmp_path):
    proxy = backend.submit(*node())
    document = json.loads(json.dumps(proxy.json()))
    other = str(tmp_path / "elsewhere" / f"task.{proxy.task_id}.outcome.json")
    document["proxydetails"].update(record=other, where="nowhere")
    backend.engine.said = Native("gone")
    forged = Proxy.fromJSON(document)
    until(lambda: backend.ready(forged) or len(backend.engine.given) == 2)
    assert backend.engine.submissions[0].place == "here"
    backend.cancel(forged)
    assert not (tmp_path / "elsewhere").exists()


def test_a_stranger_is_told_how_a_task_went(backend, node, tmp_path, monkeypatch):
    proxy = backend.submit(*node())
    run(backend)
    monkeypatch.setenv("PACKTIVITY_STATE_DIR", str(tmp_path / "stranger"))
    before = files_in(tmp_path)
    assert backend.result(again(proxy)).json() == {"a": 1}
    assert files_in(tmp_path) == before


class Batch(Scripted):
    """Says of a submission that was killed what batch systems say: it was cancelled."""

    def kill(self, submissions):
        super().kill(submissions)
        self.dead = {each.handle for each in submissions}

    def look(self, submissions):
        dead = getattr(self, "dead", set())
        ended = Native("ended", "killed", cause="cancel")
        return [ended if each.handle in dead else self.said for each in submissions]


def test_a_submission_that_is_not_believed_is_killed_and_its_task_is_not_called_cancelled(node, tmp_path):
    backend = Backend(Batch())
    backend.engine.said = Native("running")
    proxy = backend.submit(*node())
    until(lambda: not backend.ready(proxy) and len(backend.engine.given) == 2)
    assert backend.engine.killed == [proxy.task_id]
    assert backend.status(proxy).status == "running"
    run(backend)
    assert backend.result(proxy).json() == {"a": 1}
