"""On every backend that yadage and this package share, workflows give the same, are cached, and survive a kill."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest
from waiting import until

WORKFLOWS = Path(__file__).resolve().parent.parent / "workflows"
SUCCEEDING = sorted({case.parent.name for case in WORKFLOWS.glob("*/case.yml")} - {"failing", "platform"})
BACKENDS = ("foregroundasync", "multiproc", "celery", "ipcluster")
PREPUBLISHED = {"values"}
"""Workflows that look into results before tasks have run: the engine cannot do that without prepublishing."""

KILLS = 3


def pairs(*every_day, backends=BACKENDS, rest=(pytest.mark.soak,)):
    """Return all pairs of backend and workflow, with ``rest`` on those that are not for every day."""
    return [
        pytest.param(engine, name, marks=[*(() if (engine, name) in every_day else rest), *broker_for(engine)])
        for engine in backends
        for name in SUCCEEDING
    ]


def broker_for(engine):
    """Return the mark for a backend that takes more than Python packages."""
    return [pytest.mark.engines] if engine == "celery" else []


def everywhere(*every_day, without=frozenset()):
    """Return them for a test that takes its time: it is left out where nine worlds are to be gone through."""
    found = pairs(*every_day, rest=(pytest.mark.soak, pytest.mark.everywhere))
    return [each for each in found if each.values[1] not in without]


@pytest.fixture
def backend(engine, request):
    """Start what the backend needs, and return its name and environment."""
    return request.getfixturevalue(engine)


@pytest.mark.parametrize(
    ("engine", "name"),
    pairs(
        ("multiproc", "mapreduce"),
        ("multiproc", "scattered"),
        ("multiproc", "globs"),
        ("celery", "mapreduce"),
        backends=BACKENDS[1:],
    ),
)
def test_a_workflow_gives_the_same_on_every_backend(backend, name, workflow, ours, originally, differences):
    expected, files = originally(workflow(name), proxies=False)

    found = ours.run(workflow(name), backend[0], **backend[1])

    assert found.returncode == 0, found.log
    assert differences(found.document(proxies=False), expected) == []
    assert found.files() == files
    assert "ForegroundProxy" not in found.proxies()


@pytest.mark.parametrize(("engine", "name"), everywhere(("multiproc", "literals"), without=PREPUBLISHED))
def test_without_prepublishing_it_gives_the_same_on_every_backend(
    backend, name, workflow, ours, originally, differences
):
    alone = {"YADAGE_IGNORE_PREPUBLISHING": "1"}
    expected, files = originally(workflow(name), proxies=False, **alone)

    found = ours.run(workflow(name), backend[0], **backend[1], **alone)

    assert found.returncode == 0, found.log
    assert differences(found.document(proxies=False), expected) == []
    assert found.files() == files


@pytest.mark.parametrize(("engine", "name"), everywhere(("foregroundasync", "globs"), ("multiproc", "diamond")))
def test_a_cached_second_run_does_no_work(backend, name, workflow, ours, written):
    before = ours.run(workflow(name), backend[0], "-c", "checksums", **backend[1])
    assert before.returncode == 0, before.log
    results, there = before.results(), by_tasks(before, written)

    again = ours.run(workflow(name), backend[0], "-c", "checksums", **backend[1])

    assert again.returncode == 0, again.log
    assert again.proxies() == {"TrivialProxy"}
    assert by_tasks(again, written) == there
    assert again.results() == results


def by_tasks(outcome, written):
    """Leave out what stages have written that run nothing: the engine publishes them anew, cache or not."""
    tasks = [node["task"] for node in outcome.snapshot["dag"]["nodes"]]
    idle = [task["state"] for task in tasks if task["state"] and task["metadata"]["wflow_hints"].get("is_purepub")]
    folders = {Path(directory["path"]) for state in idle for directory in state["readwrite"]}
    return {file: facts for file, facts in written(outcome.folder).items() if not folders & set(file.parents)}


@pytest.mark.parametrize(("engine", "name"), everywhere(("multiproc", "cartesian")))
def test_a_workflow_that_is_killed_again_and_again_ends_as_if_it_had_not(
    backend, name, workflow, ours, originally, differences
):
    case = workflow(name)
    expected, files = originally(case, proxies=False)
    started = time.monotonic()
    assert ours.run(case, backend[0], "-c", "checksums", **backend[1]).returncode == 0
    took = time.monotonic() - started
    ours.keep("unkilled")

    moments = [random.uniform(0.2, 1.0) * took for _ in range(KILLS)]
    for moment in moments:
        kill_after(moment, ours.start(case, backend[0], "-c", "checksums", **backend[1]))
        forget_half_a_cache(ours.place / "run")
    found = ours.run(case, backend[0], "-c", "checksums", **backend[1])

    assert found.returncode == 0, f"killed after {moments} seconds:\n{found.log}"
    assert differences(found.document(proxies=False), expected) == [], moments
    assert found.files() == files, moments


def kill_after(seconds, process):
    """Kill the engine alone, as the kernel does that runs out of memory: its tasks and workers are not told."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=seconds)
    process.kill()
    process.wait()


def forget_half_a_cache(folder):
    """Do what a person has to when the engine was killed while it wrote its cache, which it does in place."""
    cache = folder / "_yadage" / "cache.json"
    with suppress(FileNotFoundError):
        try:
            json.loads(cache.read_text())
        except ValueError:
            cache.unlink()


@pytest.fixture
def killed_while_waiting(backend, workflow, ours):
    """Start the workflow with the gate, which is closed, kill the engine alone, and return the process of its task."""
    case = workflow("gated")
    case.inputs.clear()
    killed = ours.start(case, backend[0], "-c", "checksums", **backend[1])
    left = waiting(ours, killed)
    killed.kill()
    killed.wait()
    return case, left


@pytest.mark.parametrize("engine", ["foregroundasync", "multiproc"])
def test_what_a_killed_engine_leaves_running_is_ended_before_its_directory_is_used_again(
    backend, killed_while_waiting, ours
):
    case, left = killed_while_waiting

    again = ours.start(case, backend[0], "-c", "checksums", **backend[1])
    new = waiting(ours, again, other_than=left)
    alive = is_running(left)
    (ours.place / "gate").write_text("")

    assert again.wait(timeout=60) == 0, ours.log
    assert (alive, new != left) == (False, True)
    assert (ours.place / "run" / "after" / "after.txt").read_text() == "32\n"


@pytest.mark.parametrize(
    "engine", [pytest.param("celery", marks=broker_for("celery")), pytest.param("ipcluster", marks=pytest.mark.soak)]
)
def test_what_a_worker_still_runs_for_a_killed_engine_is_waited_for(backend, killed_while_waiting, ours):
    case, left = killed_while_waiting

    again = ours.start(case, backend[0], "-c", "checksums", **backend[1])
    until(lambda: "submitting nodes [</waiting" in ours.log, 60)
    time.sleep(1)  # in which the same task would have begun a second time
    at_the_gate = int((ours.place / "run" / "waiting.pid").read_text())
    (ours.place / "gate").write_text("")

    assert again.wait(timeout=60) == 0, ours.log
    assert at_the_gate == left
    assert (ours.place / "run" / "after" / "after.txt").read_text() == "32\n"


def waiting(ours, process, other_than=None):
    """Return the process of the task that waits for its gate, as soon as it does."""
    pid_file, deadline = ours.place / "run" / "waiting.pid", time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(FileNotFoundError, ValueError):
            if (found := int(pid_file.read_text())) != other_than:
                return found
        time.sleep(0.02)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    pytest.fail(f"the task never waited:\n{ours.log}")


def is_running(pid):
    with suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False
