"""Sealed records: what a task forges is believed by nobody who could know better, and is the basis of nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from drawer import Backend, Drawer, again, spec
from waiting import until

from packtivity import lease, record, seal
from packtivity.backends.engine import Native
from packtivity.statecontexts import LocalFSState
from packtivity.syncbackends import defaultsyncbackend
from packtivity.task import Task
from packtivity.worker import answer, run_envelope

NAME = {"name": "task"}


@pytest.fixture(autouse=True)
def _apart(tmp_path, monkeypatch):
    monkeypatch.setenv("PACKTIVITY_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("PACKTIVITY_LOGGING_STREAM_LEVEL", "CRITICAL")
    monkeypatch.setattr(seal, "_keys", {})


@pytest.fixture
def backend():
    return Backend(Drawer())


@pytest.fixture
def state(tmp_path):
    made = LocalFSState([str(tmp_path / "work")])
    made.ensure()
    return made


def forge(proxy, **changes):
    """Put a record where that of a task belongs; returns its text."""
    document = {"id": proxy.task_id, "key": None, "status": "succeeded", "result": {"o": "forged"}, "error": None}
    text = json.dumps({**document, **changes}, separators=(",", ":"))
    Path(proxy.record).write_text(text)
    return text


FORGERIES = {
    "without a seal": {},
    "with a made seal": {"seal": "0" * 64},
    "with something else in its place": {"seal": None},
}


def key_of(task):
    return task["seal"]


# --- the seal ---------------------------------------------------------------------------------------------------


def test_a_record_is_sealed_by_a_key_of_its_own(backend, state):
    proxy = backend.submit(spec(), {}, state, NAME)
    run_envelope(backend.engine.given[0])
    content = Path(proxy.record).read_bytes()
    key = key_of(backend.engine.given[0]["task"])
    assert seal.is_sealed(content, key)
    assert seal.record_key(proxy.task_id) == key
    assert not seal.is_sealed(content, seal.record_key(proxy.task_id[:-1]))
    assert content == Path(state.metadir, "task.outcome.json").read_bytes()
    for place in range(0, len(content), 7):
        changed = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
        assert not seal.is_sealed(changed, key)
    assert not seal.is_sealed(content + b" ", key)
    assert not seal.is_sealed(b"{}", key)


def test_a_run_without_a_backend_seals_its_record_too(state):
    defaultsyncbackend().run(spec(), {}, state, NAME)
    path = record.record_path(state.metadir, NAME)
    assert record.is_over(path, seal.record_key(record.read_outcome(path)["id"]))


def test_a_run_where_no_key_can_be_kept_has_a_record_without_a_seal(state, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("PACKTIVITY_STATE_DIR", str(tmp_path / "file" / "state"))
    defaultsyncbackend().run(spec(), {}, state, NAME)
    found = record.read_outcome(record.record_path(state.metadir, NAME))
    assert (found["status"], "seal" in found) == ("succeeded", False)


LOOKS = "env > env; tr '\\\\0' '\\\\n' < /proc/self/environ >> env; cat /proc/$$/cmdline /proc/$PPID/cmdline > argv; exit {code}"


@pytest.mark.parametrize("code", [0, 1])
def test_the_key_is_where_no_task_can_see_it(backend, state, tmp_path, code):
    proxy = backend.submit(spec(LOOKS), {"code": code}, state, NAME)
    task = backend.engine.given[0]["task"]
    run_envelope(backend.engine.given[0])
    assert backend.ready(again(proxy))
    key = key_of(task)
    assert (tmp_path / "work" / "env").stat().st_size > 0
    everything = [path.read_bytes() for path in (tmp_path / "work").rglob("*") if path.is_file()]
    everything += [json.dumps(proxy.json()).encode(), repr(Task.from_json(task)).encode()]
    assert not [each for each in everything if key.encode() in each]


# --- the owner --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("forgery", FORGERIES.values(), ids=FORGERIES)
def test_for_its_owner_a_forged_record_is_none_and_its_runner_replaces_it(backend, state, forgery):
    proxy = backend.submit(spec(), {}, state, NAME)
    forge(proxy, **forgery)
    assert backend.status(again(proxy)).status == "waiting"
    run_envelope(backend.engine.given[0])
    status = backend.status(proxy)
    assert (status.status, status.result, status.verified) == ("succeeded", {"o": "real"}, True)
    assert record.is_over(proxy.record, key_of(backend.engine.given[0]["task"]))


def test_the_sealed_record_of_another_task_is_a_forgery_too(backend, state, tmp_path):
    first = backend.submit(spec(), {}, state, NAME)
    run_envelope(backend.engine.given[0])
    second = backend.submit(spec("exit 1"), {}, state, NAME)
    text = Path(first.record).read_text()
    Path(second.record).write_text(text)
    assert not backend.ready(second)
    Path(second.record).write_text(text.replace(first.task_id, second.task_id))
    assert not backend.ready(again(second))
    assert run_envelope(backend.engine.given[1])["status"] == "failed"
    assert backend.fail_info(second)[0] == "TaskFailed"


def test_a_lost_task_is_given_away_again_whatever_its_record_says(backend, state, tmp_path):
    proxy = backend.submit(spec(), {}, state, NAME)
    forge(proxy)
    backend.engine.said = Native("gone")
    until(lambda: backend.ready(proxy) or len(backend.engine.given) == 2)
    backend.engine.said = Native("waiting")
    run_envelope(backend.engine.given[1])
    assert backend.result(proxy).json() == {"o": "real"}
    assert (tmp_path / "work" / "ran").read_text() == "\n"


def test_an_owner_who_concludes_replaces_a_forged_record(backend, state):
    proxy = backend.submit(spec(), {}, state, NAME)
    forge(proxy)
    backend.engine.said = Native("ended", cause="timeout")
    until(lambda: backend.ready(proxy))
    assert backend.fail_info(proxy)[0] == "TaskTimeout"
    assert record.is_over(proxy.record, seal.record_key(proxy.task_id))
    assert record.read_outcome(proxy.record)["error"]["type"] == "TaskTimeout"


def test_an_owner_whose_key_is_gone_is_told_what_the_record_says_and_keeps_everything(backend, state, tmp_path):
    proxy = backend.submit(spec(), {}, state, NAME)
    run_envelope(backend.engine.given[0])
    (tmp_path / "state" / "seal.key").unlink()
    seal._keys.clear()
    status = backend.status(proxy)
    assert (status.status, status.verified) == ("succeeded", False)
    assert (tmp_path / "state" / "tasks" / f"{proxy.task_id}.json").exists()
    assert len(backend.engine.given) == 1


# --- everybody else ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("forged", [False, True])
def test_who_cannot_verify_a_record_is_told_what_it_says_and_that(backend, state, tmp_path, monkeypatch, forged):
    proxy = backend.submit(spec(), {}, state, NAME)
    if forged:
        forge(proxy)
    else:
        run_envelope(backend.engine.given[0])
    monkeypatch.setenv("PACKTIVITY_STATE_DIR", str(tmp_path / "stranger"))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    other, handle = Backend(backend.engine), again(proxy)
    assert (other.ready(handle), other.successful(handle)) == (True, True)
    assert other.result(handle).json() == {"o": "forged" if forged else "real"}
    assert other.status(handle).verified is False
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_what_was_forged_is_not_remembered_by_who_asks(backend, state, tmp_path, monkeypatch):
    proxy = backend.submit(spec(), {}, state, NAME)
    forge(proxy)
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("PACKTIVITY_STATE_DIR", str(tmp_path / "stranger"))
        other, handle = Backend(backend.engine), again(proxy)
        assert other.result(handle).json() == {"o": "forged"}
    run_envelope(backend.engine.given[0])
    monkeypatch.setenv("PACKTIVITY_STATE_DIR", str(tmp_path / "stranger"))
    assert other.result(handle).json() == {"o": "real"}


# --- who is first -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("links", [True, False], ids=["hard links", "no hard links"])
def test_of_two_that_run_beside_each_other_the_first_to_end_has_written_the_record(backend, state, monkeypatch, links):
    """Which the lock prevents, where there is one."""

    def refuse(*_, **__):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(lease, "try_lock", lambda *_: True)
    if not links:
        monkeypatch.setattr(os, "link", refuse)
    proxy = backend.submit(
        spec("echo >> ran; while test $(wc -l < ran) -lt 2; do sleep 0.01; done; mkdir won"), {}, state, NAME
    )
    task, answers = backend.engine.given[0]["task"], []

    def work():
        answers.append(answer(task))

    workers = [threading.Thread(target=work) for _ in range(2)]
    for each in workers:
        each.start()
    for each in workers:
        each.join()
    assert answers[0] == answers[1]  # one of them has failed, and says all the same what the record says
    assert answers[0]["status"] == record.read_outcome(proxy.record)["status"]
    assert record.is_over(proxy.record, key_of(task))


def test_a_record_that_is_there_stays_when_its_runner_ends_later(backend, state):
    proxy = backend.submit(spec("touch begun; while ! test -e go; do sleep 0.01; done"), {}, state, NAME)
    task, answers = backend.engine.given[0]["task"], []
    worker = threading.Thread(target=lambda: answers.append(answer(task)))
    worker.start()
    work = Path(state.readwrite[0])
    until((work / "begun").exists)
    text = forge(proxy, result={"o": "first"}).encode()
    Path(proxy.record).write_bytes(seal.sealed(text, key_of(task)))
    (work / "go").touch()
    worker.join()
    assert answers[0]["result"] == {"o": "first"}
    assert record.read_outcome(proxy.record)["result"] == {"o": "first"}


# --- commands ---------------------------------------------------------------------------------------------------


def command(name, *argv, state_dir):
    environ = {**os.environ, "PACKTIVITY_STATE_DIR": str(state_dir)}
    program = [str(Path(sys.executable).with_name("packtivity")), name]
    return subprocess.run([*program, *map(str, argv)], capture_output=True, text=True, env=environ, check=False)


@pytest.fixture
def over(tmp_path):
    """Return the proxy file of a task of the backend local that has succeeded."""
    (tmp_path / "step.yml").write_text(json.dumps(spec()))
    done = command(
        "run", tmp_path / "step.yml", "-w", tmp_path / "work", "-b", "local:1", "--async", "--proxyfile",
        tmp_path / "proxy.json", state_dir=tmp_path / "state",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert command("checkproxy", "--wait", tmp_path / "proxy.json", state_dir=tmp_path / "state").returncode == 0
    return tmp_path / "proxy.json"


def test_checkproxy_says_that_it_could_not_verify_a_record(over, tmp_path):
    known = command("checkproxy", over, state_dir=tmp_path / "state")
    assert "verified" not in known.stderr
    done = command("checkproxy", over, state_dir=tmp_path / "stranger")
    assert (done.returncode, done.stdout) == (0, known.stdout)
    assert "verified: False" in done.stderr
    told = [json.loads(command("checkproxy", "--format", "json", over, state_dir=tmp_path / name).stdout)[0]
            for name in ("state", "stranger")]  # fmt: skip
    assert [each["verified"] for each in told] == [True, False]


@pytest.mark.parametrize("backend_name", ["foregroundasync", "multiproc:2"])
def test_map_reuses_what_it_can_verify_and_runs_the_rest_again(tmp_path, backend_name):
    (tmp_path / "step.yml").write_text(json.dumps(spec("echo {n} >> ran")))
    (tmp_path / "sets.jsonl").write_text('{"n": 1}\n{"n": 2}\n')
    argv = ["map", tmp_path / "step.yml", "--over", tmp_path / "sets.jsonl", "-w", tmp_path / "out", "-b", backend_name]

    warned = []

    def runs():
        done = command(*argv, state_dir=tmp_path / "state")
        assert done.returncode == 0
        warned.append("run again: 1 record that cannot be verified here" in done.stderr)
        return [(tmp_path / "out" / number / "ran").read_text().count("\n") for number in ("0000", "0001")]

    assert runs() == [1, 1]
    assert runs() == [1, 1]
    path = tmp_path / "out" / "0001" / "_packtivity" / "packtivity.outcome.json"
    path.write_text(path.read_text().replace("real", "forged"))
    assert runs() == [1, 2]
    assert warned == [False, False, True]
