from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest
from specs import command_spec, from_parameters

import packtivity
from packtivity import errors
from packtivity.asyncbackends import ForegroundBackend
from packtivity.statecontexts import LocalFSState

SPEC = command_spec("echo {x} > {out}", from_parameters({"result": "out"}))
PARAMETERS = {"x": 1, "out": "{workdir}/file"}


@pytest.fixture(autouse=True)
def _quiet(monkeypatch):
    monkeypatch.setenv("PACKTIVITY_LOGGING_STREAM_LEVEL", "CRITICAL")


@pytest.fixture
def state(tmp_path):
    return LocalFSState([str(tmp_path / "work")])


@pytest.fixture
def spec_file(tmp_path):
    (tmp_path / "spec.json").write_text(json.dumps(SPEC))
    return str(tmp_path / "spec.json")


class Slow:
    """A backend whose tasks are ready after some questions."""

    def __init__(self, questions: float) -> None:
        self.left, self.asked = questions, 0

    def submit(self, spec, parameters, state, metadata=None):
        self.submitted = (spec, parameters.json(), state, metadata)
        return "proxy"

    def ready(self, resultproxy):
        self.asked += 1
        self.left -= 1
        return self.left < 0

    def result(self, resultproxy):
        return f"result of {resultproxy}"


# --- pack_object -----------------------------------------------------------------------------------------------


def test_a_pack_object_runs_here(state, spec_file):
    result = packtivity.pack_object.fromspec(spec_file)(PARAMETERS, state)
    assert result.json() == {"result": f"{state.readwrite[0]}/file"}
    assert sorted(os.listdir(state.metadir)) == [
        "packtivity_syncbackend.outcome.json",
        "packtivity_syncbackend.run.log",
        "packtivity_syncbackend.step.log",
    ]


def test_a_pack_object_runs_on_the_synchronous_backend_it_is_given(state):
    class Mine:
        def run(self, spec, parameters, state, metadata=None):
            return "mine"

    assert packtivity.pack_object(SPEC)(PARAMETERS, state, syncbackend=Mine()) == "mine"


def test_a_pack_object_gives_a_proxy_or_waits(state):
    slow = Slow(3)
    pack = packtivity.pack_object(SPEC)
    assert pack(PARAMETERS, state, asyncbackend=slow) == "proxy"
    assert slow.submitted == (SPEC, PARAMETERS, state, {"name": "packtivity"})
    assert pack(PARAMETERS, state, asyncbackend=slow, asyncwait=True, waitperiod=0.001) == "result of proxy"
    assert slow.asked == 4


def test_waiting_is_given_up_even_after_a_day(state, monkeypatch):
    now = iter(range(0, 10**9, 86_400 // 2))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(now)))
    slow = Slow(float("inf"))
    with pytest.raises(RuntimeError, match="Timeout!") as caught:
        packtivity.pack_object(SPEC)({}, state, asyncbackend=slow, asyncwait=True, waitperiod=0, timeout=86_400)
    assert isinstance(caught.value, errors.TaskTimeout)
    assert caught.value.proxy == "proxy"
    assert slow.asked == 2


def test_a_failure_on_an_asynchronous_backend_is_raised_when_waited_for(state):
    failing = {**SPEC, "process": {"process_type": "string-interpolated-cmd", "cmd": "exit 3"}}
    with pytest.raises(errors.TaskFailed, match="exit code 3"):
        packtivity.pack_object(failing)(PARAMETERS, state, asyncbackend=ForegroundBackend(), asyncwait=True)


def test_the_signature_is_the_one_programs_know():
    import inspect

    names = list(inspect.signature(packtivity.pack_object.__call__).parameters)[1:]
    expected = "parameters state syncbackend asyncbackend asyncwait waitperiod timeout datamodel"
    assert names == expected.split()
    assert list(inspect.signature(packtivity.load_packtivity).parameters) == [
        "spec",
        "toplevel",
        "schemasource",
        "validate",
    ]


# --- load, run, submit -----------------------------------------------------------------------------------------


def test_a_spec_is_loaded_from_the_current_directory_of_the_moment(spec_file, monkeypatch):
    monkeypatch.chdir(os.path.dirname(spec_file))
    assert packtivity.load_packtivity("spec.json") == packtivity.load("spec.json") == SPEC
    assert packtivity.load_packtivity("spec.json", os.path.dirname(spec_file), None, True) == SPEC


def test_run_makes_the_work_directory_and_names_the_logs(spec_file, tmp_path):
    result = packtivity.run(spec_file, PARAMETERS, workdir=str(tmp_path / "new"), name="mine")
    assert result.json() == {"result": f"{tmp_path}/new/file"}
    assert os.path.exists(tmp_path / "new" / "_packtivity" / "mine.run.log")


def test_run_takes_limits_and_directories_to_read_from(tmp_path):
    spec = {**SPEC, "process": {"process_type": "string-interpolated-cmd", "cmd": "sleep 60"}}
    with pytest.raises(errors.TaskTimeout):
        packtivity.run(spec, PARAMETERS, workdir=str(tmp_path), timeout=0.1)
    result = packtivity.run(SPEC, {"x": "{readdir0}", "out": "o"}, workdir=str(tmp_path), readonly=["/usr"])
    assert (tmp_path / result.json()["result"]).read_text() == "/usr\n"


def test_run_in_the_current_directory_by_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert packtivity.run(SPEC, PARAMETERS).json() == {"result": f"{os.path.realpath(tmp_path)}/file"}


def test_run_refuses_what_does_not_go_together(state):
    with pytest.raises(TypeError, match="either a state"):
        packtivity.run(SPEC, {}, state=state, workdir=".")
    with pytest.raises(TypeError, match="timeout"):
        packtivity.run(SPEC, {}, state=state, backend=object(), timeout=3)


def test_a_submission_can_be_asked_and_waited_for(state):
    submission = packtivity.submit(SPEC, PARAMETERS, state=state)
    assert submission.ready()
    assert submission.successful()
    assert submission.result().json() == {"result": f"{state.readwrite[0]}/file"}
    assert submission.json()["proxyname"] == "ForegroundProxy"
    assert submission.fail_info() is None


def test_a_submission_waits_as_long_as_it_is_told(state):
    slow = packtivity.submit(SPEC, PARAMETERS, state=state, backend=Slow(10**9))
    assert not slow.successful()
    with pytest.raises(errors.TaskTimeout):
        slow.result(timeout=0.05)


def test_submitting_to_a_synchronous_backend_is_refused(state):
    with pytest.raises(errors.BackendError, match="'defaultsync' runs tasks here and now"):
        packtivity.submit(SPEC, PARAMETERS, state=state, backend="defaultsync")


# --- importing -------------------------------------------------------------------------------------------------


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_importing_the_package_imports_nothing_dear():
    code = "import sys; before = set(sys.modules); import packtivity; print(*set(sys.modules) - before)"
    loaded = set(python(code).split())
    assert not loaded & {
        "requests",
        "jsonschema",
        "jsonschema_rs",
        "click",
        "jq",
        "yaml",
        "logging",
        "subprocess",
        "re",
    }


def test_running_a_task_without_jq_or_remote_documents_imports_neither(tmp_path):
    code = f"""
import sys, packtivity
packtivity.run({SPEC!r}, {PARAMETERS!r}, workdir={str(tmp_path)!r})
print(*sys.modules)
"""
    loaded = set(python(code).split())
    assert not loaded & {"requests", "urllib3", "jsonschema", "click", "jq", "yaml", "importlib.metadata"}


def test_submodules_are_there_as_attributes_without_being_imported():
    names = ["backendutils", "syncbackends", "statecontexts", "utils", "datamodel", "errors"]
    assert python(f"import packtivity; print(*[getattr(packtivity, n).__name__ for n in {names!r}])").split() == [
        f"packtivity.{name}" for name in names
    ]


def test_public_names_can_be_listed_and_all_exist():
    assert set(packtivity.__all__) <= set(dir(packtivity))
    for name in packtivity.__all__:
        assert getattr(packtivity, name) is not None
    assert packtivity.__version__[0].isdigit()
    with pytest.raises(AttributeError, match="nonsense"):
        packtivity.nonsense  # noqa: B018
