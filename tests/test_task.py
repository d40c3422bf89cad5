from __future__ import annotations

import json
import logging
import os
import threading

import pytest
from specs import command_spec, from_parameters

from packtivity import datamodel, errors, task
from packtivity.handlers.config import ExecutionConfig, packconfig
from packtivity.handlers.process_handlers import handlers as process_handlers
from packtivity.runtimes.cancellation import Cancellation
from packtivity.statecontexts import LocalFSState

NAME = {"name": "t"}


def spec(cmd="echo {x} > {out}", publisher=None, environment="localproc-env", process=True):
    made = command_spec(cmd, publisher or from_parameters({"result": "out"}), environment)
    return made if process else {**made, "process": None}


def interpolated(publish, **more):
    return {"publisher_type": "interpolated-pub", "publish": publish, "glob": False, "relative_paths": False, **more}


@pytest.fixture
def config():
    return ExecutionConfig({"logging_level": "CRITICAL"})


def go(spec, parameters, state, config):
    return task.run_packtivity(spec, parameters, state, NAME, packconfig(), config)


def step_log(state) -> str:
    with open(f"{state.metadir}/t.step.log", encoding="utf-8") as file:
        return file.read()


PARAMETERS = {"x": [1, 2], "out": "{workdir}/file"}


def test_a_task_runs_from_parameters_to_result(state, config):
    result = go(spec(), PARAMETERS, state, config)
    assert result.json() == {"result": f"{state.readwrite[0]}/file"}
    with open(result.json()["result"], encoding="utf-8") as file:
        assert file.read() == "1 2\n"
    assert f"publishing data: {result}" in step_log(state)


def test_neither_spec_nor_parameters_are_changed(state, config):
    ours, parameters = spec(), json.loads(json.dumps(PARAMETERS))
    before = json.dumps([ours, parameters])
    go(ours, parameters, state, config)
    task.prepublish(ours, parameters, state, packconfig())
    assert json.dumps([ours, parameters]) == before


@pytest.mark.parametrize("missing", ["process", "environment"])
def test_without_process_or_environment_a_task_only_publishes(state, config, missing):
    assert go({**spec("exit 1"), missing: None}, PARAMETERS, state, config).json()["result"].endswith("/file")


def test_a_task_that_only_publishes_needs_no_state(config):
    only = spec(process=False, environment=None)
    assert go(only, {"out": "{workdir}/a"}, None, config).json() == {"result": "{workdir}/a"}


def test_inputs_can_be_finalized_twice(state):
    once, _ = task.finalize_inputs(PARAMETERS, state)
    twice, same = task.finalize_inputs(once, state, datamodel)
    assert twice.json() == once.json() == {"x": [1, 2], "out": f"{state.readwrite[0]}/file"}
    assert same is state


def test_plain_parameters_can_be_published(state):
    published = task.publish(interpolated({"o": "{workdir}/{x}"}), {"x": 1}, state, packconfig())
    assert published.json() == {"o": f"{state.readwrite[0]}/1"}
    assert task.finalize_outputs(published) is published


def test_a_failure_is_raised_and_logged(state, config):
    with pytest.raises(errors.TaskFailed):
        go(spec("echo {x}; exit 3"), PARAMETERS, state, config)
    assert "ERROR | TaskFailed: the task failed with exit code 3" in step_log(state)


def test_an_error_of_a_handler_is_logged_with_its_traceback(state, config, monkeypatch):
    def broken(*_):
        return 1 / 0

    monkeypatch.setitem(process_handlers["string-interpolated-cmd"], "default", broken)
    with pytest.raises(ZeroDivisionError):
        go(spec(), PARAMETERS, state, config)
    assert "ZeroDivisionError: division by zero" in step_log(state)


def test_the_chosen_implementation_of_a_handler_is_used(state, config, monkeypatch):
    monkeypatch.setitem(process_handlers["string-interpolated-cmd"], "mine", lambda *_: {"command": "echo mine > mine"})
    chosen = packconfig(process={"string-interpolated-cmd": "mine"})
    task.run_packtivity(spec(), PARAMETERS, state, NAME, chosen, config)
    assert os.path.exists(f"{state.readwrite[0]}/mine")


def test_an_unknown_kind_is_named_with_the_nearest(state, config):
    with pytest.raises(errors.ConfigurationError, match="'localproc-emv'") as caught:
        go(spec(environment="localproc-emv"), PARAMETERS, state, config)
    assert "Did you mean 'localproc-env'?" in caught.value.hint


# --- many ------------------------------------------------------------------------------------------------------


def leftovers() -> tuple[int, int, int]:
    loggers, handlers = logging.Logger.manager.loggerDict, logging._handlers
    return len(os.listdir("/proc/self/fd")), len(loggers), len(handlers)


@pytest.mark.parametrize("count", [200, pytest.param(5000, marks=pytest.mark.soak)])
def test_many_tasks_leave_nothing_behind_in_this_process(state, config, count):
    go(spec("true"), PARAMETERS, state, config)
    before, threads = leftovers(), threading.active_count()
    for number in range(count):
        command = "true" if number % 3 else "sleep 60 & exit 1"
        try:
            go(spec(command), PARAMETERS, state, config)
        except errors.TaskFailed:
            assert number % 3 == 0
    assert leftovers() == before
    assert threading.active_count() == threads


def test_tasks_of_one_name_in_threads_keep_results_and_logs_apart(config, tmp_path):
    states = [LocalFSState([str(tmp_path / str(number))]) for number in range(6)]
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for _ in range(5):
                go(spec("echo output of {x} | tee {out}"), {**PARAMETERS, "x": f"t{number}"}, states[number], config)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(states))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    for number, state in enumerate(states):
        with open(f"{state.metadir}/t.run.log", encoding="utf-8") as file:
            assert [line.rpartition(" | ")[2] for line in file][1:] == [f"output of t{number}\n"] * 5
        assert step_log(state).count("publishing data") == 5


def test_a_disk_that_is_full_is_an_error_and_not_a_hang(state, config):
    os.symlink("/dev/full", f"{state.metadir}/t.run.log")
    with pytest.raises(errors.StateError, match=r"t\.run\.log cannot be written: No space left on device"):
        go(spec("yes"), PARAMETERS, state, config)
    assert "ERROR | StateError" in step_log(state)


def test_a_pipe_that_nobody_reads_in_place_of_a_log_is_an_error_and_not_a_hang(state, config):
    os.mkfifo(f"{state.metadir}/t.run.log")
    with pytest.raises(errors.StateError, match=r"t\.run\.log cannot be opened"):
        go(spec("true"), PARAMETERS, state, config)


def test_an_error_stays_the_error_when_it_cannot_be_logged_either(state, config):
    os.symlink("/dev/full", f"{state.metadir}/t.step.log")
    with pytest.raises(errors.StateError, match=r"t\.step\.log cannot be written"):
        go(spec(), PARAMETERS, state, config)


# --- before the run --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "publisher",
    [
        {"publisher_type": "frompar-pub", "outputmap": {"a": ["x", {"b": "outt"}]}},
        interpolated(["{workdir}/{x}", "{outt[key]}"], glob=True),
    ],
)
def test_a_parameter_only_the_publisher_needs_is_missed_before_anything_runs(state, config, publisher):
    with pytest.raises(errors.MissingParameter, match="'outt'") as caught:
        go(spec("touch ran {out}", publisher), PARAMETERS, state, config)
    assert "publisher/" in caught.value.message
    assert "Did you mean 'out'?" in caught.value.hint
    assert not os.path.exists(f"{state.readwrite[0]}/ran")
    assert isinstance(caught.value, KeyError)


def test_a_parameter_the_command_needs_is_missed(state, config):
    with pytest.raises(errors.MissingParameter, match="nope"):
        go(spec("echo {nope}"), PARAMETERS, state, config)


@pytest.mark.parametrize("leaf", [None, False, ""])
def test_leaves_of_an_output_map_that_name_nothing_are_left_alone(state, config, leaf):
    publisher = {"publisher_type": "frompar-pub", "outputmap": {"a": leaf, "b": "out"}}
    if leaf == "":
        with pytest.raises(errors.MissingParameter):
            go(spec(publisher=publisher), PARAMETERS, state, config)
    else:
        assert go(spec(publisher=publisher), PARAMETERS, state, config).json()["a"] is leaf


# --- prepublishing ---------------------------------------------------------------------------------------------

JQ = {"publisher_type": "fromparjq-pub", "script": "{o: .out}", "tryExact": True, "relative_paths": False}


@pytest.mark.parametrize(
    ("publisher", "known"),
    [
        ({"publisher_type": "frompar-pub", "outputmap": {"o": "out"}}, True),
        ({"publisher_type": "constant-pub", "publish": {"o": "{workdir}"}}, True),
        (interpolated({"o": "{out}"}), True),
        (interpolated({"o": "{out}"}, glob=True), False),
        ({**JQ, "glob": False}, True),
        ({**JQ, "glob": True}, False),
        ({"publisher_type": "fromglob-pub", "globexpression": "*", "outputkey": "o"}, False),
        ({"publisher_type": "fromyaml-pub", "yamlfile": "a.yml"}, False),
    ],
)
def test_what_is_known_before_the_run_is_what_is_published_after_it(state, config, publisher, known):
    with open(f"{state.readwrite[0]}/a.yml", "w", encoding="utf-8") as file:
        file.write("o: 1")
    before = task.prepublish(spec(publisher=publisher), PARAMETERS, state, packconfig())
    assert (before is not None) is known
    after = go(spec(publisher=publisher), PARAMETERS, state, config)
    if known:
        assert before.json() == after.json()


@pytest.mark.parametrize("state", [None, LocalFSState([], ["/tmp"])])
def test_patterns_are_known_too_where_nothing_can_be_written(state):
    publisher = {**JQ, "glob": True, "script": "{o: .x}"}
    found = task.prepublish(spec(publisher=publisher), {"x": "/nowhere*"}, state, packconfig())
    assert found.json() == {"o": "/nowhere*"}


def test_a_state_of_somebody_elses_is_not_guessed_about(state):
    class Remote(LocalFSState):
        pass

    remote = Remote(state.readwrite)
    assert task.prepublish(spec(publisher=interpolated({"o": "x"})), {}, remote, packconfig()) is None
    assert task.prepublish(spec(), PARAMETERS, remote, packconfig()) is not None


# --- after the run ---------------------------------------------------------------------------------------------


def test_a_published_path_that_is_not_there_is_a_warning(state):
    seen = []
    config = ExecutionConfig({"logging_level": "CRITICAL"}, warn=seen.append)
    publisher = interpolated({"a": ["{workdir}/there", "{workdir}/gone"], "b": "/elsewhere/gone", "c": "{workdir}"})
    go(spec("touch there", publisher), PARAMETERS, state, config)
    assert [(found.code, found.severity, found.path) for found in seen] == [("missing-output", "warning", ("a", 1))]
    assert f"{state.readwrite[0]}/gone" in seen[0].message
    assert "WARNING | published path" in step_log(state)


def test_under_strict_it_is_an_error(state):
    warned = []
    config = ExecutionConfig({"logging_level": "CRITICAL"}, strict=True, warn=warned.append)
    with pytest.raises(errors.MissingOutput, match=r"file.*is not there after the run"):
        go(spec("true"), PARAMETERS, state, config)
    assert warned == []
    assert go(spec(), PARAMETERS, state, config)


@pytest.mark.parametrize("environment", ["noop-env", "test-env"])
def test_where_nothing_runs_nothing_is_missed(state, environment):
    seen = []
    config = ExecutionConfig({"logging_level": "CRITICAL"}, warn=seen.append)
    go(spec(environment=environment), PARAMETERS, state, config)
    assert seen == []


def test_a_dry_run_publishes_what_is_known_and_nothing_else(state):
    config = ExecutionConfig({"logging_level": "CRITICAL", "dry_run": True}, strict=True)
    assert go(spec(), PARAMETERS, state, config).json() == {"result": f"{state.readwrite[0]}/file"}
    fromyaml = {"publisher_type": "fromyaml-pub", "yamlfile": "a.yml"}
    assert go(spec(publisher=fromyaml), PARAMETERS, state, config).json() == {}
    assert sorted(os.listdir(state.readwrite[0])) == ["_packtivity"]


# --- the document ----------------------------------------------------------------------------------------------


def test_a_task_survives_json_and_runs_elsewhere(state):
    config = {"exec": {"logging_level": "CRITICAL", "strict": True}, "publisher": {"other-pub": "mine"}}
    ours = task.Task.of(spec(), datamodel.create(PARAMETERS), state, NAME, config)
    document = json.loads(json.dumps(ours.to_json()))
    assert sorted(document) == ["config", "datamodel", "metadata", "parameters", "spec", "state", "version"]
    assert task.Task.from_json(document) == ours
    assert task.run_task(document).json() == {"result": f"{state.readwrite[0]}/file"}
    assert "publishing data" in step_log(state)


def test_a_task_without_state_survives_json():
    document = task.Task.of(spec(process=False), {"out": 1}, None).to_json()
    assert task.run_task({**document, "config": {"exec": {"logging": False}}}).json() == {"result": 1}


def test_leaf_types_travel_with_the_task(state):
    state.datamodel = {"keyword": "$type", "types": {"here": LocalFSState, "there": "module:Class"}, "literals": {}}
    document = json.loads(json.dumps(task.Task.of(spec(), PARAMETERS, state).to_json()))
    assert document["datamodel"]["types"] == {
        "here": "packtivity.statecontexts.posixfs_context:LocalFSState",
        "there": "module:Class",
    }
    state.datamodel = {"keyword": "$type", "types": {"there": "module:Class"}}
    assert task.Task.of(spec(), PARAMETERS, state).datamodel == state.datamodel


def test_a_task_can_be_cancelled_from_another_thread(state):
    with Cancellation() as cancel:
        config = ExecutionConfig({"logging_level": "CRITICAL"}, cancel=cancel, grace=0.2)
        threading.Timer(0.2, cancel.cancel).start()
        with pytest.raises(errors.TaskCancelled):
            go(spec("exec sleep 60"), PARAMETERS, state, config)
    assert "TaskCancelled" in step_log(state)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"version": 99}, "version 99"),
        ({}, "version None"),
        ({"version": 1, "spec": {}}, "has no parameters"),
        ({"version": 1}, "has no spec and no parameters"),
    ],
)
def test_a_document_that_is_no_task_is_refused(document, message):
    with pytest.raises(errors.ConfigurationError, match=message):
        task.Task.from_json(document)


def test_configuring_leaves_the_callers_dictionary_alone():
    given = {"exec": {"strict": True}, "publisher": {"a": "b"}}
    pack_config, exec_config = task.configure(given)
    assert pack_config.get_impl("publisher", "a") == "b"
    assert exec_config.strict
    assert given == {"exec": {"strict": True}, "publisher": {"a": "b"}}


def test_a_plan_is_what_running_would_start(state, config):
    plan = task.Run(spec(), PARAMETERS, state, NAME, packconfig(), config).plan()
    assert plan.argv == ("sh", "-c", f"echo 1 2 > {state.readwrite[0]}/file")
    assert plan.workdir == state.readwrite[0]
    assert not os.path.exists(f"{state.readwrite[0]}/file")


def test_without_a_process_of_ours_there_is_no_plan(state, config):
    for each in (spec(process=False), spec(environment="noop-env")):
        assert task.Run(each, PARAMETERS, state, NAME, packconfig(), config).plan() is None
    chosen = packconfig(executor={"localproc-env": "theirs"})
    assert task.Run(spec(), PARAMETERS, state, NAME, chosen, config).plan() is None
