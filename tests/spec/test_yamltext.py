"""Text to data: upstream's meaning where it has one, an explained error everywhere else."""

from __future__ import annotations

import json
import math
import random

import pytest
import yaml

from packtivity.errors import ParameterError
from packtivity.spec import yamlnodes, yamltext
from packtivity.spec.refs import has_references
from packtivity.spec.source_text import Text
from packtivity.spec.yamltext import MAX_DEPTH, BadText, load_yaml, parse


def mistake(text):
    with pytest.raises(BadText) as caught:
        load_yaml(text, "a.yml")
    return caught.value.diagnostics[0]


# --- the same as upstream ----------------------------------------------------------------------------------------

SAME = [
    "",
    "# nothing\n",
    "---\n",
    "~",
    "text",
    "--- text\n...\n",
    "%YAML 1.1\n---\na: 1\n",
    "a: [yes, No, ON, off, true, FALSE, y, n]\n",
    "a: [010, 0x1F, 0b101, -0o7, 1_000, +5, -0, 0, 08, 1:30, -1:30:15, 190:20:30, 0x_f]\n",
    "a: [1.5, -1.5e+3, 1e5, 1.0e5, .5, 6., 1_0.5, 1:30.5, -.5, +.5, 1.e+3]\n",
    "a: [.inf, -.INF, .Inf, inf]\n",
    "a: [~, null, Null, NULL, none]\nb:\n",
    "2: a\n1.5: b\ntrue: c\nnull: d\n.inf: e\n-.inf: f\n4.0: g\n-0.0: h\n1e3: i\n0x10: j\n",
    ".nan: a\n",
    "a: &x {b: 1, c: 2}\nd: {<<: *x, c: 3}\n",
    "a: &x {b: 1}\nc: &y {b: 2, d: 3}\ne: {f: 0, <<: [*x, *y], g: 1}\n",
    "a: &x {b: 1}\nc: &y {<<: *x, d: 1}\ne: {<<: *y}\n",
    "a: {<<: {b: 1}, <<: {c: 2}}\n",
    '"<<": 1\n',
    "a: &x [1]\nb: [*x, *x]\n",
    "a: &x 1\nb: {*x : 2}\n",
    "a: 1\na: 2\n",
    "a: |\n  one\n    two\n\n  three\n\n\nb: |-\n  x\nc: |+\n  y\n\nd: |2\n    z\n",
    "a: >\n  one\n  two\n\n  three\n    four\n  five\nb: >-\n  x\n  y\n",
    "a: 'it''s\n  folded\n\n  here'\nb: \"esc \\t \\u00e9 \\x41 \\\n  joined\"\n",
    "a: plain\n  folded\n  here # no text\n",
    "a:\r\n- b\r\n- |\r\n  c\r\n  d\r\n",
    "a: |\n  tab\there\n  \tthere\n",
    "? a\n: b\n? c\n",
    "a: !!str 5\nb: !!int '5'\nc: !!float 5\nd: !!bool 'yes'\ne: !!null x\nf: !!seq []\ng: !!map {}\nh: ! x\n",
    "a: !!omap [b: 1, c: [2]]\nd: !!pairs [e: 1, e: 2]\n",
    '{"a": [1, 2.5, true, false, null, "x\\n\\u00e9\\/"], "b": {}}',
    '{"a": 1e5, "b": 1.5e5, "c": 1.5e+5, "d": -1.5E-5, "e": NaN, "f": -Infinity, "g": -0, "h": 10}',
    '["\\ud83d\\ude00", "\\uD83D\\uDE00x"]',
    '{"a": "x\u2028y", "b": "x\x85y"}',
    '{"a": 1, "a": 2}',
    "{a: b, c}",
    "[a, b: c]",
    '{"$ref": "x"}',
    "\ufeffa: 1\n",
    "a: 😀\n",
    "a: \u00a0x\n",
    "a: 1\n...\n# end\n",
    "a: =x\n",
    "=: a\n",
    "a: 0.\n",
    "a: 1__0\n",
    "a: 12345678901234567890\nb: 1.0\n",
]


@pytest.mark.parametrize("text", SAME)
def test_the_data_is_that_of_upstream(text, upstream):
    answer = upstream({"text": text})
    assert "error" not in answer
    assert json.dumps(load_yaml(text)) == json.dumps(answer["data"])
    assert json.dumps(load_yaml(text.encode())) == json.dumps(answer["data"])


def test_mutated_documents_have_the_data_of_upstream(upstream):
    """What both can read says the same; what upstream can read is read (it is the stricter one with JSON and tabs)."""
    draw = random.Random(5)
    compared = 0
    for _ in range(1500):
        text = mutated(draw, draw.choice(SAME))
        answer = upstream({"text": text})
        if "data" in answer:
            compared += 1
            assert json.dumps(load_yaml(text)) == json.dumps(answer["data"]), text
    assert compared > 500


def mutated(draw: random.Random, text: str) -> str:
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(text) + 1)
        if draw.random() < 0.5:
            text = text[:at] + draw.choice(":-?#&*!|>'\"%@`{}[], \n~<=.01_+\\é\r") + text[at:]
        else:
            text = text[:at] + text[at + draw.randint(1, 3) :]
    return text


def test_the_corpus_reads_the_same_as_yaml_and_as_json(corpus, upstream):
    for row in corpus[::4]:
        for text in (yaml.safe_dump(row["spec"]), json.dumps(row["spec"]), json.dumps(row["spec"], indent=2)):
            assert load_yaml(text) == row["spec"] == upstream({"text": text})["data"]


# --- our own rules -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("date", ["2024-01-31", "2024-01-31 10:00:00", "2001-12-14t21:59:43.10-05:00"])
def test_a_date_stays_as_it_is_written_and_is_told(date):
    found = parse(f"a: {date}\n{date}: b\n", "a.yml")
    assert found.data == {"a": date, date: "b"}
    (problem,) = found.problems
    assert (problem.severity, problem.code, problem.path) == ("warning", "date-as-string", ("a",))
    assert str(problem.position) == "a.yml:1:4"
    assert f'"{date}"' in problem.hint


def test_signs_upstream_cannot_read_as_values_are_text():
    assert load_yaml("a: =\nb: <<\nc: !!timestamp never\n") == {"a": "=", "b": "<<", "c": "never"}


@pytest.mark.parametrize("text", ["a: .nan\n", "a: -.inf\n", "a: 1.0e+999\n", "a: 1" + ":1" * 4000 + ".5"])
def test_a_number_json_cannot_write_is_told(text):
    found = parse(text, "a.yml")
    assert not math.isfinite(found.data["a"])
    assert [(problem.severity, problem.code) for problem in found.problems] == [("warning", "not-json")]


def test_a_repeated_key_is_told_with_both_places():
    found = parse("a: 1\nb: 2\n\na: 3\n1: x\n'1': y\n1: z\n", "a.yml")
    assert found.data == {"a": 3, "b": 2, "1": "z"}
    assert [(one.code, one.severity, str(one.position), one.path) for one in found.problems] == [
        ("duplicate-key", "warning", "a.yml:4:1", ("a",)),
        ("duplicate-key", "warning", "a.yml:6:1", ("1",)),
        ("duplicate-key", "warning", "a.yml:7:1", ("1",)),
    ]
    assert "stood already at a.yml:1:1" in found.problems[0].message
    assert found.problems[0].excerpt == "a: 3"


def test_a_repeated_key_in_json_is_told_too():
    (problem,) = parse('{"a": 1,\n "a": 2}', "a.json").problems
    assert (problem.code, str(problem.position)) == ("duplicate-key", "a.json:2:2")


def test_a_merged_key_is_not_a_repeated_one():
    assert parse("a: &x {b: 1}\nc: {<<: *x, <<: *x, b: 2}\n", "a.yml").problems == ()


def test_a_repeated_key_behind_aliases_is_told_once():
    assert len(parse("a: &x {b: 1, b: 2}\nc: *x\nd: *x\n", "a.yml").problems) == 1


def test_a_great_many_mistakes_are_not_told_one_by_one():
    assert len(parse("a: 1\n" * 1000, "a.yml").problems) == 100
    with pytest.raises(BadText) as caught:
        load_yaml("a: 1\n" * 200 + "b: !foo x\n" * 1000)
    assert len(caught.value.diagnostics) == 100


def test_what_an_alias_stands_for_is_made_anew_each_time():
    found = load_yaml("a: &x {b: [1]}\nc: *x\n")
    found["a"]["b"].append(2)
    assert found["c"] == {"b": [1]}


def test_utf_16_with_a_byte_order_mark_is_read():
    for encoding in ("utf-16-le", "utf-16-be"):
        assert load_yaml("\ufeffa: é\n".encode(encoding)) == {"a": "é"}


def test_json_with_tabs_is_read_and_knows_its_places():
    found = parse('{\n\t"a":\t[1]\n}', "a.json")
    assert found.data == {"a": [1]}
    assert found.node().value[0][0].start_mark.column == 1


def test_a_text_at_hand_may_say_nothing():
    found = parse("", "a.yml")
    assert (found.data, found.node()) == (None, None)
    assert [found.line(number) for number in range(3)] == ["", "", ""]


def test_lines_end_where_yaml_says_they_do():
    text = Text("a\r\nb\rc\x85d\u2028e\n", "a.yml")
    assert [text.line(number) for number in range(1, 8)] == ["a", "b", "c", "d", "e", "", ""]
    position = text.place(text.content.index("d"))
    assert (str(position), text.line(position.line)) == ("a.yml:4:1", "d")
    assert str(Text("a\r\nb", "a.yml").place(1)) == "a.yml:1:2"
    assert str(Text("a\n", "a.yml").place(2)) == "a.yml:2:1"


# --- errors ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "code", "place", "words"),
    [
        ("a: [1\n", "yaml-syntax", "1:4", "this [ is opened and never closed"),
        ("a: {b: 1\n", "yaml-syntax", "1:4", "this { is opened and never closed"),
        ("a: [1\nb: 2\n", "yaml-syntax", "2:2", "expected ',' or ']'"),
        ('a: "b\nc: d\n', "yaml-syntax", "1:4", "never closed"),
        ("a: 'b", "yaml-syntax", "1:4", "never closed"),
        ("a: b: c\n", "yaml-syntax", "1:5", "a ': ' is not allowed inside a plain value"),
        ("a: b\n c: d\n", "yaml-syntax", "2:3", "this line is indented deeper than the key above"),
        ("- a: b\n   c: d\n", "yaml-syntax", "2:5", "this line is indented deeper than the key above"),
        ("a: b\n  c d: e\n", "yaml-syntax", "2:6", "a ': ' is not allowed inside a plain value"),
        ("a: b\n  c\n  d: e\n", "yaml-syntax", "3:4", "a ': ' is not allowed inside a plain value"),
        ("a:\n\t- b\n", "yaml-syntax", "2:1", "a tab"),
        ("a: @b\n", "yaml-syntax", "1:4", "no plain value may begin with '@'"),
        ("a: `b`\n", "yaml-syntax", "1:4", "no plain value may begin with '`'"),
        ("a: %b\n", "yaml-syntax", "1:4", "no plain value may begin with '%'"),
        ("- a\nb: c\n", "yaml-syntax", "2:1", "does not go on with what stands above it"),
        ("a: {b} c\n", "yaml-syntax", "1:8", "the value that begins with { has ended"),
        ("a: &x 'b' c\n", "yaml-syntax", "1:11", "the value that begins with ' has ended"),
        ("- [a] b\n", "yaml-syntax", "1:7", "the value that begins with [ has ended"),
        ("a: *.txt\n", "yaml-syntax", "1:4", "* stands for an anchor"),
        ("a: &xyz 1\nb: *xyy\n", "yaml-syntax", "2:4", "*xyy stands for the anchor"),
        ("a: * b\n", "yaml-syntax", "1:4", "* stands for an anchor"),
        ("a\n---\nb\n", "yaml-syntax", "2:1", "a second document"),
        ("a: 1\nc\n", "yaml-syntax", "3:1", "the key before this has no ': '"),
        (
            "a: &x 1\nb: &x 2\n",
            "yaml-syntax",
            "2:4",
            "an anchor of this name stands already at line 1",
        ),
        ("%YAML 2.0\n---\na", "yaml-syntax", "1:1", "incompatible YAML document"),
        ('a: "\\q"\n', "yaml-syntax", "1:6", "escape"),
        ("a: \x01\n", "invalid-character", "1:4", "U+0001"),
        ("a: x\x00\n", "invalid-character", "1:5", "U+0000"),
        ("a: b\x7f\n", "invalid-character", "1:5", "U+007F"),
        ("b: 1\na: \udce9\n", "invalid-character", "2:4", "not UTF-8"),
        (b"b: 1\na: caf\xe9\n", "not-utf-8", "2:7", "byte 0xe9 at offset 11 is not UTF-8"),
        (b"\xef\xbb\xbfa: caf\xe9\n", "not-utf-8", "1:7", "byte 0xe9 at offset 6 is not UTF-8"),
        (b"\xff\xfea", "not-utf-8", "1:1", "is not UTF-16"),
        ('a: "\\ud83d"\n', "invalid-character", "1:4", "half a surrogate pair"),
        ('{"a": "\\ud83d"}', "invalid-character", "1:7", "half a surrogate pair"),
        ('"\\ud83d": a\n', "not-json", "1:1", "a key must be a string"),
        ("a: !foo b\n", "unknown-tag", "1:4", "the tag !foo is not known here"),
        ("a: !!python/object:os.system {}\n", "unknown-tag", "1:4", "!!python/object:os.system"),
        ("a: !!python/tuple [1]\n", "unknown-tag", "1:4", "!!python/tuple"),
        ("a: !!int [1]\n", "unknown-tag", "1:4", "does not go with a list"),
        ("a: !!seq {b: 1}\n", "unknown-tag", "1:4", "does not go with a mapping"),
        ("a: !!map b\n", "unknown-tag", "1:4", "does not go with 'b'"),
        ("a: !!binary aGk=\n", "not-json", "1:4", "!!binary makes bytes"),
        ("a: !!set {b, c}\n", "not-json", "1:4", "!!set makes a set"),
        ("a: !!omap [b]\n", "not-json", "1:12", "mappings of one key"),
        ("a: !!omap [{b: 1, c: 2}]\n", "not-json", "1:12", "mappings of one key"),
        ("a: !!int x\n", "not-json", "1:4", "cannot be read as a whole number"),
        ("a: !!float x\n", "not-json", "1:4", "cannot be read as a number"),
        ("a: !!bool x\n", "not-json", "1:4", "cannot be read as true or false"),
        ("a: 0b_\n", "not-json", "1:4", "'0b_' cannot be read"),
        ("a: " + "9" * 5000, "not-json", "1:4", "(5000 characters)"),
        ("a: 0x" + "f" * 5000, "not-json", "1:4", "(5002 characters)"),
        ("{[a]: b}\n", "not-json", "1:2", "a key must be a string, but this is a list"),
        ("{{x}: b}\n", "not-json", "1:2", "a key must be a string, but this is a mapping"),
        ("!foo x: b\n", "not-json", "1:1", "a key must be a string, but this is 'x'"),
        ("<<: 5\n", "bad-merge", "1:5", "'<<' merges mappings, but this is '5'"),
        ("<<: [{a: 1}, [b]]\n", "bad-merge", "1:14", "but this is a list"),
        ("a: &x [*x]\n", "circular-alias", "1:4", "an alias (*) to itself"),
        ("a: &x {b: *x}\n", "circular-alias", "1:4", "an alias (*) to itself"),
        ("a: &x {<<: *x}\n", "circular-alias", "1:4", "an alias (*) to itself"),
    ],
)
def test_each_mistake_is_told_with_its_place(text, code, place, words):
    found = mistake(text)
    assert (found.code, str(found.position)) == (code, f"a.yml:{place}")
    assert words in found.message
    assert found.severity == "error"
    if isinstance(text, str) and text.isascii():
        lines = text.replace("\r\n", "\n").split("\n")
        assert found.excerpt == lines[found.position.line - 1]


def test_a_mistyped_alias_gets_the_nearest_anchor():
    assert mistake("a: &image 1\nb: *imge\n").hint == "Did you mean *image?"
    assert "quotes" in mistake("a: *.txt\n").hint


def test_all_values_that_are_not_json_are_told_at_once():
    with pytest.raises(BadText) as caught:
        load_yaml("a: !!binary aGk=\nb: [!foo x, {[c]: 1}]\nd: 2024-01-01\n")
    assert [(one.code, one.path) for one in caught.value.diagnostics] == [
        ("not-json", ("a",)),
        ("unknown-tag", ("b", 0)),
        ("not-json", ("b", 1)),
    ]


def test_the_error_is_one_about_parameters_and_says_the_place():
    with pytest.raises(ParameterError, match=r"^p\.yml:1:5: a ': ' is not allowed"):
        load_yaml("a: b: c", "p.yml")


@pytest.mark.parametrize(
    "text",
    [
        "[" * 101 + "]" * 101,
        "[" * 200_000,
        "{a: " * 50_000,
        '{"a":' * 50_000,
        "[" * 100_000 + "]" * 100_000,
        "- " * 50_000,
        "? " * 50_000,
        "".join(" " * depth + "a:\n" for depth in range(1000)),
        "x: &a0 [1]\n" + "".join(f"x{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 5000)),
        "x: &a0 {k: 1}\n" + "".join(f"x{n}: &a{n} {{<<: *a{n - 1}}}\n" for n in range(1, 5000)),
        "- " * 60 + "[" * 60 + "]" * 60,
    ],
)
def test_deep_nesting_is_refused_and_breaks_nothing(text):
    assert mistake(text).code == "too-deep"


def test_nesting_as_deep_as_allowed_is_read():
    flow, block = "[" * MAX_DEPTH + "]" * MAX_DEPTH, "- " * MAX_DEPTH + "x"
    with_alias = f"a: &a {flow[2:-2]}\nb: [*a]\n"
    for text in (flow, block, with_alias, '{"a":' * MAX_DEPTH + "1" + "}" * MAX_DEPTH):
        assert load_yaml(text) is not None


def test_many_brackets_side_by_side_are_no_nesting():
    assert len(load_yaml("- [a]\n" * 3000)) == 3000
    assert mistake("- [a]\n" * 3000 + "- [").code == "yaml-syntax"


def test_aliases_that_multiply_are_refused_at_once():
    text = "a0: &a0 [x, x, x]\n" + "".join(f"a{n}: &a{n} [" + f"*a{n - 1}, " * 9 + "]\n" for n in range(1, 12))
    found = mistake(text)
    assert found.code == "too-large"
    assert "aliases make more than" in found.message
    merged = "a0: &a0 {b: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [" + f"*a{n - 1}, " * 9 + "]}\n" for n in range(1, 12))
    assert mistake(merged).code == "too-large"
    assert mistake("a: &a " + "x" * 100_000 + "\nb: [" + "*a, " * 1000 + "]\n").code == "too-large"


def test_a_star_in_a_script_costs_nothing_but_a_look():
    assert load_yaml("a: |\n  ls *.txt\n") == {"a": "ls *.txt\n"}


def test_a_text_too_long_for_the_slow_parser_is_explained_by_the_quick_one(monkeypatch):
    monkeypatch.setattr(yamlnodes, "_SLOW_PARSER_LIMIT", 10)
    assert "not allowed inside a plain value" in mistake("aaaaaaa: bbbbbbb: c\n").message
    assert "*x stands for the anchor" in mistake("aaaaaaa: bbbbbbb\nc: *x\n").message


def test_recursion_in_the_slow_parser_is_explained(monkeypatch):
    def dive(_text):
        raise RecursionError

    monkeypatch.setattr(yamlnodes, "_Quick", dive)
    monkeypatch.setattr(yamlnodes, "_Slow", dive)
    assert mistake("a: 1\n").code == "too-deep"


# --- without libyaml ---------------------------------------------------------------------------------------------


def test_without_libyaml_everything_is_read_the_same(monkeypatch, upstream):
    monkeypatch.setattr(yamlnodes, "_Quick", yamlnodes._Slow)
    for text in SAME:
        assert json.dumps(load_yaml(text)) == json.dumps(upstream({"text": text})["data"])
    assert mistake("a: b: c\n").code == "yaml-syntax"
    assert mistake("[" * 100_000).code == "too-deep"


# --- JSON by the quick way ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", SAME)
def test_json_read_quickly_says_what_yaml_says(text, monkeypatch):
    quick = yamltext.read_json(text.removeprefix("\ufeff"))
    monkeypatch.setattr(yamltext, "read_json", lambda _: None)
    if quick is not None:
        assert json.dumps(quick) == json.dumps(parse(text, "a.json").data)


@pytest.mark.parametrize(
    ("text", "references"), [('{"$ref": 1}', True), ('{"\\u0024ref": 1}', True), ('{"\\u0041": 1}', False)]
)
def test_json_read_quickly_knows_whether_it_has_references(text, references):
    found = yamltext.read_json(text)
    assert found is not None
    assert has_references(found) is references


def test_big_json_is_read_without_yaml(monkeypatch):
    def never(*_args):
        raise AssertionError

    monkeypatch.setattr(yamlnodes, "compose", never)
    assert len(load_yaml(json.dumps({f"k{n}": [n, {"x": "y"}] for n in range(10_000)}))) == 10_000
