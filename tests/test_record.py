"""The record of a task: what it says, when it is written, and that a task never runs twice at the same time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import jsonschema
import pytest
from specs import command_spec, from_parameters
from waiting import until

from packtivity import claims, errors, lease, record, runners, seal
from packtivity.backends.engines.multiproc import MultiProcProxy
from packtivity.backendutils import load_proxy
from packtivity.files import is_id
from packtivity.handlers.config import ExecutionConfig
from packtivity.runtimes.cancellation import Cancellation
from packtivity.syncbackends import defaultsyncbackend
from packtivity.task import Task, run_task
from packtivity.worker import answer

pytestmark = pytest.mark.usefixtures("own_records")


def spec(cmd, publish=None):
    return command_spec(cmd, publish or from_parameters({"o": "out"}))


PARAMETERS = {"out": "{workdir}/file"}


def run(state, cmd, parameters=PARAMETERS, publish=None, **execution):
    """Run a task and return its record, which fits the schema, and the error."""
    error = None
    backend = defaultsyncbackend({"exec": ExecutionConfig(**execution)})
    try:
        backend.run(spec(cmd, publish), parameters, state, {"name": "task"})
    except (Exception, KeyboardInterrupt) as raised:
        error = raised
    found = record.read_outcome(f"{state.metadir}/task.outcome.json")
    jsonschema.Draft4Validator(record.schema()).validate(found)
    return found, error


def test_the_schema_is_a_schema():
    jsonschema.Draft4Validator.check_schema(record.schema())


def test_a_success_says_what_was_published_with_its_checksum(state):
    found, error = run(state, "printf hello > {out}; echo said")
    assert error is None
    assert found["status"] == "succeeded"
    assert found["result"] == {"o": f"{state.readwrite[0]}/file"}
    digest = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    assert found["published"] == [{"path": found["result"]["o"], "type": "file", "size": 5, "sha256": digest}]
    assert (found["exit_code"], found["signal"], found["timed_out"], found["attempts"]) == (0, None, False, 1)
    assert found["usage"]["output_bytes"] == 5
    assert found["command"] == ["sh", "-c", f"printf hello > {found['result']['o']}; echo said"]
    assert found["job"] == {"command": found["command"][2]}


def test_a_failure_says_its_exit_code_and_message(state):
    found, error = run(state, "echo alas; exit 3")
    assert (found["status"], found["exit_code"], found["error"]["returncode"]) == ("failed", 3, 3)
    assert found["error"] == {"type": "TaskFailed", "message": str(error), "returncode": 3}
    assert found["result"] is None


def test_a_signal_is_named(state):
    found, _ = run(state, "kill -SEGV $$")
    assert (found["exit_code"], found["signal"]) == (None, "SIGSEGV")


def test_a_timeout_is_said(state):
    found, _ = run(state, "sleep 20", timeout=0.05, grace=1)
    assert found["timed_out"]
    assert found["error"]["type"] == "TaskTimeout"


def test_a_cancelled_task_is_called_so(state):
    with Cancellation() as cancel:
        threading.Timer(1, cancel.cancel).start()
        found, error = run(state, "while :; do :; done", cancel=cancel, grace=1)
    assert found["status"] == "cancelled"
    assert found["signal"] == "SIGINT"
    assert 0.05 < found["usage"]["cpu_seconds"] < 10  # what it had taken by then
    assert isinstance(error, errors.TaskCancelled)


def test_a_published_path_that_is_not_there_is_named(state):
    found, _ = run(state, "true")
    assert (found["status"], found["missing"]) == ("succeeded", [f"{state.readwrite[0]}/file"])
    found, error = run(state, "true", strict=True)
    assert (found["status"], found["missing"]) == ("failed", [f"{state.readwrite[0]}/file"])
    assert isinstance(error, errors.MissingOutput)


def test_a_mistake_in_the_parameters_is_recorded_too(state):
    found, _ = run(state, "echo {nope}")
    assert (found["status"], found["error"]["type"]) == ("failed", "MissingParameter")
    assert found["usage"] is None


def test_secrets_are_masked_wherever_they_come_up(state, monkeypatch):
    monkeypatch.setenv("MY_API_TOKEN", "environment-secret")
    parameters = {**PARAMETERS, "db_password": "hunter22!", "x": "environment-secret"}
    found, _ = run(state, "echo {db_password} {x}; exit 1", parameters)
    assert "hunter22" not in json.dumps(found)
    assert "environment-secret" not in json.dumps(found)
    assert found["parameters"]["db_password"] == "***"


def test_secrets_are_masked_however_deep_they_are(state):
    parameters = {**PARAMETERS, "sites": [{"name": "a site", "login": {"api-key": ["hunter22!"]}}]}
    found, _ = run(state, "echo {sites[0][login][api-key][0]}; exit 1", parameters)
    assert "hunter22" not in json.dumps(found)
    assert found["parameters"]["sites"] == [{"name": "a site", "login": {"api-key": ["***"]}}]


def test_host_and_user_are_there_only_on_request(state, monkeypatch):
    assert "host" not in run(state, "true")[0]
    monkeypatch.setenv("PACKTIVITY_RECORD_HOST", "true")
    assert run(state, "true")[0]["host"] == os.uname().nodename


def test_no_record_is_written_when_that_is_switched_off(state, monkeypatch):
    monkeypatch.setenv("PACKTIVITY_RECORD", "false")
    defaultsyncbackend().run(spec("true"), PARAMETERS, state)
    assert not [name for name in os.listdir(state.metadir) if name.endswith(".json")]


def test_a_run_leaves_nothing_but_its_record_and_logs(state):
    run(state, "true")
    assert sorted(os.listdir(state.metadir)) == ["task.outcome.json", "task.run.log", "task.step.log"]


def test_retries_are_for_failures_that_may_pass(state):
    flaky = "test -e {out} || {{ touch {out}; exit 1; }}"
    assert run(state, flaky, retries=1)[0]["attempts"] == 2
    assert run(state, "no-such-program-{out}", retries=5)[0]["attempts"] == 1
    assert run(state, "sleep 9", retries=5, timeout=0.05, grace=1)[0]["attempts"] == 1
    assert run(state, "exit 1", retries=2)[0]["attempts"] == 3


def test_a_task_runs_once_at_a_time_and_then_again(state):
    cmd = "mkdir {out}.lock || exit 9; sleep 0.2; rmdir {out}.lock; echo x >> {out}"
    failures = []

    def one():
        try:
            defaultsyncbackend().run(spec(cmd), PARAMETERS, state, {"name": "task"})
        except errors.PacktivityError as error:
            failures.append(error)

    threads = [threading.Thread(target=one) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert Path(state.readwrite[0], "file").read_text() == "x\n" * 3


RUNNER = """
import sys, json
from packtivity.worker import answer
answer(json.load(open(sys.argv[1])))
"""


def start_runner(tmp_path, document):
    (tmp_path / "task.json").write_text(json.dumps(document))
    return subprocess.Popen([sys.executable, "-c", RUNNER, str(tmp_path / "task.json")])


def test_what_a_killed_runner_left_is_ended_before_the_task_runs_again(tmp_path, state):
    cmd = "echo $$ >> {out}; test -e {out}.second || {{ touch {out}.second; sleep 60; }}"
    document = Task.of(spec(cmd), PARAMETERS, state, {"name": "task"}, id="one").to_json()
    pids = Path(state.readwrite[0], "file")
    runner = start_runner(tmp_path, document)
    until(lambda: pids.exists() and pids.read_text().endswith("\n"))
    runner.kill()
    runner.wait()
    first = int(pids.read_text())
    os.kill(first, 0)
    said = answer(document)
    assert said["status"] == "succeeded"
    assert runners.runner(first)["began"] == ""
    assert record.read_outcome(said["record"])["attempts"] == 2


DIES = """
import json, os, signal, sys
from packtivity import files, record, worker

give_name = files.give_name

def dies(descriptor, name, *arguments, **options):
    if name == "task.outcome.json":
        os.kill(os.getpid(), signal.SIGKILL)
    return give_name(descriptor, name, *arguments, **options)

files.give_name = dies
record._WORTH_SYNC = float(sys.argv[2])
with open(sys.argv[1]) as file:
    worker.answer(json.load(file))
"""


@pytest.fixture(params=["quick", "synced"])
def half_named(request, tmp_path, state):
    """Return the document of a task whose runner was killed when its record had the first of its two names."""
    document = Task.of(spec("echo x >> {out}"), PARAMETERS, state, {"name": "task"}, id=seal.own_id("one-")).to_json()
    (tmp_path / "task.json").write_text(json.dumps(document))
    seconds = {"quick": "9", "synced": "0"}[request.param]
    done = subprocess.run([sys.executable, "-c", DIES, str(tmp_path / "task.json"), seconds], check=False)
    assert done.returncode == -signal.SIGKILL
    assert record.read_outcome(record.record_path(state.metadir, {"name": "task"}, document["id"]))
    return document


def second_name(state):
    return record.read_outcome(record.record_path(state.metadir, {"name": "task"}))


def test_the_next_runner_gives_a_record_its_second_name(half_named, state):
    assert second_name(state) is None
    said = answer(half_named)
    assert (said["status"], second_name(state)) == ("succeeded", record.read_outcome(said["record"]))
    assert Path(state.readwrite[0], "file").read_text() == "x\n"


def test_it_takes_the_place_of_an_earlier_record_and_not_of_a_later_one(half_named, state):
    path = record.record_path(state.metadir, {"name": "task"})
    Path(path).write_text('{"status": "failed"}')
    os.utime(path, (1, 1))
    answer(half_named)
    assert second_name(state)["id"] == half_named["id"]
    later, _ = run(state, "true")
    answer(half_named)
    assert second_name(state) == later


def test_who_asks_for_his_own_task_gives_its_record_the_second_name_and_nobody_else_does(
    half_named, state, monkeypatch
):
    path = record.record_path(state.metadir, {"name": "task"}, half_named["id"])
    document = MultiProcProxy(half_named["id"], {"pid": 1}, path).json()
    with monkeypatch.context() as other:
        other.setenv("PACKTIVITY_STATE_DIR", str(Path(state.readwrite[0]).parent / "another"))
        assert load_proxy(document)[1].ready(load_proxy(document)[0])
    assert second_name(state) is None
    assert load_proxy(document)[1].ready(load_proxy(document)[0])
    assert second_name(state) == record.read_outcome(path)


HOLDER = """
import subprocess, sys, time
from packtivity import lease
held = lease.take(sys.argv[1])
held.write({"id": "one"})
subprocess.Popen(["sleep", "60"], pass_fds=[held.descriptor])
print(flush=True)
time.sleep(60)
"""


@pytest.fixture
def orphan(tmp_path):
    """A state file whose runner was killed, and whose task lives."""
    path = str(tmp_path / "task.key.state.json")
    runner = subprocess.Popen([sys.executable, "-c", HOLDER, path], stdout=subprocess.PIPE)
    runner.stdout.readline()
    runner.kill()
    runner.wait()
    runner.stdout.close()
    return path


def test_where_the_system_does_not_say_who_has_a_lock_who_has_the_file_open_has_it(orphan, monkeypatch):
    monkeypatch.setattr(runners, "tells_locks", lambda: False)
    assert claims.is_held(orphan)
    assert claims.end_holders(orphan) == 1
    assert not claims.is_held(orphan)


def test_who_only_looks_at_a_state_file_is_not_ended_with_what_holds_it(orphan):
    looks = "import sys, time; file = open(sys.argv[1]); print(flush=True); time.sleep(60)"
    watcher = subprocess.Popen([sys.executable, "-c", looks, orphan], stdout=subprocess.PIPE)
    try:
        watcher.stdout.readline()
        lease.take(orphan).give_back()
        assert watcher.poll() is None
    finally:
        watcher.kill()
        watcher.communicate()


@pytest.mark.parametrize("there", [True, False])
def test_a_link_that_a_task_left_in_place_of_a_state_file_or_log_leads_nowhere(state, there):
    key = run(state, "echo harm")[0]["key"]
    other = Path(state.readwrite[0]).parent / "somebody else's"
    if there:
        other.write_text("as it was")
    paths = [Path(record.state_path(state.metadir, key)), Path(f"{state.metadir}/task.run.log")]
    for path in paths:
        path.unlink(missing_ok=True)
        path.symlink_to(other)
        _, error = run(state, "echo harm")
        assert isinstance(error, errors.StateError)
        assert other.exists() is there
        assert not there or other.read_text() == "as it was"
        path.unlink()
    assert run(state, "true")[1] is None


def test_a_pipe_in_place_of_a_state_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "task.key.state.json")
    assert claims.of_task(str(tmp_path / "task.one.outcome.json"), "one") is None
    assert not claims.is_held(str(tmp_path / "task.key.state.json"))


def test_a_killed_runner_s_container_is_waited_for(tmp_path, state):
    folder = tmp_path / "packtivity-0123456789abcdef"
    folder.mkdir(0o700)
    document = Task.of(spec("date +%s.%N > {out}"), PARAMETERS, state, {"name": "task"}, id="one").to_json()
    key = answer(document) and record.read_outcome(record.record_path(state.metadir, {"name": "task"}, "one"))["key"]
    path = record.state_path(state.metadir, key)
    Path(path).write_text(json.dumps({"id": "two", "runner": runners.runner(), "folder": str(folder)}))
    gone = []
    threading.Timer(0.6, lambda: (gone.append(time.time()), folder.rmdir())).start()
    assert answer({**document, "id": "two"})["status"] == "succeeded"
    assert float((tmp_path / "work" / "file").read_text()) >= gone[0]


def test_a_container_of_before_the_machine_was_started_is_not_waited_for(tmp_path, state):
    path = record.state_path(state.metadir, run(state, "true")[0]["key"])
    left = {"runner": {**runners.runner(), "boot": "another"}, "folder": str(tmp_path)}
    Path(path).write_text(json.dumps(left))
    began = time.monotonic()
    run(state, "true")
    assert time.monotonic() - began < 10


def test_a_task_that_kills_its_runner_ends_as_failed(tmp_path, state):
    document = Task.of(spec("kill -9 $PPID; sleep 9"), PARAMETERS, state, {"name": "task"}, id="poison").to_json()
    for _ in range(record.ATTEMPTS):
        assert start_runner(tmp_path, document).wait() == -signal.SIGKILL
    said = answer(document)
    assert (said["status"], said["error"]["type"]) == ("failed", "WorkerLost")
    assert record.read_outcome(said["record"])["attempts"] == record.ATTEMPTS


STOPPED = """
import json, os, signal, sys
from packtivity.cli.start import like_interrupts
from packtivity.worker import run_envelope
with open(sys.argv[1]) as file, like_interrupts():
    print(json.dumps(run_envelope({"task": json.load(file)})))
"""


def stopped_runner(tmp_path, document):
    """Run a task whose command tells its runner to stop."""
    (tmp_path / "task.json").write_text(json.dumps(document))
    argv = [sys.executable, "-c", STOPPED, str(tmp_path / "task.json")]
    return json.loads(subprocess.run(argv, capture_output=True, text=True, check=True).stdout)


def test_an_attempt_is_given_back_when_its_runner_was_told_to_stop_and_a_start_is_not(tmp_path, state):
    """As when a batch system ends its job for another one's sake."""
    cmd = "kill $PPID; sleep 9"
    document = Task.of(spec(cmd), PARAMETERS, state, {"name": "task"}, id="stopped").to_json()
    for number in range(1, record.STARTS + 1):
        assert stopped_runner(tmp_path, document) == {"status": "waiting"}
        (name,) = [each for each in os.listdir(state.metadir) if each.endswith("state.json")]
        claim = claims.read(f"{state.metadir}/{name}")
        assert (claim["attempts"], claim["starts"]) == (0, number)
    said = answer(document)
    assert (said["status"], said["error"]["type"]) == ("failed", "WorkerLost")
    assert f"had to stop before it was over, {record.STARTS} times" in said["error"]["message"]


def test_a_runner_that_is_stopped_because_the_task_is_cancelled_says_so(tmp_path, state):
    document = Task.of(spec("touch {out}; sleep 60"), PARAMETERS, state, {"name": "task"}, id="told").to_json()
    (tmp_path / "task.json").write_text(json.dumps(document))
    runner = subprocess.Popen([sys.executable, "-c", STOPPED, str(tmp_path / "task.json")], stdout=subprocess.PIPE)
    until(Path(state.readwrite[0], "file").exists)
    Path(record.cancel_path(record.record_path(state.metadir, {"name": "task"}, "told"))).touch()
    assert json.loads(runner.communicate()[0])["status"] == "cancelled"


def test_a_delivered_task_that_has_run_is_not_run_again(state):
    document = Task.of(spec("echo x >> {out}"), PARAMETERS, state, {"name": "task"}, id="once").to_json()
    first = answer(document)
    assert answer(document) == first
    assert Path(state.readwrite[0], "file").read_text() == "x\n"


def test_a_task_of_the_same_name_does_not_hide_the_record_of_another(state):
    said = [
        answer(Task.of(spec(f"echo {n}"), PARAMETERS, state, {"name": "task"}, id=f"n{n}").to_json()) for n in range(2)
    ]
    assert [record.read_outcome(each["record"])["id"] for each in said] == ["n0", "n1"]


def test_a_state_that_cannot_be_loaded_is_an_answer_too(state):
    document = Task.of(spec("true"), PARAMETERS, state, id="x").to_json()
    said = answer({**document, "state": {"state_type": "nope"}})
    assert (said["status"], said["error"]["type"]) == ("failed", "StateError")


@pytest.mark.parametrize("text", ["", "../x", "a/b", "a" * 65, "é", None, 3, "a.b"])
def test_what_is_no_id_is_refused(state, text):
    assert not is_id(text)
    if text is not None:
        with pytest.raises(errors.ConfigurationError):
            run_task({**Task.of(spec("true"), PARAMETERS, state).to_json(), "id": text})


def test_the_state_of_a_running_task_is_there_and_locked(state):
    seen = []
    with Cancellation() as cancel:

        def look():
            until(lambda: any(n.endswith("state.json") for n in os.listdir(state.metadir)))
            (name,) = [n for n in os.listdir(state.metadir) if n.endswith("state.json")]
            path = f"{state.metadir}/{name}"
            until(lambda: claims.read(path))
            seen.append((claims.is_held(path), claims.read(path)))
            cancel.cancel()

        thread = threading.Thread(target=look)
        thread.start()
        run(state, "sleep 20", cancel=cancel, grace=1)
        thread.join()
    ((held, said),) = seen
    assert held
    assert (said["status"], said["name"], said["runner"]["pid"]) == ("running", "task", os.getpid())


def test_a_full_disk_leaves_the_earlier_record_and_is_an_error(state, monkeypatch):
    before, _ = run(state, "true")

    write = os.write

    def full(descriptor, content):
        if b'"ended"' in bytes(content):
            raise OSError(28, "No space left on device")
        return write(descriptor, content)

    monkeypatch.setattr(os, "write", full)
    found, error = run(state, "echo second")
    assert isinstance(error, errors.StateError)
    assert "No space left" in str(error)
    assert found == before
    assert not [name for name in os.listdir(state.metadir) if "tmp" in name or "state" in name]


WORKER = Path(sys.executable).parent / "packtivity-worker"


def test_the_worker_command_prints_the_result_and_ends_like_run(state, tmp_path):
    for cmd, code in (("true", 0), ("exit 4", 6), ("echo {nope}", 4)):
        document = Task.of(spec(cmd), PARAMETERS, state, id=f"c{code}").to_json()
        (tmp_path / "t.json").write_text(json.dumps(document))
        done = subprocess.run([WORKER, tmp_path / "t.json"], capture_output=True, text=True, check=False)
        assert done.returncode == code
        assert done.stdout == (json.dumps({"o": f"{state.readwrite[0]}/file"}) + "\n" if code == 0 else "")


@pytest.mark.parametrize(("options", "level", "heard"), [((), None, 0), (("-v", "INFO"), "CRITICAL", 1)])
def test_the_worker_command_prints_log_lines_of_the_level_asked_for(
    options, level, heard, state, tmp_path, monkeypatch
):
    monkeypatch.delenv("PACKTIVITY_LOGGING_STREAM_LEVEL")
    config = {} if level is None else {"exec": {"logging_level": level}}
    document = Task.of(spec("true"), PARAMETERS, state, config=config).to_json()
    (tmp_path / "t.json").write_text(json.dumps(document))
    argv = [WORKER, *options, tmp_path / "t.json"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stderr.count("exit code 0 after") == heard
    assert heard or done.stderr == ""


@pytest.mark.parametrize("all_of_it", [True, False], ids=["all processes", "the worker alone"])
@pytest.mark.parametrize("cmd", ["sleep 60", "sleep 60; true", "trap 'exit 3' TERM; sleep 60 & wait"])
def test_a_worker_that_its_engine_ends_gives_the_task_back_whatever_that_has_made_of_the_signal(
    cmd, all_of_it, state, tmp_path
):
    document = Task.of(spec(f"touch begun; {cmd}"), PARAMETERS, state, {"name": "task"}, id="give-back").to_json()
    (tmp_path / "t.json").write_text(json.dumps({"task": document}))
    with subprocess.Popen([WORKER, tmp_path / "t.json"], stderr=subprocess.PIPE, text=True) as worker:
        until((Path(state.readwrite[0]) / "begun").exists)
        (claim,) = Path(state.metadir).glob("*.state.json")
        children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()
        for pid in children if all_of_it else ():  # as batch systems do it: all processes of the job, children first
            with suppress(ProcessLookupError):
                os.killpg(int(pid), signal.SIGTERM)
        worker.send_signal(signal.SIGTERM)
        _, stderr = worker.communicate(timeout=20)
    assert (worker.returncode, "is to be run again" in stderr) == (75, True)
    assert claim.exists()
    assert not list(Path(state.metadir).glob("*.outcome.json"))
