"""What validate warns of, run and map warn of too; what a spec's image is called is the same for every command."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

PUBLISHER = "publisher:\n  publisher_type: interpolated-pub\n  publish:\n"
LOCAL = "environment:\n  environment_type: localproc-env\n"
PROCESS = "process:\n  process_type: string-interpolated-cmd\n  cmd: {cmd}\n"
TOUCH = "touch '{a}'"
WRITTEN = f"{PROCESS.format(cmd='echo {x}')}{LOCAL}{PUBLISHER}    channel: NO\n    day: 2024-01-31\n    channel: 010\n"


def warnings(text: str) -> list[str]:
    return re.findall(r"warning\[([a-z-]+)\]", text)


@pytest.mark.parametrize("command", ["packtivity-validate", "packtivity-run"])
def test_how_a_spec_is_written_is_doubted_by_every_command(commands: Any, command: str) -> None:
    commands.write("spec.yml", WRITTEN)
    done = commands(command, "spec.yml", "-p", "x=1")
    assert done.returncode == 0
    assert sorted(warnings(done.stderr)) == ["date-as-string", "duplicate-key", "not-as-written", "not-as-written"]
    assert "spec.yml:9:14: warning[not-as-written]: NO is false in YAML 1.1" in done.stderr
    assert 'help: Write "NO", in quotes, for the text, or false for the truth value.' in done.stderr


def test_a_map_doubts_how_its_spec_is_written_once(commands: Any) -> None:
    commands.write("spec.yml", WRITTEN)
    commands.write("sets.csv", "x\n1\n2\n3\n")
    done = commands("packtivity", "map", "spec.yml", "--over", "sets.csv", "--write", "out")
    assert done.returncode == 0, done.stderr
    assert sorted(warnings(done.stderr)) == ["date-as-string", "duplicate-key", "not-as-written", "not-as-written"]


def test_under_strict_a_doubtful_spec_is_not_run(commands: Any) -> None:
    commands.write("spec.yml", WRITTEN)
    done = commands("packtivity-run", "spec.yml", "-p", "x=1", "--strict")
    assert done.returncode == 1
    assert "error[not-as-written]" in done.stderr
    assert done.stderr.rstrip().endswith("error: not run, because warnings are errors under --strict")


def test_strict_leaves_advice_alone(commands: Any) -> None:
    commands.write("spec.yml", f"{PROCESS.format(cmd='echo')}{LOCAL}{PUBLISHER}    plots: '{{workdir}}/*.png'\n")
    done = commands("packtivity-validate", "spec.yml", "--strict")
    assert done.returncode == 0
    assert "advice[pattern-as-text]" in done.stderr
    assert "1 piece of advice" in done.stderr


def test_a_mapping_that_fills_a_placeholder_is_warned_of_by_the_run(commands: Any) -> None:
    commands.write("spec.yml", f"{PROCESS.format(cmd='echo {data}')}{LOCAL}{PUBLISHER}    a: b\n")
    done = commands("packtivity-run", "spec.yml", "-p", "data={step: init, output: x}")
    assert warnings(done.stderr) == ["mapping-as-text"]
    assert "It is a link of a workflow, which yadage follows" in done.stderr


def test_a_pattern_without_glob_is_named_when_nothing_is_there(commands: Any) -> None:
    commands.write(
        "spec.yml",
        f"{PROCESS.format(cmd=TOUCH)}{LOCAL}{PUBLISHER}    a: '{{workdir}}/*.png'\n    b: '{{a}}x'\n",
    )
    done = commands("packtivity-run", "spec.yml", "-w", "work", "-p", "a='{workdir}/a.png'")
    assert warnings(done.stderr) == ["missing-output", "missing-output"], done
    pattern, other = re.findall(r"help: (.*)", done.stderr)
    assert (
        pattern == "It is a pattern, published as it stands: write glob: true to publish the list of files that match."
    )
    assert other == "Does the command write it under that name, into that directory?"


def test_standard_input_is_a_spec(commands: Any) -> None:
    text = f"{PROCESS.format(cmd='echo')}{LOCAL}publisher: {{publisher_type: constant-pub, publish: {{}}}}\n"
    assert commands("packtivity-validate", "-", input=text).stdout == "packtivity definition is valid\n"
    broken = commands("packtivity-validate", "-", input="process: 1\n")
    assert "<stdin>:1:10: error[wrong-type]" in broken.stderr
    for command in ("packtivity-validate", "packtivity-run"):
        both = commands(command, "-", "-", input=text)
        assert both.returncode == 2
        assert "standard input cannot be the spec and a parameter file" in both.stderr


@pytest.mark.parametrize(
    ("image", "named"),
    [
        ("image: 'busybox:1.36'", "busybox:1.36"),
        ("image: busybox", "busybox:latest"),
        ("image: busybox, imagetag: '1.36'", "busybox:1.36"),
        ("image: /cvmfs/unpacked.cern.ch/a", "/cvmfs/unpacked.cern.ch/a"),
    ],
)
def test_describe_names_the_image_as_the_run_does(commands: Any, image: str, named: str) -> None:
    environment = f"environment: {{environment_type: docker-encapsulated, {image}}}\n"
    commands.write("spec.yml", f"{PROCESS.format(cmd='echo')}{environment}{PUBLISHER}    a: b\n")
    described = commands("packtivity", "describe", "spec.yml", "--format", "json")
    assert json.loads(described.stdout)["image"] == named


def test_an_impossible_image_is_warned_of_and_not_run(commands: Any) -> None:
    environment = "environment: {environment_type: docker-encapsulated, image: Busybox}\n"
    commands.write("spec.yml", f"{PROCESS.format(cmd='echo')}{environment}{PUBLISHER}    a: b\n")
    checked = commands("packtivity-validate", "spec.yml")
    assert checked.returncode == 0
    assert "warning[impossible-image]: 'Busybox:latest' is not the name of a container image" in checked.stderr
    done = commands("packtivity-run", "spec.yml")
    assert done.returncode == 4
    assert "'Busybox:latest' is not the name of a container image" in done.stderr


@pytest.mark.parametrize("command", ["packtivity-validate", "packtivity-run"])
def test_a_server_that_keeps_a_command_waiting_is_named(commands: Any, command: str, silent_server: str) -> None:
    done = commands(command, f"{silent_server}/spec.yml", env={"PACKTIVITY_DOWNLOAD_TIMEOUT": "8"})
    assert done.returncode == 3
    first = done.stderr.splitlines()[0]
    assert first == f"waiting for {silent_server}/spec.yml (up to 8 seconds, PACKTIVITY_DOWNLOAD_TIMEOUT)"


@pytest.fixture
def silent_server() -> Any:
    """Return the address of a server that takes connections and never answers."""
    import socket

    with socket.create_server(("127.0.0.1", 0), backlog=5) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
