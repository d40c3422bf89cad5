"""Rendering processes into jobs."""

from __future__ import annotations

from typing import Any

import pytest

from packtivity.datamodel import PureJsonModel, TypedLeafs
from packtivity.errors import MissingParameter, ParameterError
from packtivity.handlers.process_handlers import handlers, process


def command(template: str, parameters: Any) -> str:
    job = process.find("string-interpolated-cmd")({"cmd": template}, TypedLeafs(parameters), None)
    assert job.keys() == {"command"}
    return job["command"]


def test_lists_are_joined_by_spaces() -> None:
    assert command("ls {files}", {"files": ["a", 1, None, True]}) == "ls a 1 None True"


def test_a_list_document_is_positional() -> None:
    assert command("{0} {1} x", ["a", [1, 2]]) == "a 1 2 x"


def test_a_scalar_document_is_called_value() -> None:
    assert command("echo {value}", "hello") == "echo hello"


def test_mappings_are_written_as_python_does_with_keys_sorted() -> None:
    assert command("{d} {d[a]}", {"d": {"b": 1, "a": "x"}}) == "{'a': 'x', 'b': 1} x"


def test_an_index_into_a_list_counts_characters_because_lists_are_joined_first() -> None:
    assert command("{l[0]}", {"l": ["ab", "c"]}) == "a"


def test_typed_leaves_give_their_attributes(leaf_model: Any) -> None:
    parameters = TypedLeafs({"f": {"$t": "leaf", "path": "/p"}}, leaf_model)
    job = process.find("string-interpolated-cmd")({"cmd": "cat {f.path}"}, parameters, None)
    assert job == {"command": "cat /p"}


@pytest.mark.parametrize("document", [{"x": "a"}, TypedLeafs({"x": "a"}), PureJsonModel({"x": "a"})])
def test_every_form_of_parameters_will_do(document: Any) -> None:
    assert process.find("string-interpolated-cmd")({"cmd": "{x}"}, document, None) == {"command": "a"}


def test_a_script_keeps_its_interpreter() -> None:
    spec = {"script": "echo {x}\n", "interpreter": "bash -e"}
    job = process.find("interpolated-script-cmd")(spec, TypedLeafs({"x": 1}), None)
    assert job == {"script": "echo 1\n", "interpreter": "bash -e"}


def test_an_empty_script_is_an_empty_input() -> None:
    job = process.find("interpolated-script-cmd")({"script": "", "interpreter": "sh"}, TypedLeafs({}), None)
    assert job["script"] == ""


def test_a_missing_parameter_is_named_with_place_nearest_name_and_remedy() -> None:
    spec = {"script": "a\nawk {inputfil}\n", "interpreter": "sh"}
    with pytest.raises(MissingParameter) as caught:
        process.find("interpolated-script-cmd")(spec, TypedLeafs({"inputfile": "x"}), None)
    assert isinstance(caught.value, KeyError)
    message = str(caught.value)
    for part in (
        "process.script, line 2",
        "{inputfil}",
        "Give the step the parameter 'inputfil'.",
        "{inputfile}",
        "{{",
    ):
        assert part in message


def test_a_directory_in_a_process_is_explained() -> None:
    with pytest.raises(MissingParameter, match=r"give a parameter the value \{workdir\}\."):
        command("cp x {workdir}", {"x": 1})


def test_all_that_is_missing_is_told_at_once() -> None:
    with pytest.raises(MissingParameter, match=r"Give the step the parameters 'a', 'c-d'\."):
        command("{a} {b:.2f} {c-d} {a} {print $1}", {"b": 1})


def test_what_cannot_be_a_name_is_not_asked_for() -> None:
    with pytest.raises(MissingParameter) as caught:
        command("awk '{print $1}'", {"x": 1})
    assert caught.value.hint == "Write {{ and }} for braces that are meant as they are."


def test_blanks_around_a_name_are_told() -> None:
    with pytest.raises(MissingParameter, match=r"Write \{seed\}, without blanks"):
        command("run { seed }", {"seed": 1})


def test_a_missing_key_of_a_parameter_is_a_missing_parameter() -> None:
    with pytest.raises(MissingParameter, match=r"process\.cmd: placeholder \{d\[b\]\}: there is no key 'b'"):
        command("{d[b]}", {"d": {"a": 1}})


def test_positions_without_a_list_are_explained() -> None:
    with pytest.raises(ParameterError, match="the parameters have names, not positions"):
        command("{0}", {"x": 1})


def test_a_position_past_the_end_is_explained() -> None:
    with pytest.raises(IndexError, match=r"process\.cmd: placeholder \{2\}: no value has that position"):
        command("{2}", [1])


def test_names_without_named_parameters_are_explained() -> None:
    with pytest.raises(MissingParameter, match="There are no named parameters"):
        command("{x}", [1])


def test_a_lone_brace_says_how_to_escape_it() -> None:
    with pytest.raises(ParameterError, match=r"process\.cmd(.|\n)*\{\{ and \}\}"):
        command("awk '{print $1}' {", {"x": 1})


def test_manual_instructions_are_handed_on_with_the_parameters() -> None:
    job = process.find("manual-instructions-proc")({"instructions": "Do {this}."}, TypedLeafs({"x": [1]}), None)
    assert job == {"instructions": "Do {this}.", "parameters": {"x": [1]}}


def test_the_table_is_a_plain_dictionary_as_plug_ins_expect() -> None:
    assert handlers["string-interpolated-cmd"]["default"] is process.find("string-interpolated-cmd")
    assert type(handlers) is dict
