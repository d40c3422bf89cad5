"""Tasks that run without a worker of ours: who owns one concludes it, whoever else asks works it out and writes nothing."""

from __future__ import annotations

import json
import threading

import pytest

from packtivity import errors, lease, record
from packtivity.backends.conclude import compute, finish
from packtivity.backends.document import DocumentBackend
from packtivity.backends.engine import Collected, Engine, Limits, Native
from packtivity.backends.proxies import HIDDEN, TaskProxy
from packtivity.backends.status import TaskStatus
from packtivity.backends.task_files import TaskFiles
from packtivity.statecontexts import LocalFSState
from packtivity.task import Task

pytestmark = pytest.mark.usefixtures("own_records")


def spec(**publisher):
    return {
        "process": {"process_type": "string-interpolated-cmd", "cmd": "true {api_token}"},
        "environment": {
            "environment_type": "docker-encapsulated",
            "image": "busybox",
            "imagetag": "1",
            "envscript": "",
        },
        "publisher": publisher or {"publisher_type": "constant-pub", "publish": {"a": 1}},
    }


class Bare(Engine):
    """An engine that runs commands and nothing else; it says and knows what a test wants."""

    name, interval = "bare", 0.0
    limits = Limits(arrival=0.0, lag=0.05, patience=0.0, collects=True)

    def __init__(self):
        self.said, self.collected = Native("running"), Collected(0)
        self.given, self.killed, self.forgotten = [], [], []

    def submit(self, envelopes):
        self.given += envelopes
        return [f"job {len(self.given)}"] * len(envelopes)

    def look(self, submissions):
        return [self.said] * len(submissions)

    def kill(self, submissions):
        self.killed += [each.handle for each in submissions]

    def collect(self, submission, task):
        if isinstance(self.collected, Exception):
            raise self.collected
        return self.collected

    def forget(self, submission, status):
        self.forgotten.append((submission.handle, status.status, status.record))


class Proxy(TaskProxy):
    name, place_name = "BareProxy", "where"
    document = None

    def task(self):
        return self.document and Task.from_json(self.document)


class Backend(DocumentBackend[Proxy]):
    proxy_class = Proxy


@pytest.fixture
def backend():
    return Backend(Bare())


@pytest.fixture
def submit(backend, tmp_path):
    def make(task=None, **parameters):
        state = LocalFSState([str(tmp_path / "work")])
        state.ensure()
        return backend.submit(task or spec(), {"api_token": "s3cr3t-value", **parameters}, state, {"name": "one"})

    return make


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    """Make the proxy that somebody else has, who has neither the owner's documents nor his key."""

    def make(proxy, document=None):
        monkeypatch.setenv("PACKTIVITY_STATE_DIR", str(tmp_path / "elsewhere"))
        again = Proxy.fromJSON(json.loads(json.dumps(proxy.json())))
        again.document = document
        return again

    return make


def files_in(folder):
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def test_the_owner_writes_log_and_record_of_what_has_ended_and_the_engine_forgets_it(backend, submit, tmp_path):
    proxy = submit()
    assert backend.status(proxy).status == "running"
    backend.engine.said = Native("ended")
    backend.engine.collected = Collected(
        0,
        started=1.0,
        ended=3.0,
        attempts=2,
        output=(b"be", b"gun\n", "a part is lost"),
        image=("busybox:1", "sha256:a"),
    )
    assert backend.status(proxy).status == "succeeded"
    assert backend.result(proxy).json() == {"a": 1}
    found = record.read_outcome(proxy.record)
    assert (found["status"], found["attempts"], found["seconds"], found["exit_code"]) == ("succeeded", 2, 2.0, 0)
    assert found["image"] == {"reference": "busybox:1", "digest": "sha256:a"}
    log = (tmp_path / "work" / "_packtivity" / "one.run.log").read_text()
    assert "| begun" in log
    assert "a part is lost" in log
    assert backend.engine.forgotten == [("job 1", "succeeded", proxy.record)]
    assert backend.engine.killed == []


@pytest.mark.parametrize(
    ("collected", "kind", "message"),
    [
        (Collected(3), errors.TaskFailed, "exit code 3"),
        (Collected(None, "lost", "the node was lost: Evicted"), errors.WorkerLost, "the node was lost: Evicted"),
        (Collected(None, "refused", "no such image"), errors.EnvironmentUnavailable, "no such image"),
        (Collected(137, "memory", "it ran out of memory"), errors.TaskFailed, "it ran out of memory"),
        (Collected(None, "timeout", timeout=5.0), errors.TaskTimeout, "longer than 5 s"),
    ],
)
def test_why_a_task_failed_stands_in_its_record(backend, submit, collected, kind, message):
    proxy = submit()
    backend.engine.said, backend.engine.collected = Native("ended"), collected
    with pytest.raises(kind, match=message):
        backend.result(proxy)
    assert message in record.read_outcome(proxy.record)["error"]["message"]


def test_a_task_that_has_not_written_what_it_publishes_has_failed(backend, submit):
    """What stands for a missing file is an error of the task, and not of the disk."""
    proxy = submit(spec(publisher_type="fromyaml-pub", yamlfile="result.yml"))
    backend.engine.said, backend.engine.collected = Native("ended"), Collected(0)
    assert backend.status(proxy).status == "failed"
    assert record.read_outcome(proxy.record)["error"]["type"] == "PublishError"


def test_an_engine_whose_connection_is_refused_is_said_to_be_away_and_not_the_disk(backend, submit):
    proxy = submit()
    refused = errors.BackendError.of(ConnectionRefusedError(111, "refused"), "the engine is away")
    backend.engine.said, backend.engine.collected = Native("ended"), refused
    with pytest.raises(errors.BackendError, match="the engine is away"):
        backend.status(proxy)


def test_a_stranger_is_told_the_same_and_nothing_is_written_anywhere(backend, submit, stranger, tmp_path):
    proxy = submit()
    backend.engine.said, backend.engine.collected = Native("ended"), Collected(0, output=(b"printed\n",))
    again = stranger(proxy, TaskFiles().read(proxy.task_id).task)
    before = files_in(tmp_path)
    assert backend.successful(again)
    assert backend.result(again).json() == {"a": 1}
    assert (backend.engine.forgotten, backend.engine.killed, len(backend.engine.given)) == ([], [], 1)
    backend.engine.said, running = Native("running"), stranger(proxy)
    with pytest.raises(errors.BackendError, match="not known to be yours"):
        backend.cancel(running)
    assert files_in(tmp_path) == before


def test_a_stranger_is_told_of_a_failure_too(backend, submit, stranger, tmp_path):
    proxy = submit()
    backend.engine.said, backend.engine.collected = Native("ended"), Collected(4, output=(b"went wrong\n",))
    again = stranger(proxy, TaskFiles().read(proxy.task_id).task)
    before = files_in(tmp_path)
    assert backend.fail_info(again)[0] == "TaskFailed"
    assert "went wrong" in backend.fail_info(again)[1]
    assert files_in(tmp_path) == before


def test_what_a_stranger_cannot_be_told_is_an_error_of_that_task_alone(backend, submit, stranger):
    publisher = {"publisher_type": "frompar-pub", "outputmap": {"t": "api_token"}}
    proxy, other = submit(spec(**publisher)), submit()
    backend.engine.said = Native("ended")
    document = {**TaskFiles().read(proxy.task_id).task, "parameters": {"api_token": HIDDEN}}
    strangers = [stranger(proxy, document), stranger(other, {**document, "spec": spec(), "id": other.task_id})]
    first, second = backend.statuses(strangers)
    assert isinstance(first, errors.ProxyError)
    assert second.status == "succeeded"


def test_a_stranger_whose_proxy_does_not_say_what_the_task_is_waits_for_the_owner(backend, submit, stranger):
    proxy = submit()
    again = stranger(proxy)
    backend.engine.said = Native("ended")
    assert backend.status(again).status == "lost"
    assert not backend.ready(again)


def test_a_task_that_was_never_given_away_is_given_away_and_one_that_has_ended_never_again(backend, submit):
    proxy = submit()
    backend.engine.said = Native("gone")
    assert len(backend.engine.given) == 1
    while len(backend.engine.given) == 1:  # it has to have been gone for a moment
        assert not backend.ready(proxy)
    backend.engine.said, backend.engine.collected = Native("ended"), Collected(None, "lost", "it was deleted")
    assert backend.status(proxy).status == "failed"
    assert len(backend.engine.given) == 2


def test_cancelling_takes_the_output_ends_the_task_and_only_then_says_so(backend, submit, tmp_path):
    proxy = submit()
    backend.engine.collected = Collected(None, output=(b"half\n",))
    with pytest.raises(errors.BackendError, match="has not ended the task"):
        backend.cancel(proxy)
    status, again = backend.statuses([proxy, proxy])
    assert "has not ended the task" in str(status)
    assert type(again) is errors.BackendError
    assert not (tmp_path / "work" / "_packtivity" / "one.outcome.json").exists()

    def kill(submissions):
        backend.engine.killed += [each.handle for each in submissions]
        backend.engine.said = Native("gone")

    backend.engine.kill = kill
    assert backend.status(proxy).status == "cancelled"
    with pytest.raises(errors.TaskCancelled):
        backend.result(proxy)
    assert record.read_outcome(proxy.record)["status"] == "cancelled"
    assert "| half" in (tmp_path / "work" / "_packtivity" / "one.run.log").read_text()
    assert list((tmp_path / "work" / "_packtivity").glob("*.cancel")) == []


def test_nothing_is_concluded_while_the_engine_cannot_be_asked_or_another_run_has_the_lock(backend, submit):
    proxy = submit()
    backend.engine.said, backend.engine.collected = Native("ended"), errors.BackendError("it is being restarted")
    with pytest.raises(errors.BackendError, match="restarted"):
        backend.status(proxy)
    backend.engine.collected = Collected(0)
    taken = lease.attempt(TaskFiles().read(proxy.task_id).claim)
    assert backend.status(proxy).status == "lost"
    assert record.read_outcome(proxy.record) is None
    taken.give_back()
    assert backend.status(proxy).status == "succeeded"


def test_a_record_that_the_task_has_forged_is_replaced(backend, submit):
    proxy = submit()
    forged = {"version": 1, "id": proxy.task_id, "status": "succeeded", "result": {"a": 2}, "error": None}
    with open(proxy.record, "w") as file:
        json.dump(forged, file)
    backend.engine.said, backend.engine.collected = Native("ended"), Collected(3)
    assert backend.status(proxy).status == "failed"
    assert record.read_outcome(proxy.record)["status"] == "failed"


def test_a_record_that_cannot_be_verified_here_gives_its_status_and_says_so(backend, submit, stranger, tmp_path):
    proxy = submit()
    backend.engine.said, backend.engine.collected = Native("ended"), Collected(0)
    assert backend.status(proxy).verified
    again = stranger(proxy)
    before = files_in(tmp_path)
    status = backend.status(again)
    assert (status.status, status.verified) == ("succeeded", False)
    assert backend.result(again).json() == {"a": 1}
    assert files_in(tmp_path) == before


def test_many_who_ask_at_once_conclude_it_once(backend, submit, tmp_path):
    proxy = submit()
    backend.engine.said, backend.engine.collected = Native("ended"), Collected(0, output=(b"printed\n",))
    proxies = [Proxy.fromJSON(proxy.json()) for _ in range(8)]
    results = []
    threads = [
        threading.Thread(target=lambda each=each: results.append(backend.result(each).json())) for each in proxies
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [{"a": 1}] * 8
    assert (tmp_path / "work" / "_packtivity" / "one.run.log").read_text().count("| printed") == 1
    assert len(backend.engine.forgotten) == 1


def test_without_records_the_owner_still_knows_and_the_engine_is_told_that_nobody_else_does(
    backend, submit, monkeypatch
):
    monkeypatch.setenv("PACKTIVITY_RECORD", "false")
    proxy = submit()
    backend.engine.said, backend.engine.collected = Native("ended"), Collected(3)
    assert backend.status(proxy).status == "failed"
    assert backend.engine.forgotten == [("job 1", "failed", None)]
    assert backend.fail_info(Proxy.fromJSON(proxy.json()))[0] == "TaskFailed"


def test_what_a_proxy_hides_is_not_published_for_a_stranger(tmp_path):
    engine = Bare()
    publisher = {"publisher_type": "frompar-pub", "outputmap": {"t": "api_token"}}
    task = Task(spec(**publisher), {"api_token": "***hidden by packtivity***"}, id="one")
    with pytest.raises(errors.ProxyError, match="not kept in proxy documents"):
        compute(engine, None, task)
    assert finish(engine, None, Task(spec(**publisher), {"api_token": "s"}, id="one"), None).result == {"t": "s"}


def test_what_a_proxy_s_document_claims_is_not_believed_of_one_s_own_task(backend, submit, stranger):
    proxy = submit()
    claim = TaskStatus("succeeded", {"a": 2})
    again = Proxy.fromJSON(proxy.json())
    again.claimed = claim
    assert backend.status(again).status == "running"
    other = stranger(proxy)
    other.claimed = claim
    assert backend.status(other) == claim
