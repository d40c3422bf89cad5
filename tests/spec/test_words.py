"""Messages that are for the slips people make most: what they say, to the letter where somebody types it."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from packtivity.errors import InvalidSpec, LoadError, ParameterError
from packtivity.runtimes.containers import image_of
from packtivity.settings import Settings
from packtivity.spec import fetch as fetching
from packtivity.spec import inspect, load
from packtivity.spec.document import load_document, parse_document
from packtivity.spec.lint import lint_spec
from packtivity.spec.reporters import render
from packtivity.spec.yamltext import load_yaml, parse

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from packtivity.types import Diagnostic

NOTHING = "process: null\nenvironment: null\n"
CONSTANT = "publisher: {publisher_type: constant-pub, publish: {}}\n"


@pytest.fixture
def diagnose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Diagnostic, ...]]:
    """Return what is said of a text as a spec, in a directory of its own."""
    monkeypatch.chdir(tmp_path)

    def of(text: str, name: str = "spec.yml", *, parameters: str | None = None) -> tuple[Diagnostic, ...]:
        (tmp_path / name.partition("#")[0]).write_text(text)
        document = None if parameters is None else parse_document(parameters, "p.yml")
        return inspect(name, parameters=document).diagnostics

    return of


def task(cmd: str, environment: str = "{environment_type: localproc-env}", publisher: str = CONSTANT) -> str:
    process = f"process: {{process_type: string-interpolated-cmd, cmd: {json.dumps(cmd)}}}\n"
    return f"{process}environment: {environment}\n{publisher}"


def interpolated(**publish: str) -> str:
    return f"publisher: {{publisher_type: interpolated-pub, publish: {json.dumps(publish)}}}\n"


# --- braces ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cmd", "remedy"),
    [
        ('{"poi": {poi}}', 'Write {{"poi": {poi}}}'),
        ('{"poi": {poi:.3f}, "x": 1}', 'Write {{"poi": {poi:.3f}, "x": 1}}'),
        ("awk '{print $1}'", "Write {{print $1}}"),
        ('{"a": {}}', 'Write {{"a": {{}}}}'),
        ("f() { echo ${HOME}; }", "Write {{ echo ${{HOME}}; }}"),
    ],
)
def test_braces_of_parameters_are_left_as_they_are(diagnose: Any, cmd: str, remedy: str) -> None:
    found = next(one for one in diagnose(task(cmd)) if one.code == "literal-braces")
    assert found.hint == remedy


def test_only_braces_of_given_parameters_are_left_when_they_are_known(diagnose: Any) -> None:
    found = diagnose(task('{"poi": {poi}, "x": {x}}'), parameters="poi: 1")
    assert 'Write {{"poi": {poi}, "x": {{x}}}}' in [one.hint for one in found]


def test_in_a_long_text_the_placeholders_to_leave_are_named(diagnose: Any) -> None:
    (found,) = diagnose(task("f() {\n  echo {name} {name} {other};\n}"))
    assert found.hint.endswith("belong to the script itself. Leave {name} and {other} as they are.")


def test_the_remedy_for_braces_mends_them(diagnose: Any) -> None:
    (found,) = diagnose(task('{"poi": {poi}}'))
    assert diagnose(task(found.hint.removeprefix("Write "))) == ()


# --- values that YAML 1.1 reads otherwise ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "value", "message", "remedy"),
    [
        (
            "1e-3",
            "1e-3",
            "text in YAML 1.1, where a number has a point and its exponent a sign",
            "1.0e-3 for the number",
        ),
        (
            "1.5E3",
            "1.5E3",
            "text in YAML 1.1, where a number has a point and its exponent a sign",
            "1.5e+3 for the number",
        ),
        ("010", 8, "the number 8 in YAML 1.1 (base 8)", "10 for the number"),
        ("08", "08", "text in YAML 1.1, where a number that begins with 0 has base 8", "8 for the number"),
        ("12:30:00", 45000, "the number 45000 in YAML 1.1 (base 60)", "45000 for the number"),
        ("2015_2016", 20152016, "the number 20152016 in YAML 1.1", "20152016 for the number"),
        ("NO", False, "false in YAML 1.1", "false for the truth value"),
        ("on", True, "true in YAML 1.1", "true for the truth value"),
    ],
)
def test_what_yaml_makes_of_a_value_is_told_with_what_to_write(
    written: str, value: object, message: str, remedy: str
) -> None:
    found = parse(f"a: {written}\n", "a.yml")
    assert found.data == {"a": value}
    (said,) = found.problems
    assert (said.severity, said.code, said.path, str(said.position)) == (
        "warning",
        "not-as-written",
        ("a",),
        "a.yml:1:4",
    )
    assert said.message == f"{written} is {message}"
    assert said.hint == f'Write "{written}", in quotes, for the text, or {remedy}.'
    number = remedy.partition(" ")[0]
    for mended in (f'"{written}"', number):
        assert parse(f"a: {mended}\n", "a.yml").problems == ()
    assert isinstance(load_yaml(number), int | float)


@pytest.mark.parametrize(
    "written", ["10", "1.0e-3", "true", "False", "1_000_000", "0x1F", "'NO'", '"010"', "!!bool yes", "~"]
)
def test_what_is_read_as_it_looks_is_not_told(written: str) -> None:
    assert parse(f"a: {written}\n", "a.yml").problems == ()


def test_of_an_option_the_line_to_type_is_told() -> None:
    (found,) = parse("NO", "-p channel").problems
    assert found.hint == """Write -p channel='"NO"' for the text, or -p channel=false for the truth value."""


def test_keys_are_values_too() -> None:
    found = parse("on: 1\n", "a.yml")
    assert found.data == {"true": 1}
    assert found.problems[0].message == "on is true in YAML 1.1"


def test_numbers_of_json_that_are_text_are_told_tabs_or_not() -> None:
    found = parse('{\n\t"a": 1e-05, "b": "1e5"}', "a.json")
    assert found.data == {"a": "1e-05", "b": "1e5"}
    assert [(one.code, str(one.position)) for one in found.problems] == [("not-as-written", "a.json:2:7")]


def test_json_that_is_no_yaml_is_read_all_the_same() -> None:
    found = parse(json.dumps({"k" * 2000: 1e-05}), "a.json")
    assert found.data == {"k" * 2000: "1e-05"}
    assert found.problems == ()


def test_data_that_a_program_wrote_is_not_told_value_by_value() -> None:
    assert len(parse(json.dumps([n * 1e-9 for n in range(1, 500)]), "a.json").problems) == 10


def test_where_a_truth_value_is_meant_any_word_for_it_is_good(diagnose: Any) -> None:
    publisher = "publisher:\n  publisher_type: interpolated-pub\n  publish: {}\n  glob: yes\n"
    assert diagnose(NOTHING + publisher) == ()


def test_loading_warns_of_the_same_as_inspecting(diagnose: Any) -> None:
    text = NOTHING + "publisher:\n  publisher_type: constant-pub\n  publish: {a: NO, b: 2024-01-31, a: 1e-3}\n"
    told: list[Diagnostic] = []
    inspected = diagnose(text)
    load("spec.yml", warn=told.append)
    assert sorted(told) == sorted(inspected)
    assert sorted(one.code for one in told) == ["date-as-string", "duplicate-key", "not-as-written", "not-as-written"]


# --- publishers ------------------------------------------------------------------------------------------------


def test_a_bare_name_of_a_parameter_is_named_as_that(diagnose: Any) -> None:
    (found,) = diagnose(task("echo > {out}", publisher=interpolated(a="out", b="{out}", c="else")))
    assert (found.severity, found.code) == ("warning", "bare-parameter")
    assert found.message == "the text 'out' is published as it stands, and not the parameter of that name"
    assert found.hint == 'For the parameter, write "{out}".'
    said = diagnose(task("echo", publisher=interpolated(a="out")), parameters="out: x")
    assert [one.code for one in said] == ["bare-parameter"]


def test_a_pattern_without_glob_is_named_as_that(diagnose: Any) -> None:
    (found,) = diagnose(
        task("make", publisher=interpolated(a="{workdir}/*.png", b="why?", c="[x]", d="{x[0]}")), parameters="x: [1]"
    )
    assert (found.severity, found.code) == ("advice", "pattern-as-text")
    assert found.message == "the pattern '{workdir}/*.png' is published as it stands, because 'glob' is not true"
    assert found.hint == "Write glob: true to publish the list of files that match."


@pytest.mark.parametrize(
    ("value", "what", "remedy"),
    [
        (
            "{step: init, output: x}",
            "a mapping",
            "It is a link of a workflow, which yadage follows; here, give the value that",
        ),
        ("{class: File, path: a}", "a mapping", "Name what is meant in it, such as {data[class]}."),
        ("[{a: 1}, {a: 2}]", "a list with a mapping in it", "Give a list of texts; they are joined by blanks."),
    ],
)
def test_a_mapping_that_fills_a_placeholder_is_named_as_that(diagnose: Any, value: str, what: str, remedy: str) -> None:
    (found,) = diagnose(task("fit {data}"), parameters=f"data: {value}")
    assert (found.severity, found.code, str(found.position)) == ("warning", "mapping-as-text", "p.yml:1:7")
    assert found.message.startswith(f"the parameter 'data' is {what}, so {{data}} becomes Python's text for it: {{'")
    assert found.hint.startswith(remedy)
    assert diagnose(task("fit {data[class]}"), parameters="data: {class: File}") == ()


# --- which spec ------------------------------------------------------------------------------------------------


def test_the_specs_of_a_file_of_several_are_listed(diagnose: Any) -> None:
    one = f"{{process: null, environment: null, {CONSTANT.strip()}}}"
    (found,) = diagnose(f"fit: {one}\na/b: {one}\n", "steps.yml")
    assert (found.severity, found.code) == ("error", "missing-key")
    assert found.hint == "There are specs in it; name one:\nsteps.yml#/fit\nsteps.yml#/a~1b"
    for name in found.hint.splitlines()[1:]:
        assert load(name)["process"] is None


def test_the_steps_of_a_workflow_are_listed_wherever_one_is_in_it(diagnose: Any, tmp_path: Path) -> None:
    (tmp_path / "steps.yml").write_text(f"fit:\n  process: null\n  environment: null\n  {CONSTANT}")
    workflow = "stages:\n- name: fit\n  scheduler:\n    step: {$ref: 'steps.yml#/fit'}\n"
    (found,) = diagnose(workflow, "wf.yml")
    assert found.hint == "There are specs in it; name one:\nwf.yml#/stages/0/scheduler/step"
    (found,) = diagnose(workflow, "wf.yml#/stages")
    assert found.hint.endswith("\nwf.yml#/stages/0/scheduler/step")
    assert load("wf.yml#/stages/0/scheduler/step")["process"] is None


def test_not_more_specs_are_listed_than_anybody_reads(diagnose: Any) -> None:
    one = f"{{process: null, environment: null, {CONSTANT.strip()}}}"
    (found,) = diagnose("".join(f"s{n}: {one}\n" for n in range(30)))
    assert len(found.hint.splitlines()) == 10
    assert found.hint.endswith("\n…")


def test_a_reference_that_would_resolve_from_the_toplevel_is_told(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "steps.yml").write_text("fit: null\n")
    (tmp_path / "deep" / "main.yml").write_text("process: {$ref: 'steps.yml#/fit'}\n")
    with pytest.raises(InvalidSpec) as caught:
        load_document("deep/main.yml", str(tmp_path))
    (found,) = caught.value.diagnostics
    assert found.code == "unresolvable-reference"
    assert found.hint == (
        "It is relative to the file it stands in, and not to the toplevel: write '../steps.yml#/fit' here."
    )
    (tmp_path / "deep" / "main.yml").write_text("process: {$ref: '../steps.yml#/fit'}\n")
    assert load_document("deep/main.yml", str(tmp_path)).data == {"process": None}


def test_a_reference_that_resolves_from_nowhere_keeps_its_remedy(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "main.yml").write_text("process: {$ref: 'step.yml'}\n")
    (tmp_path / "deep" / "steps.yml").write_text("")
    with pytest.raises(InvalidSpec) as caught:
        load_document("deep/main.yml", str(tmp_path))
    assert caught.value.diagnostics[0].hint == "Did you mean 'steps.yml'?"


# --- a step and its stage --------------------------------------------------------------------------------------

STAGE = "stages:\n- scheduler:\n    parameters: {parameters}\n    step: {step}\n"
STEP = f"{{process: {{process_type: string-interpolated-cmd, cmd: 'fit {{poi}} {{out}}'}}, environment: null, {CONSTANT.strip()}}}"
LINK = "{step: init, output: x}"


@pytest.mark.parametrize(
    "parameters",
    [f"{{pio: {LINK}, extra: 1}}", f"[{{key: pio, value: {LINK}}}, {{key: extra, value: 1}}]"],
    ids=["mapping", "list"],
)
def test_a_step_is_compared_with_the_parameters_of_its_stage(diagnose: Any, parameters: str) -> None:
    text = STAGE.replace("{parameters}", parameters).replace("{step}", STEP)
    found = {one.code: one for one in diagnose(text, "wf.yml#/stages/0/scheduler/step")}
    assert sorted(found) == ["misspelt-parameter", "unknown-placeholder", "unused-parameter"]
    assert found["misspelt-parameter"].message == "nothing uses the parameter 'pio', but the spec asks for 'poi'"
    assert found["unknown-placeholder"].message == "{out} stands for a parameter that is not given"
    assert found["unknown-placeholder"].hint.startswith("Give it under the stage's 'parameters', or write {{out}}")
    assert all(one.position and one.position.line in {3, 4} for one in found.values())


def test_a_stage_that_gives_what_its_step_asks_for_is_fine(diagnose: Any) -> None:
    text = STAGE.replace("{parameters}", f"{{poi: {LINK}, out: '{{workdir}}/x'}}").replace("{step}", STEP)
    assert diagnose(text, "wf.yml#/stages/0/scheduler/step") == ()


def test_parameters_that_are_given_count_and_not_those_of_the_stage(diagnose: Any) -> None:
    text = STAGE.replace("{parameters}", "{extra: 1}").replace("{step}", STEP)
    assert diagnose(text, "wf.yml#/stages/0/scheduler/step", parameters="{poi: 1, out: x}") == ()


# --- keys and quotes -------------------------------------------------------------------------------------------


def test_env_where_environment_is_meant(diagnose: Any) -> None:
    (found,) = diagnose(f"process: null\nenv: {{environment_type: localproc-env}}\n{CONSTANT}")
    assert (found.code, found.expected, found.hint) == ("unknown-key", "environment", "Did you mean 'environment'?")


def test_env_beside_an_environment_belongs_inside(diagnose: Any) -> None:
    (found,) = diagnose(f"{NOTHING}env: {{A: b}}\n{CONSTANT}")
    assert found.hint.startswith("It belongs inside environment")


def test_variables_at_the_top_are_not_taken_for_the_environment(diagnose: Any) -> None:
    found = diagnose(f"process: null\nenv: {{A: b}}\n{CONSTANT}")
    assert any(one.hint.startswith("It belongs inside environment") for one in found)


@pytest.mark.parametrize(
    ("text", "mark", "written"),
    [
        ("publish: 'it's done'\n", "'", '"it\'s done"'),
        ("publish: 'it's \"done\"' # so\n", "'", "'it''s \"done\"'"),
        ('publish: "say "hi" now"\nb: 1\n', '"', "'say \"hi\" now'"),
        ("publish: {a: 'it's', b: 'x'}\n", "'", '"it\'s"'),
        ("- ['it's', 'b']\n", "'", '"it\'s"'),
        ('a: "it\'s "so" now"\n', '"', '"it\'s \\"so\\" now"'),
    ],
)
def test_a_quote_inside_quotes_is_told_with_what_to_write(text: str, mark: str, written: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        parse_document(text, "a.yml")
    (found,) = caught.value.diagnostics
    assert found.code == "yaml-syntax"
    assert found.hint == f"The text has {mark} in it, which ends it: write {written}"
    assert isinstance(load_yaml(written), str)


@pytest.mark.parametrize("tag", ["1.0", "3.10", "20"])
def test_a_tag_that_is_a_number_is_shown_in_quotes_as_it_is_written(diagnose: Any, tag: str) -> None:
    environment = f"{{environment_type: docker-encapsulated, image: a, imagetag: {tag}}}"
    (found,) = diagnose(task("true", environment))
    assert (found.code, found.hint) == ("wrong-type", f'Put it in quotes, as it is meant: imagetag: "{tag}"')


# --- advice ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "advised"),
    [
        ("image: debian", True),
        ("image: host:5000/a/b", True),
        ("image: debian, imagetag: stable", False),
        ("image: debian, imagetag: latest", False),
        (f"image: 'debian@sha256:{'0' * 64}'", False),
        ("image: /cvmfs/unpacked.cern.ch/a", False),
        ("image: ./a.sif", False),
        ("image: a.sif", False),
        ("image: 'oci-archive:/a.tar'", False),
    ],
)
def test_an_image_without_tag_or_digest_is_advice(diagnose: Any, image: str, advised: bool) -> None:
    found = diagnose(task("true", f"{{environment_type: docker-encapsulated, {image}}}"))
    assert [(one.severity, one.code) for one in found] == [("advice", "image-without-tag")] * advised
    if advised:
        assert "has no tag, so 'latest' is taken, which may be another image at any time" in found[0].message
        assert found[0].hint == "Add imagetag, or @sha256:DIGEST."


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ("image: 'busybox:1.36'", "; other programs make 'busybox:1.36:latest' of it"),
        ("image: 'busybox:1.36', imagetag: '1.36'", "; other programs make 'busybox:1.36:1.36' of it"),
    ],
)
def test_an_image_with_a_tag_of_its_own_is_called_as_the_run_calls_it(diagnose: Any, image: str, words: str) -> None:
    (found,) = diagnose(task("true", f"{{environment_type: docker-encapsulated, {image}}}"))
    assert (found.severity, found.code) == ("warning", "image-with-tag")
    assert found.message == f"image 'busybox:1.36' has a tag already, which is taken{words}"
    assert found.hint == 'Write\nimage: busybox\nimagetag: "1.36"'


@pytest.mark.parametrize(
    ("image", "message", "remedy"),
    [
        (
            "image: 'busybox:1.36', imagetag: '1.35'",
            "image 'busybox:1.36' has a tag or digest already, and imagetag says '1.35'",
            "Write the tag in one place only.",
        ),
        (
            "image: Debian",
            "'Debian:latest' is not the name of a container image",
            "Repository names are written in lower case.",
        ),
        ("image: 'a b'", "'a b:latest' is not the name of a container image", "Write REGISTRY/NAME, with :TAG or"),
        ("image: 'dir:/x'", "'dir:/x:latest' would be a place on this machine", "If it is in a registry, write"),
    ],
)
def test_an_impossible_image_is_a_warning_here_and_an_error_of_the_run(
    diagnose: Any, image: str, message: str, remedy: str
) -> None:
    (found,) = [
        one
        for one in diagnose(task("true", f"{{environment_type: docker-encapsulated, {image}}}"))
        if one.severity == "warning"
    ]
    assert (found.code, found.path) == ("impossible-image", ("environment", "image"))
    assert found.message.startswith(message)
    assert found.hint.startswith(remedy)
    with pytest.raises(ParameterError, match=re.escape(message)):
        image_of(load("spec.yml")["environment"])


@pytest.mark.parametrize(
    ("cmd", "moved"),
    [
        ("cd / && make", "cd /"),
        ("source x; cd /analysis\nmake", "cd /analysis"),
        ("if a; then cd -- /a; fi", "cd -- /a"),
        ("cd {workdir} && make", None),
        ("abcd /x", None),
        ("echo cd /x", None),
    ],
)
def test_a_script_that_leaves_the_work_directory_is_advised(diagnose: Any, cmd: str, moved: str | None) -> None:
    container = "{environment_type: docker-encapsulated, image: a, imagetag: b}"
    found = [one for one in diagnose(task(cmd, container)) if one.code == "leaves-workdir"]
    assert [one.message.partition(" leaves")[0] for one in found] == ([repr(moved)] if moved else [])
    assert all(one.severity == "advice" for one in found)
    assert diagnose(task(cmd.replace("{workdir}", "."))) == ()  # no container, so nothing is lost


def test_advice_is_counted_and_shown_in_every_format(diagnose: Any) -> None:
    found = diagnose(task("cd /", "{environment_type: docker-encapsulated, image: a}"))
    assert render(found).endswith("\n2 pieces of advice")
    assert render(found[:1]).endswith("\n1 piece of advice")
    assert json.loads(render(found, "json"))["warnings"] == 0
    assert [one["level"] for one in json.loads(render(found, "sarif"))["runs"][0]["results"]] == ["note", "note"]
    assert render(found, "github").startswith("::notice ")


def test_nothing_is_advised_of_a_loaded_spec_alone() -> None:
    spec = load_yaml(
        task(
            "cd /",
            "{environment_type: docker-encapsulated, image: a, imagetag: latest, env: {}, resources: [], par_mounts: []}",
        )
    )
    assert lint_spec(None, spec) == []


# --- reading ---------------------------------------------------------------------------------------------------


def stdin(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))


def test_a_dash_is_standard_input(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "x.yml").write_text("null\n")
    stdin(monkeypatch, f"process: {{$ref: x.yml}}\nenvironment: null\n{CONSTANT}")
    assert inspect("-", str(tmp_path)).valid
    stdin(monkeypatch, "process: [\n")
    with pytest.raises(InvalidSpec) as caught:
        load("-")
    assert str(caught.value.diagnostics[0].position).startswith("<stdin>:")


def test_a_place_inside_standard_input_is_listed_as_something_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"fit:\n  process: null\n  environment: null\n  {CONSTANT}"
    stdin(monkeypatch, text)
    (found,) = inspect("-").diagnostics
    assert found.hint.endswith("\n/dev/stdin#/fit")
    stdin(monkeypatch, text)
    assert load("-#/fit")["process"] is None


def test_closed_standard_input_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(LoadError, match="standard input is closed"):
        load("-")


def test_a_slow_server_is_waited_for_with_a_word(
    web: Any, remote: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fetching, "_SILENT_SECONDS", 0.1)
    said = threading.Event()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.set()

    listener = Listener()
    logging.getLogger("packtivity.spec.fetch").addHandler(listener)
    web.routes["/a.yml"] = lambda handler: said.wait(60) and handler.answer(200, b"a: 1\n")
    try:
        assert load_document("a.yml", web.url, settings=remote(download_timeout=90.0)).data == {"a": 1}
    finally:
        logging.getLogger("packtivity.spec.fetch").removeHandler(listener)
    assert f"waiting for {web.url}/a.yml (up to 90 seconds, PACKTIVITY_DOWNLOAD_TIMEOUT)" in caplog.text
