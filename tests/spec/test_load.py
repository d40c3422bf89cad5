"""Documents: data with its places, from a local file in next to no time."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packtivity import errors
from packtivity.spec import yamlnodes
from packtivity.spec.document import load_document, load_yaml, parse_document

SPEC = """\
# a comment
process:
  process_type: interpolated-script-cmd
  script: |
    echo {a}
      b {c}

    end {d}
environment: &env
  environment_type: docker-encapsulated
  image: busybox
  resources: [CVMFS, {kerberos: true}]
other: *env
merged:
  <<: *env
  imagetag: 'it''s {x}'
publisher:
  publish: "tab\\t{y}\\u00e9{z} \\
    joined {w}"
  folded: >-
    one {a}
    two {b}

    three {c}
      kept {d}
  plain: first {a}
    second {b}
  $deep: {a: [1, {b: {c: {d: x}}}], 2: int, 1.5: float, yes: bool, ~: null}
"""


@pytest.fixture
def document():
    return parse_document(SPEC, "spec.yml")


@pytest.mark.parametrize(
    ("path", "place", "key"),
    [
        ((), "2:1", None),
        (("process",), "3:3", "2:1"),
        (("process", "script"), "4:11", "4:3"),
        (("environment", "resources", 1), "12:22", None),
        (("environment", "resources", 1, "kerberos"), "12:33", "12:23"),
        (("other",), "9:14", "13:1"),
        (("other", "image"), "11:10", "11:3"),
        (("merged", "image"), "11:10", "11:3"),
        (("merged", "imagetag"), "16:13", "16:3"),
        (("merged", "resources", 0), "12:15", None),
        (("publisher", "$deep", "a", 1, "b", "c", "d"), "28:30", "28:27"),
        (("publisher", "$deep", "2"), "28:40", "28:37"),
        (("publisher", "$deep", "1.5"), "28:50", "28:45"),
        (("publisher", "$deep", "true"), "28:62", "28:57"),
        (("publisher", "$deep", "null"), "28:71", "28:68"),
    ],
)
def test_each_value_and_key_has_its_place(document, path, place, key):
    assert str(document.position(path)) == f"spec.yml:{place}"
    found = document.position(path, key=True)
    assert str(found) == f"spec.yml:{key or place}"


@pytest.mark.parametrize(
    "path",
    [("nothing",), ("process", "nothing"), ("process", 0), ("environment", "resources", 2), ("process", "script", 0)],
)
def test_what_is_written_nowhere_has_no_place(document, path):
    assert document.position(path) is None
    assert document.position(path, key=True) is None
    assert document.offset_position(path, 0) is None


def test_a_default_that_was_filled_in_has_no_place(document):
    document.data["environment"]["imagetag"] = "latest"
    assert document.position(("environment", "imagetag")) is None


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (("process", "script"), "{a}"),
        (("process", "script"), "{c}"),
        (("process", "script"), "{d}"),
        (("merged", "imagetag"), "{x}"),
        (("publisher", "publish"), "{y}"),
        (("publisher", "publish"), "{z}"),
        (("publisher", "publish"), "{w}"),
        (("publisher", "folded"), "{a}"),
        (("publisher", "folded"), "{b}"),
        (("publisher", "folded"), "{c}"),
        (("publisher", "folded"), "{d}"),
        (("publisher", "plain"), "{a}"),
        (("publisher", "plain"), "{b}"),
        (("environment", "image"), "box"),
    ],
)
def test_each_character_of_a_string_has_its_place(document, path, text):
    value = document.data
    for part in path:
        value = value[part]
    position = document.offset_position(path, value.index(text))
    assert document.excerpt(position)[position.column - 1 :].startswith(text)


def test_a_blank_stands_behind_the_character_before_it(document):
    assert str(document.offset_position(("process", "script"), 4)) == "spec.yml:5:9"
    assert str(document.offset_position(("publisher", "plain"), 5)) == "spec.yml:26:15"


def test_past_the_end_means_the_end(document):
    assert str(document.offset_position(("environment", "image"), 7)) == "spec.yml:11:17"
    assert str(document.offset_position(("environment", "image"), 99)) == "spec.yml:11:17"
    empty = parse_document('a: ""\nb: " "\n', "e.yml")
    assert str(empty.offset_position(("a",), 0)) == "e.yml:1:5"
    assert str(empty.offset_position(("b",), 0)) == "e.yml:2:5"


def test_a_character_of_what_is_no_string_is_where_that_begins(document):
    assert str(document.offset_position(("environment", "resources"), 3)) == "spec.yml:12:14"


BLANK = " \n\t"
TEXTS = st.text(st.sampled_from("ab{}'\"\\#:-é😀 \n\t"), min_size=1, max_size=40)


@settings(max_examples=200, deadline=None)
@given(text=TEXTS, style=st.sampled_from(["json", "literal", "single", "double"]))
def test_characters_that_are_not_blank_are_found_in_every_style(text, style):
    import yaml

    styles = {"literal": "|", "single": "'", "double": '"'}
    if style == "json":
        written = json.dumps({"k": text}, indent=1)
    else:
        written = yaml.dump({"k": text}, default_style=styles[style], allow_unicode=True, width=12)
    document = parse_document(written, "t")
    (key,) = document.data
    assert document.data[key] == text
    for offset, character in enumerate(text):
        if character in "ab{}#:-":
            position = document.offset_position((key,), offset)
            assert document.excerpt(position)[position.column - 1] == character


def test_the_list_of_an_ordered_mapping_has_places():
    document = parse_document("a: !!omap\n- b: 1\n- c: {d: 2}\n", "a.yml")
    assert document.data == {"a": [["b", 1], ["c", {"d": 2}]]}
    assert str(document.position(("a", 1, 0))) == "a.yml:3:3"
    assert str(document.position(("a", 1, 1, "d"))) == "a.yml:3:10"


def test_the_last_of_repeated_keys_is_the_one_with_the_place():
    document = parse_document("a: 1\nb: 0\na: 2\n", "a.yml")
    assert str(document.position(("a",))) == "a.yml:3:4"


def test_places_in_json_are_found_when_asked_for():
    document = parse_document('{\n "a": [1, {"b": "x\\ty"}]\n}', "a.json")
    assert str(document.position(("a", 1, "b"))) == "a.json:2:17"
    assert str(document.position(("a", 1, "b"), key=True)) == "a.json:2:12"
    assert str(document.offset_position(("a", 1, "b"), 2)) == "a.json:2:21"


def test_json_with_tabs_between_its_tokens_has_places():
    assert str(parse_document('{\n\t"a":\t"b"\n}', "a.json").position(("a",))) == "a.json:2:7"


def test_a_reference_in_a_text_at_hand_is_plain_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b.yml").write_text("secret\n")
    document = parse_document("a: {$ref: b.yml}\n", "p.yml")
    assert document.data == {"a": {"$ref": "b.yml"}}
    assert str(document.position(("a", "$ref"))) == "p.yml:1:11"


def test_an_excerpt_is_the_line_of_a_known_file():
    document = parse_document("a: 1\r\nb: 2\r\n", "a.yml")
    assert document.excerpt(document.position(("b",))) == "b: 2"
    assert document.excerpt(errors_position("other.yml", 1)) == ""
    assert document.excerpt(errors_position("a.yml", 99)) == ""


def errors_position(file, line):
    from packtivity.types import Position

    return Position(file, line, 1)


def test_a_text_that_cannot_be_read_is_an_invalid_spec_with_diagnostics():
    with pytest.raises(errors.InvalidSpec) as caught:
        parse_document("a: b: c\n", "a.yml")
    (found,) = caught.value.diagnostics
    assert (found.code, str(found.position), found.excerpt) == ("yaml-syntax", "a.yml:1:5", "a: b: c")
    assert str(caught.value).startswith("a.yml:1:5: a ': ' is not allowed")


def test_a_file_that_cannot_be_read_is_an_invalid_spec(tmp_path):
    (tmp_path / "a.yml").write_bytes(b"a: caf\xe9\n")
    with pytest.raises(errors.InvalidSpec, match="is not UTF-8"):
        load_document("a.yml", str(tmp_path))


def test_an_empty_file_says_nothing(tmp_path):
    (tmp_path / "a.yml").write_text("# later\n")
    found = load_document("a.yml", str(tmp_path))
    assert found.data is None
    assert str(found.position(())) == str(found.offset_position((), 0)) == f"{tmp_path}/a.yml:1:1"
    assert found.position(("process",)) is None


def test_settings_of_the_environment_are_read_only_when_they_matter(tmp_path, monkeypatch):
    (tmp_path / "a.yml").write_text("a: 1\n")
    monkeypatch.setenv("PACKTIVITY_OFFLINE", "perhaps")
    assert load_document("a.yml", str(tmp_path)).data == {"a": 1}
    with pytest.raises(errors.ConfigurationError, match="PACKTIVITY_OFFLINE"):
        load_document("http://127.0.0.1:9/a.yml")


def test_yaml_at_hand_is_read_as_data():
    assert load_yaml("[1, 2024-01-01]") == [1, "2024-01-01"]


def test_the_corpus_loads_from_files_as_upstream_read_it(corpus, tmp_path):
    for row in corpus:
        (tmp_path / "a.json").write_text(json.dumps(row["spec"]))
        assert load_document("a.json", str(tmp_path)).data == row["spec"]


def test_a_local_spec_needs_nothing_that_is_for_the_network(tmp_path):
    (tmp_path / "a.yml").write_text(SPEC.replace("other: *env", "other: {$ref: 'b.yml#/c'}"))
    (tmp_path / "b.yml").write_text("c: 1\n")
    code = (
        "import sys; from packtivity.spec.document import load_document; load_document('a.yml');"
        "print([name for name in ('requests', 'urllib3', 'jsonschema')"
        " if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


def test_a_text_is_parsed_once_however_many_places_are_asked_for(tmp_path, monkeypatch):
    (tmp_path / "a.yml").write_text(SPEC)
    composed = []
    compose = yamlnodes.compose
    monkeypatch.setattr(yamlnodes, "compose", lambda *args: composed.append(1) or compose(*args))
    found = load_document("a.yml", str(tmp_path))
    for path in (("process",), ("environment", "image"), ("process", "script")):
        found.position(path)
        found.offset_position(path, 1)
    assert composed == [1]
