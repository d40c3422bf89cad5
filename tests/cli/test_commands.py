"""validate, describe, example, util, checkproxy and the options of run that need no terminal."""

from __future__ import annotations

import json
import shlex
import subprocess
from typing import Any

import pytest
import yaml

SPEC = """\
process:
  process_type: interpolated-script-cmd
  interpreter: sh
  script: |
    cat {inputs} > "{outputfile}"
environment:
  environment_type: docker-encapsulated
  image: some/where
  imagetag: v1
  resources: [CVMFS]
publisher:
  publisher_type: frompar-pub
  outputmap:
    merged: outputfile
"""

NO_OUTPUT = "{publisher_type: constant-pub, publish: {}}"


# --- validate --------------------------------------------------------------------------------------------------


def test_diagnostics_for_programs_are_on_standard_output_alone(quick: Any) -> None:
    quick.write("spec.yml", SPEC.replace("script:", "scrpt:"))
    done = quick("packtivity-validate", "spec.yml", "--format", "json")
    assert done.returncode == 1
    found = json.loads(done.stdout)["diagnostics"]
    assert ("unknown-key", 4) in {(each["code"], each["line"]) for each in found}
    assert done.stderr == "Error: packtivity definition not valid\n"


@pytest.mark.parametrize("form", ["json", "sarif", "github"])
def test_a_valid_spec_has_empty_reports(quick: Any, form: str) -> None:
    quick.write("spec.yml", SPEC)
    done = quick("packtivity-validate", "spec.yml", "--format", form)
    assert (done.returncode, done.stderr) == (0, "")
    assert "definition is valid" not in done.stdout
    if form == "json":
        assert json.loads(done.stdout)["diagnostics"] == []


def test_parameters_are_checked_too_and_told_with_their_place(quick: Any) -> None:
    quick.write("spec.yml", SPEC)
    quick.write("par.yml", "inputs: [a, b]\noutput: x\noutputfile: y\n")
    lenient = quick("packtivity-validate", "spec.yml", "par.yml")
    assert (lenient.returncode, lenient.stdout) == (0, "packtivity definition is valid\n")
    assert "par.yml:2:1: warning[unused-parameter]" in lenient.stderr
    quick.write("misspelt.yml", "inputs: [a, b]\noutputfil: x\n")
    misspelt = quick("packtivity-validate", "spec.yml", "misspelt.yml")
    assert (misspelt.returncode, misspelt.stdout) == (4, "")
    assert "misspelt.yml:2:1: warning[misspelt-parameter]" in misspelt.stderr
    assert "error[missing-parameter]: the spec needs parameters that are not given: outputfile\n" in misspelt.stderr
    strict = quick("packtivity-validate", "--strict", "spec.yml", "par.yml")
    assert (strict.returncode, strict.stdout) == (4, "")
    assert "par.yml:2:1: error[unused-parameter]" in strict.stderr
    assert strict.stderr.endswith("Error: parameters not valid\n")


def test_what_cannot_be_rendered_is_valid_as_ever_and_told_on_standard_error(quick: Any) -> None:
    quick.spec("echo {name} } {name[there]}")
    given = ("-p", "name={here: x}", "-p", "outputfile=o")
    done = quick("packtivity-validate", "spec.yml", *given)
    assert (done.returncode, done.stdout) == (0, "packtivity definition is valid\n")
    told = [line.partition(" warning[")[2].partition("]")[0] for line in done.stderr.splitlines() if "warning[" in line]
    assert told == ["mapping-as-text", "lone-brace", "unknown-placeholder"]
    assert quick("packtivity-validate", "spec.yml", *given, "--strict").returncode == 1


def test_a_doubtful_spec_is_not_valid_under_strict(quick: Any) -> None:
    quick.write("spec.yml", SPEC.replace("cat {inputs}", "awk '{print $1}' {inputs}"))
    assert quick("packtivity-validate", "spec.yml").returncode == 0
    done = quick("packtivity-validate", "--strict", "spec.yml")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith("Error: packtivity definition not valid\n")


def test_a_spec_that_cannot_be_fetched_is_not_called_invalid(quick: Any) -> None:
    done = quick("packtivity-validate", "nope.yml")
    assert done.returncode == 3
    assert "definition not valid" not in done.stderr


def test_show_and_a_format_for_programs_exclude_each_other(quick: Any) -> None:
    quick.write("spec.yml", SPEC)
    assert quick("packtivity-validate", "spec.yml", "--show", "--format", "json").returncode == 2


# --- describe, example -----------------------------------------------------------------------------------------


def test_describe_says_what_a_task_needs(quick: Any) -> None:
    quick.write("spec.yml", SPEC)
    done = quick("packtivity", "describe", "spec.yml")
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "spec.yml",
        "  process      interpolated-script-cmd",
        "  environment  docker-encapsulated",
        "  image        some/where:v1",
        "  user         the image's own, with its home",
        "  resources    CVMFS",
        "",
        "parameters",
        "  inputs      process.script",
        "  outputfile  process.script, publisher.outputmap.merged; published as merged",
        "",
        "outputs (frompar-pub)",
        "  merged  value of parameter outputfile",
    ]


def test_describe_names_the_image_that_runs(quick: Any) -> None:
    quick.write("spec.yml", SPEC.replace("imagetag: v1", "imagetag: latest").replace("some/where", "some/where:1.0"))
    assert (
        json.loads(quick("packtivity", "describe", "spec.yml", "--format", "json").stdout)["image"] == "some/where:1.0"
    )


def test_describe_for_programs(quick: Any) -> None:
    quick.write("spec.yml", SPEC)
    found = json.loads(quick("packtivity", "describe", "spec.yml", "--format", "json").stdout)
    assert found["image"] == "some/where:v1"
    assert found["outputs"] == {"merged": "value of parameter outputfile"}
    assert list(found["parameters"]) == ["inputs", "outputfile"]
    assert found["parameters"]["outputfile"]["published_as"] == ["merged"]


@pytest.mark.parametrize(
    ("publisher", "expected"),
    [
        ("{publisher_type: fromglob-pub, outputkey: all, globexpression: '*.txt'}", {"all": "files matching *.txt"}),
        ("{publisher_type: constant-pub, publish: {a: 1, b: x}}", {"a": "1", "b": "x"}),
        ("{publisher_type: constant-pub, publish: {}}", {}),
        ("{publisher_type: interpolated-pub, publish: '{workdir}/x'}", {"(document)": "{workdir}/x"}),
        ("{publisher_type: fromyaml-pub, yamlfile: out.yml}", None),
        ("{publisher_type: fromparjq-pub, script: .}", None),
    ],
)
def test_describe_knows_every_publisher(quick: Any, publisher: str, expected: Any) -> None:
    quick.write("spec.yml", f"process: null\nenvironment: null\npublisher: {publisher}\n")
    done = quick("packtivity", "describe", "spec.yml", "--format", "json")
    assert json.loads(done.stdout)["outputs"] == expected
    assert quick("packtivity", "describe", "spec.yml").returncode == 0


def test_an_example_filled_in_is_accepted_under_strict(quick: Any) -> None:
    quick.write("spec.yml", SPEC)
    assert quick("packtivity", "example", "spec.yml", "-o", "par.yml").returncode == 0
    text = (quick.directory / "par.yml").read_text()
    assert "packtivity-run spec.yml par.yml" in text
    assert yaml.safe_load(text) == {"inputs": None, "outputfile": "{workdir}/outputfile"}
    quick.write("par.yml", text.replace("inputs:", "inputs: [a, b]"))
    assert quick("packtivity-validate", "--strict", "spec.yml", "par.yml").returncode == 0


def test_an_example_never_overwrites_unasked(quick: Any) -> None:
    quick.write("spec.yml", SPEC)
    quick.write("par.yml", "mine: 1\n")
    done = quick("packtivity", "example", "spec.yml", "-o", "par.yml")
    assert (done.returncode, "--force" in done.stderr) == (2, True)
    assert (quick.directory / "par.yml").read_text() == "mine: 1\n"
    assert quick("packtivity", "example", "spec.yml", "-o", "par.yml", "--force").returncode == 0
    assert "inputs:" in (quick.directory / "par.yml").read_text()


def test_an_example_for_a_task_without_parameters_is_an_empty_mapping(quick: Any) -> None:
    quick.write("spec.yml", f"process: null\nenvironment: null\npublisher: {NO_OUTPUT}")
    assert yaml.safe_load(quick("packtivity", "example", "spec.yml").stdout) == {}


# --- run -------------------------------------------------------------------------------------------------------


def test_printed_command_does_in_a_shell_what_the_run_does(quick: Any) -> None:
    quick.write(
        "spec.yml",
        SPEC.replace("docker-encapsulated\n  image: some/where\n  imagetag: v1\n  resources: [CVMFS]", "localproc-env"),
    )
    quick.write("it's", "one\n")
    arguments = ["spec.yml", "-p", 'inputs="\\"it\'s\\""', "-p", 'outputfile="{workdir}/o"', "-w", "."]
    printed = quick("packtivity-run", "--print-command", *arguments)
    assert printed.returncode == 0
    assert not (quick.directory / "_packtivity").exists()
    subprocess.run(["sh", "-c", printed.stdout], check=True, cwd="/")
    assert (quick.directory / "o").read_text() == "one\n"


def test_a_dry_run_makes_and_runs_nothing(quick: Any) -> None:
    quick.spec("touch made")
    done = quick("packtivity-run", "--dry-run", "spec.yml", "-p", 'outputfile="{workdir}/o"', "-w", "work")
    work = quick.directory / "work"
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        f"would run: cd '{work}' && sh -c 'touch made' </dev/null",
        f"would write in: {work}",
        f"would publish: <TypedLeafs: {{'output': '{work}/o'}}>",
    ]
    assert not work.exists()


def test_there_is_no_command_to_print_for_a_task_that_only_publishes(quick: Any) -> None:
    quick.write("spec.yml", f"process: null\nenvironment: null\npublisher: {NO_OUTPUT}")
    done = quick("packtivity-run", "--print-command", "spec.yml")
    assert (done.returncode, done.stdout) == (2, "")


def test_a_clean_environment_has_only_what_is_passed(commands: Any) -> None:
    commands.spec("env > seen")
    more = {"SECRET": "1", "WANTED": "2"}
    arguments = ["spec.yml", "-p", "outputfile=o"]
    assert commands("packtivity-run", *arguments, env=more).returncode == 0
    assert "SECRET=1" in (commands.directory / "seen").read_text()
    assert commands("packtivity-run", "--clean-env", "--pass-env", "WANTED", *arguments, env=more).returncode == 0
    seen = (commands.directory / "seen").read_text()
    assert ("SECRET" in seen, "WANTED=2" in seen, "PATH=" in seen) == (False, True, True)


FULL_STATE = """\
state_type: localfs
identifier: s
readwrite: [{path: work, name: workdir}]
readonly: [{path: input, name: readdir0}]
"""


@pytest.mark.parametrize(
    "state",
    [
        "readwrite: [work]\nreadonly: [input]\n",
        "readwrite:\n- {path: work}\nreadonly:\n- {path: input, name: readdir0}\n",
        FULL_STATE,
    ],
)
def test_a_state_file_takes_the_place_of_directories(quick: Any, state: str) -> None:
    (quick.directory / "input").mkdir()
    quick.write("state.yml", state)
    quick.spec('cp "{source}" "{outputfile}"')
    quick.write("input/file", "content")
    arguments = ["-p", 'source="{readdir0}/file"', "-p", 'outputfile="{workdir}/o"']
    done = quick("packtivity-run", "-s", "state.yml", "spec.yml", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert (quick.directory / "work/o").read_text() == "content"


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ("readwrite: work", "readwrite is not a list"),
        ("readwrite: [1]", "readwrite[0] is not a path"),
        ("readwrit: [work]", "neither readwrite nor readonly"),
        ("{state_type: nope}", "nope"),
    ],
)
def test_a_state_file_that_cannot_be_used_is_refused(quick: Any, state: str, message: str) -> None:
    quick.write("state.yml", state)
    quick.spec("'true'")
    done = quick("packtivity-run", "-s", "state.yml", "spec.yml", "-p", "outputfile=o")
    assert done.returncode == 5
    assert message in done.stderr


def test_an_empty_state_file_leaves_the_directories(quick: Any) -> None:
    quick.write("state.yml", "")
    quick.spec("touch made")
    assert quick("packtivity-run", "-s", "state.yml", "-w", "work", "spec.yml", "-p", "outputfile=o").returncode == 0
    assert (quick.directory / "work/made").exists()


def test_log_lines_of_the_wanted_level_go_to_standard_error(commands: Any) -> None:
    commands.spec("'true'")
    arguments = ["spec.yml", "-p", "outputfile=o"]
    assert commands("packtivity-run", *arguments).stderr == ""
    assert "INFO" in commands("packtivity-run", "-v", "info", *arguments).stderr


# --- proxies ---------------------------------------------------------------------------------------------------


def test_a_task_that_failed_while_it_was_submitted_is_told(quick: Any) -> None:
    quick.spec("exit 3")
    done = quick("packtivity-run", "-b", "foregroundasync", "--async", "spec.yml", "-p", "outputfile=o")
    assert done.returncode == 0
    assert '"success": false' in done.stdout
    assert "warning: the task has run and failed" in done.stderr
    asked = quick("packtivity-checkproxy", "proxy.json")
    assert (asked.returncode, asked.stdout) == (6, "ready: True\nsuccessful: False\n")
    assert "exit code 3" in asked.stderr


def test_waiting_for_a_task_that_fails_ends_as_running_it_does(quick: Any) -> None:
    quick.spec("exit 3")
    done = quick("packtivity-run", "-b", "foregroundasync", "spec.yml", "-p", "outputfile=o")
    assert done.returncode == 6


def test_several_proxies_are_told_apart(quick: Any) -> None:
    quick.spec("'true'")
    for name in ("a.json", "b.json"):
        arguments = ["--async", "spec.yml", "-p", f"outputfile={name}", "-x", name]
        assert quick("packtivity-run", "-b", "foregroundasync", *arguments).returncode == 0
    done = quick("packtivity-checkproxy", "a.json", "b.json")
    assert [line for line in done.stdout.splitlines() if line.endswith(":")] == ["a.json:", "b.json:"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "not a proxy"),
        ('{"proxyname": 1}', "not a proxy"),
        ('{"proxyname": "ForegroundProxi", "proxydetails": {}}', "ForegroundProxy"),
        ('{"proxyname": "ForegroundProxy", "proxydetails": {}}', "resultdata"),
        ('{"proxyname": "ForegroundProxy"}', "proxydetails"),
    ],
)
def test_what_is_no_proxy_is_refused(quick: Any, text: str, message: str) -> None:
    quick.write("proxy.json", text)
    done = quick("packtivity-checkproxy", "proxy.json")
    assert (done.returncode, done.stdout) == (12, "")
    assert message in done.stderr


def test_a_proxy_file_that_is_not_there_is_told(quick: Any) -> None:
    assert quick("packtivity-checkproxy", "gone.json").returncode == 12


PLUGIN = """
import json

class Proxy:
    def __init__(self, number): self.number = number
    def json(self): return {"proxyname": "MyProxy", "proxydetails": {"number": self.number}}
    @classmethod
    def fromJSON(cls, data): return cls(data["proxydetails"]["number"])

class Result:
    def __init__(self, data): self.data = data
    def json(self): return self.data

class Backend:
    asked = 0
    def prepublish(self, spec, parameters, state): return None
    def submit(self, spec, parameters, state, metadata=None): return Proxy(7)
    def ready(self, proxy):
        Backend.asked += 1
        return Backend.asked > 3 or proxy.number < 0
    def successful(self, proxy): return True
    def result(self, proxy): return Result({"number": proxy.number})
    def fail_info(self, proxy): return None
"""


def test_a_backend_that_inherits_nothing(commands: Any) -> None:
    commands.write("mine.py", PLUGIN)
    commands.spec("'true'")
    environment = {"PACKTIVITY_ASYNCBACKEND": "mine:Backend:Proxy", "PYTHONPATH": str(commands.directory)}
    arguments = ["-b", "fromenv", "spec.yml", "-p", "outputfile=o"]
    waited = commands("packtivity-run", *arguments, "-o", "out.json", env=environment)
    assert waited.returncode == 0
    assert (commands.directory / "out.json").read_text() == '{"number": 7}'
    submitted = commands("packtivity-run", *arguments, "--async", "--timeout", "5", env=environment)
    assert submitted.stdout == 'proxy-json {"proxyname": "MyProxy", "proxydetails": {"number": 7}}\n'
    assert "--timeout has no effect" in submitted.stderr
    assert commands("packtivity-checkproxy", "proxy.json", env=environment).stdout == "ready: False\n"
    assert commands("packtivity-run", *arguments, "--print-command", env=environment).returncode == 2


# --- shell -----------------------------------------------------------------------------------------------------


def test_a_person_s_shell_ends_the_command_as_it_ended(commands: Any) -> None:
    commands.spec("'true'")
    arguments = ("packtivity", "shell", "spec.yml", "-p", "outputfile=o")
    assert commands(*arguments, input="pwd; exit 3").returncode == 3
    assert commands(*arguments, input="kill -9 $$").returncode == 137


# --- util ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("directory", ["work", "it's a ☃"])
def test_the_shell_line_opens_the_interpreter_in_the_work_directory(quick: Any, directory: str) -> None:
    process, _, _ = SPEC.partition("environment:")
    quick.write("spec.yml", f"{process}environment: {{environment_type: localproc-env}}\npublisher: {NO_OUTPUT}\n")
    done = quick("packtivity-util", "shell", "spec.yml", "-w", directory)
    assert done.returncode == 0
    assert done.stdout.isascii()
    assert done.stdout.count("\n") == 1
    expected = f"{quick.directory}/{directory}\n"
    for argv in (shlex.split(done.stdout), ["sh", "-c", done.stdout]):
        assert subprocess.run(argv, input="pwd", capture_output=True, text=True, check=True).stdout == expected


def test_no_shell_for_an_environment_that_has_none(quick: Any) -> None:
    quick.write(
        "spec.yml",
        SPEC.partition("environment:")[0]
        + "environment: {environment_type: noop-env}\npublisher:"
        + SPEC.partition("publisher:")[2],
    )
    done = quick("packtivity-util", "shell", "spec.yml")
    assert (done.returncode, done.stdout) == (10, "")
    assert "noop-env" in done.stderr
