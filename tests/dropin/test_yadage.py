"""yadage runs workflows on this package as it does on the original: same results, same files, same graph."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import time
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).resolve().parent / "programs"
WORKFLOWS = Path(__file__).resolve().parent.parent / "workflows"
NAMES = sorted(case.parent.name for case in WORKFLOWS.glob("*/case.yml"))
SUCCEEDING = [name for name in NAMES if name not in {"failing", "platform"}]


def test_there_are_as_many_workflows_as_promised():
    assert len(NAMES) >= 12


@pytest.mark.parametrize("name", SUCCEEDING)
def test_a_workflow_gives_what_it_gives_with_the_original(name, workflow, ours, originally, differences):
    case = workflow(name)
    expected, files = originally(case)

    found = ours.run(case)

    assert found.returncode == 0, found.log
    assert differences(found.document(proxies=True), expected) == []
    assert found.files() == files
    assert set(found.states().values()) == {"SUCCESS"}
    assert sum(node.split("/")[-2] != "init" for node in found.states()) == case.tasks


@pytest.mark.parametrize("backend", ["foregroundasync", "multiproc:2"])
def test_a_failed_task_stops_what_depends_on_it_and_nothing_else(backend, workflow, ours, originally, differences):
    # The original's foreground backend breaks the engine off.
    expected, files = originally(workflow("failing"), "multiproc:1", proxies=False)

    found = ours.run(workflow("failing"), backend)

    assert found.returncode == 1
    assert differences(found.document(proxies=False), expected) == []
    assert found.files() == files
    assert found.states()["/broken/0"] == "FAILED"


@pytest.mark.parametrize("name", ["chain", "mapreduce", "literals"])
def test_without_prepublishing_results_come_from_runs_alone(name, workflow, ours, originally, differences):
    case = workflow(name)
    expected, _ = originally(case, YADAGE_IGNORE_PREPUBLISHING="1")
    prepublished, _ = originally(case)

    found = ours.run(case, YADAGE_IGNORE_PREPUBLISHING="1")

    assert found.returncode == 0, found.log
    assert differences(found.document(proxies=True), expected) == []
    assert results(found.document(proxies=True)) == results(prepublished)


def results(document):
    return {node["name"]: node["result"] for node in document["dag"]["nodes"]}


def with_input(case):
    """Return it with a file to read: the original cannot make a checksum of an empty directory."""
    return dataclasses.replace(case, inputs={"any.txt": "any"})


def test_what_the_original_has_done_is_not_done_again(workflow, ours, original, written):
    case = with_input(workflow("chain"))
    before = original.run(case, "foregroundasync", "-c", "checksums")
    assert before.returncode == 0, before.log
    results, there = before.results(), written(before.folder)

    again = ours.run(case, "foregroundasync", "-c", "checksums")

    assert again.returncode == 0, again.log
    assert again.proxies() == {"TrivialProxy"}
    assert written(again.folder) == there
    assert again.results() == results


def test_the_cache_is_written_as_the_original_writes_it(workflow, ours, original, differences):
    case = with_input(workflow("chain"))
    assert original.run(case, "foregroundasync", "-c", "checksums").returncode == 0
    expected = cache(original.keep("original"))

    assert ours.run(case, "foregroundasync", "-c", "checksums").returncode == 0

    assert differences(cache(ours.place / "run"), expected) == []


def cache(folder):
    document = json.loads((folder / "_yadage" / "cache.json").read_text())
    for entry in document.values():
        del entry["result"]["cachingtime"]
        del entry["result"]["validation_data"]  # checksums of directories with logs in them
        del entry["task"]["metadata"]["wflow_node_id"]
        for reference in entry["task"]["inputs"]:
            del reference["stepid"]
    return document


def test_a_changed_file_is_made_again_on_the_next_cached_run(workflow, ours, written):
    case = workflow("chain")
    before = ours.run(case, "foregroundasync", "-c", "checksums")
    untouched = written(before.folder / "write")
    sorted_words = before.folder / "sort" / "sorted.txt"
    content = sorted_words.read_text()
    sorted_words.write_text("somebody was here\n")

    again = ours.run(case, "foregroundasync", "-c", "checksums")

    assert again.returncode == 0, again.log
    assert sorted_words.read_text() == content
    assert written(again.folder / "write") == untouched


@pytest.fixture
def kill_while_waiting(workflow, ours, written):
    """Start the workflow with the gate, and kill engine and task as soon as the task waits for it."""

    def kill(*options):
        process = ours.start(gate_closed(workflow("gated")), "foregroundasync", *options)
        pid_file = ours.place / "run" / "waiting.pid"
        deadline = time.monotonic() + 60
        while not (pid_file.exists() and pid_file.read_text().strip()):
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the task never waited:\n{ours.log}")
            time.sleep(0.02)
        process.kill()
        os.kill(int(pid_file.read_text()), signal.SIGKILL)
        process.wait(timeout=30)
        return written(ours.place / "run" / "before")

    return kill


def gate_closed(case):
    return dataclasses.replace(case, inputs={})


def test_a_killed_workflow_resumes_from_its_cache(workflow, ours, written, kill_while_waiting):
    done = kill_while_waiting("-c", "checksums")

    found = ours.run(workflow("gated"), "foregroundasync", "-c", "checksums")  # with the gate

    assert found.returncode == 0, found.log
    assert (found.folder / "after" / "after.txt").read_text() == "32\n"
    assert written(found.folder / "before") == done


def test_a_killed_workflow_resumes_from_its_model_in_a_file(ours, written, kill_while_waiting):
    model = ours.place / "model.json"
    done = kill_while_waiting("-s", f"filebacked:{model}")
    (ours.place / "gate").write_text("")

    finished = ours.script([PROGRAMS / "resume.py", ours.place / "run" / "_yadage", model, "foregroundasync"])

    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert (ours.place / "run" / "after" / "after.txt").read_text() == "32\n"
    assert written(ours.place / "run" / "before") == done


def test_a_backend_that_takes_batches_gets_them(ours, original, differences):
    found, theirs = (engine.script([PROGRAMS / "batches.py", engine.place / "batches"]) for engine in (ours, original))
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout) == json.loads(theirs.stdout)
    assert json.loads(found.stdout)["sizes"] == [3]
