"""What would run, shown where nothing could run it: the script alone, the command, everything."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

SCRIPT = "cat <<'END'\n\t{{{x}}} é\nEND\n"
FILLED = "cat <<'END'\n\t{1} é\nEND\n"
IMAGE = {"environment_type": "docker-encapsulated", "image": "some/where", "imagetag": "v1"}
PUBLISHER = {"publisher_type": "constant-pub", "publish": {}}
TOOLS = ("docker", "podman", "podman-hpc", "apptainer", "singularity", "udocker", "shifter")


def write(commands: Any, process: Any, environment: Any) -> None:
    commands.write("spec.json", json.dumps({"process": process, "environment": environment, "publisher": PUBLISHER}))


def script(commands: Any, environment: Any = IMAGE) -> None:
    write(commands, {"process_type": "interpolated-script-cmd", "script": SCRIPT, "interpreter": "bash"}, environment)


@pytest.mark.parametrize("environment", [IMAGE, {"environment_type": "localproc-env"}], ids=["container", "local"])
@pytest.mark.parametrize("program", [("packtivity-run",), ("packtivity", "run")], ids=" ".join)
def test_a_script_is_printed_alone_and_exactly(quick: Any, program: tuple[str, ...], environment: Any) -> None:
    script(quick, environment)
    done = quick(*program, "--print-script", "spec.json", "-p", "x=1", "-w", "work")
    assert (done.returncode, done.stdout, done.stderr) == (0, FILLED, "")
    assert not (quick.directory / "work").exists()


@pytest.mark.parametrize("text", ["echo {x}", "echo {x}\n", "echo {x}\n\n", "printf '\x1b[1m\r\x07'; true {x}"])
def test_a_command_is_printed_alone_with_one_line_end(quick: Any, text: str) -> None:
    write(quick, {"process_type": "string-interpolated-cmd", "cmd": text}, IMAGE)
    done = quick("packtivity-run", "--print-script", "spec.json", "-p", "x=1")
    assert (done.returncode, done.stdout) == (0, text.replace("{x}", "1").removesuffix("\n") + "\n")


def test_what_is_printed_is_what_the_interpreter_gets(commands: Any) -> None:
    script(commands, {"environment_type": "localproc-env"})
    printed = commands("packtivity-run", "--print-script", "spec.json", "-p", "x=1")
    by_hand = subprocess.run(["bash"], input=printed.stdout, capture_output=True, text=True, check=True).stdout
    assert commands("packtivity-run", "spec.json", "-p", "x=1").returncode == 0
    assert by_hand.strip() in (commands.directory / "_packtivity" / "packtivity_syncbackend.run.log").read_text()


@pytest.mark.parametrize(
    ("process", "environment", "why"),
    [
        (None, None, "it only publishes"),
        ({"process_type": "manual-instructions-proc", "instructions": "look"}, IMAGE, "manual-instructions-proc"),
    ],
)
def test_a_task_without_a_script_says_so(quick: Any, process: Any, environment: Any, why: str) -> None:
    write(quick, process, environment)
    done = quick("packtivity-run", "--print-script", "spec.json")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"this task has no script or command: {why}" in done.stderr


def test_a_missing_parameter_is_the_error_it_is_in_the_run(quick: Any) -> None:
    script(quick)
    done = quick("packtivity-run", "--print-script", "spec.json")
    assert (done.returncode, done.stdout) == (4, "")
    assert "'x'" in done.stderr


@pytest.mark.parametrize("options", [("--print-script", "--dry-run"), ("--print-command", "--print-script")])
def test_one_preview_at_a_time(quick: Any, options: tuple[str, str]) -> None:
    script(quick)
    done = quick("packtivity-run", *options, "spec.json", "-p", "x=1")
    assert done.returncode == 2
    assert "cannot be used together" in done.stderr


# --- where nothing is installed --------------------------------------------------------------------------------


NOTHING = {"PATH": "/nowhere", "DOCKER_HOST": "unix:///nowhere/docker.sock"}


@pytest.mark.parametrize("option", ["--print-command", "--dry-run"])
@pytest.mark.parametrize("tool", TOOLS)
def test_a_tool_that_is_named_need_not_be_here(quick: Any, tool: str, option: str) -> None:
    script(quick)
    done = quick("packtivity-run", option, "--runtime", tool, "spec.json", "-p", "x=1", env=NOTHING)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"| {tool} " in done.stdout
    assert "some/where:v1" in done.stdout


@pytest.mark.parametrize("option", ["--print-command", "--dry-run"])
def test_without_any_tool_the_line_is_for_docker_and_says_so(quick: Any, option: str) -> None:
    script(quick)
    done = quick("packtivity-run", option, "spec.json", "-p", "x=1", env=NOTHING)
    assert done.returncode == 0
    assert "| docker run " in done.stdout
    (note,) = done.stderr.splitlines()
    assert note == (
        "warning: no container tool works here (see packtivity doctor); this is what would be run with Docker"
    )


def test_a_tool_that_does_not_exist_is_refused(quick: Any) -> None:
    script(quick)
    done = quick("packtivity-run", "--dry-run", "--runtime", "dokcer", "spec.json", "-p", "x=1", env=NOTHING)
    assert done.returncode == 11
    assert "'docker'" in done.stderr


@pytest.mark.parametrize("environment", [IMAGE, {"environment_type": "localproc-env"}], ids=["container", "local"])
def test_what_linux_would_not_start_is_refused_before(quick: Any, environment: Any) -> None:
    write(quick, {"process_type": "string-interpolated-cmd", "cmd": "echo {x}"}, environment)
    quick.write("long.json", json.dumps({"x": "x" * 3_000_000}))
    done = quick("packtivity-run", "--dry-run", "spec.json", "long.json")
    assert (done.returncode, done.stdout) == (4, "")
    assert "too long for this system" in done.stderr
    assert "interpolated-script-cmd" in done.stderr
    quick.write("short.json", json.dumps({"x": "x" * 100_000}))
    assert quick("packtivity-run", "--dry-run", "spec.json", "short.json").returncode == 0
