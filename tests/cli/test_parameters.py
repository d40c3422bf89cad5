"""Parameters from files and from ``-p``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packtivity.cli import getinit_data
from packtivity.cli.parameters import Parameters
from packtivity.errors import ParameterError
from packtivity.types import Position

if TYPE_CHECKING:
    from pathlib import Path


def test_a_value_may_have_equals_signs() -> None:
    assert getinit_data([], ["a=b=c"]) == {"a": "b=c"}
    assert getinit_data([], ["url=http://x/?q=1&r=2"]) == {"url": "http://x/?q=1&r=2"}


def test_values_are_yaml() -> None:
    given = ["i=1", "f=1.0", "b=yes", "n=", "l=[1, two]", "d={x: 1}", "o=010", "q='1'", "date=2020-01-01"]
    assert getinit_data([], given) == {
        "i": 1,
        "f": 1.0,
        "b": True,
        "n": None,
        "l": [1, "two"],
        "d": {"x": 1},
        "o": 8,
        "q": "1",
        "date": "2020-01-01",
    }


def test_later_ones_win_and_options_win_over_files(tmp_path: Path) -> None:
    (tmp_path / "one.yml").write_text("a: 1\nb: 1\nc: 1\nd: 1\n")
    (tmp_path / "two.json").write_text('{"b": 2, "c": 2}')
    files = [str(tmp_path / "one.yml"), str(tmp_path / "two.json")]
    assert getinit_data(files, ["c=3", "d=3", "d=4"]) == {"a": 1, "b": 2, "c": 3, "d": 4}


def test_an_empty_file_gives_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty.yml").write_text("# nothing yet\n")
    assert getinit_data([str(tmp_path / "empty.yml")], []) == {}


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path: Path) -> None:
    (tmp_path / "bom.yml").write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert getinit_data([str(tmp_path / "bom.yml")], []) == {"a": 1}


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.yml").write_bytes(b"a: \xe9\n")
    with pytest.raises(ParameterError, match="UTF-8"):
        getinit_data([str(tmp_path / "latin.yml")], [])


def test_standard_input_is_a_file_called_dash(commands: Any) -> None:
    commands.spec("echo {name}")
    done = commands("packtivity-util", "pubtest", "spec.yml", "-", input="{name: x, outputfile: piped}")
    assert done.stdout == "<TypedLeafs: {'output': 'piped'}>\n"


@given(st.text(max_size=30))
def test_any_text_is_a_parameter_or_an_error_of_ours(text: str) -> None:
    try:
        (name,) = getinit_data([], [text])
    except ParameterError:
        return
    assert text.startswith(f"{name}=")


def test_a_merged_document_knows_where_everything_stands(tmp_path: Path) -> None:
    one, two = tmp_path / "one.yml", tmp_path / "two.yml"
    one.write_text("a: 1\nb:\n  - x\n")
    two.write_text("\nc: {d: 2}\na: 3\n")
    merged = Parameters([str(one), str(two)], ["e=[1, 2]"])
    assert merged.data == {"a": 3, "b": ["x"], "c": {"d": 2}, "e": [1, 2]}
    assert merged.position(("a",)) == Position(str(two), 3, 4)
    assert merged.position(("a",), key=True) == Position(str(two), 3, 1)
    assert merged.position(("b", 0)) == Position(str(one), 3, 5)
    assert merged.position(("e", 1)) == Position("-p e", 1, 5)
    assert merged.offset_position(("b", 0), 0) == Position(str(one), 3, 5)
    assert merged.excerpt(Position(str(one), 1, 1)) == "a: 1"
    assert merged.position(("nothing",)) is None
    assert merged.excerpt(Position("elsewhere", 1, 1)) == ""


def test_a_misspelt_file_is_told_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "parameters.yml").write_text("a: 1\n")
    with pytest.raises(ParameterError, match=r"Did you mean '.*/parameters\.yml'\?"):
        getinit_data([str(tmp_path / "paramters.yml")], [])
    with pytest.raises(ParameterError) as caught:
        getinit_data([str(tmp_path / "nowhere" / "paramters.yml")], [])
    assert caught.value.hint == ""
