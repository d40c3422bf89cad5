"""Tasks as jobs of a real Slurm: how they end, who may be killed on the way, and what is said meanwhile."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import slurms
from arena import BIN, TASK, free_port
from waiting import until

from packtivity import record
from packtivity.backends.task_files import TaskFiles
from packtivity.backendutils import backend_from_string, load_proxy
from packtivity.errors import BackendError, TaskCancelled, TaskTimeout, WorkerLost
from packtivity.statecontexts import LocalFSState


def wait(backend, proxy, seconds=60):
    until(lambda: backend.ready(proxy), seconds)
    return backend.status(proxy)


def begun(folder):
    until((folder / "busy").exists)
    return folder


def runner(folder):
    """The worker that runs the task in a folder."""
    (claim,) = (folder / "_packtivity").glob("*.state.json")
    return int(json.loads(claim.read_text())["runner"]["pid"])


def written(folder):
    return record.read_outcome(str(folder / "_packtivity" / "task.outcome.json"))


def succeeds(backend, proxy, folder, seconds=60):
    assert wait(backend, proxy, seconds).status == "succeeded"
    assert not (folder / "twice").exists()
    return written(folder)


# --- on the way ---


def test_a_task_waits_for_a_reason_that_is_told_and_runs_when_that_is_gone(backend, submit, closed, tmp_path):
    proxy = submit(seconds=0)
    until(lambda: "PartitionDown" in backend.status(proxy).reason)
    status = backend.status(proxy)
    assert (status.status, "scontrol show partition" in status.reason) == ("waiting", True)
    closed()
    assert succeeds(backend, proxy, tmp_path / "work")["attempts"] == 1


def test_another_process_that_has_the_proxy_alone_is_told_the_same(backend, submit, tmp_path):
    proxy = submit(seconds=0)
    path = tmp_path / "proxy.json"
    path.write_text(json.dumps(proxy.json()))
    done = subprocess.run(
        [BIN / "packtivity-checkproxy", "--wait", path], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / "work" / "out") in done.stdout + (tmp_path / "work/_packtivity/task.outcome.json").read_text()


def test_the_client_may_go_and_another_one_asks(backend, slurm, tmp_path, arena):
    here = arena(7)
    client = here.submitter("slurm", 4)
    until(lambda: len(here.proxies()) == 4)
    client.kill()
    for number, document in here.proxies().items():
        assert wait(backend, load_proxy(document)[0]).status == "succeeded"
        here.judge(number, "succeeded", None)


def test_what_a_task_is_given_is_in_no_command_line_and_in_no_list_of_jobs(backend, submit, tmp_path):
    state = LocalFSState([str(tmp_path / "work")])
    state.ensure()
    given = {"seconds": 30, "n": "sesame", "out": "{workdir}/out"}
    spec = {**TASK, "process": {**TASK["process"], "script": "touch busy; sleep {seconds}; : {n} > {out}"}}
    proxy = backend.submit(spec, given, state, {"name": "task"})
    begun(tmp_path / "work")
    ((number, _),) = slurms.states(proxy.task_id).items()
    lists = slurms.command("scontrol", "show", "job", str(number), "-d") + slurms.command("squeue", "-o", "%all")
    assert "sesame" not in lists + json.dumps(proxy.json())
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            line, names = Path(f"/proc/{entry}/cmdline").read_bytes(), Path(f"/proc/{entry}/environ").read_bytes()
            assert b"packtivity" not in line or b"sesame" not in line + names
    script = slurms.STATE / "spool" / f"job{number:05d}" / "slurm_script"
    assert (script.stat().st_mode & 0o077, script.stat().st_uid, "sesame" in script.read_text()) == (
        0,
        os.getuid(),
        True,
    )
    backend.cancel(proxy)


def test_a_name_or_parameters_that_mean_something_to_a_shell_mean_nothing(backend, tmp_path):
    state = LocalFSState([str(tmp_path / "work")])
    state.ensure()
    hostile = "ENVELOPE\n'\"; touch /tmp/bad $(id) `id` \0 #SBATCH --hold é|\\"
    spec = {
        "process": None,
        "environment": None,
        "publisher": {"publisher_type": "constant-pub", "publish": {"a": hostile}},
    }
    proxy = backend.submit(spec, {"a": hostile}, state, {"name": "a|b\n--hold é"})
    assert wait(backend, proxy).status == "succeeded"
    assert backend.result(proxy).json() == {"a": hostile}


# --- ends ---


def test_a_running_task_is_cancelled(backend, submit, tmp_path):
    proxy = submit()
    folder = begun(tmp_path / "work")
    backend.cancel(proxy)
    assert wait(backend, proxy).status == "cancelled"
    assert (written(folder)["status"], (folder / "out").exists()) == ("cancelled", False)
    until(lambda: not slurms.step_daemons(proxy.task_id))


def test_a_waiting_task_is_cancelled_and_its_job_goes(backend, submit, closed, tmp_path):
    proxy = submit()
    backend.cancel(proxy)
    assert backend.status(proxy).status == "cancelled"
    until(lambda: [*slurms.states(proxy.task_id).values()] == ["CANCELLED"])
    assert not (tmp_path / "work" / "busy").exists()


@pytest.mark.parametrize("when", ["waiting", "running"])
def test_a_job_that_somebody_else_has_cancelled_is_a_cancelled_task(backend, submit, tmp_path, request, when):
    if when == "waiting":
        request.getfixturevalue("closed")
    proxy = submit()
    if when == "running":
        begun(tmp_path / "work")
    ((number, _),) = slurms.states(proxy.task_id).items()
    slurms.command("scancel", str(number))
    assert wait(backend, proxy).status == "cancelled"
    with pytest.raises(TaskCancelled):
        backend.result(proxy)
    assert [*slurms.states(proxy.task_id)] == [number]


def test_a_job_that_slurm_runs_again_is_no_failure_of_its_task(backend, submit, tmp_path):
    backend.engine.limits = replace(backend.engine.limits, lag=30.0)  # or we would submit it before Slurm does
    proxy = submit(seconds=3)
    folder = begun(tmp_path / "work")
    ((number, _),) = slurms.states(proxy.task_id).items()
    slurms.command("scontrol", "requeue", str(number))
    until(lambda: backend.status(proxy).status in ("waiting", "succeeded"), 90)
    # Looked at now and not at the end: of a job that is hurried, Slurm may believe the late word of its first run's end.
    # It ends the job then, and what it has ended is rightly submitted again.
    assert [*slurms.states(proxy.task_id)] == [number]
    slurms.hurry(backend, proxy)
    # The attempt was given back: the runner was told to stop.
    assert succeeds(backend, proxy, folder)["attempts"] == 1


@pytest.mark.soak
def test_a_time_limit_is_called_one(slurm, own_records, monkeypatch, tmp_path):
    monkeypatch.setenv("SBATCH_TIMELIMIT", "1")
    slurms.start()
    backend = backend_from_string("slurm:short")[1]
    backend.engine.limits = replace(backend.engine.limits, lag=0.4)
    state = LocalFSState([str(tmp_path / "work")])
    state.ensure()
    proxy = backend.submit(TASK, {"seconds": 600, "n": 7, "out": "{workdir}/out"}, state, {"name": "task"})
    assert wait(backend, proxy, 300).status == "failed"
    with pytest.raises(TaskTimeout, match="TimeLimit"):
        backend.result(proxy)


# --- who may be killed ---


def test_a_killed_worker_costs_an_attempt(backend, submit, tmp_path):
    proxy = submit(seconds=3)
    folder = begun(tmp_path / "work")
    os.kill(runner(folder), signal.SIGKILL)
    assert succeeds(backend, proxy, folder)["attempts"] == 2


def test_a_task_that_kills_its_worker_is_given_up(backend, submit, tmp_path):
    proxy = submit()
    killed: list[int] = []
    while len(killed) < record.ATTEMPTS:
        until(
            lambda: (
                backend.status(proxy)
                and (tmp_path / "work" / "busy").exists()
                and runner(tmp_path / "work") not in killed
            )
        )
        killed.append(runner(tmp_path / "work"))
        os.kill(killed[-1], signal.SIGKILL)
    assert wait(backend, proxy).status == "failed"
    with pytest.raises(WorkerLost, match="3 times"):
        backend.result(proxy)


def test_a_job_that_is_called_running_for_ever_is_not_believed(backend, submit, tmp_path):
    proxy = submit(seconds=3)
    folder = begun(tmp_path / "work")
    worker = runner(folder)
    (step,) = slurms.step_daemons(proxy.task_id)
    os.kill(step, signal.SIGKILL)
    os.killpg(worker, signal.SIGKILL) if os.getpgid(worker) == worker else os.kill(worker, signal.SIGKILL)
    assert "RUNNING" in slurms.states(proxy.task_id).values()
    found = succeeds(backend, proxy, folder)
    assert (found["attempts"], len(slurms.states(proxy.task_id))) == (2, 2)


@pytest.mark.soak
def test_a_node_that_died_loses_no_task(backend, submit, tmp_path):
    proxies = {name: submit(name, seconds=3) for name in ("one", "two")}
    runners = [runner(begun(tmp_path / name)) for name in proxies]
    slurms.kill("slurmd")
    for pid in [*(pid for proxy in proxies.values() for pid in slurms.step_daemons(proxy.task_id)), *runners]:
        os.kill(pid, signal.SIGKILL)
    slurms.start()
    for name, proxy in proxies.items():
        slurms.hurry(backend, proxy)
        assert succeeds(backend, proxy, tmp_path / name)["attempts"] == 2


@pytest.mark.soak
def test_a_controller_that_died_loses_no_task(backend, submit, tmp_path):
    proxies = {name: submit(name, seconds=4) for name in ("one", "two")}
    begun(tmp_path / "one")
    slurms.kill("slurmctld")
    slurms.start()
    for name, proxy in proxies.items():
        assert succeeds(backend, proxy, tmp_path / name)["attempts"] == 1


@pytest.mark.soak
def test_a_controller_that_has_forgotten_a_job_is_given_its_task_again(backend, submit, closed, tmp_path):
    proxy = submit(seconds=0)
    until(lambda: slurms.states(proxy.task_id))
    slurms.kill("slurmctld")
    slurms.kill("slurmd")  # which would refuse a number that it has seen
    slurms.start("empty")
    assert not slurms.states(proxy.task_id)
    succeeds(backend, proxy, tmp_path / "work")
    assert len(slurms.states(proxy.task_id)) == 1


def test_while_nobody_answers_a_task_is_unclear(backend, submit, closed, monkeypatch, tmp_path):
    proxy = submit(seconds=0)
    elsewhere = tmp_path / "slurm.conf"
    text = Path(slurms.CONFIG["SLURM_CONF"]).read_text()
    port = next(line for line in text.splitlines() if line.startswith("SlurmctldPort="))
    elsewhere.write_text(text.replace(port, f"SlurmctldPort={free_port()}\nMessageTimeout=2"))
    with monkeypatch.context() as patch:
        patch.setenv("SLURM_CONF", str(elsewhere))
        until(lambda: backend.status(proxy).status == "unclear")
        assert "Unable to contact slurm controller" in backend.status(proxy).reason
        other = backend_from_string("slurm")[1]
        with pytest.raises(BackendError, match="Unable to contact"):
            other.submit(TASK, {"seconds": 1, "n": 7, "out": "{workdir}/out"}, None, {"name": "task"})
    closed()
    succeeds(backend, proxy, tmp_path / "work")


@pytest.mark.soak
def test_slurm_survives_whoever_is_killed(backend, arena):
    here = arena(8)
    here.submitter("slurm", 120, longest=2.0)
    until(here.proxies)
    dice = random.Random(8)
    deadline = time.monotonic() + 600
    while here.kills < 100 and time.monotonic() < deadline and (len(here.proxies()) < 120 or here.unfinished()):
        victims = here.having("packtivity.cli.start", "task.json")
        if dice.random() < 0.1:
            slurms.kill(dice.choice(["slurmctld", "slurmd"]))
            here.killed["a daemon", ""] += 1
            slurms.start()
        elif victims:
            here.kill(dice.choice(victims), "a worker")
        for document in here.proxies().values():
            with suppress(BackendError):
                backend.ready(load_proxy(document, best_effort_backend=False))
        time.sleep(0.3)
    told = {}
    for number, document in here.proxies().items():
        status = wait(backend, load_proxy(document, best_effort_backend=False), 120)
        here.judge(number, status.status, status.error)
        told[status.status] = told.get(status.status, 0) + 1
    here.report("slurm", told)


# --- beside others ---


def test_the_same_task_does_not_run_beside_itself_by_another_way(backend, submit, tmp_path):
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps(TASK))
    folder = tmp_path / "work"
    given = ["-p", "seconds=2", "-p", "n=7", "-p", 'out="{workdir}/out"', "--write", str(folder)]
    proxy = submit(seconds=2)
    with subprocess.Popen([BIN / "packtivity-run", spec, *given], stderr=subprocess.DEVNULL) as by_hand:
        assert by_hand.wait(60) == 0
    assert wait(backend, proxy).status == "succeeded"
    assert not (folder / "twice").exists()


def test_what_slurm_refuses_is_an_error_with_a_remedy_and_leaves_nothing(slurm, own_records, tmp_path):
    slurms.start()
    backend = backend_from_string("slurm:nowhere")[1]
    nodes = []
    for number in range(3):
        state = LocalFSState([str(tmp_path / str(number))])
        state.ensure()
        nodes.append((TASK, {"seconds": 1, "n": 7, "out": "{workdir}/out"}, state, {"name": "task"}))
    with pytest.raises(BackendError, match="Invalid partition name") as caught:
        backend.batch_submit(nodes)
    assert "sinfo -s" in caught.value.hint
    assert TaskFiles().ids() == []


def test_a_cluster_of_another_name_is_not_asked_for_a_task(backend, submit, closed):
    proxy = submit(seconds=0)
    document = proxy.json()
    document["proxydetails"]["cluster"] = "elsewhere"
    (native,) = backend.engine.look([replace(proxy_submission(backend, proxy), place="elsewhere")])
    assert (native.said, native.reason) == ("away", "it is on the cluster elsewhere")
    backend.cancel(proxy)


def proxy_submission(backend, proxy):
    backend.status(proxy)
    return proxy.known.submission


def test_a_user_who_has_set_what_squeue_lists_is_told_the_same(backend, submit, closed, monkeypatch):
    monkeypatch.setenv("SQUEUE_PARTITION", "short")
    monkeypatch.setenv("SQUEUE_FORMAT", "%i")
    monkeypatch.setenv("SBATCH_WAIT", "1")
    proxy = submit(seconds=0)
    until(lambda: "PENDING" in backend.status(proxy).reason)
    backend.cancel(proxy)


def test_a_node_without_the_interpreter_is_told_of_at_once(backend, submit, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", "/nowhere/python")
        proxy = submit(seconds=0)
    assert wait(backend, proxy).status == "failed"
    kind, message = backend.fail_info(proxy)
    assert (kind, "its node has no Python" in message) == ("EnvironmentUnavailable", True)
    assert len(slurms.states(proxy.task_id)) == 1
