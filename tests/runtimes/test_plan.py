from __future__ import annotations

import os
import subprocess
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from packtivity import errors
from packtivity.handlers.config import ExecutionConfig
from packtivity.runtimes.plan import plan_local, shell_argv
from packtivity.runtimes.shell_lines import shell_line
from packtivity.types import Execution

LOCAL = {"environment_type": "localproc-env"}


def state(*directories: str) -> SimpleNamespace:
    return SimpleNamespace(readwrite=list(directories))


def test_a_command_is_a_line_of_shell_in_the_first_directory():
    plan = plan_local({"command": "a | b"}, LOCAL, state("/first", "/second"), ExecutionConfig(timeout=5))
    assert plan == Execution(argv=("sh", "-c", "a | b"), workdir="/first", timeout=5.0)


def test_a_script_is_the_standard_input_of_its_interpreter():
    plan = plan_local({"script": "print(ü)", "interpreter": "python -"}, LOCAL, None, ExecutionConfig())
    assert plan == Execution(argv=("sh", "-c", "python -"), stdin="print(ü)".encode())


def test_an_empty_script_is_an_empty_input():
    assert shell_argv({"script": "", "interpreter": "sh"}, LOCAL) == (("sh", "-c", "sh"), None)


@pytest.mark.parametrize(
    ("job", "line"),
    [
        ({"command": "run"}, "source /env.sh && run"),
        ({"script": "x", "interpreter": "root -b"}, "source /env.sh && root -b"),
    ],
)
def test_an_environment_script_is_sourced_first(job, line):
    assert shell_argv(job, {"envscript": "/env.sh"})[0] == ("sh", "-c", line)


def test_a_job_that_is_none_is_refused():
    with pytest.raises(errors.ParameterError, match="a job with 'a', 'b' cannot be run"):
        shell_argv({"a": 1, "b": 2}, LOCAL)


def test_a_nul_character_in_the_command_is_refused():
    with pytest.raises(errors.ParameterError, match="NUL"):
        shell_argv({"command": "a\0b"}, LOCAL)


def test_a_clean_environment_keeps_a_few_variables_and_those_named():
    caller = {"PATH": "/bin", "LC_ALL": "C", "SECRET": "s", "ROOTSYS": "/root", "LD_PRELOAD": "x"}
    config = ExecutionConfig(clean_env=True, pass_env=["ROOTSYS", "ABSENT"])
    plan = plan_local({"command": ":"}, LOCAL, None, config, caller)
    assert plan.env == {"PATH": "/bin", "LC_ALL": "C", "ROOTSYS": "/root"}
    assert not plan.inherit_env


def test_a_line_never_spells_out_the_callers_variables():
    plan = Execution(("true",), env={"TOKEN": "secret", "PATH": "/bin"}, inherit_env=False)
    assert shell_line(plan) == 'env -i PATH="${PATH}" TOKEN="${TOKEN}" true </dev/null'


@pytest.mark.parametrize("content", [b"\xff'\\0101\n\x00%s", b"a text\n\0 with a NUL"])
def test_a_line_feeds_what_is_no_text_byte_by_byte(content):
    plan = Execution(("cat",), stdin=content)
    line = shell_line(plan)
    assert line.isascii()
    assert subprocess.run(["sh", "-c", line], capture_output=True, check=True).stdout == plan.stdin


text = st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=30)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(argument=text, stdin=text, value=text, folder=text)
def test_a_line_does_the_same_as_the_execution(tmp_path, argument, stdin, value, folder):
    folder = "d" + folder.replace("/", "_")[:10]
    workdir = tmp_path / folder
    workdir.mkdir(exist_ok=True)
    script = 'printf %s "$0|$VALUE|"; cat; printf %s "|$PWD"'
    plan = Execution(("sh", "-c", script, argument), stdin.encode() or None, str(workdir), env={"VALUE": value})
    done = subprocess.run(["sh", "-c", shell_line(plan)], capture_output=True, check=True)
    assert done.stdout == f"{argument}|{value}|{stdin}|{os.path.realpath(workdir)}".encode()
