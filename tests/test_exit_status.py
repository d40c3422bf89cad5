"""How a task ended is known, or its run is a failure: no record says succeeded unless an exit status of 0 was waited for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import jsonschema
import pytest
from specs import command_spec, constant
from waiting import until

from packtivity import errors, record
from packtivity.runtimes import process
from packtivity.runtimes.cancellation import Cancellation
from packtivity.runtimes.python_workers import run_command
from packtivity.types import Execution

BIN = Path(sys.executable).parent
BACKENDS = ["defaultsync", "foregroundasync", "multiproc:1", "local"]
CHILDREN = "import subprocess, sys; sys.exit(subprocess.run(['sh', '-c', 'exit 7']).returncode)"
ENDS = {
    "exit 7": (7, None),
    f'{sys.executable} -c "{CHILDREN}"': (7, None),
    "kill -9 $$": (None, "SIGKILL"),
    "bash -c 'exit 7'": (7, None),
}
"""Commands, and how they end."""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A directory with a user's own state."""
    monkeypatch.setenv("PACKTIVITY_STATE_DIR", str(tmp_path / "state"))
    return tmp_path


def write_spec(folder, cmd):
    (folder / "spec.json").write_text(json.dumps(command_spec(cmd, constant({"a": 1}))))


def records(folder):
    found = [json.loads(path.read_text()) for path in folder.rglob("*.outcome.json")]
    for each in found:
        jsonschema.Draft4Validator(record.schema()).validate(each)
    return found


def started_without(signals, *argv, cwd):
    """Run a program that was started with signals ignored, as by some daemons and schedulers."""
    line = f"trap '' {signals}; exec \"$@\""
    return subprocess.run(["sh", "-c", line, "sh", *argv], cwd=cwd, capture_output=True, text=True, check=False)


# --- commands --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("cmd", ENDS)
def test_a_command_that_was_started_with_sigchld_ignored_knows_how_its_task_ended(cmd, backend, folder):
    write_spec(folder, cmd)
    done = started_without("CHLD", BIN / "packtivity-run", "spec.json", "-w", "out", "-b", backend, cwd=folder)
    assert done.returncode == errors.TaskFailed.exit_code, done.stderr
    assert {(each["status"], each["exit_code"], each["signal"]) for each in records(folder)} == {("failed", *ENDS[cmd])}


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_map_that_was_started_so_knows_it_too(backend, folder):
    write_spec(folder, "exit {n}")
    argv = (BIN / "packtivity", "map", "spec.json", "-p", "n=0..2", "-b", backend, "-w", "out")
    done = started_without("CHLD", *argv, cwd=folder)
    assert "1 of 3 tasks succeeded" in done.stdout + done.stderr
    assert {each["exit_code"] for each in records(folder / "out")} == {0, 1, 2}


def test_a_worker_command_that_was_started_so_knows_it_too(folder, state):
    from packtivity.task import Task

    document = Task.of(command_spec("exit 7", constant({})), {}, state, {"name": "task"}, id="seven").to_json()
    for number, content in enumerate((document, {"task": document | {"id": "eight"}})):
        (folder / f"{number}.json").write_text(json.dumps(content))
        done = started_without("CHLD", BIN / "packtivity-worker", f"{number}.json", cwd=folder)
        assert (done.returncode, "exit code 7" in done.stderr) == (errors.TaskFailed.exit_code, True)


def test_what_was_blocked_is_not_blocked_in_a_task_and_what_was_ignored_for_nohup_stays_so(folder):
    write_spec(folder, "exec grep -E 'SigBlk|SigIgn' /proc/self/status > signals")
    program = (
        "import os, signal, sys\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGCHLD, signal.SIGUSR1})\n"
        "os.execv(sys.argv[1], sys.argv[1:])\n"
    )
    argv = (sys.executable, "-c", program, str(BIN / "packtivity-run"), "spec.json", "-w", "out")
    done = started_without("HUP", *argv, cwd=folder)
    assert done.returncode == 0, done.stderr
    blocked, ignored = (int(line.split()[1], 16) for line in (folder / "out" / "signals").read_text().splitlines())
    assert (blocked, ignored & 1 << (signal.SIGHUP - 1)) == (0, 1)


# --- programs that use the package -------------------------------------------------------------------------------

HOST = """
import json, os, signal, subprocess, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
import packtivity
from packtivity import errors
from packtivity.backendutils import backend_from_string
before = {number: signal.getsignal(number) for number in signal.valid_signals()}
mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
state = packtivity.LocalFSState([os.path.abspath("out")])
is_sync, backend = backend_from_string(sys.argv[1])
try:
    if is_sync:
        print(packtivity.run("spec.json", state=state, backend=backend))
    else:
        print(backend.result(backend.submit(json.load(open("spec.json")), {}, state, {"name": "task"})))
except errors.TaskFailed as error:
    print("failed", error.returncode)
assert before == {number: signal.getsignal(number) for number in signal.valid_signals()}
assert mask == signal.pthread_sigmask(signal.SIG_BLOCK, ())
assert subprocess.run(["false"]).returncode == 0, "which is how it is in such a program"
"""


def run_in_host(program, *argv, cwd):
    done = subprocess.run([sys.executable, "-c", program, *argv], cwd=cwd, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("cmd", ENDS)
def test_a_program_that_ignores_sigchld_hears_how_its_task_ended_and_keeps_what_it_has_set(
    cmd, backend, folder, monkeypatch
):
    monkeypatch.setenv("PACKTIVITY_LOGGING_STREAM_LEVEL", "CRITICAL")
    write_spec(folder, cmd)
    code, number = ENDS[cmd]
    returncode = code if number is None else -signal.Signals[number]
    assert run_in_host(HOST, backend, cwd=folder) == f"failed {returncode}"
    assert {(each["status"], each["exit_code"], each["signal"]) for each in records(folder)} == {("failed", *ENDS[cmd])}


def test_a_success_in_such_a_program_is_one(folder, monkeypatch):
    monkeypatch.setenv("PACKTIVITY_LOGGING_STREAM_LEVEL", "CRITICAL")
    write_spec(folder, "echo said")
    assert run_in_host(HOST, "defaultsync", cwd=folder) == "<TypedLeafs: {'a': 1}>"
    assert {(each["status"], each["exit_code"]) for each in records(folder)} == {("succeeded", 0)}
    assert "said" in next(folder.rglob("*.run.log")).read_text()


ENGINE = """
import json, signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
from packtivity.worker import run_envelope
print(json.dumps(run_envelope({"task": json.load(open("task.json"))})["error"]))
"""


def test_an_engine_that_ignores_sigchld_hears_it_too(folder, state, monkeypatch):
    """The worker of an engine, Celery's for example, is a program of others."""
    from packtivity.task import Task

    monkeypatch.setenv("PACKTIVITY_LOGGING_STREAM_LEVEL", "CRITICAL")
    document = Task.of(command_spec("exit 7", constant({})), {}, state, {"name": "task"}, id="seven").to_json()
    (folder / "task.json").write_text(json.dumps(document))
    found = json.loads(run_in_host(ENGINE, cwd=folder))
    assert (found["type"], found["returncode"]) == ("TaskFailed", 7)


THIEF = """
import ctypes, json, sys
import packtivity
from packtivity import errors
ctypes.CDLL(None).signal(17, ctypes.c_void_p(1))  # as a library does it: Python does not know that it is ignored
try:
    print(packtivity.run("spec.json", workdir="out"))
except errors.WorkerLost as error:
    print("lost", error.message)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the number of SIGCHLD is Linux's")
@pytest.mark.parametrize("cmd", ["exit 7", "true"])
def test_a_status_that_cannot_be_had_is_a_failure_that_says_so(cmd, folder, monkeypatch):
    monkeypatch.setenv("PACKTIVITY_LOGGING_STREAM_LEVEL", "CRITICAL")
    write_spec(folder, cmd)
    assert run_in_host(THIEF, cwd=folder).startswith("lost it is not known how 'sh' ended")
    (found,) = records(folder)
    assert (found["status"], found["exit_code"], found["usage"]) == ("failed", None, None)
    assert found["error"]["type"] == "WorkerLost"


# --- the other parent --------------------------------------------------------------------------------------------


@pytest.fixture
def ignored():
    """This process ignores SIGCHLD, for the time of the test."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGCHLD, before)


def shell(script, **more):
    return Execution(("sh", "-c", script), **more)


class Log:
    path = None

    def __init__(self):
        self.content, self.notes = b"", []
        self.write_seen = threading.Event()

    def write(self, chunk):
        self.content += chunk
        self.write_seen.set()

    def note(self, message):
        self.notes.append(message)


@pytest.mark.usefixtures("ignored")
def test_input_output_directory_and_variables_are_those_of_any_other_process(tmp_path):
    log = Log()
    inner = shell("cat; pwd; env; exit 3", stdin=b"input\n", workdir=str(tmp_path), env={"ONE": "é"}, inherit_env=False)
    assert process.run(inner, log=log).returncode == 3
    first, where, *variables = log.content.decode().splitlines()
    assert (first, where) == ("input", str(tmp_path))
    assert sorted(line for line in variables if not line.startswith(("_=", "PWD="))) == ["ONE=é"]


@pytest.mark.usefixtures("ignored")
def test_what_a_task_took_is_its_own():
    script = "import time; held = b'x' * 150_000_000; began = time.process_time()\nwhile time.process_time() < began + 0.2: pass"
    large = process.run(Execution((sys.executable, "-c", script)))
    assert large.max_rss > 150_000_000
    assert large.cpu > 0.2
    held = b"x" * 100_000_000
    assert (process.run(shell("true")).max_rss or 0) < 50_000_000, len(held)


@pytest.mark.usefixtures("ignored")
def test_what_cannot_be_started_is_said_as_ever(tmp_path):
    with pytest.raises(errors.EnvironmentUnavailable, match="'no-such-program' cannot be started: No such file"):
        process.run(Execution(("no-such-program",)))
    with pytest.raises(errors.StateError, match="work directory .* cannot be entered"):
        process.run(shell("true", workdir=str(tmp_path / "gone")))


@pytest.mark.usefixtures("ignored")
def test_a_time_limit_and_a_cancellation_end_it_with_all_it_started():
    done = process.run(shell("sleep 61 & sleep 62", timeout=0.3), grace=1)
    assert (done.timed_out, done.returncode) == (True, -signal.SIGTERM)
    log = Log()
    with Cancellation() as cancel:

        def cancel_soon():
            log.write_seen.wait(40)
            cancel.cancel()

        threading.Thread(target=cancel_soon).start()
        with pytest.raises(errors.TaskCancelled):
            process.run(shell("sleep 63 & echo $!; wait"), log=log, cancel=cancel, grace=1)
    pid = int(log.content)
    until(lambda: not os.path.exists(f"/proc/{pid}") or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2])


@pytest.mark.usefixtures("ignored")
def test_what_ends_the_whole_job_does_not_keep_the_parent_from_telling(tmp_path):
    script = "trap 'exit 5' TERM; kill -TERM $PPID; kill -TERM $$; sleep 60"
    assert process.run(shell(script)).returncode == 5


@pytest.mark.usefixtures("ignored")
def test_when_the_parent_is_killed_the_task_ends_and_has_failed(tmp_path):
    log = Log()

    def kill():
        log.write_seen.wait(40)
        os.kill(int(log.content.split()[1]), signal.SIGKILL)

    threading.Thread(target=kill).start()
    with pytest.raises(errors.WorkerLost, match="not known"):
        process.run(shell("echo $$ $PPID; exec sleep 60"), log=log)
    pid = int(log.content.split()[0])
    until(lambda: not os.path.exists(f"/proc/{pid}") or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2])


@pytest.mark.parametrize("handler", [signal.SIG_DFL, signal.SIG_IGN])
def test_a_command_of_an_engine_that_fails_has_failed(handler):
    before = signal.signal(signal.SIGCHLD, handler)
    try:
        done = run_command(("sh", "-c", "cat; echo bad >&2; exit 5"), dict(os.environ), stdin="in", timeout=60)
        assert (done.returncode, done.stdout, done.stderr) == (5, "in", "bad\n")
        with pytest.raises(FileNotFoundError):
            run_command(("no-such-program",), dict(os.environ), timeout=60)
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_the_other_parent_imports_nothing_of_ours():
    source = Path(process.__file__).with_name("parent.py").read_text()
    imports = {
        line.split()[1] for line in textwrap.dedent(source).splitlines() if line.startswith(("import ", "from "))
    }
    assert imports == {"__future__", "os", "resource", "signal", "sys"}
