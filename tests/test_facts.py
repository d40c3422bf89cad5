"""Facts in records: each is the task's own, or null."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from preloads import preloadable
from specs import command_spec, constant, from_parameters

from packtivity import record, seal
from packtivity.backendutils import backend_from_string
from packtivity.handlers.config import ExecutionConfig
from packtivity.syncbackends import defaultsyncbackend
from packtivity.task import Task
from packtivity.worker import answer

BIN = Path(sys.executable).parent

pytestmark = pytest.mark.usefixtures("own_records")


def strictly(path):
    """Read JSON as its standard has it, and check it against the schema of records."""

    def refuse(text):
        raise AssertionError(f"not JSON: {text}")

    found = json.loads(Path(path).read_text(), parse_constant=refuse)
    jsonschema.Draft4Validator(record.schema()).validate(found)
    return found


def run(state, spec, parameters=None, **execution):
    defaultsyncbackend({"exec": ExecutionConfig(**execution)}).run(spec, parameters or {}, state, {"name": "task"})
    return strictly(f"{state.metadir}/task.outcome.json")


# --- memory ------------------------------------------------------------------------------------------------------

LARGE = """
import sys
held = b"x" * 300_000_000
import json, packtivity
from packtivity.statecontexts import LocalFSState
state = LocalFSState([sys.argv[1]])
packtivity.run("spec.json", state=state, name="task")
with open(f"{state.metadir}/task.outcome.json") as file:
    print(json.dumps(json.load(file)["usage"]))
"""


@pytest.mark.parametrize("sigchld", ["", "trap '' CHLD; "], ids=["as its child", "as another one's"])
@pytest.mark.parametrize(("cmd", "least"), [("true", None), ("python3 -c \"held = b'x' * 500_000_000\"", 500_000_000)])
def test_peak_memory_is_never_that_of_the_program_that_runs_the_task(cmd, least, sigchld, tmp_path):
    (tmp_path / "spec.json").write_text(json.dumps(command_spec(cmd, constant({}))))
    argv = ["sh", "-c", f'{sigchld}exec "$@"', "sh", sys.executable, "-c", LARGE, str(tmp_path / "out")]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    usage = json.loads(done.stdout.splitlines()[-1])
    peak = usage["peak_memory_bytes"]
    if least is None:
        assert peak is None or peak < 100_000_000
    else:
        assert least < peak < 2 * least
    assert usage["peak_memory_of"] == (None if peak is None else "largest process")


def test_of_two_processes_at_once_the_larger_one_is_counted_and_called_so(state):
    half = f"{sys.executable} -c \"held = b'x' * 400_000_000; import time; time.sleep(0.3)\""
    usage = run(state, command_spec(f"{half} & {half} & wait", constant({})))["usage"]
    assert 400_000_000 < usage["peak_memory_bytes"] < 600_000_000
    assert usage["peak_memory_of"] == "largest process"


# --- time --------------------------------------------------------------------------------------------------------

CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* The clock of the day, as many seconds off as a file says. */
int clock_gettime(clockid_t which, struct timespec *now)
{
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int done = real(which, now);
    const char *name = getenv("CLOCK_STEP");
    FILE *file = which == CLOCK_REALTIME && name ? fopen(name, "r") : NULL;
    long step = 0;
    if (file) {
        if (fscanf(file, "%ld", &step) == 1) now->tv_sec += step;
        fclose(file);
    }
    return done;
}
"""


@pytest.fixture(scope="session")
def stepping(tmp_path_factory):
    """A library by which a program's clock can be set, and no other one's."""
    return preloadable(tmp_path_factory.mktemp("clock"), "clock", CLOCK)


@pytest.mark.parametrize("step", [-86_400, 40 * 86_400])
@pytest.mark.parametrize("backend", ["defaultsync", "multiproc:1", "local"])
def test_a_clock_that_is_set_while_a_task_runs_does_not_change_how_long_it_took(backend, step, stepping, tmp_path):
    at = tmp_path / "step"
    (tmp_path / "spec.json").write_text(json.dumps(command_spec(f"echo {step} > {at}; sleep 0.2", constant({}))))
    env = {**os.environ, "LD_PRELOAD": stepping, "CLOCK_STEP": str(at), "PACKTIVITY_STATE_DIR": str(tmp_path / "state")}
    argv = [BIN / "packtivity-run", "spec.json", "-w", "out", "-b", backend]
    done = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for path in tmp_path.rglob("*.outcome.json"):
        found = strictly(path)
        assert 0.2 <= found["seconds"] < 60
        assert found["started"] <= found["ended"]


# --- warnings ----------------------------------------------------------------------------------------------------


def test_a_warning_that_came_up_is_in_the_record_and_with_whoever_hears_warnings(state):
    heard = []
    publisher = from_parameters({"o": "out"})
    found = run(state, command_spec("true", publisher), {"out": "{workdir}/file"}, warn=heard.append)
    assert [each.code for each in heard] == ["missing-output"]
    assert found["warnings"] == [f"missing-output: {heard[0].message}"]
    assert run(state, command_spec("true", constant({})))["warnings"] == []


def test_warnings_are_those_of_the_last_attempt(state):
    cmd = "test -e {out}.first || {{ touch {out}.first; exit 1; }}"
    found = run(state, command_spec(cmd, from_parameters({"o": "out"})), {"out": "{workdir}/file"}, retries=1)
    assert (found["attempts"], len(found["warnings"])) == (2, 1)


# --- strict JSON ---------------------------------------------------------------------------------------------------

ODD = {"a/b": [math.nan, 1.5], "~": math.inf, "deep": {"x": -math.inf, "y": "NaN"}}


def same(first, second):
    """Compare documents in which NaN equals NaN."""
    return json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)


def test_a_record_is_strict_json_and_a_text_stands_for_what_is_no_number(state):
    found = run(state, command_spec("true", from_parameters({"o": "odd"})), {"odd": ODD})
    assert found["result"] == {"o": {"a/b": ["NaN", 1.5], "~": "Infinity", "deep": {"x": "-Infinity", "y": "NaN"}}}
    places = [each for each in found["not_numbers"] if each.startswith("/result")]
    assert sorted(places) == ["/result/o/a~1b/0", "/result/o/deep/x", "/result/o/~0"]
    assert [each for each in found["warnings"] if "/result/o/~0 " in each]


def test_who_reads_the_record_has_the_numbers_back(state):
    spec = command_spec("true", from_parameters({"o": "odd"}))
    document = Task.of(spec, {"odd": ODD}, state, {"name": "task"}, id=seal.own_id("odd-")).to_json()
    assert same(answer(document)["result"], {"o": ODD})
    assert same(answer(document)["result"], {"o": ODD})  # which has been read
    path = record.record_path(state.metadir, {"name": "task"}, document["id"])
    strictly(path)
    assert same(record.read_outcome(path)["parameters"], {"odd": ODD})


@pytest.mark.parametrize("name", ["multiproc:1", "local"])
def test_a_result_that_is_no_number_is_the_same_through_a_backend(name, state):
    _, backend = backend_from_string(name)
    proxy = backend.submit(command_spec("true", from_parameters({"o": "odd"})), {"odd": ODD}, state, {"name": "task"})
    assert same(backend.result(proxy).json(), {"o": ODD})


@pytest.mark.parametrize("places", [7, ["/nope/0"], ["/result/x/y"], [None], ["/status"], ["/id/~2"]])
def test_places_that_somebody_has_made_up_do_no_harm(places, tmp_path):
    path = tmp_path / "task.outcome.json"
    path.write_text(json.dumps({"status": "succeeded", "id": "x", "result": {"x": "y"}, "not_numbers": places}))
    assert record.read_outcome(str(path))["result"] == {"x": "y"}
