"""What came is what the task gets: signals that end a command end its task by the same signal, and others are passed on."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path

import jsonschema
import pytest
from specs import command_spec, constant
from waiting import until

from packtivity import record

BIN = Path(sys.executable).parent
BACKENDS = ["defaultsync", "foregroundasync", "multiproc:1"]
"""Backends whose tasks end with the command."""

ENDING = ["INT", "TERM", "HUP", "QUIT", "XCPU", "ALRM", "PWR"]

TRAPPED = """
import os, signal, sys, time
got = []
def note(number, _):
    with open("got", "a") as file:
        print(signal.Signals(number).name, file=file)
    if number not in (signal.SIGUSR1, signal.SIGUSR2):
        sys.exit(3)
for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}:
    signal.signal(number, note)
open("begun", "w").close()
deadline = time.monotonic() + 120
while time.monotonic() < deadline and not os.path.exists("enough"):
    time.sleep(0.02)
"""
"""A task that notes which signals it gets, ends at those that end programs, and when a file says so."""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A directory with a user's own state, a program that notes signals, and a spec that runs it."""
    monkeypatch.setenv("PACKTIVITY_STATE_DIR", str(tmp_path / "state"))
    (tmp_path / "noting.py").write_text(TRAPPED)
    write_spec(tmp_path, f"exec {shlex.quote(sys.executable)} {shlex.quote(str(tmp_path / 'noting.py'))}")
    return tmp_path


def write_spec(folder, cmd):
    (folder / "spec.json").write_text(json.dumps(command_spec(cmd, constant({"a": 1}))))


@contextmanager
def running(folder, *argv, ignored=()):
    """Run a command, in a session of its own and with signals ignored, until its task has begun."""
    line = "".join(f"trap '' {name}; " for name in ignored) + 'exec "$@"'
    command = subprocess.Popen(
        ["sh", "-c", line, "sh", *argv], cwd=folder, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        until(lambda: list(folder.rglob("begun")) or command.poll() is not None)
        yield command
        command.communicate(timeout=60)
    finally:
        if command.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(command.pid, signal.SIGKILL)
            command.communicate()


def record_of(folder):
    (found,) = {path.read_text() for path in folder.rglob("*.outcome.json")}
    found = json.loads(found)
    jsonschema.Draft4Validator(record.schema()).validate(found)
    return found


def number_of(name):
    return getattr(signal, f"SIG{name}")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ENDING)
def test_a_signal_that_ends_a_command_is_what_its_task_gets_and_what_its_record_says(name, backend, folder):
    with running(folder, BIN / "packtivity-run", "spec.json", "-w", "out", "-b", backend) as command:
        command.send_signal(number_of(name))
    assert command.returncode == 128 + number_of(name)
    assert (folder / "out" / "got").read_text() == f"SIG{name}\n"
    found = record_of(folder)
    assert (found["status"], found["exit_code"]) == ("cancelled", 3)
    assert found["ended_by"] == {"reason": "signal", "signal": f"SIG{name}"}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["USR1", "USR2"])
def test_a_signal_for_the_task_is_passed_on_and_ends_nothing(name, backend, folder):
    with running(folder, BIN / "packtivity-run", "spec.json", "-w", "out", "-b", backend) as command:
        command.send_signal(number_of(name))
        until((folder / "out" / "got").exists)
        (folder / "out" / "enough").touch()
    assert command.returncode == 0
    assert (folder / "out" / "got").read_text() == f"SIG{name}\n"
    found = record_of(folder)
    assert (found["status"], found["exit_code"], found["ended_by"]) == ("succeeded", 0, None)


@pytest.mark.parametrize("name", ["USR1", "USR2", "XCPU", "ALRM", "PWR"])
def test_no_signal_leaves_the_task_of_a_worker_command_running_without_a_record(name, folder, state):
    from packtivity.task import Task

    spec = json.loads((folder / "spec.json").read_text())
    document = Task.of(spec, {}, state, {"name": "task"}, id="one").to_json()
    (folder / "task.json").write_text(json.dumps(document))
    work = Path(state.readwrite[0])
    with running(folder, BIN / "packtivity-worker", "task.json") as command:
        command.send_signal(number_of(name))
        until((work / "got").exists)
        (work / "enough").touch()
    assert (work / "got").read_text() == f"SIG{name}\n"
    assert record_of(work)["status"] == ("succeeded" if name.startswith("USR") else "cancelled")


def test_a_worker_command_of_an_engine_that_ends_it_gives_its_task_the_same_signal(folder, state):
    from packtivity.task import Task

    spec = json.loads((folder / "spec.json").read_text())
    document = Task.of(spec, {}, state, {"name": "task"}, id="one").to_json()
    (folder / "task.json").write_text(json.dumps({"task": document}))
    with running(folder, BIN / "packtivity-worker", "task.json") as command:
        command.send_signal(signal.SIGTERM)
    assert command.returncode == 75
    assert (Path(state.readwrite[0]) / "got").read_text() == "SIGTERM\n"


def test_where_interrupts_are_ignored_a_task_is_not_ended_by_one(folder):
    """As in the background of a batch script: it would take until the next signal of the ladder."""
    write_spec(folder, "touch begun; sleep 60")
    with running(folder, BIN / "packtivity-run", "spec.json", "-w", "out", ignored=["INT"]) as command:
        command.send_signal(signal.SIGTERM)
    assert command.returncode == 128 + signal.SIGTERM
    found = record_of(folder)
    assert (found["signal"], found["seconds"] < 10) == ("SIGTERM", True)


@pytest.mark.parametrize("name", ["HUP", "INT"])
def test_a_signal_that_was_ignored_ends_neither_command_nor_task(name, folder):
    """As with nohup."""
    argv = (BIN / "packtivity-run", "spec.json", "-w", "out")
    with running(folder, *argv, ignored=[name]) as command:
        command.send_signal(number_of(name))
        (folder / "out" / "enough").touch()
    assert command.returncode == 0
    assert not (folder / "out" / "got").exists()


def test_a_time_limit_is_what_the_record_says(folder):
    write_spec(folder, "touch begun; sleep 60")
    with running(folder, BIN / "packtivity-run", "spec.json", "-w", "out", "--timeout", "0.5") as command:
        pass
    assert command.returncode == 7
    assert record_of(folder)["ended_by"] == {"reason": "timeout", "signal": None}
