"""Warnings: what is certain is said, nothing else is. Places are held by ``test_invalid_specs.py``."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packtivity.spec.document import parse_document
from packtivity.spec.lint import lint_parameters, lint_spec, needs
from packtivity.spec.parts import braces, strings
from packtivity.spec.reporters import render
from packtivity.spec.schemas import fill_defaults

# Specs of the corpus whose crash upstream and whose warnings differ in kind, with the reason.
TOLD_OTHERWISE = {
    "H0739": "the missing name is told at the parameter that was misspelt",
    "H0853": "a dictionary as text in a parameter is told as literal braces",
    "H0855": "a dictionary as text in a parameter is told as literal braces",
}
# Warnings that specs of the family earn without parameters.
WARNED = {"resources_unknown": {"unknown-resource"}, "lone_brace": {"literal-braces"}}
FATAL = {"unknown-placeholder", "unfillable-placeholder", "unknown-parameter", "lone-brace", "positional-placeholder"}


def spec(cmd: str = "echo", publisher: dict[str, Any] | None = None, **environment: Any) -> dict[str, Any]:
    filled: dict[str, Any] = fill_defaults(
        {
            "process": {"process_type": "string-interpolated-cmd", "cmd": cmd},
            "environment": {"environment_type": "docker-encapsulated", "image": "python", **environment},
            "publisher": publisher or {"publisher_type": "constant-pub", "publish": {}},
        }
    )
    return filled


def codes(spec: dict[str, Any]) -> list[str]:
    return [one.code for one in lint_spec(None, spec)]


def codes_with(spec: dict[str, Any], parameters: Any, state_names: Any = None) -> list[str]:
    return [one.code for one in lint_parameters(spec, parameters, state_names)]


# --- the corpus ------------------------------------------------------------------------------------------------


def test_nothing_is_said_of_real_specs_alone_and_with_parameters_only_what_is_true(
    corpus: list[dict[str, Any]],
) -> None:
    for row in corpus:
        if not row["valid"]:
            continue
        alone = {one.code for one in lint_spec(None, row["loaded"])}
        assert alone == WARNED.get(row["id"], set())
        for render_ in row["render"]:
            found = lint_parameters(row["loaded"], render_["parameters"], ["workdir"])
            assert all(one.severity == "warning" for one in found)
            crashed = any(key.endswith("_error") for key in render_)
            if row["id"] in TOLD_OTHERWISE:
                assert crashed
                assert found
            else:
                fatal = {one.code for one in found} & FATAL or alone & {"literal-braces"}
                assert bool(fatal) == crashed, (row["id"], render(found))
            assert_unused_are_unused(row["loaded"], found)


def is_constant(loaded: dict[str, Any]) -> bool:
    return bool(loaded["publisher"]["publisher_type"] == "constant-pub")


def assert_unused_are_unused(loaded: dict[str, Any], found: Any) -> None:
    published = {name for _, name in strings(loaded["publisher"].get("outputmap"))}
    # what is published as it stands is no template
    templates = {**loaded, "publisher": {**loaded["publisher"], "publish": None}} if is_constant(loaded) else loaded
    for one in found:
        if one.code == "unused-parameter":
            assert f"{{{one.path[0]}}}" not in str(templates)
            assert one.path[0] not in published


# --- needs -----------------------------------------------------------------------------------------------------


def test_needs_names_each_parameter_with_every_place() -> None:
    outputmap = {"publisher_type": "frompar-pub", "outputmap": {"a": "out", "b": ["x", None]}}
    assert needs(spec("run {x} {out} {x} {y[key]:>5} {z.w}", outputmap)) == {
        "x": [("process", "cmd"), ("publisher", "outputmap", "b", 0)],
        "out": [("process", "cmd"), ("publisher", "outputmap", "a")],
        "y": [("process", "cmd")],
        "z": [("process", "cmd")],
    }


def test_the_work_directory_is_a_parameter_in_a_command_and_none_in_a_publisher() -> None:
    publisher = {"publisher_type": "interpolated-pub", "publish": ["{workdir}/{name}"]}
    assert needs(spec("ls {workdir}")) == {"workdir": [("process", "cmd")]}
    assert needs(spec("ls", publisher)) == {"name": [("publisher", "publish", 0)]}


@pytest.mark.parametrize("cmd", ["awk '{print $1}'", "echo ${HOME}", "echo {} {0}", "a { b", '{"a": 1}', "{{x}}"])
def test_what_cannot_be_a_parameter_is_not_needed(cmd: str) -> None:
    assert needs(spec(cmd)) == {}


def test_a_spec_without_process_and_environment_needs_what_it_publishes() -> None:
    publisher = {"publisher_type": "frompar-pub", "outputmap": {"a": "x"}}
    assert needs({"process": None, "environment": None, "publisher": publisher}) == {
        "x": [("publisher", "outputmap", "a")]
    }


# --- braces ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "names", "literal", "lone"),
    [
        ("plain", [], [], []),
        ("{x} {y.z} {a-b} {x!r:>5} {x:{w}}", ["x", "y", "a-b", "x", "x", "w"], [], []),
        ("{{x}} }} {{", [], [], []),
        ("{print $1}", [], ["{print $1}"], []),
        ("f() { a; }", [], ["{ a; }"], []),
        ("f() {\n g {x}\n}", ["x"], ["{\n g {x}\n}"], []),
        ("if ($1) {print {x}}", ["x"], ["{print {x}}"], []),
        ("{a,b}", [], ["{a,b}"], []),
        ("{1..5} {0} {}", ["0", ""], ["{1..5}"], []),
        ("{x:-default}", [], ["{x:-default}"], []),
        ("{x: d} {x:%}", ["x", "x"], [], []),
        ("a { b", [], [], [2]),
        ("a } b { c", [], [], [2, 6]),
        ("{x[}", [], ["{x[}"], []),
        ("{x!}", [], ["{x!}"], []),
        ("{ü}", ["ü"], [], []),
        ("{", [], [], [0]),
        ("}", [], [], [0]),
    ],
)
def test_braces_are_sorted_out(text: str, names: list[str], literal: list[str], lone: list[int]) -> None:
    found = braces(text)
    assert [one.name for one in found.names] == names
    assert [text[start:end] for start, end in found.literal] == literal
    assert list(found.lone) == lone


@given(st.text(alphabet="{}[]!:$.x0 \n", max_size=40))
def test_sorting_out_braces_never_fails_and_doubling_them_mends_all(text: str) -> None:
    found = braces(text)
    assert all(text[one.start] == "{" and text[one.end - 1] == "}" for one in found.names)
    assert all(text[offset] in "{}" for offset in found.lone)
    doubled = braces(text.replace("{", "{{").replace("}", "}}"))
    assert (doubled.names, doubled.literal, doubled.lone) == ((), (), ())


def test_the_mended_text_is_shown_when_it_is_short() -> None:
    (short,) = lint_spec(None, spec("awk '{print $1}'"))
    assert short.hint == "Write {{print $1}}"
    (long,) = lint_spec(None, spec("f() {\n  echo; \n}"))
    assert "{{ for {" in long.hint
    (shell,) = lint_spec(None, spec("echo ${HOME}"))
    assert "${{HOME}}" in shell.hint
    (blanks,) = lint_spec(None, spec("run { seed }"))
    assert blanks.hint == "Write {seed}, without blanks, for the parameter 'seed'; write {{ seed }} for braces."


def test_a_parameter_in_doubled_braces_is_told_to_need_single_ones() -> None:
    (unused,) = lint_parameters(spec("run {{ seed }}"), {"seed": 1})
    assert unused.code == "unused-parameter"
    assert unused.hint.endswith("for the parameter write {seed}.")


def test_an_empty_parameter_is_told_once() -> None:
    (empty,) = lint_parameters(spec("run {seed} {seed:.2f}"), {"seed": None})
    assert (empty.code, empty.path) == ("empty-parameter", ("seed",))
    assert codes_with(spec("ls"), {"": {"a": None}}) == ["unused-parameter"]


def test_a_shell_variable_that_is_a_parameter_is_a_parameter() -> None:
    assert [one.code for one in lint_spec(None, spec("echo ${NAME}"), ["NAME"])] == []
    assert codes(spec("echo ${NAME}")) == ["literal-braces"]
    assert codes(spec("echo ${name}")) == []


def test_a_name_that_looks_odd_but_is_given_is_a_parameter() -> None:
    assert [one.code for one in lint_spec(None, spec("echo {print it}"), ["print it"])] == []


def test_positional_placeholders_are_right_where_nothing_has_a_name() -> None:
    assert codes(spec("echo {} {}")) == []
    assert codes(spec("echo {} {name}")) == ["positional-placeholder"]
    assert codes_with(spec("echo {} {1}"), ["a", "b"]) == []
    assert codes_with(spec("echo {2}"), ["a", "b"]) == ["unknown-placeholder"]
    assert codes_with(spec("echo {0}"), {"a": 1}) == ["positional-placeholder", "unused-parameter"]


def test_placeholders_that_reach_for_internals() -> None:
    assert codes(spec("echo {x.__class__}")) == ["forbidden-placeholder"]
    assert codes_with(spec("echo {x.__class__}"), {"x": 1}) == []


# --- environment -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("image", ["python", "host:5000/python", f"python@sha256:{'0' * 64}", "a/b/c"])
def test_images_without_a_tag_are_left_alone(image: str) -> None:
    assert codes(spec(image=image)) == []


def test_an_image_with_a_tag() -> None:
    (found,) = lint_spec(None, spec(image="host:5000/python:3.12"))
    assert found.code == "image-with-tag"
    assert 'image: host:5000/python\nimagetag: "3.12"' in found.hint


@pytest.mark.parametrize("resources", [["CVMFS"], [{"kerberos": True, "rucio": True}], [{}], []])
def test_resources_that_are_known(resources: list[Any]) -> None:
    assert codes(spec(resources=resources)) == []


@pytest.mark.parametrize(
    ("resource", "hint"),
    [
        ({"kubernetes_memory_limit": "8GB"}, "Did you mean 8G?"),
        ({"kubernetes_memory_limit": "2g"}, "Did you mean 2G?"),
        ({"kubernetes_memory_limit": "4GiB"}, "Did you mean 4Gi?"),
        ({"kubernetes_memory_request": "64 Mi"}, "Did you mean 64Mi?"),
        ({"kubernetes_memory_limit": "512m"}, "Did you mean 512M?"),
        ({"kubernetes_memory_limit": "lots"}, ""),
        ({"kubernetes_cpu_limit": True}, ""),
        ({"kerberos": "True"}, "Did you mean true?"),
        ({"kerberos": 1}, ""),
        ({"kubernetes_uid": -1}, ""),
        ({"kubernetes_job_timeout": 0}, ""),
    ],
)
def test_values_of_resources_that_cannot_be_read(resource: dict[str, Any], hint: str) -> None:
    (found,) = lint_spec(None, spec(resources=[resource]))
    assert (found.code, found.hint) == ("unreadable-resource", hint)
    assert found.expected


@pytest.mark.parametrize(
    "resource",
    [
        {"kubernetes_memory_limit": 8_000_000_000},
        {"kubernetes_memory_limit": "0"},
        {"kubernetes_cpu_limit": 0.5},
        {"kubernetes_cpu_limit": "500m"},
        {"kubernetes_uid": 0},
        {"kubernetes_job_timeout": "3600"},
        {"kerberos": False},
        {"slurm_time": "whatever"},
    ],
)
def test_values_of_resources_that_can_be_read(resource: dict[str, Any]) -> None:
    assert codes(spec(resources=[resource])) == []


def test_validation_and_run_understand_the_same_resources() -> None:
    from packtivity.runtimes.resources import Resources, understand
    from packtivity.spec.resources import RESOURCES

    for name, (form, _) in RESOURCES.items():
        if form == "word":
            assert codes(spec(resources=[name])) == []
            assert understand([name]) != Resources()
        else:
            assert codes(spec(resources=[name])) == ["unknown-resource"]
            assert understand([name]) == Resources()
        if form == "flag":
            assert codes(spec(resources=[{name: True}])) == []
            assert understand([{name: True}]) != Resources()


def test_unknown_resources() -> None:
    found = lint_spec(None, spec(resources=["gpu", {"slurm_tme": 1, "x": 2}, 1, None, ["CVMFS"]]))
    assert {one.code for one in found} == {"unknown-resource"}
    assert {
        one.path[2:]: one.expected for one in found if one.expected in {"slurm_time", "a word or a one-key mapping"}
    } == {
        (1, "slurm_tme"): "slurm_time",
        (2,): "a word or a one-key mapping",
        (3,): "a word or a one-key mapping",
        (4,): "a word or a one-key mapping",
    }
    assert {one.path[2:] for one in found} == {(0,), (1, "slurm_tme"), (1, "x"), (2,), (3,), (4,)}


def test_mounts_with_unknown_keys_are_left_alone() -> None:
    assert codes(spec(par_mounts=[{"mountpath": "/a", "jqscript": ".", "comment": "x"}])) == []
    assert codes(spec(par_mounts=[{}])) == ["incomplete-mount", "incomplete-mount"]


def test_jq_programs_are_compiled() -> None:
    assert codes(spec("ls", {"publisher_type": "fromparjq-pub", "script": ".a | ["})) == ["bad-jq"]
    assert codes(spec(par_mounts=[{"mountpath": "/a", "jqscript": ".[]"}])) == []


# --- parameters ------------------------------------------------------------------------------------------------


def test_nothing_is_unused_where_a_jq_program_or_a_person_sees_everything() -> None:
    jq = spec("ls", {"publisher_type": "fromparjq-pub"})
    mount = spec(par_mounts=[{"mountpath": "/a", "jqscript": "."}])
    person = {**spec(), "process": {"process_type": "manual-instructions-proc", "instructions": "look"}}
    for one in (jq, mount, person):
        assert codes_with(one, {"anything": 1}) == []


def test_a_work_directory_parameter_wins_and_is_not_unused() -> None:
    publisher = {"publisher_type": "interpolated-pub", "publish": "{workdir}/x"}
    assert codes_with(spec("ls", publisher), {"workdir": "/data"}) == []
    assert codes_with(spec("ls", publisher), {}) == []


def test_a_misspelt_parameter_is_told_once_at_the_parameter() -> None:
    found = lint_parameters(spec("cat {inputfile} {inputfile}"), {"inputfiel": "x"})
    assert [(one.code, one.path, one.expected) for one in found] == [
        ("misspelt-parameter", ("inputfiel",), "inputfile")
    ]


def test_one_misspelt_parameter_does_not_excuse_two_placeholders() -> None:
    found = lint_parameters(spec("cat {file_one} {file_two}"), {"file_on": "x"})
    assert sorted(one.code for one in found) == ["misspelt-parameter", "unknown-placeholder"]


def test_values_are_tried_in_placeholders_that_format_them() -> None:
    assert codes_with(spec("{n:03d} {l} {d[k][0]}"), {"n": 1, "l": [1, 2], "d": {"k": [5]}}) == []
    assert codes_with(spec("{n:03d}"), {"n": "one"}) == ["unfillable-placeholder"]
    assert codes_with(spec("{d[x]}"), {"d": {"k": 1}}) == ["unknown-placeholder"]
    assert codes_with(spec("{l:d}"), {"l": [1]}) == ["unfillable-placeholder"]


def test_names_of_directories_in_values() -> None:
    one = spec("ls {path}")
    assert codes_with(one, {"path": "{workdir}/{}/{0}/{{x}}"}, ["workdir"]) == []
    assert codes_with(one, {"path": "{readdir0}"}, None) == []
    assert codes_with(one, {"path": "{readdir0}"}, []) == ["unknown-placeholder"]
    assert codes_with(one, {"path": ["{wrkdir}"]}, ["workdir"]) == ["unknown-placeholder"]
    assert codes_with(one, {"path": "}"}) == ["lone-brace"]


def test_an_outputmap_is_no_template() -> None:
    publisher = {"publisher_type": "frompar-pub", "outputmap": {"a": "{workdir}/x"}}
    (found,) = lint_parameters(spec("ls", publisher), {})
    assert found.code == "unknown-parameter"
    assert "interpolated-pub" in found.hint


@pytest.mark.parametrize(
    ("publisher", "looks"),
    [
        ({"publisher_type": "fromglob-pub", "globexpression": "*", "outputkey": "a"}, True),
        ({"publisher_type": "fromyaml-pub", "yamlfile": "a"}, True),
        ({"publisher_type": "interpolated-pub", "publish": "*", "glob": True}, True),
        ({"publisher_type": "interpolated-pub", "publish": "*"}, False),
        ({"publisher_type": "constant-pub", "publish": {}}, False),
    ],
)
def test_publishers_that_look_for_files_need_a_work_directory(publisher: dict[str, Any], looks: bool) -> None:
    one = spec("ls", publisher)
    assert codes_with(one, {}, ["readdir0"]) == ["no-work-directory"] * looks
    assert codes_with(one, {}, ["workdir"]) == []
    assert codes_with(one, {}, None) == []


def test_parameters_may_be_a_document_that_knows_its_places() -> None:
    document = parse_document("name: x\nother: y\n", "p.yml")
    (found,) = lint_parameters(spec("echo {name}"), document.data, places=document)
    assert str(found.position) == "p.yml:2:1"


def test_the_places_of_many_mistakes_take_linear_time() -> None:
    def calls(count: int) -> int:
        document = parse_document("".join(f"k{number}: 1\n" for number in range(count)), "parameters.yml")
        made = 0

        def profile(*_: Any) -> None:
            nonlocal made
            made += 1

        sys.setprofile(profile)
        try:
            found = lint_parameters(spec(), document.data, places=document)
        finally:
            sys.setprofile(None)
        assert len(found) == count
        assert str(found[-1].position) == f"parameters.yml:{count}:1"
        return made

    assert calls(1000) / calls(100) < 15
