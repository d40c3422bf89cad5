"""What a person is told: what is wrong, where, and the exact line to type; nothing that was given is dropped silently."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest

CONTAINER = """\
process: {process_type: string-interpolated-cmd, cmd: 'true'}
environment: {environment_type: docker-encapsulated, image: busybox, imagetag: '1.36'}
publisher: {publisher_type: constant-pub, publish: {}}
"""
OUT = ("-p", "outputfile=o")


# --- parameters that are no YAML -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "{readdir0}/x",
        '{workdir}/it\'s "quoted" \\ and $HOME',
        "*.root",
        "@x",
        "a: b: c",
        "[1, 2",
        "%d events",
        "!tag x",
        "- a\n b: c: d",
        "a\x07b",
    ],
)
@pytest.mark.parametrize("program", ["packtivity-run", "packtivity-validate"])
def test_a_value_that_is_no_yaml_is_told_the_line_that_makes_it_a_text(quick: Any, text: str, program: str) -> None:
    quick.spec("'echo {name}'")
    done = quick(program, "spec.yml", *OUT, "-p", f"name={text}")
    assert done.returncode == 4
    (line,) = [line for line in done.stderr.splitlines() if "For this text, type: " in line]
    option = shlex.split(line.partition("type: ")[2])
    shown = quick("packtivity-run", "--print-script", "spec.yml", *OUT, "-r", "/", "-w", ".", *option)
    expected = text.replace("{readdir0}", "/").replace("{workdir}", str(quick.directory))
    assert (shown.returncode, shown.stdout) == (0, f"echo {expected}\n")


def test_the_slip_that_everybody_makes_first(quick: Any) -> None:
    quick.spec("'echo {text}'")
    assert """-p text='"{readdir0}/x"'\n""" in quick("packtivity-run", "spec.yml", "-p", "text={readdir0}/x").stderr


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("outputfile: {workdir}/x", 'outputfile: "{workdir}/x"'),
        ("  - {workdir}/x", '- "{workdir}/x"'),
        ("  a b: {readdir0}/x y", 'a b: "{readdir0}/x y"'),
    ],
)
def test_a_line_of_a_file_is_told_as_it_should_be(quick: Any, line: str, expected: str) -> None:
    quick.spec("'true'")
    quick.write("par.yml", line if line[0] != " " else f"outputfile:\n{line}\n")
    done = quick("packtivity-run", "spec.yml", "par.yml")
    assert done.returncode == 4
    assert f"help: Write: {expected}\n" in done.stderr


# --- parameter files -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "\n", "# nothing yet\n"])
def test_an_empty_parameter_file_says_so(quick: Any, text: str) -> None:
    quick.spec("'true'")
    quick.write("par.yml", text)
    for program in ("packtivity-run", "packtivity-validate"):
        done = quick(program, "spec.yml", "par.yml", *OUT)
        assert (done.returncode, "par.yml:1:1: warning[empty-parameter-file]" in done.stderr) == (0, True)
        assert quick(program, "--strict", "spec.yml", "par.yml", *OUT).returncode == 4
    quick.write("sets.jsonl", '{"outputfile": "a"}\n')
    done = quick("packtivity", "map", "-b", "foregroundasync", "spec.yml", "par.yml", "--over", "sets.jsonl")
    assert (done.returncode, done.stderr.count("empty-parameter-file")) == (0, 1)


def test_an_empty_mapping_is_meant(quick: Any) -> None:
    quick.spec("'true'")
    quick.write("par.yml", "{}\n")
    assert quick("packtivity-run", "spec.yml", "par.yml", *OUT).stderr == ""


@pytest.mark.parametrize("value", ["{step: init, output: x}", "[{stages: top, output: 'files[1]', unwrap: true}]"])
def test_a_link_of_a_workflow_is_no_value(quick: Any, value: str) -> None:
    quick.spec("'echo {name}'")
    quick.write("par.yml", f"outputfile: o\nname: {value}\n")
    for program in ("packtivity-run", "packtivity-validate"):
        done = quick(program, "spec.yml", "par.yml")
        assert (
            done.returncode,
            "warning[mapping-as-text]" in done.stderr and "a link of a workflow" in done.stderr,
        ) == (0, True)


@pytest.mark.parametrize("value", ["[]", "[1, b]", "text"])
def test_plain_values_are_values(quick: Any, value: str) -> None:
    quick.spec("'echo {name}'")
    quick.write("par.yml", f"outputfile: o\nname: {value}\n")
    assert quick("packtivity-run", "spec.yml", "par.yml").stderr == ""


def test_what_validation_warns_of_in_parameters_the_run_warns_of(quick: Any) -> None:
    quick.spec("'echo {name}'")
    quick.write("par.yml", "name: a\nname: 2020-01-01\noutputfile: o\n")
    expected = {"warning[duplicate-key]", "warning[date-as-string]"}
    quick.write("sets.jsonl", '{"outputfile": "a"}\n')
    calls = (
        ("packtivity-validate", "spec.yml", "par.yml"),
        ("packtivity-run", "spec.yml", "par.yml"),
        ("packtivity", "map", "-b", "foregroundasync", "spec.yml", "par.yml", "--over", "sets.jsonl"),
    )
    for call in calls:
        assert {code for code in expected if code in quick(*call).stderr} == expected, call


# --- states ----------------------------------------------------------------------------------------------------


def test_directories_beside_a_state_file_are_not_dropped_silently(quick: Any) -> None:
    quick.spec("'true'")
    quick.write("state.yml", "readwrite: [work]\n")
    done = quick("packtivity-run", "-s", "state.yml", "-w", "other", "-r", ".", "spec.yml", *OUT)
    assert done.returncode == 0
    assert done.stderr.splitlines() == [
        f"warning: --{name} has no effect, because --state takes its place" for name in ("read", "write")
    ]
    assert not (quick.directory / "other").exists()
    assert quick("packtivity-run", "-s", "state.yml", "spec.yml", *OUT).stderr == ""


def test_an_empty_state_file_says_so(quick: Any) -> None:
    quick.spec("'true'")
    quick.write("state.yml", "")
    done = quick("packtivity-run", "-s", "state.yml", "-w", "other", "spec.yml", *OUT)
    assert (done.returncode, done.stderr) == (0, "warning: state file state.yml is empty; --write and --read hold\n")
    assert (quick.directory / "other" / "_packtivity").is_dir()


@pytest.mark.parametrize(
    ("state", "place", "near"),
    [
        ("readwrit: [other]\nreadonly: []", "state.yml: the key 'readwrit'", "readwrite"),
        (
            "state_type: localfs\nidentifier: s\nreadwrite: [{path: work}]\nreadonly: []\nreadOnly: []",
            "the key 'readOnly'",
            "readonly",
        ),
        ("readwrite: [{path: work, nmae: x}]", "state.yml: readwrite[0]: the key 'nmae'", "name"),
    ],
)
def test_a_misspelt_key_of_a_state_is_told(quick: Any, state: str, place: str, near: str) -> None:
    quick.spec("'true'")
    quick.write("state.yml", state)
    done = quick("packtivity-run", "-s", "state.yml", "spec.yml", *OUT)
    assert done.returncode == 0
    assert f"{place} means nothing; did you mean {near!r}?" in done.stderr


@pytest.mark.parametrize("address", ["s3://bucket/x", "https://user:secret@host/x", "root://eos.example//eos/x"])
@pytest.mark.parametrize("how", ["-r", "-w", "state", "map -r", "map -w", "shell"])
def test_an_address_is_no_directory(quick: Any, address: str, how: str) -> None:
    quick.spec("'true'")
    quick.write("state.json", json.dumps({"readwrite": ["work"], "readonly": [{"path": address}]}))
    calls = {
        "state": ("packtivity-run", "-s", "state.json"),
        "map -r": ("packtivity", "map", "-p", "x=1..2", "-r", address),
        "map -w": ("packtivity", "map", "-p", "x=1..2", "-w", address),
        "shell": ("packtivity-util", "shell", "-w", address),
    }
    done = quick(*calls.get(how, ("packtivity-run", how, address)), "spec.yml", *OUT)
    assert done.returncode == 5
    assert "is an address, not a directory" in done.stderr
    assert "secret" not in done.stderr
    assert {path.name for path in quick.directory.iterdir()} == {"spec.yml", "state.json"}


def test_a_directory_that_is_called_like_an_address_is_one(quick: Any) -> None:
    quick.spec("'true'")
    (quick.directory / "s3:" / "bucket").mkdir(parents=True)
    assert quick("packtivity-run", "-r", "s3://bucket", "spec.yml", *OUT).returncode == 0


def test_no_directory_to_write_to_is_told_whatever_else_there_is(quick: Any) -> None:
    quick.write(
        "spec.yml",
        "process: null\nenvironment: null\n"
        "publisher: {publisher_type: fromglob-pub, globexpression: '*', outputkey: all}\n",
    )
    quick.write("state.yml", "readonly: [.]\n")
    done = quick("packtivity-run", "-s", "state.yml", "spec.yml")
    assert "warning[no-work-directory]" in done.stderr


# --- options that have no effect -------------------------------------------------------------------------------


CHOICES = [
    ("--runtime", "docker"),
    ("--pull", "never"),
    ("--cpus", "2"),
    ("--memory", "2G"),
    ("--gpus", "all"),
    ("--network", "none"),
    ("--user", "caller"),
    ("--image-dir", "/nosuch"),
]


@pytest.mark.parametrize("option", CHOICES, ids=lambda option: option[0])
@pytest.mark.parametrize("program", [("packtivity-run",), ("packtivity-util", "shell")], ids=" ".join)
def test_an_option_for_containers_on_a_plain_process_is_told(quick: Any, program: Any, option: Any) -> None:
    quick.spec("'true'")
    done = quick(*program, *option, "spec.yml", *OUT)
    assert done.returncode == 0
    assert f"warning: {option[0]}: no effect, because this task does not run in a container\n" in done.stderr
    quick.write("container.yml", CONTAINER)
    assert "no effect" not in quick("packtivity-run", "--dry-run", *option, "container.yml").stderr


def test_every_backend_is_in_the_help_and_in_completion(commands: Any) -> None:
    words = "packtivity-run -b "
    environment = {"_PACKTIVITY_RUN_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": "2"}
    completed = {line.partition(",")[2] for line in commands("packtivity-run", env=environment).stdout.split()}
    assert {"kubernetes", "slurm", "local", "celery", "ipcluster", "multiproc:auto"} <= completed
    help_text = " ".join(commands("packtivity-run", "--help").stdout.split())
    assert all(name.partition(":")[0] in help_text for name in completed)


def test_the_help_does_not_promise_schemas_from_an_address(quick: Any) -> None:
    text = " ".join(quick("packtivity-validate", "--help").stdout.split())
    assert "Directory of other JSON Schemas to check SPEC against, or from-github." in text


# --- values in a shell -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["a&nosuchprogram", "a;nosuchprogram", "a (b)", "a|nosuchprogram", "it's"])
@pytest.mark.parametrize("backend", ["defaultsync", "multiproc:1"])
def test_a_value_that_the_shell_takes_for_its_own_is_the_likely_cause(commands: Any, value: str, backend: str) -> None:
    commands.spec("'echo {name}'")
    done = commands("packtivity-run", "-b", backend, "spec.yml", *OUT, "-p", f"name={json.dumps(value)}")
    assert done.returncode == 6
    assert "The value of 'name' has " in done.stderr
    assert 'process.cmd): write "{name}".' in done.stderr


def test_a_failure_of_another_kind_has_no_such_cause(quick: Any) -> None:
    quick.spec("'echo {name}; exit 3'")
    assert "The value of" not in quick("packtivity-run", "spec.yml", *OUT, "-p", "name=a&b").stderr
