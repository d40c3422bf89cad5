"""References: the same data as upstream 0.17.1 with jsonref, and an explanation where that fails."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from packtivity.errors import InvalidSpec, LoadError
from packtivity.spec import refs
from packtivity.spec.document import load_document
from packtivity.spec.refs import pointer_parts


@pytest.fixture
def tree(tmp_path):
    """Writes files and loads one of them."""

    def write(files, spec="main.yml"):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return load_document(spec, str(tmp_path))

    return write


def mistakes(tree, files, spec="main.yml"):
    with pytest.raises(InvalidSpec) as caught:
        tree(files, spec)
    return caught.value.diagnostics


SAME = {
    "a file": ({"main.yml": "a: {$ref: b.yml}\n", "b.yml": "[1, x]\n"}, "main.yml"),
    "a file with an empty fragment": ({"main.yml": "a: {$ref: 'b.yml#'}\n", "b.yml": "b: 1\n"}, "main.yml"),
    "a place in a file": ({"main.yml": "a: {$ref: 'b.yml#/b/1/c'}\n", "b.yml": "b: [0, {c: 2}]\n"}, "main.yml"),
    "a place in this file": ({"main.yml": "a: {$ref: '#/b'}\nb: {c: 1}\n"}, "main.yml"),
    "keys beside it are dropped": ({"main.yml": "a: {$ref: '#/b', x: 1}\nb: {c: 1}\n"}, "main.yml"),
    "references in keys beside it": ({"main.yml": "a: {$ref: '#/b', x: {$ref: nothing.yml}}\nb: 1\n"}, "main.yml"),
    "a place inside itself": ({"main.yml": "a: {$ref: '#/a/real', real: {c: 1}}\n"}, "main.yml"),
    "a chain": ({"main.yml": "a: {$ref: '#/b'}\nb: {$ref: '#/c'}\nc: {$ref: d.yml}\n", "d.yml": "7\n"}, "main.yml"),
    "through a reference": (
        {"main.yml": "a: {$ref: '#/b/x/y'}\nb: {$ref: c.yml}\n", "c.yml": "x: {y: 3}\n"},
        "main.yml",
    ),
    "through a reference to a reference": (
        {"main.yml": "a: {$ref: '#/b/x'}\nb: {$ref: '#/c'}\nc: {x: {$ref: '#/d'}}\nd: 4\n"},
        "main.yml",
    ),
    "relative to its own file": (
        {
            "main.yml": "a: {$ref: s/b.yml}\n",
            "s/b.yml": "{$ref: t/c.yml}\n",
            "s/t/c.yml": "{$ref: ../../d.yml}\n",
            "d.yml": "d\n",
        },
        "main.yml",
    ),
    "inside another file": ({"main.yml": "a: {$ref: b.yml}\n", "b.yml": "b: {$ref: '#/c'}\nc: 5\n"}, "main.yml"),
    "back to the first file": (
        {"main.yml": "a: {$ref: b.yml}\nc: 6\n", "b.yml": "{$ref: 'main.yml#/c'}\n"},
        "main.yml",
    ),
    "a whole file that is a reference": ({"main.yml": "{$ref: b.yml}\n", "b.yml": "b: 1\n"}, "main.yml"),
    "a place in the file asked for": ({"main.yml": "a: {b: {c: 1}}\nz: {$ref: nothing.yml}\n"}, "main.yml#/a/b"),
    "a place behind a reference": ({"main.yml": "a: {$ref: b.yml}\n", "b.yml": "c: {d: 1}\n"}, "main.yml#/a/c"),
    "an empty fragment": ({"main.yml": "a: 1\n"}, "main.yml#"),
    "no slash before the first key": ({"main.yml": "a: {b: 1}\n"}, "main.yml#a/b"),
    "slashes before the first key": ({"main.yml": "a: {b: 1}\n"}, "main.yml#//a/b"),
    "escapes of pointers": ({"main.yml": "a: {$ref: '#/b~1c/d~0e/~01'}\nb/c: {d~e: {~1: 1}}\n"}, "main.yml"),
    "escapes of addresses": ({"main.yml": "a: {$ref: '#/b%20c/%7E1/%25'}\nb c: {/: {'%': 1}}\n"}, "main.yml"),
    "an escaped slash parts keys": ({"main.yml": "a: {$ref: '#/b%2Fc'}\nb: {c: 1}\n"}, "main.yml"),
    "an empty key": ({"main.yml": "a: {$ref: '#/'}\n'': 1\n"}, "main.yml"),
    "counted from the end": ({"main.yml": "a: {$ref: '#/b/-1'}\nb: [1, 2]\n"}, "main.yml"),
    "a number for a key": ({"main.yml": "a: {$ref: '#/b/1'}\nb: {'1': x}\n"}, "main.yml"),
    "a value that is no mapping": ({"main.yml": "a: {$ref: '#/b'}\nb: null\nc: {$ref: '#/d'}\nd: false\n"}, "main.yml"),
    "a list that is named twice": ({"main.yml": "a: [{$ref: '#/b'}, {$ref: '#/b'}]\nb: [1]\n"}, "main.yml"),
    "a number is no reference": ({"main.yml": "a: {$ref: 5}\nb: {$ref: null}\nc: {$ref: [x]}\n"}, "main.yml"),
    "a name with blanks": ({"main.yml": "a: {$ref: 'b c.yml#/d'}\n", "b c.yml": "d: 1\n"}, "main.yml"),
    "a name with escaped blanks": ({"main.yml": "a: {$ref: 'b%20c.yml#/d'}\n", "b c.yml": "d: 1\n"}, "main.yml"),
    "a name in another alphabet": ({"main.yml": "a: {$ref: 'größe.yml'}\n", "größe.yml": "d: 1\n"}, "main.yml"),
    "a file above": ({"s/main.yml": "a: {$ref: ../b.yml}\n", "b.yml": "1\n"}, "s/main.yml"),
    "dots in a name": ({"main.yml": "a: {$ref: ./s/../b.yml}\n", "b.yml": "1\n"}, "./main.yml"),
    "a JSON file": (
        {"main.yml": "a: {$ref: 'b.json#/c'}\n", "b.json": '{"c": {"$ref": "d.json"}}', "d.json": "[1.5]"},
        "main.yml",
    ),
    "behind an alias": ({"main.yml": "a: &a {$ref: '#/c'}\nb: *a\nc: 1\n"}, "main.yml"),
    "merged into a mapping": ({"main.yml": "a: &a {$ref: '#/c'}\nb: {<<: *a, d: 1}\nc: 1\n"}, "main.yml"),
    "one file named in two ways": (
        {"main.yml": "a: {$ref: b.yml}\nb: {$ref: ./b.yml}\n", "b.yml": "{x: [1]}\n"},
        "main.yml",
    ),
}


@pytest.mark.parametrize("case", SAME)
def test_the_data_is_that_of_upstream(case, tree, upstream, tmp_path):
    files, spec = SAME[case]
    found = tree(files, spec).data
    assert upstream({"spec": spec, "toplevel": str(tmp_path)}) == {"data": found}


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("#/proces", "there is no key 'proces' at its top"),
        ("#/", "there is no key '' at its top"),
        ("#/b/", "/b is neither a mapping nor a list"),
        ("#/c/2", "the list at /c has 2 items and no item '2'"),
        ("#/c/-3", "no item '-3'"),
        ("#/c/x", "no item 'x'"),
        ("#/b/x", "/b is neither a mapping nor a list"),
        ("none.yml", "none.yml: no such file"),
        ("s", "this is a directory"),
        ("#/d/x", "there is no key 'x' at /d"),
        ("#/a", "leads back to itself"),
    ],
)
def test_what_upstream_cannot_resolve_is_explained(reference, words, tree, upstream, tmp_path):
    files = {"main.yml": f"\na: {{$ref: '{reference}'}}\nprocess: 1\nb: 2\nc: [1, 2]\nd: {{}}\n", "s/x.yml": "1\n"}
    (found,) = mistakes(tree, files)
    assert words in found.message
    assert found.code == ("circular-reference" if "itself" in words else "unresolvable-reference")
    assert (found.path, found.position.line, found.position.column) == (("a",), 2, 11)
    assert found.excerpt.startswith("a: {$ref")
    assert "error" in upstream({"spec": "main.yml", "toplevel": str(tmp_path)})


def test_a_mapping_is_no_reference_but_what_it_holds_may_be_one(tree):
    assert tree({"main.yml": "a: {$ref: {$ref: '#/b'}}\nb: 1\n"}).data == {"a": {"$ref": 1}, "b": 1}


def test_the_nearest_key_is_suggested(tree):
    (found,) = mistakes(tree, {"main.yml": "a: {$ref: '#/proces'}\nprocess: 1\n"})
    assert (found.expected, found.hint) == ("process", "Did you mean 'process'?")


def test_the_keys_there_are_named_when_none_is_near(tree):
    (found,) = mistakes(tree, {"main.yml": "a: {$ref: '#/zzz'}\n" + "".join(f"k{n}: 1\n" for n in range(9))})
    assert found.hint == "There are: a, k0, k1, k2, k3, k4, k5, k6, …."
    (found,) = mistakes(tree, {"main.yml": "a: {$ref: 'b.yml#/x'}\n", "b.yml": "{}\n"})
    assert found.hint == "There are: no keys at all."


def test_a_pointer_into_a_scalar_or_a_list_is_explained(tree):
    (found,) = mistakes(tree, {"main.yml": "a: {$ref: '#/b/c'}\nb: text\n"})
    assert "/b is neither a mapping nor a list" in found.message


def test_every_mistake_is_told(tree):
    files = {
        "main.yml": "a: {$ref: '#/x'}\nb: [{$ref: none.yml}, {$ref: bad.yml}]\nc: {$ref: '#/c'}\n",
        "bad.yml": "a: [\n",
    }
    found = mistakes(tree, files)
    assert [one.code for one in found] == [
        "unresolvable-reference",
        "unresolvable-reference",
        "yaml-syntax",
        "circular-reference",
    ]
    assert [one.path for one in found] == [("a",), ("b", 0), (), ("c",)]
    assert found[2].position.file.endswith("bad.yml")


def test_a_mistake_in_a_part_that_is_not_used_is_none(tree):
    files = {
        "main.yml": "a: {$ref: 'b.yml#/good'}\n",
        "b.yml": "good: 1\nbad: {$ref: none.yml}\nround: {$ref: '#/round'}\n",
    }
    assert tree(files).data == {"a": 1}


@pytest.mark.parametrize(
    ("text", "circle"),
    [
        ("a: {$ref: '#/b'}\nb: {$ref: '#/a'}\n", "'#/b' → '#/a'"),
        ("a: {b: {$ref: '#/a'}}\n", "'#/a'"),
        ("a: {$ref: '#'}\n", "'#'"),
        ("a: {$ref: '#/b/x'}\nb: {$ref: '#/a/y'}\n", "'#/b/x' → '#/a/y'"),
        ("a: {$ref: '#/b/c'}\nb: {$ref: '#/c'}\nc: {$ref: '#/b'}\n", "'#/c'"),
        ("a: {b: {$ref: 'main.yml#/c'}}\nc: [{$ref: '#/a'}]\n", "'main.yml#/c' → '#/a'"),
    ],
)
def test_a_circle_is_told_with_its_steps(text, circle, tree):
    found = mistakes(tree, {"main.yml": text})
    assert {one.code for one in found} == {"circular-reference"}
    assert circle in found[0].message
    assert found[0].hint


def test_a_circle_of_files_is_told(tree):
    (found,) = mistakes(tree, {"main.yml": "a: {$ref: b.yml}\n", "b.yml": "b: {$ref: main.yml}\n"})
    assert found.code == "circular-reference"
    assert "'main.yml'" in found.message


def test_a_long_circle_is_shortened(tree):
    steps = "".join(f"k{n}: {{$ref: '#/k{(n + 1) % 9}'}}\n" for n in range(9))
    found = mistakes(tree, {"main.yml": steps})
    assert found[0].message.endswith("'#/k5' → '#/k6' → '…'")


def test_a_chain_too_long_to_be_meant_is_refused(tree):
    steps = "".join(f"k{n}: {{$ref: '#/k{n + 1}'}}\n" for n in range(2000))
    found = mistakes(tree, {"main.yml": steps + "k2000: 1\n"})
    assert {one.code for one in found} == {"circular-reference"}
    assert len(found) == 100
    through = "".join(f"k{n}: {{$ref: '#/k{n + 1}/x'}}\n" for n in range(2000))
    assert mistakes(tree, {"main.yml": through + "k2000: 1\n"}, "main.yml#/k0/y")[0].code == "circular-reference"


def test_references_that_multiply_are_refused(tree, monkeypatch):
    monkeypatch.setattr(refs, "_EXPANSION", 100_000)
    steps = "".join(f"k{n}: [" + f"{{$ref: '#/k{n + 1}'}}, " * 10 + "]\n" for n in range(20))
    found = mistakes(tree, {"main.yml": steps + "k20: x\n"})
    assert found[-1].code == "too-large"
    assert found[-1].position is not None


def test_references_that_nest_too_deep_are_refused(tree):
    inner = "[" * 30 + "{$ref: '#/k%d'}" + "]" * 30
    steps = "".join(f"k{n}: {inner % (n + 1)}\n" for n in range(6))
    found = mistakes(tree, {"main.yml": steps + "k6: x\n"})
    assert found[-1].code == "too-deep"


def test_a_document_of_very_many_files_is_refused(tree, monkeypatch):
    monkeypatch.setattr(refs, "_FILES", 3)
    files = {f"f{n}.yml": f"{{$ref: f{n + 1}.yml}}\n" for n in range(5)}
    (found,) = mistakes(tree, files, "f0.yml")
    assert "made of more than 3 files" in found.message


def test_a_pointer_that_names_nothing_in_the_file_asked_for_is_told(tree):
    (found,) = mistakes(tree, {"main.yml": "process: 1\n"}, "main.yml#/proces")
    assert (found.code, found.expected) == ("unresolvable-reference", "process")


def test_a_name_with_a_number_sign_or_percent_sign_counts_first(tree):
    files = {
        "a#1.yml": "b: 1\n",
        "50%25.yml": "b: 2\n",
        "100%.yml": "b: 3\n",
        "main.yml": "x: {$ref: 'a#1.yml#/b'}\ny: {$ref: '50%25.yml#/b'}\nz: {$ref: '100%.yml'}\nw: {$ref: 'a%231.yml#b'}\n",
    }
    assert tree(files).data == {"x": 1, "y": 2, "z": {"b": 3}, "w": 1}
    assert tree({}, "a#1.yml").data == {"b": 1}
    assert tree({}, "a#1.yml#/b").data == 1
    assert tree({}, "100%.yml").data == {"b": 3}


def test_a_directory_with_a_number_sign_in_its_name_is_one(tmp_path):
    (tmp_path / "a#b %41").mkdir()
    (tmp_path / "a#b %41" / "c.yml").write_text("d: {$ref: '#/e'}\ne: 1\n")
    assert load_document("c.yml#/d", str(tmp_path / "a#b %41")).data == 1


def test_an_absolute_reference_and_a_file_address_name_local_files(tree, tmp_path):
    (tmp_path / "b c.yml").write_text("1\n")
    files = {"main.yml": f"a: {{$ref: '{tmp_path}/b c.yml'}}\nb: {{$ref: 'file://{tmp_path}/b%20c.yml'}}\n"}
    assert tree(files).data == {"a": 1, "b": 1}
    assert load_document(f"{tmp_path}/main.yml", "/somewhere").data == {"a": 1, "b": 1}
    assert load_document(f"file://localhost{tmp_path}/main.yml").data == {"a": 1, "b": 1}


def test_the_current_directory_is_asked_for_at_each_call(tmp_path, monkeypatch):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.yml").write_text(f"{name}\n")
        monkeypatch.chdir(tmp_path / name)
        found = load_document("a.yml")
        assert (found.data, found.source) == (name, "a.yml")


def test_files_are_called_as_the_user_would_call_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.makedirs("d/sub")
    Path("d/main.yml").write_text("a: {$ref: sub/b.yml}\n")
    Path("d/sub/b.yml").write_text("x: {$ref: ../c.yml}\n")
    Path("d/c.yml").write_text("1\n")
    found = load_document("main.yml", "d")
    assert found.source == "d/main.yml"
    assert str(found.position(("a",))) == "d/sub/b.yml:1:1"
    assert str(found.position(("a", "x"))) == "d/c.yml:1:1"


def test_links_do_not_change_what_a_reference_is_relative_to(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.yml").write_text("{$ref: b.yml}\n")
    (tmp_path / "b.yml").write_text("here\n")
    (tmp_path / "a.yml").symlink_to("real/a.yml")
    assert load_document("a.yml", str(tmp_path)).data == "here"


def test_what_is_named_twice_is_made_twice(tree):
    found = tree({"main.yml": "a: {$ref: '#/c'}\nb: {$ref: '#/c'}\nc: {d: [1]}\n"}).data
    found["a"]["d"].append(2)
    assert found["b"] == found["c"] == {"d": [1]}


def test_a_problem_in_a_file_that_is_named_is_told(tree):
    found = tree({"main.yml": "a: {$ref: b.yml}\nx: 1\nx: 2\n", "b.yml": "y: 1\ny: 2\n"})
    assert [(one.code, Path(one.position.file).name, one.position.line) for one in found.problems] == [
        ("duplicate-key", "main.yml", 3),
        ("duplicate-key", "b.yml", 2),
    ]


def test_reading_stops_when_the_spec_itself_cannot_be_found(tmp_path):
    with pytest.raises(LoadError):
        load_document("none.yml#/a", str(tmp_path))


@pytest.mark.parametrize(
    ("fragment", "parts"),
    [("", []), ("/", [""]), ("/a//b", ["a", "", "b"]), ("a", ["a"]), ("/~01", ["~1"]), ("/%2Fa%2Fb", ["", "a", "b"])],
)
def test_a_fragment_is_split_as_jsonref_splits_it(fragment, parts):
    assert pointer_parts(fragment) == parts
