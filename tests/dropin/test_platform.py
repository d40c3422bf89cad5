"""A backend that an analysis platform brings along, which was written for the original, runs workflows on this package."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import until

HERE = Path(__file__).resolve().parent
PROGRAMS = HERE / "programs"
CONTROLLER = PROGRAMS / "job_controller.py"
SORTED = HERE / "sorted_listings"


@pytest.fixture
def controller(tmp_path):
    """Start a job controller, and return the file that holds its address."""
    address = tmp_path / "controller"
    process = subprocess.Popen([sys.executable, CONTROLLER, address], stdin=subprocess.PIPE)
    until(lambda: address.exists() or process.poll() is not None)
    assert process.poll() is None
    yield address
    process.communicate(timeout=30)


@pytest.fixture
def by_its_own_client(world):
    """Whether the platform's own library is there, with the client of its job controller."""
    return world().name.startswith("reana-")


@pytest.fixture
def settings(controller, tmp_path, by_its_own_client):
    """What the platform sets before it starts the engine."""
    (tmp_path / "run").mkdir()
    return {
        "JOB_CONTROLLER_CLIENT": "reana_commons" if by_its_own_client else "ours",
        "PACKTIVITY_ASYNCBACKEND": "analysis_platform:ExternalBackend:ExternalProxy",
        "YADAGE_CUSTOM_TRACKER": "analysis_platform:Tracker",
        "PYTHONPATH": f"{HERE / 'plugins'}:{SORTED}",
        "JOB_CONTROLLER": controller.read_text(),
        "workflow_uuid": "4f3c",
        "workflow_workspace": str(tmp_path / "run"),
    }


def jobs(controller):
    given = sorted((json.loads(line) for line in Path(f"{controller}.jobs").read_text().splitlines()), key=by_name)
    Path(f"{controller}.jobs").unlink()
    return given


def by_name(job):
    return job["job_name"]


def without_job_ids(document):
    for node in document["dag"]["nodes"]:
        if "jobproxy" in node["proxy"]["proxydetails"]:
            assert set(node["proxy"]["proxydetails"].pop("jobproxy")) == {"job_id"}
    return document


@pytest.mark.parametrize("prepublishing", [{}, {"YADAGE_IGNORE_PREPUBLISHING": "1"}], ids=["prepublishing", "not"])
def test_the_platform_submits_and_publishes_what_it_does_on_the_original(
    prepublishing, workflow, controller, settings, by_its_own_client, ours, original, differences
):
    settings |= prepublishing
    theirs = original.run(workflow("platform"), "fromenv", **settings)
    assert theirs.returncode == 0, theirs.log
    expected, files, submitted = without_job_ids(theirs.document(proxies=True)), theirs.files(), jobs(controller)
    original.keep("original")
    (ours.place / "run").mkdir()

    found = ours.run(workflow("platform"), "fromenv", **settings)

    assert found.returncode == 0, found.log
    assert differences(without_job_ids(found.document(proxies=True)), expected) == []
    assert {name: digest for name, digest in found.files().items() if name != "progress.jsonl"} == {
        name: digest for name, digest in files.items() if name != "progress.jsonl"
    }
    assert jobs(controller) == submitted
    assert [job["docker_img"] for job in submitted] == ["docker.io/library/busybox:1.36"] * 3 + ["busybox:latest"] * 2
    assert submitted[0]["kubernetes_memory_limit"] == "1Gi"
    assert {job["by"].split("/")[0] for job in submitted} == {
        "python-requests" if by_its_own_client else "Python-urllib"
    }
    assert found.proxies() == {"ExternalAsyncProxy"}
    assert found.results()["/report/0"] == {"title": 'A "quoted" title', "lines": 30}


def test_the_platform_can_follow_what_goes_on(workflow, settings, ours):
    found = ours.run(workflow("platform"), "fromenv", **settings)
    assert found.returncode == 0, found.log
    progress = [json.loads(line) for line in (found.folder / "progress.jsonl").read_text().splitlines()]
    assert set(progress[-1]["states"]) == {"SUCCESS"}
    assert sorted(job["job_id"] for job in progress[-1]["jobs"]) == [f"job-{number}" for number in range(1, 6)]


def test_the_platforms_own_engine_program_runs_as_it_does_on_the_original(
    workflow, controller, settings, ours, original, differences
):
    outcomes = []
    for engine in (original, ours):
        (engine.place / "run").mkdir(exist_ok=True)
        outcome = engine.drive(PROGRAMS / "platform_engine.py", workflow("platform"), **settings)
        assert outcome.returncode == 0, outcome.log
        assert json.loads((outcome.folder / "progress.jsonl").read_text().splitlines()[-1])["states"][0] == "SUCCESS"
        outcomes.append((without_job_ids(outcome.document(proxies=True)), jobs(controller), outcome.results()))
        engine.keep(f"kept-{len(outcomes)}")

    (expected, submitted, _), (found, resubmitted, results) = outcomes
    assert differences(found, expected) == []
    assert resubmitted == submitted
    assert results["/report/0"] == {"title": 'A "quoted" title', "lines": 30}


def test_a_job_that_fails_fails_its_task(workflow, settings, ours):
    case = workflow("platform")
    case.parameters["events"] = [1, "no-number"]
    found = ours.run(case, "fromenv", **settings)
    assert found.returncode == 1
    states = found.states()
    assert (states["/generate/0"], states["/generate/1"], states["/merge/0"]) == ("SUCCESS", "FAILED", "DEFINED")


LOAD = """
import json, sys
from packtivity.asyncbackends import ExternalAsyncProxy
from packtivity.backendutils import load_proxy
for node in json.load(open(sys.argv[1]))["dag"]["nodes"]:
    if node["proxy"]["proxyname"] == "ExternalAsyncProxy":
        proxy = load_proxy(node["proxy"], best_effort_backend=False)
        assert type(proxy) is ExternalAsyncProxy
        assert proxy.json() == node["proxy"]
        print(proxy.jobproxy["job_id"])
"""


def test_proxies_of_the_platform_can_be_read_again(workflow, settings, ours):
    found = ours.run(workflow("platform"), "fromenv", **settings)
    loaded = ours.python(LOAD, str(found.folder / "_yadage" / "yadage_snapshot_workflow.json"), **settings)
    assert loaded.returncode == 0, loaded.stderr
    assert len(loaded.stdout.splitlines()) == 5
