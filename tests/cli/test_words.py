"""What a person is told: what is wrong, where, and the exact line to type; nothing that was given is dropped silently."""

from __future__ import annotations

import json
import re
import shlex
from typing import Any

import pytest

from packtivity.cli.inputs import command_line
from packtivity.cli.options import SpecOptions

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


def test_a_state_file_cannot_name_what_no_directory_is_called(quick: Any) -> None:
    quick.spec("'true'")
    quick.write("state.yml", 'readonly: ["a\\0b"]\n')
    done = quick("packtivity-run", "-s", "state.yml", "spec.yml", *OUT)
    assert (done.returncode, "state file state.yml: readonly[0] is not a path" in done.stderr) == (5, True)


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


# --- parameters that are missing -------------------------------------------------------------------------------

NEEDS_THREE = "'echo {name} {events} ${{HOME}} > {outputfile}'"


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        (("-p", "name=x"), ("events", "outputfile")),
        (("-p", "nam=x", "-p", "events=1", *OUT), ("name",)),
        (("-p", "other=x"), ("name", "events", "outputfile")),
        (("par.yml",), ("name", "events", "outputfile")),
    ],
)
def test_parameters_that_are_missing_are_one_error_of_validation(quick: Any, given: Any, missing: Any) -> None:
    quick.spec(NEEDS_THREE)
    quick.write("par.yml", "")
    done = quick("packtivity-validate", "spec.yml", *given)
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.count("error[") == 1
    assert (
        f"error[missing-parameter]: the spec needs parameters that are not given: {', '.join(missing)}\n" in done.stderr
    )
    assert "the file that `packtivity example spec.yml` prints" in done.stderr
    for name in missing:
        assert f" -p {name}=VALUE" in done.stderr
    assert "unknown-placeholder" not in done.stderr
    assert ("Did you mean 'name'?" in done.stderr) == ("nam=x" in given)


def test_the_example_that_is_named_fills_what_is_missing(quick: Any) -> None:
    quick.write("a spec.yml", (quick.directory / quick.spec(NEEDS_THREE)).read_text())
    told = quick("packtivity-validate", "-t", ".", "a spec.yml", "-p", "name=x").stderr
    line = shlex.split(told.partition("`")[2].partition("`")[0])
    assert line == ["packtivity", "example", "-t", ".", "a spec.yml"]
    text = quick(*line).stdout
    quick.write("par.yml", text.replace("name:", "name: x").replace("events:", "events: 1"))
    assert quick("packtivity-validate", "--strict", "a spec.yml", "par.yml").returncode == 0


def test_a_spec_alone_lacks_nothing_and_a_misspelt_placeholder_keeps_its_place(quick: Any) -> None:
    quick.spec("'echo {inputfil} {inputfile} > {outputfile}'")
    assert quick("packtivity-validate", "spec.yml").returncode == 0
    done = quick("packtivity-validate", "spec.yml", "-p", "inputfile=x", *OUT)
    assert done.returncode == 4
    assert "Did you mean 'inputfile'?" in done.stderr
    assert "not given: inputfil\n" in done.stderr


@pytest.mark.parametrize("form", ["json", "sarif", "github"])
def test_programs_find_the_error_at_the_place_that_needs_it(quick: Any, form: str) -> None:
    quick.spec(NEEDS_THREE)
    done = quick("packtivity-validate", "--format", form, "spec.yml", "-p", "name=x")
    assert done.returncode == 4
    assert "missing-parameter" in done.stdout
    assert "spec.yml" in done.stdout


def test_a_password_is_in_no_line_to_type() -> None:
    options = SpecOptions(toplevel="https://user:secret@host/specs", spec="a b.yml")
    line = shlex.split(command_line(options, "packtivity", "example"))
    assert line[:3] == ["packtivity", "example", "-t"]
    assert line[-1] == "a b.yml"
    assert "secret" not in line[3]


@pytest.mark.parametrize(
    "program", [("packtivity-run",), ("packtivity-run", "--dry-run"), ("packtivity-run", "-b", "multiproc:1")]
)
def test_the_run_names_all_that_is_missing_with_what_to_type(commands: Any, program: tuple[str, ...]) -> None:
    commands.spec("'echo {name} {workdir} > {outputfile}'")
    done = commands(*program, "spec.yml", "-p", "other=1")
    assert done.returncode == 4
    assert """Pass -p name=VALUE -p workdir='"{workdir}"' -p outputfile=VALUE, or fill in""" in done.stderr


def test_a_workflow_engine_is_not_told_of_options() -> None:
    from packtivity import LocalFSState, errors, run

    spec = {
        "process": {"process_type": "string-interpolated-cmd", "cmd": "echo {x} {y}"},
        "environment": {"environment_type": "localproc-env"},
        "publisher": {"publisher_type": "constant-pub", "publish": {}},
    }
    with pytest.raises(errors.MissingParameter) as caught:
        run(spec, {"x": 1}, state=LocalFSState([], []))
    assert "Give the step the parameter 'y'." in str(caught.value)
    assert "-p" not in str(caught.value)


@pytest.mark.parametrize("name", ["filecount-pub", "my-own"])
def test_the_type_of_a_plug_in_is_told_how_to_run(quick: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    quick.spec("'true'")
    monkeypatch.setenv("PACKTIVITY_PLUGINS", "fc")
    text = (quick.directory / "spec.yml").read_text()
    quick.write("spec.yml", re.sub(r"publisher_type: [\w-]+", f"publisher_type: {name}", text))
    for program in ("packtivity-run", "packtivity-validate"):
        done = quick(program, "spec.yml", *OUT)
        assert (done.returncode, "error[unknown-type]" in done.stderr) == (1, True)
        assert "One of a plug-in: run with --no-validate, or give a schema that has it (-c)." in done.stderr


@pytest.mark.parametrize("text", ["Run #5", "#5", "[1, 2] #5", "'a' # b"])
def test_a_comment_in_a_value_is_not_dropped_silently(quick: Any, text: str) -> None:
    quick.spec("'echo {name}'")
    for program in ("packtivity-run", "packtivity-validate"):
        done = quick(program, "spec.yml", *OUT, "-p", f"name={text}")
        assert (done.returncode, "warning[not-as-written]: what follows # is a comment" in done.stderr) == (0, True)
        (line,) = [line for line in done.stderr.splitlines() if "For this text, type: " in line]
        option = shlex.split(line.partition("type: ")[2])
        assert quick("packtivity-run", "--print-script", "spec.yml", *OUT, *option).stdout == f"echo {text}\n"


@pytest.mark.parametrize("text", ["a#b", "'Run #5'", "[a#b, '#']", '{"a": "# b"}', "|\n  # b\n"])
def test_what_is_no_comment_is_not_called_one(quick: Any, text: str) -> None:
    quick.spec("'echo {name}'")
    assert "comment" not in quick("packtivity-run", "spec.yml", *OUT, "-p", f"name={text}").stderr


@pytest.mark.parametrize("value", ["{a}", "{a: null, b: 1}", "[{x}]"])
def test_a_mapping_with_nothing_in_it_is_a_mapping_too(quick: Any, value: str) -> None:
    quick.spec("'echo {name}'")
    for program in ("packtivity-run", "packtivity-validate"):
        assert "warning[mapping-as-text]" in quick(program, "spec.yml", *OUT, "-p", f"name={value}").stderr
    done = quick("packtivity-validate", "spec.yml", *OUT, "-p", "name={workdir}")
    assert "unquoted-placeholder" in done.stderr
    assert "mapping-as-text" not in done.stderr


@pytest.mark.parametrize("value", ["{workdir}", "{workdir}/a/b"])
def test_a_work_directory_that_is_not_there_is_asked_for(quick: Any, value: str) -> None:
    quick.spec("'echo {name}'")
    quick.write("state.yml", "readonly: [.]\n")
    done = quick("packtivity-run", "-s", "state.yml", "spec.yml", *OUT, "-p", f"name='{value}'")
    assert (done.returncode, "give one with -w/--write" in done.stderr) == (4, True)
