"""What parameter documents do, beyond agreeing with packtivity 0.17.1."""

from __future__ import annotations

import copy
import enum
import json
import math
import subprocess
import sys
from collections import OrderedDict
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jsonpointer import JsonPointer

from packtivity import datamodel
from packtivity.datamodel import LeafModel, PureJsonModel, TypedLeafs, create, iter_leaves, leaf_iterator, map_leaves
from packtivity.datamodel.query import JqError, JsonPathError
from packtivity.errors import ConfigurationError, ParameterError, PublishError

KINDS = pytest.mark.parametrize("kind", [TypedLeafs, PureJsonModel])
DOCUMENTS: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=15,
)


class Point:
    def __init__(self, x: Any) -> None:
        self.x = x
        self.document = {"x": x}

    @classmethod
    def fromJSON(cls, data: dict[str, Any]) -> Point:
        return cls(data["x"])

    def json(self) -> dict[str, Any]:
        return self.document

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Point) and other.x == self.x

    def __hash__(self) -> int:
        return hash(self.x)


def parse_literal(text: str) -> dict[str, str]:
    return {"$type": "Point", "x": text.partition(":")[2]}


MODEL = {"keyword": "$type", "types": {"Point": Point}}


# --- making one ---


def test_create_makes_typed_leafs() -> None:
    assert isinstance(create({"a": 1}), TypedLeafs)
    assert create({"$type": "Point", "x": 1}, MODEL).typed() == Point(1)


def test_the_setting_chooses_the_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PACKTIVITY_DATAMODEL_IMPL", "purejson")
    assert isinstance(create({"a": 1}), PureJsonModel)
    monkeypatch.setenv("PACKTIVITY_DATAMODEL_IMPL", "pure")
    with pytest.raises(ConfigurationError, match=r"PACKTIVITY_DATAMODEL_IMPL.*'pure'(?s:.*)purejson"):
        create({})


@pytest.mark.parametrize("outer", [TypedLeafs, PureJsonModel])
@KINDS
def test_a_document_can_be_made_from_another(outer: Any, kind: Any) -> None:
    inner = kind({"a": [1]})
    made = outer(inner)
    made["b"] = 2
    assert made.json() == {"a": [1], "b": 2}
    assert inner.json() == {"a": [1]}


@KINDS
def test_a_document_inside_another_stands_for_its_json(kind: Any) -> None:
    assert TypedLeafs({"in": [kind({"a": 1})]}).json() == {"in": [{"a": 1}]}


@KINDS
def test_the_callers_data_are_never_changed(kind: Any) -> None:
    given_data = {"a": {"b": [1, {"c": "x"}]}}
    doc = kind(given_data)
    doc["new"] = 1
    doc.replace(JsonPointer("/a/b/1/c"), "y")
    doc.json()["a"]["b"].append(3)
    del doc["a"]
    doc.map(str)
    doc.asrefs()
    assert given_data == {"a": {"b": [1, {"c": "x"}]}}


def test_what_json_has_no_word_for_becomes_what_a_round_trip_makes_of_it() -> None:
    class Colour(str, enum.Enum):  # noqa: UP042 - the older form is what people have
        RED = "red"

    class Level(enum.IntEnum):
        HIGH = 3

    class Ratio(float):
        pass

    data = {
        1: (1, 2), 2.5: Level.HIGH, False: OrderedDict(z=Colour.RED), None: Ratio(0.5), Level.HIGH: [()],
        math.inf: 1, math.nan: 2, -math.inf: 3, Colour.RED: 4,
    }  # fmt: skip
    expected = json.loads(json.dumps(data))
    found = TypedLeafs(data).json()
    assert found == expected
    assert json.dumps(found) == json.dumps(expected)
    assert [type(key) for key in found] == [str] * len(found)
    assert type(found["false"]["z"]) is str
    assert type(found["null"]) is float


def test_numbers_are_kept_exactly() -> None:
    data = [12345678901234567890, 1.0, -0.0, 10**400, 1e300]
    assert repr(TypedLeafs(data)) == f"<TypedLeafs: {data}>"
    assert math.isnan(TypedLeafs(math.nan).json())


@pytest.mark.parametrize(
    ("data", "where"),
    [
        ({"a": {"b": [0, {1, 2}]}}, "a/b/1"),
        ({"a": object()}, "a"),
        ({"a": [b"bytes"]}, "a/0"),
        ({(1, 2): 3}, r"\(1, 2\)"),
    ],
)
def test_what_cannot_be_json_is_named_with_its_place(data: Any, where: str) -> None:
    with pytest.raises(ParameterError, match=where):
        TypedLeafs(data)


def test_a_value_alone_that_cannot_be_json_is_named() -> None:
    with pytest.raises(ParameterError, match="of type object"):
        TypedLeafs(object())


@KINDS
def test_a_document_that_contains_itself_is_an_error(kind: Any) -> None:
    data: dict[str, Any] = {}
    data["self"] = [data]
    with pytest.raises(ParameterError, match="contains itself"):
        kind(data)


def test_a_document_as_deep_as_json_reads_is_accepted() -> None:
    deep = json.loads("[" * 400 + '{"a": "{workdir}"}' + "]" * 400)
    doc = TypedLeafs(deep)
    assert doc.map(lambda leaf: leaf).typed() == deep
    assert len(list(doc.leafs())) == 1


# --- as a container ---


@KINDS
def test_items_are_read_set_and_deleted(kind: Any) -> None:
    doc = kind({"b": 1, "a": [1, {"k": "v"}]})
    assert doc["a"][1] == {"k": "v"}
    assert len(doc) == 2
    assert set(doc) == {"a", "b"}
    assert "a" in doc
    doc["c"] = {"n": None}
    del doc["b"]
    assert doc.json() == {"a": [1, {"k": "v"}], "c": {"n": None}}
    with pytest.raises(KeyError):
        doc["b"]
    assert kind(["x", "y"])[-1] == "y"
    assert kind("text")[0] == "t"


def test_what_is_set_is_made_json() -> None:
    doc = TypedLeafs({}, MODEL)
    doc["p"] = Point(1)
    doc["t"] = (1, 2)
    doc["d"] = TypedLeafs([3])
    doc["s"] = "b64json://WzFd"
    assert doc.json() == {"p": {"x": 1, "$type": "Point"}, "t": [1, 2], "d": [3], "s": [1]}


def test_typed_gives_fresh_containers() -> None:
    doc = TypedLeafs({"a": [1]})
    doc.typed()["a"].append(2)
    doc["a"].append(3)
    doc.resolve_ref(JsonPointer("/a")).append(4)
    assert doc.json() == {"a": [1]}


def test_typed_sorts_keys_and_json_keeps_their_order() -> None:
    doc = TypedLeafs({"b": 1, "a": {"d": 1, "c": 2}})
    assert list(doc.json()) == ["b", "a"]
    assert list(doc.typed()) == ["a", "b"]
    assert repr(doc) == "<TypedLeafs: {'a': {'c': 2, 'd': 1}, 'b': 1}>"


def test_purejson_keeps_the_order_everywhere() -> None:
    doc = PureJsonModel({"b": 1, "a": 2})
    assert repr(doc) == "<JSON {'b': 1, 'a': 2}>"
    assert [pointer.path for pointer, _ in doc.leafs()] == ["/b", "/a"]
    assert list(doc.copy().typed()) == ["b", "a"]


@KINDS
def test_copies_are_independent(kind: Any) -> None:
    doc = kind({"a": {"b": 1}})
    for other in (doc.copy(), copy.deepcopy(doc)):
        other["a"]["b"] = 2
        other.replace(JsonPointer("/a/b"), 3)
        assert other.json() == {"a": {"b": 3}}
    assert doc.json() == {"a": {"b": 1}}


def test_a_deep_copy_of_a_typed_document_still_knows_its_types() -> None:
    assert copy.deepcopy(TypedLeafs([{"$type": "Point", "x": 1}], MODEL)).typed() == [Point(1)]


# --- replacing ---


def test_what_json_gave_stays_as_it_was_when_a_leaf_is_replaced() -> None:
    doc = TypedLeafs({"a": {"b": 1}})
    before = doc.json()
    doc.replace(JsonPointer("/a/b"), 2)
    doc.replace(JsonPointer("/a/b"), 3)
    assert before == {"a": {"b": 1}}
    assert doc.json() == {"a": {"b": 3}}


@KINDS
def test_the_whole_document_can_be_replaced(kind: Any) -> None:
    doc = kind("x")
    doc.replace(JsonPointer(""), {"a": 1})
    assert doc.json() == {"a": 1}


@KINDS
def test_leaves_can_be_replaced_while_they_are_given(kind: Any) -> None:
    doc = kind({"a": "x", "b": ["y", "z"]})
    for pointer, value in doc.leafs():
        doc.replace(pointer, [value] * 2)
    assert doc.json() == {"a": ["x", "x"], "b": [["y", "y"], ["z", "z"]]}


@KINDS
def test_map_replaces_leaves_only(kind: Any) -> None:
    doc = kind({"b": ["x", None, False, True, 1, {}, []], "a": "y"})
    mapped = doc.map(lambda leaf: f"<{leaf}>")
    assert type(mapped) is kind
    assert mapped.json() == {"a": "<y>", "b": ["<x>", None, False, "<True>", "<1>", {}, []]}
    assert doc.json() == {"b": ["x", None, False, True, 1, {}, []], "a": "y"}


@KINDS
def test_asrefs_gives_pointers_or_what_is_made_of_them(kind: Any) -> None:
    doc = kind({"a": ["x", None]})
    assert doc.asrefs() == {"a": [JsonPointer("/a/0"), None]}
    assert doc.asrefs(str) == {"a": [str(JsonPointer("/a/0")), None]}
    assert kind("x").asrefs(lambda pointer: pointer.path) == ""


# --- questions ---


@KINDS
def test_pointers_resolve(kind: Any) -> None:
    doc = kind({"a": [{"b/c": 1}]})
    assert doc.resolve_ref(JsonPointer("/a/0/b~1c")) == 1
    if kind is TypedLeafs:
        assert doc.jsonpointer("/a/0") == {"b/c": 1}


def test_jsonpath_that_finds_nothing_or_cannot_be_read_is_an_index_error() -> None:
    doc = TypedLeafs({"a": [1, 2]})
    assert doc.jsonpath("a[*]", multiple_output=True) == [1, 2]
    assert doc.jsonpath("b", multiple_output=True) == []
    with pytest.raises(JsonPathError, match=r"finds nothing: \$\.b") as caught:
        doc.jsonpath("$.b")
    assert isinstance(caught.value, IndexError)
    with pytest.raises(JsonPathError, match="cannot be read"):
        doc.jsonpath("$.[")


EXACT = [
    12345678901234567890,
    1.0,
    -0.0,
    0.1,
    1e22,
    1e-7,
    10**30,
    1e308,
    5e-324,
    2**53 + 1,
    1e20,
    33506076658023644.0,
    -1.2345678901234568e16,
]


@KINDS
@pytest.mark.parametrize(
    "program", [".", " . ", "[.[]]", "map(.)", ". # as it is", "[.[] | [.] | .[0]]", "{a: .} | .a"]
)
def test_jq_keeps_numbers_that_pass_through_exactly(kind: Any, program: str) -> None:
    found = kind(EXACT).jq(program).json()
    assert [(type(number), repr(number)) for number in found] == [(type(number), repr(number)) for number in EXACT]


def test_strings_that_look_like_numbers_on_their_way_through_jq_stay_strings() -> None:
    data = ["number33506076658023644.0", "number'1.0", 33506076658023644.0, '"3.3506076658023644e+16']
    assert TypedLeafs(data).jq("map(.)").json() == data


@given(DOCUMENTS)
@example({"\ud800": "\udfff"})
def test_the_identity_program_is_exact(data: Any) -> None:
    assert TypedLeafs(data).jq(".").json() == data
    assert TypedLeafs(data).jq(".", multiple_output=True).json() == [data]


@given(DOCUMENTS)
def test_a_program_that_is_the_identity_in_other_words_is_exact(data: Any) -> None:
    found = TypedLeafs(data).jq("[.] | .[0]").json()
    assert repr(found) == repr(TypedLeafs(data).typed())


def test_numbers_that_jq_computes_are_what_they_were_upstream() -> None:
    found = TypedLeafs([1.5, 2.5]).jq("[add, .[0]*2, 1e2*3, 1e300*1, (.[0]/3)]").json()
    assert found == [4, 3, 300, int(1e300), 0.5]
    assert [type(number) for number in found] == [int, int, int, int, float]


def test_jq_with_text_output_keeps_numbers_too() -> None:
    assert TypedLeafs([1.0, 10**20]).jq(".[]", text_output=True).json() == f"1.0\n{10**20}"


def test_jq_takes_the_first_output_of_an_endless_program() -> None:
    assert TypedLeafs(1).jq("repeat(.)").json() == 1


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (".[", "cannot be compiled"),
        ("nosuch(1)", "cannot be compiled"),
        ("", "cannot be compiled"),
        ("def f: .;", "cannot be compiled"),
        ('error("mine")', "mine"),
        (".a.b", "fails"),
        ("empty", "no output"),
    ],
)
def test_jq_errors_show_the_program(program: str, said: str) -> None:
    with pytest.raises(JqError, match=said) as caught:
        TypedLeafs({"a": "text"}).jq(program)
    assert program in str(caught.value)
    assert "tojson" not in str(caught.value)
    assert isinstance(caught.value, PublishError)
    assert isinstance(caught.value, ValueError)


def test_jq_of_something_that_is_not_json_is_an_error() -> None:
    with pytest.raises(ParameterError, match="set"):
        PureJsonModel({"a": {1}}).jq("keys")


def test_an_older_jq_is_used_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    from packtivity.datamodel import query

    monkeypatch.setattr(query, "_keeps_numbers", lambda: False)
    query._compiled.cache_clear()
    try:
        assert TypedLeafs({"a": [1.5]}).jq(".a | map(.*2)").json() == [3]
        assert TypedLeafs([1.0]).jq(".").json() == [1.0]
        with pytest.raises(JqError):
            TypedLeafs(1).jq(".[")
    finally:
        query._compiled.cache_clear()


def test_a_program_that_can_only_stand_alone_still_runs() -> None:
    # The comment takes in the line after it, and the end of the program with that.
    assert TypedLeafs([1]).jq(". # a \\").json() == [1]


# --- typed leaves ---


def test_leaf_types_can_be_named_by_module_and_class() -> None:
    model = {"keyword": "t", "types": {"Fraction": "fractions:Fraction", "Point": Point}}
    assert TypedLeafs({"t": "Point", "x": 1}, model).typed() == Point(1)


def test_a_document_knows_its_model_from_json() -> None:
    doc = TypedLeafs.fromJSON({"$type": "Point", "x": 1}, {"leafmodel": MODEL, "idleafs": True})
    assert doc.typed() == Point(1)
    assert TypedLeafs.fromJSON([1]).json() == [1]
    assert doc.leafmodel is MODEL


def test_typed_leaves_come_back_from_jq() -> None:
    doc = TypedLeafs({"p": {"$type": "Point", "x": 1.0}, "q": 2}, MODEL)
    assert doc.jq(".p").typed() == Point(1.0)
    assert doc.jq("[.p, .q]").typed() == [Point(1.0), 2]
    assert doc["p"] == Point(1.0)
    assert doc.resolve_ref(JsonPointer("/p")) == Point(1.0)
    assert doc.typed(idleafs=True)["p"].startswith("b64json://")


def test_a_typed_leaf_is_one_leaf() -> None:
    doc = TypedLeafs({"p": {"$type": "Point", "x": "in"}}, MODEL)
    assert [(pointer.path, value) for pointer, value in doc.leafs()] == [("/p", Point("in"))]
    assert doc.map(lambda leaf: Point("out") if leaf == Point("in") else leaf).typed() == {"p": Point("out")}


def test_an_objects_own_json_is_not_changed() -> None:
    point = Point(1)
    TypedLeafs([point], MODEL)
    assert point.document == {"x": 1}
    document = {"$type": "Point", "x": 1}
    LeafModel(MODEL).loader(document)
    assert document == {"$type": "Point", "x": 1}


def test_encoded_strings_become_leaves_wherever_they_stand() -> None:
    encoded = LeafModel(MODEL).leaf_encode(Point("x"))
    assert TypedLeafs([encoded, {"k": encoded}], MODEL).typed() == [Point("x"), {"k": Point("x")}]
    assert TypedLeafs({encoded: 1}).json() == {encoded: 1}


def test_literals_are_read_by_their_parser() -> None:
    model = {**MODEL, "literals": {"magics": ["pt:"], "parser": f"{__name__}:parse_literal"}}
    assert TypedLeafs({"a": "pt:left"}, model).typed() == {"a": Point("left")}
    assert LeafModel(model).leaf_decode("pt:left") == {"$type": "Point", "x": "left"}


@pytest.mark.parametrize("bad", ["b64json://!", "b64json://AAAA", "b64json://e30", "b64json://eyJh"])
def test_a_string_that_only_looks_encoded_is_an_error_with_its_place(bad: str) -> None:
    with pytest.raises(ParameterError, match=r"parameter a/0.*not base64 of JSON"):
        TypedLeafs({"a": [bad]})


def test_a_string_without_a_magic_cannot_be_decoded() -> None:
    with pytest.raises(ParameterError, match="is not an encoded leaf"):
        LeafModel().leaf_decode("plain")


def test_an_unknown_type_name_is_an_error_with_the_nearest() -> None:
    with pytest.raises(ParameterError, match=r"'Pint' is no type(?s:.*)Did you mean 'Point'"):
        TypedLeafs({"$type": "Pint", "x": 1}, MODEL).typed()
    with pytest.raises(ParameterError, match="There are: Point"):
        TypedLeafs({"$type": ["unhashable"]}, MODEL).typed()


@pytest.mark.parametrize(
    "model",
    [
        {"keyword": "t"},
        {"types": {}},
        {"keyword": "t", "types": 3},
        {"keyword": "t", "types": {"A": 3}},
        {"keyword": "t", "types": {"A": "nosuchmodule:A"}},
        {"keyword": "t", "types": {"A": "json:nosuch"}},
        {"keyword": "t", "types": {"A": "json:dumps"}},
        {"keyword": "t", "types": {}, "literals": {"magics": ["x:"], "parser": "json:nosuch"}},
    ],
)
def test_a_leaf_model_that_cannot_be_used_is_an_error_of_configuration(model: Any) -> None:
    with pytest.raises(ConfigurationError):
        LeafModel(model)


# --- leaves ---


def test_leaves_come_in_the_order_of_the_document() -> None:
    data = {"b": [1, None, False, {"z": 0, "y": ""}], "a": True, "e": {}, "t": ("x",)}
    expected = [(("b", 0), 1), (("b", 3, "z"), 0), (("b", 3, "y"), ""), (("a",), True), (("t", 0), "x")]
    assert list(iter_leaves(data)) == expected
    assert [pointer.path for pointer, _ in leaf_iterator(data)] == ["/b/0", "/b/3/z", "/b/3/y", "/a", "/t/0"]


@pytest.mark.parametrize("value", [None, False, 0, "x"])
def test_a_document_that_is_no_container_is_one_leaf(value: Any) -> None:
    assert list(iter_leaves(value)) == [((), value)]
    assert map_leaves(value, lambda leaf: [leaf]) == [value]


@given(DOCUMENTS)
def test_mapping_by_identity_copies(data: Any) -> None:
    copied = map_leaves(data, lambda leaf: leaf)
    assert repr(copied) == repr(data)
    if isinstance(data, (dict, list)):
        assert copied is not data


@given(DOCUMENTS)
def test_mapping_meets_the_leaves_that_are_listed(data: Any) -> None:
    met: list[Any] = []
    map_leaves(data, met.append)
    assert met == [value for _, value in iter_leaves(data)]


# --- cost ---


def test_importing_the_data_model_is_cheap() -> None:
    program = (
        "import sys, packtivity.datamodel as d, packtivity.statecontexts\n"
        "x = d.create({'a': {'b': 'x'}}).map(str); repr(x); x.json(); x.copy()\n"
        "print([m for m in ('jq', 'jsonpointer', 'jsonpath_ng') if m in sys.modules])"
    )
    assert (
        subprocess.check_output([sys.executable, "-S", "-E", "-c", f"import sys; sys.path[:0]={sys.path!r}\n{program}"])
        == b"[]\n"
    )


def test_the_module_has_what_clients_take_from_it() -> None:
    assert all(
        hasattr(datamodel, name) for name in ("create", "TypedLeafs", "LeafModel", "PureJsonModel", "leaf_iterator")
    )
