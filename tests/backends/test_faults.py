"""Processes killed at random: no task lost, none running twice at a time, no success that did not finish, no hang."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections import Counter

import pytest
from arena import MARK, TASK, overlap, settle
from waiting import until

from packtivity import record
from packtivity.backendutils import backend_from_string, load_proxy
from packtivity.statecontexts import LocalFSState


def test_runs_side_by_side_are_seen_by_what_they_wrote(tmp_path):
    ticks = tmp_path / "ticks"
    assert not overlap(ticks)
    ticks.write_text("one\none\ntwo\ntwo\n")
    assert not overlap(ticks)
    ticks.write_text("one\ntwo\none\n")
    assert overlap(ticks)


def test_runs_side_by_side_in_one_folder_are_seen_even_if_none_stops(tmp_path):
    script = TASK["process"]["script"].replace("exit 42", "true").format(seconds=1, n=1, out="out")
    runs = [subprocess.Popen(["sh", "-c", script], cwd=tmp_path) for _ in range(2)]
    assert [run.wait() for run in runs] == [0, 0]
    assert (tmp_path / "twice").exists()
    assert overlap(tmp_path / "ticks")


ROUNDS = [pytest.param(20, 12, id="sample"), pytest.param(150, 150, id="soak", marks=pytest.mark.soak)]


@pytest.mark.parametrize(("tasks", "kills"), ROUNDS)
def test_local_survives_killed_supervisors_workers_and_clients(arena, tasks, kills):
    here = arena(1)
    here.submitter("local:2", tasks, longest=max(0.25, kills / 100))
    until(here.proxies)
    _, backend = backend_from_string("local:2")
    while here.kills < kills:
        here.kill_one("packtivity.backends", "backend_from_string")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(MARK, here.mark)
            backend.engine.revive()
        if not here.having("backend_from_string") and (first := max(here.proxies()) + 1) < tasks:
            here.submitter("local:2", tasks - first, first, longest=max(0.25, kills / 100))
            until(lambda first=first: first in here.proxies() or not here.having("backend_from_string"))
        if not here.processes():  # all tasks are over
            break
        time.sleep(here.random.uniform(0.05, 0.3))
    told = settle(here)
    here.report("local", told)
    assert sum(told.values()) == len(here.proxies())


@pytest.mark.parametrize(("tasks", "kills"), ROUNDS)
def test_a_pool_survives_killed_workers(arena, tasks, kills):
    here = arena(2)
    client = here.submitter("multiproc:2", tasks)
    until(here.proxies)
    while here.kills < kills and client.poll() is None:
        here.kill_one("packtivity.backends.pool")
        time.sleep(here.random.uniform(0.05, 0.3))
    told = settle(here)
    here.report("multiproc", told)
    assert sum(told.values()) == tasks
    assert client.wait(30) == 0


@pytest.mark.parametrize(("tasks", "kills"), ROUNDS)
def test_the_same_task_through_two_backends_never_runs_at_once(arena, tasks, kills):
    here = arena(5)
    notes = [here.root.parent / name for name in ("local", "multiproc")]
    for folder in notes:
        folder.mkdir()
        here.submitter(f"{folder.name}:2", tasks, longest=kills / 100, notes=folder)
    until(lambda: all(len([*folder.glob("*.proxy")]) == tasks for folder in notes), 120)
    _, backend = backend_from_string("local:2")
    while here.kills < kills and here.having("packtivity.backends.pool"):
        here.kill_one("packtivity.backends.pool", "packtivity.backends.engines.local")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(MARK, here.mark)
            backend.engine.revive()
        time.sleep(here.random.uniform(0.05, 0.3))
    told = Counter(told_of(json.loads(path.read_text())) for folder in notes for path in folder.glob("*.proxy"))
    here.report("two backends", told)
    assert told["succeeded"] + told["failed"] == 2 * tasks
    assert not [*here.root.glob("*/twice")]


def told_of(document):
    """Return how a task went, when it is over, after a look that its own record says so."""
    proxy, backend = load_proxy(document)
    until(lambda: backend.ready(proxy), 120)
    status = backend.status(proxy)
    assert status.verified
    assert record.read_outcome(proxy.record)["status"] == status.status
    assert status.error is None or status.error["type"] == "WorkerLost" or status.error.get("returncode") == -9
    return status.status


@pytest.mark.parametrize("rounds", [pytest.param(2, id="sample"), pytest.param(60, id="soak", marks=pytest.mark.soak)])
def test_the_tasks_of_a_killed_client_are_ended_and_called_failed(arena, rounds):
    here = arena(3)
    for _ in range(rounds):
        shutil.rmtree(here.root)
        here.root.mkdir()
        client = here.submitter("multiproc:2", 12)
        until(here.proxies)
        time.sleep(here.random.uniform(0, 0.6))
        client.kill()
        client.wait()
        until(lambda: not here.processes())
        told = settle(here)
        assert sum(told.values()) == len(here.proxies())


def test_after_a_reboot_everything_is_told_or_done(arena):
    here = arena(4)
    here.submitter("local:2", 12)
    until(lambda: len(here.proxies()) == 12)
    time.sleep(0.3)
    here.kill_all()
    assert {load_proxy(p)[0].task_id for p in here.proxies().values()}
    told = settle(here)
    assert told == {"succeeded": 12}


def test_a_cancelled_task_ends_on_every_backend(celery_redis, tmp_path):
    for name in ("multiproc:1", "local:2", "celery"):
        backend = celery_redis if name == "celery" else backend_from_string(name)[1]
        state = LocalFSState([str(tmp_path / name)])
        state.ensure()
        proxy = backend.submit(TASK, {"seconds": 60, "n": 1, "out": "{workdir}/out"}, state, {"name": "task"})
        until(lambda folder=tmp_path / name: (folder / "busy").exists())
        backend.cancel(proxy)
        until(lambda backend=backend, proxy=proxy: backend.ready(proxy), 30)
        assert not backend.successful(proxy), name
        assert not (tmp_path / name / "out").exists()
