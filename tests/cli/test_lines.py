"""Standard output when it is not a terminal: word for word what 0.17.1 prints for the same specs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from forks import Forks

LOCAL = "environment: {environment_type: localproc-env}\n"
CMD = "process: {process_type: string-interpolated-cmd, cmd: '%s'}\n"
FROMPAR = "publisher: {publisher_type: frompar-pub, outputmap: {output: outputfile, all: [outputfile, name]}}\n"
GLOB = "publisher: {publisher_type: fromglob-pub, outputkey: found, globexpression: '*.txt'}\n"
CONSTANT = "publisher: {publisher_type: constant-pub, publish: {b: 1, a: [x, null, 2.5]}}\n"
INTERPOLATED = "publisher: {publisher_type: interpolated-pub, publish: {file: '{workdir}/{name}'}, glob: true}\n"
FROMYAML = "publisher: {publisher_type: fromyaml-pub, yamlfile: out.yml}\n"
NOTHING = "process: null\nenvironment: null\n"

CASES = {
    "a result known before the run": (CMD % "echo {name} > {outputfile}" + LOCAL + FROMPAR, ["-p", "name=x"]),
    "a parameter that is no ASCII": (CMD % "echo {name} > {outputfile}" + LOCAL + FROMPAR, ["-p", "name=größer ☃"]),
    "a result found by its files": (CMD % "touch b.txt; touch {name}.txt" + LOCAL + GLOB, ["-p", "name=a b"]),
    "a result that is always the same": (CMD % "exit 0" + LOCAL + CONSTANT, []),
    "a template with a glob": (CMD % "touch {name}" + LOCAL + INTERPOLATED, ["-p", "name=f1"]),
    "a result the task writes": (CMD % "echo [a, 1, null] > out.yml" + LOCAL + FROMYAML, []),
    "a task that only publishes": (NOTHING + CONSTANT, []),
    "an empty result": (NOTHING + "publisher: {publisher_type: constant-pub, publish: {}}\n", []),
    "numbers, lists and words of YAML": (
        CMD % "echo {name} > {outputfile}" + LOCAL + FROMPAR,
        ["-p", "name=[1, 2.0, yes, ~, 010]"],
    ),
}


@pytest.fixture
def original(commands: Any, oracle: str, original_programs: Forks) -> Any:
    """Run a command of packtivity 0.17.1."""

    def run(program: str, *arguments: str) -> Any:
        argv = [str(Path(oracle).with_name(program)), *arguments]
        return original_programs.run(argv, commands.directory, commands.environment)

    return run


@pytest.mark.parametrize("case", CASES)
def test_run_prints_the_same_lines(commands: Any, original: Any, case: str) -> None:
    spec, more = CASES[case]
    commands.write("spec.yml", spec)
    arguments = ["spec.yml", *more, "-p", 'outputfile="{workdir}/o"', "-w", "work", "-o", "result.json"]
    theirs = original("packtivity-run", *arguments)
    written = (commands.directory / "result.json").read_bytes()
    (commands.directory / "result.json").unlink()
    ours = commands("packtivity-run", *arguments)
    assert theirs.returncode == 0
    assert (ours.stdout, ours.returncode) == (theirs.stdout, 0)
    assert json.loads((commands.directory / "result.json").read_bytes()) == json.loads(written)
    assert b"\n" not in (commands.directory / "result.json").read_bytes()


def test_asynchronous_run_and_its_proxy_print_the_same_lines(commands: Any, original: Any) -> None:
    commands.spec("echo {name} > {outputfile}")
    arguments = ["-b", "foregroundasync", "--async", "spec.yml", "-p", "name=x", "-p", 'outputfile="{workdir}/o"']
    theirs = original("packtivity-run", *arguments, "-x", "theirs.json")
    ours = commands("packtivity-run", *arguments, "-x", "ours.json")
    assert ours.stdout == theirs.stdout
    assert "proxy-json {" in ours.stdout
    assert (commands.directory / "ours.json").read_text() == (commands.directory / "theirs.json").read_text()
    asked = commands("packtivity-checkproxy", "ours.json")
    # 0.17.1 prints the result after "successful:" for this one kind of proxy.
    assert asked.stdout == f'ready: True\nsuccessful: True\nresult: {{"output": "{commands.directory}/o"}}\n'


def test_waiting_for_an_asynchronous_run_prints_the_same_lines(commands: Any, original: Any) -> None:
    commands.spec("echo {name} > {outputfile}")
    arguments = ["-b", "foregroundasync", "spec.yml", "-p", "name=x", "-p", 'outputfile="{workdir}/o"']
    theirs = original("packtivity-run", *arguments)
    assert commands("packtivity-run", *arguments).stdout == theirs.stdout


@pytest.mark.parametrize("publisher", [FROMPAR, GLOB])
def test_pubtest_prints_the_same_line(commands: Any, original: Any, publisher: str) -> None:
    commands.write("spec.yml", CMD % "true" + LOCAL + publisher)
    arguments = ["pubtest", "spec.yml", "-p", "name=x", "-p", "outputfile=o"]
    theirs = original("packtivity-util", *arguments)
    ours = commands("packtivity-util", *arguments)
    assert ours.stdout == theirs.stdout
    assert (ours.stdout == "None\n") == (publisher == GLOB)


@pytest.mark.parametrize("option", [[], ["--show"]])
def test_validate_prints_the_same_line(commands: Any, original: Any, option: list[str]) -> None:
    commands.write("spec.yml", CMD % "echo {name}" + LOCAL + FROMPAR)
    theirs = original("packtivity-validate", "spec.yml", *option)
    ours = commands("packtivity-validate", "spec.yml", *option)
    assert (ours.stdout, ours.stderr, ours.returncode) == (theirs.stdout, "", 0)


def test_validate_ends_an_invalid_spec_with_the_same_words(commands: Any, original: Any) -> None:
    commands.write("spec.yml", CMD % "echo {name}" + LOCAL)
    theirs = original("packtivity-validate", "spec.yml")
    ours = commands("packtivity-validate", "spec.yml")
    assert ours.stderr.splitlines()[-1] == theirs.stderr.splitlines()[-1] == "Error: packtivity definition not valid"
    assert "publisher" in ours.stderr
    assert (ours.returncode, ours.stdout) == (1, "")


def test_output_of_the_task_is_not_on_standard_output(commands: Any) -> None:
    commands.spec("echo loud; echo louder >&2")
    done = commands("packtivity-run", "spec.yml", "-p", "outputfile=o")
    assert done.stdout == "<TypedLeafs: {'output': 'o'}> (prepublished)\n<TypedLeafs: {'output': 'o'}> (post-run)\n"
    log = (commands.directory / "_packtivity/packtivity_syncbackend.run.log").read_text()
    assert "| loud\n" in log
    assert "| louder\n" in log


def test_quiet_prints_nothing_and_still_writes_the_result(commands: Any) -> None:
    commands.spec("'true'")
    done = commands("packtivity-run", "-q", "spec.yml", "-p", "outputfile=o", "-o", "result.json")
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
    assert (commands.directory / "result.json").read_text() == '{"output": "o"}'


def test_a_terminal_that_lacks_a_character_loses_no_result(commands: Any) -> None:
    commands.spec("'true'")
    done = commands("packtivity-run", "spec.yml", "-p", "outputfile=é☃", env={"PYTHONIOENCODING": "latin-1"})
    assert done.stdout.splitlines()[-1] == "<TypedLeafs: {'output': '\udce9\\u2603'}> (post-run)"
    assert done.returncode == 0


def test_packtivity_run_is_packtivity_dash_run(commands: Any) -> None:
    commands.spec("echo {name} > {outputfile}")
    arguments = ["spec.yml", "-p", "name=x", "-p", "outputfile=o"]
    assert commands("packtivity", "run", *arguments).stdout == commands("packtivity-run", *arguments).stdout
    assert commands("packtivity", "util", "pubtest", *arguments).stdout == "<TypedLeafs: {'output': 'o'}>\n"
