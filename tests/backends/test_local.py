"""Detached tasks: at most so many at once, whoever submits; alive after client and terminal; listed by ``packtivity ps``."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from specs import command_spec, constant
from waiting import until

from packtivity.backends.engines.local import LocalBackend, LocalProxy, Queue
from packtivity.backends.status import TaskStatus
from packtivity.backends.task_files import TaskFiles
from packtivity.errors import EnvironmentUnavailable, ProxyError, StateError
from packtivity.statecontexts import LocalFSState

BIN = Path(sys.executable).parent

SPEC = command_spec("{cmd}", constant({"a": 1}))
TIMED = "date +%s%N >> times; sleep 0.15; date +%s%N >> times"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A user of their own: nothing submitted yet, and nothing left running at the end."""
    monkeypatch.setenv("PACKTIVITY_STATE_DIR", str(tmp_path / "state"))
    yield tmp_path
    backend, queue = LocalBackend(1), Queue()
    for name in queue.names():
        with suppress(ProxyError):  # of a file that no task belongs to
            backend.cancel(LocalProxy(name, queue.host))
    until(lambda: not queue.names() or not queue.is_supervised())


def submit(home, name, cmd, jobs=1):
    state = LocalFSState([str(home / "work" / name)])
    state.ensure()
    return LocalBackend(jobs).submit(SPEC, {"cmd": cmd}, state, {"name": "task"})


def ps(*arguments):
    done = subprocess.run([BIN / "packtivity", "ps", *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("python", ["/bin/false", "/nowhere/python"])
def test_tasks_that_nobody_can_be_started_for_are_not_run_later(home, monkeypatch, python):
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", python)
        with pytest.raises(EnvironmentUnavailable, match="cannot be started"):
            submit(home, "early", "touch made")
    assert LocalBackend(1).result(submit(home, "late", "touch made")).json() == {"a": 1}
    assert (home / "work" / "late" / "made").exists()
    assert not (home / "work" / "early" / "made").exists()


SUBMIT = """
import json, os, sys
from packtivity.backends.engines.local import LocalBackend
from packtivity.statecontexts import LocalFSState
root, who, jobs, spec, cmd = sys.argv[1], sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4]), sys.argv[5]
backend = LocalBackend(jobs)
for n in range(8):
    state = LocalFSState([f"{root}/{who}-{n}"])
    state.ensure()
    print(backend.submit(spec, {"cmd": cmd}, state, {"name": "task"}).task_id)
"""


def test_at_most_so_many_run_at_once_whoever_submits_at_the_same_time(home):
    (home / "work").mkdir()
    argv = [sys.executable, "-c", SUBMIT, str(home / "work")]
    clients = [
        subprocess.Popen([*argv, str(who), "3", json.dumps(SPEC), TIMED], stdout=subprocess.PIPE, text=True)
        for who in range(4)
    ]
    ids = [line for client in clients for line in client.communicate(timeout=60)[0].split()]
    assert len(set(ids)) == 32
    backend = LocalBackend(3)
    host = Queue().host
    for task_id in ids:
        assert backend.result(LocalProxy(task_id, host)).json() == {"a": 1}
    times = [sorted(map(int, path.read_text().split())) for path in (home / "work").glob("*/times")]
    assert [len(each) for each in times] == [2] * 32, "a task ran twice"
    changes = sorted([(began, 1) for began, _ in times] + [(ended, -1) for _, ended in times])
    running = most = 0
    for _, change in changes:
        running += change
        most = max(most, running)
    assert 2 <= most <= 3


SUPERVISE = """
from packtivity.backends.engines import local
local._IDLE = local._AGAIN = 0.1
local.supervise(local.Queue(), 1)
"""


def test_a_supervisor_whose_state_directory_was_removed_ends_with_its_task(home):
    state = LocalFSState([str(home / "work")])
    state.ensure()
    entry = LocalBackend(1).entry(SPEC, {"cmd": "touch begun; until [ -e go ]; do sleep 0.02; done"}, state)
    queue = Queue()
    queue.prepare()
    TaskFiles().write([entry], sync=False)
    queue.add(entry.id)
    supervisor = subprocess.Popen([sys.executable, "-c", SUPERVISE])
    try:
        until((home / "work" / "begun").exists)
        shutil.rmtree(home / "state")
        (home / "work" / "go").touch()
        assert supervisor.wait(timeout=30) == 0
    finally:
        supervisor.kill()
        supervisor.wait()


ON_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp("sh", ["sh", "-c", sys.argv[1]])
"""


def test_a_task_survives_its_client_and_the_closed_terminal_it_came_from(home):
    (home / "spec.yml").write_text(json.dumps(SPEC))
    work = home / "work"
    cmd = "trap 'echo hup >> hup' HUP; echo begun >> begun; sleep 1.5; echo done > end"
    line = f'{BIN}/packtivity-run -b local:1 --async -x p.json -w {work} -p cmd="$CMD" spec.yml; sleep 600'
    master, slave = pty.openpty()
    client = subprocess.Popen(
        [sys.executable, "-c", ON_TERMINAL, line],
        cwd=home,
        env={**os.environ, "CMD": cmd},
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    until((work / "begun").exists)
    os.close(master)  # the kernel sends SIGHUP to everybody on it
    assert client.wait(20) == -signal.SIGHUP
    assert not (work / "end").exists()
    done = subprocess.run(
        [BIN / "packtivity-checkproxy", "--wait", "--timeout", "30", home / "p.json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.splitlines()[:2]) == (0, ["ready: True", "successful: True"])
    assert (work / "end").read_text() == "done\n"
    assert not (work / "hup").exists()


def test_a_state_directory_that_cannot_be_made_is_named_with_the_way_out(home, monkeypatch):
    (home / "file").touch()
    monkeypatch.setenv("PACKTIVITY_STATE_DIR", str(home / "file" / "state"))
    with pytest.raises(StateError, match=r"(?s)file/state, where submitted tasks are kept, .*PACKTIVITY_STATE_DIR"):
        submit(home, "a", "true")
    monkeypatch.setenv("PACKTIVITY_STATE_DIR", str(home / "state"))


def test_nothing_is_listed_when_nothing_was_submitted(home):
    assert ps() == ""
    assert ps("-a") == ""
    assert json.loads(ps("--format", "json")) == []


def test_what_runs_and_waits_is_listed_in_the_order_of_submission_and_what_is_over_on_request(home):
    over = submit(home, "over", "true")
    until(lambda: LocalBackend(1).ready(over))
    first = submit(home, "first", "sleep 60")
    until(lambda: LocalBackend(1).status(first).status == "running")
    second, third = submit(home, "second", "true"), submit(home, "third", "true")
    lines = [line.split() for line in ps().splitlines()]
    assert [(line[0], line[1]) for line in lines] == [
        (first.task_id, "running"),
        (second.task_id, "waiting"),
        (third.task_id, "waiting"),
    ]
    assert [line[4:] for line in lines] == [["task", f"{home}/work/{name}"] for name in ("first", "second", "third")]
    everything = json.loads(ps("-a", "--format", "json"))
    assert [task["status"] for task in everything] == ["running", "waiting", "waiting", "succeeded"]
    assert set(everything[0]) == {"id", "status", "submitted", "name", "workdir"}
    assert everything[3]["workdir"] == f"{home}/work/over"
    assert all(abs(task["submitted"] - time.time()) < 120 for task in everything)


def test_failed_and_cancelled_tasks_are_listed_as_such(home):
    failed, cancelled = submit(home, "failed", "exit 3"), submit(home, "cancelled", "sleep 60")
    backend = LocalBackend(1)
    until(lambda: backend.status(cancelled).status == "running")
    backend.cancel(cancelled)
    until(lambda: backend.ready(cancelled))
    found = {task["id"]: task["status"] for task in json.loads(ps("-a", "--format", "json"))}
    assert found == {failed.task_id: "failed", cancelled.task_id: "cancelled"}


def test_listing_starts_the_supervisor_again_when_it_was_killed(home):
    proxy = submit(home, "slow", "sleep 0.5")
    until(lambda: LocalBackend(1).status(proxy).status == "running")
    (supervisor,) = [
        int(name)
        for name in filter(str.isdigit, os.listdir("/proc"))
        if _is_supervisor(Path("/proc") / name, str(home / "state"))
    ]
    os.kill(supervisor, signal.SIGKILL)
    assert proxy.task_id in ps()
    until(lambda: json.loads(ps("-a", "--format", "json"))[0]["status"] == "succeeded")


def _is_supervisor(folder, state):
    try:
        return (
            b"packtivity.backends.engines.local" in (folder / "cmdline").read_bytes()
            and state.encode() in (folder / "environ").read_bytes()
        )
    except OSError:
        return False


def test_a_damaged_document_of_a_task_is_listed_and_harms_nobody_else(home):
    proxy = submit(home, "good", "true")
    until(lambda: LocalBackend(1).ready(proxy))
    Path(TaskFiles().path("0-damaged")).write_text("{")
    listed = {task["id"]: task["status"] for task in json.loads(ps("-a", "--format", "json"))}
    assert listed == {proxy.task_id: "succeeded", "0-damaged": "unknown"}


def test_many_tasks_are_asked_for_by_listing_the_queue_once(home, monkeypatch):
    backend = LocalBackend(1)
    done = [entry_of(home, backend, f"d{number}") for number in range(300)]
    files = TaskFiles()
    files.write(done, sync=False)
    for entry in done:
        files.retire(entry, TaskStatus("succeeded", {}))
    slow = submit(home, "slow", "sleep 60")
    waiting = [submit(home, f"w{number}", "true") for number in range(5)]
    until(lambda: backend.status(slow).status == "running")
    listings = []
    names_of = Queue.names
    monkeypatch.setattr(Queue, "names", lambda self: listings.append(self) or names_of(self))
    proxies = [
        slow,
        *waiting,
        *(LocalProxy(entry.id, entry.place) for entry in done),
        LocalProxy("nobody", Queue().host),
    ]
    told = LocalBackend(1).statuses(proxies)
    assert [answer.status for answer in told[:-1]] == ["running"] + ["waiting"] * 5 + ["succeeded"] * 300
    assert isinstance(told[-1], ProxyError)
    assert len(listings) <= 2


def entry_of(home, backend, name):
    return backend.entry(SPEC, {"cmd": "true"}, LocalFSState([str(home / "work" / name)]), {"name": "task"})
