from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
from types import SimpleNamespace

import pytest

from packtivity import errors
from packtivity.handlers import execution_handlers as executors
from packtivity.handlers.config import ExecutionConfig
from packtivity.types import Execution

LOCAL = {"environment_type": "localproc-env"}
DOCKER = {"environment_type": "docker-encapsulated", "image": "atlas/base", "imagetag": "1.2", "envscript": ""}


@pytest.fixture
def state(tmp_path):
    directory = str(tmp_path / "work")
    return SimpleNamespace(readwrite=[directory], readonly=[], metadir=f"{directory}/_packtivity", datamodel=None)


def config(**more) -> ExecutionConfig:
    return ExecutionConfig({"logging_level": "CRITICAL"}, **more)


def run(state, job, environment=LOCAL, name="t", **more):
    kind = environment["environment_type"]
    return executors.handlers[kind]["default"](config(**more), environment, state, job, {"name": name})


def log(state, topic="run", name="t") -> str:
    with open(f"{state.metadir}/{name}.{topic}.log", encoding="utf-8") as file:
        return file.read()


# --- plain processes -------------------------------------------------------------------------------------------


def test_a_command_runs_in_the_work_directory_which_is_made(state):
    run(state, {"command": "echo hello; pwd > here"})
    with open(f"{state.readwrite[0]}/here", encoding="utf-8") as file:
        assert file.read().strip() == os.path.realpath(state.readwrite[0])
    assert re.fullmatch(r".* \| +pack\.t\.run \|   INFO \| hello", log(state).splitlines()[1])


def test_a_script_runs_through_its_interpreter(state):
    run(state, {"script": "import sys\nprint(sys.version_info[0] * 2)\n", "interpreter": "python3 -"})
    assert log(state).endswith("| 6\n")


def test_without_a_state_a_command_runs_where_we_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(None, {"command": "echo x > y"})
    assert os.listdir(tmp_path) == ["y"]


def test_the_step_log_says_what_ran_where_and_how_it_ended(state, monkeypatch):
    monkeypatch.setenv("API_TOKEN", "hunter2")
    run(state, {"script": "exit 0", "interpreter": "sh -e"}, clean_env=True, pass_env=["API_TOKEN"])
    text = log(state, "step")
    assert "running: sh -c 'sh -e'" in text
    assert f"in directory: {state.readwrite[0]}" in text
    assert "standard input:\nexit 0" in text
    assert re.search(r"clean environment: .*API_TOKEN", text)
    assert "exit code 0 after" in text
    assert "hunter2" not in text


def test_a_clean_environment_is_clean(state, monkeypatch):
    monkeypatch.setenv("MINE", "1")
    monkeypatch.setenv("WANTED", "2")
    run(state, {"command": 'echo "[$MINE$WANTED]"; command -v sh'}, clean_env=True, pass_env=["WANTED"])
    assert "[2]" in log(state)
    run(state, {"command": 'echo "[$MINE$WANTED]"'})
    assert "[12]" in log(state)


def test_a_dry_run_logs_the_command_and_runs_nothing(state):
    dry = ExecutionConfig({"logging_level": "CRITICAL", "dry_run": True})
    executors.run(dry, LOCAL, state, {"command": "touch made"}, {"name": "t"})
    assert os.listdir(state.readwrite[0]) == ["_packtivity"]
    assert "touch made" in log(state, "step")
    assert not os.path.exists(f"{state.metadir}/t.run.log")


def test_a_work_directory_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    directory = f"{tmp_path}/file/work"
    state = SimpleNamespace(readwrite=[directory], metadir=None)
    with pytest.raises(errors.StateError, match=f"directory {directory} cannot be made: Not a directory"):
        run(state, {"command": "true"})


def test_a_work_directory_that_disappears_under_the_task_does_not_hide_its_result(state):
    run(state, {"command": 'cd /; rm -r "$OLDPWD"; echo done'})
    with pytest.raises(errors.TaskFailed, match="exit code 2"):
        run(state, {"command": 'cd /; rm -r "$OLDPWD"; exit 2'})


# --- failures --------------------------------------------------------------------------------------------------


def test_a_failure_names_command_exit_code_last_lines_and_log(state):
    with pytest.raises(errors.TaskFailed) as caught:
        run(state, {"command": "seq 30; echo trouble >&2; exit 3"})
    error = caught.value
    assert str(error) == (
        "the task failed with exit code 3: seq 30; echo trouble >&2; exit 3\n"
        "Last output:\n"
        + "".join(f"  | {n}\n" for n in range(12, 31))
        + f"  | trouble\nAll output: {state.metadir}/t.run.log"
    )
    assert (error.returncode, error.log) == (3, f"{state.metadir}/t.run.log")
    assert error.output.splitlines()[-1] == "trouble"
    assert error.cmd == ["sh", "-c", "seq 30; echo trouble >&2; exit 3"]


@pytest.mark.parametrize("ancestor", [RuntimeError, subprocess.CalledProcessError, errors.PacktivityError])
def test_a_failure_is_caught_by_who_catches_its_ancestors(state, ancestor):
    with pytest.raises(ancestor):
        run(state, {"command": "false"})


def test_a_failure_by_a_signal_names_it(state):
    with pytest.raises(errors.TaskFailed, match=r"the task was killed \(SIGKILL\)") as caught:
        run(state, {"command": "kill -9 $$"})
    assert caught.value.returncode == -signal.SIGKILL
    assert "memory" in caught.value.hint


def test_a_signal_without_a_name_is_named_by_its_number():
    assert executors.ending(-signal.SIGRTMIN - 1) == f"killed by signal {signal.SIGRTMIN + 1}"


def test_a_failure_without_output_says_so(state):
    with pytest.raises(errors.TaskFailed, match="It wrote no output"):
        run(state, {"command": "false"})


def test_a_program_that_the_shell_does_not_find_is_explained(state):
    with pytest.raises(errors.TaskFailed, match="exit code 127: no-such-program") as caught:
        run(state, {"command": "no-such-program --all"})
    assert "PATH" in caught.value.hint


def test_a_long_command_is_shortened_and_control_characters_do_not_come_through(state):
    with pytest.raises(errors.TaskFailed) as caught:
        run(state, {"command": "printf '\\033[2Jred\\007\\n'; : " + "x" * 5000 + "; exit 1"})
    first, *rest = str(caught.value).splitlines()
    assert len(first) < 300
    assert "  | �[2Jred�" in rest


def test_of_a_long_command_the_first_line_is_shown(state):
    with pytest.raises(errors.TaskFailed, match=r"exit code 1: set -e …\n"):
        run(state, {"command": "\nset -e\nfalse\n"})


def test_a_time_out_is_an_error_of_its_own(state):
    with pytest.raises(errors.TaskTimeout, match=r"longer than 0\.2 s: echo begun; sleep 60") as caught:
        run(state, {"command": "echo begun; sleep 60"}, timeout=0.2)
    assert "  | begun" in str(caught.value)
    assert "killed by SIGTERM" in log(state, "step")


def test_what_a_task_leaves_running_is_noted_in_its_log(state):
    run(state, {"command": "sleep 60 & echo done"})
    assert "WARNING | ended 1 process that the task had left running" in log(state)


# --- other environments ----------------------------------------------------------------------------------------


def test_noop_runs_nothing_and_logs_the_job(state):
    run(state, {"command": "touch made"}, {"environment_type": "noop-env"})
    assert os.listdir(state.readwrite[0]) == ["_packtivity"]
    assert "would be running this job: {'command': 'touch made'}" in log(state, "step")


def test_the_environment_for_tests_runs_nothing(state):
    run(state, {"a": "complicated"}, {"environment_type": "test-env", "test": "environment"})
    assert "a complicated test environment" in log(state, "step")


def test_a_container_needs_a_container_tool(state, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("PACKTIVITY_CONTAINER_RUNTIME", raising=False)
    with pytest.raises(errors.EnvironmentUnavailable, match="docker: not installed") as caught:
        run(state, {"command": "true"}, DOCKER)
    assert "podman" in caught.value.hint


class Person:
    def __init__(self, *answers: str) -> None:
        self.answers, self.shown = list(answers), ""

    def available(self) -> bool:
        return True

    def show(self, text: str) -> None:
        self.shown += text

    def ask(self, prompt: str) -> str:
        return self.answers.pop(0)


MANUAL = {"environment_type": "manual-instructions-env", "instructions": "take the red cable"}


def test_a_manual_environment_asks_the_person(state):
    person = Person("y")
    run(state, {"command": "measure 5"}, MANUAL, interaction=person)
    assert "take the red cable" in person.shown
    assert "measure 5" in person.shown
    assert "the person says that it is done" in log(state, "step")


def test_a_manual_process_is_carried_out_by_a_person_whatever_the_environment(state):
    for environment in (LOCAL, DOCKER):
        person = Person("y")
        run(state, {"instructions": "press the button", "parameters": {}}, environment, interaction=person)
        assert "press the button" in person.shown


def test_a_dry_run_does_not_ask_the_person(state):
    dry, person = ExecutionConfig({"logging_level": "CRITICAL", "dry_run": True}), Person()
    dry.interaction = person
    executors.run(dry, MANUAL, state, {"command": "measure 5"}, {"name": "t"})
    assert person.shown == ""
    assert "a person is not asked" in log(state, "step")


def test_a_person_can_report_a_failure(state):
    with pytest.raises(errors.TaskFailed, match="cable is blue"):
        run(state, {"command": ":"}, MANUAL, interaction=Person("f", "cable is blue"))


# --- planning --------------------------------------------------------------------------------------------------


def test_a_plan_is_what_would_run(state):
    assert executors.plan(config(), LOCAL, state, {"command": "a b"}) == Execution(
        ("sh", "-c", "a b"), workdir=state.readwrite[0]
    )


@pytest.mark.parametrize("environment", [MANUAL, {"environment_type": "noop-env"}, {"environment_type": "other"}])
def test_where_nothing_is_started_there_is_no_plan(state, environment):
    assert executors.plan(config(), environment, state, {"command": "a"}) is None


def test_plug_ins_get_argv_input_and_terminal_as_three():
    log = logging.getLogger("x")
    assert executors.command_argv({"envscript": ""}, {"command": "a"}, log) == (["sh", "-c", "a"], None, False)
    job = {"script": "s", "interpreter": "i"}
    assert executors.script_argv({"envscript": "/e"}, job, log) == (["sh", "-c", "source /e && i"], "s", False)
