"""How mistakes are shown: text for people, JSON, SARIF and GitHub's commands for programs."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import packtivity.spec
from packtivity.errors import UsageError
from packtivity.spec.diagnostics import CODES, Finding, arrange, dotted, locate, one_line, summary
from packtivity.spec.document import parse_document
from packtivity.spec.reporters import FORMATS, display_width, render
from packtivity.types import Diagnostic, Position

ERROR = Diagnostic(
    "error",
    "unknown-key",
    "string-interpolated-cmd has no key 'comd'",
    ("process", "comd"),
    Position("spec.yml", 3, 3),
    "  comd: echo",
    "cmd",
    "Did you mean 'cmd'?",
)
WARNING = Diagnostic("warning", "unused-parameter", "nothing in the spec uses the parameter 'x'", ("x",))


def caret_of(excerpt: str, column: int) -> tuple[str, str]:
    text = render([Diagnostic("error", "wrong-type", "m", (), Position("f", 1, column), excerpt)])
    shown, caret = text.splitlines()[1:3]
    assert shown.startswith("  1 | ")
    return shown[len("  1 | ") :], caret[len("    | ") :]


# --- text ------------------------------------------------------------------------------------------------------


def test_text_has_place_excerpt_caret_expectation_and_help() -> None:
    assert render([ERROR]) == (
        "spec.yml:3:3: error[unknown-key]: string-interpolated-cmd has no key 'comd'\n"
        "  3 |   comd: echo\n"
        "    |   ^\n"
        "  expected: cmd\n"
        "  help: Did you mean 'cmd'?\n"
        "1 error"
    )


def test_what_is_not_known_is_left_out() -> None:
    assert render([WARNING]) == "x: warning[unused-parameter]: nothing in the spec uses the parameter 'x'\n1 warning"
    assert one_line(Diagnostic("error", "empty-document", "empty")) == "document: error[empty-document]: empty"


def test_nothing_to_say_is_an_empty_text() -> None:
    assert render([]) == ""
    assert summary([]) == ""


def test_summary_counts_both_kinds() -> None:
    assert summary([ERROR, WARNING, ERROR]) == "2 errors, 1 warning"


def test_colours_only_when_asked() -> None:
    assert "\x1b[" not in render([ERROR, WARNING])
    coloured = render([ERROR, WARNING], color=True)
    assert "\x1b[31m" in coloured
    assert "\x1b[33m" in coloured


def test_sorted_by_place_and_each_once() -> None:
    def at(file: str, line: int, column: int, code: str = "wrong-type") -> Diagnostic:
        return Diagnostic("error", code, "m", (), Position(file, line, column))

    wanted = [at("a", 1, 2), at("a", 2, 1, "missing-key"), at("a", 2, 1), at("a", 10, 1), at("b", 1, 1)]
    assert arrange([*reversed(wanted), wanted[2]]) == wanted
    assert arrange([wanted[0], WARNING])[0] is WARNING


def test_several_lines_of_help_are_indented_alike() -> None:
    shown = render([Diagnostic("error", "missing-key", "m", hint="Write\na: 1")])
    assert "  help: Write\n        a: 1\n" in shown


@pytest.mark.parametrize(
    ("excerpt", "column", "cells"),
    [
        ("x: 1", 4, 3),
        ("\tx: 1", 2, 4),
        ("質量: 1", 5, 6),
        ("é: 1", 4, 3),
        ("e\u0301: 1", 5, 3),
        ("😀x", 2, 2),
        ("x: ", 4, 3),
        ("x:", 9, 8),
        ("a\x1bb", 3, 5),
    ],
    ids=["ascii", "tab", "wide", "accent", "combining", "emoji", "at the end", "past the end", "control"],
)
def test_the_caret_stands_under_its_column(excerpt: str, column: int, cells: int) -> None:
    shown, caret = caret_of(excerpt, column)
    assert caret == " " * cells + "^"
    assert "\t" not in shown
    assert "\x1b" not in shown


def test_a_long_line_is_cut_around_the_caret() -> None:
    shown, caret = caret_of("x" * 500 + "!" + "y" * 500, 501)
    assert len(shown) < 110
    assert shown[caret.index("^")] == "!"
    assert (shown[0], shown[-1]) == ("…", "…")


@given(st.text(max_size=300), st.integers(1, 400))
def test_no_excerpt_can_break_the_frame(excerpt: str, column: int) -> None:
    line = excerpt.replace("\n", "").replace("\r", "")
    text = render([Diagnostic("error", "wrong-type", "m", (), Position("f", 1, column), line)])
    lines = text.splitlines()
    assert len(lines) == (4 if line.strip() else 2)
    assert "\x1b" not in text
    if line.strip():
        assert display_width(lines[2]) <= 10 + 4 * 130


def test_messages_cannot_carry_control_characters_to_the_terminal() -> None:
    assert "\x1b" not in render([Diagnostic("error", "unknown-key", "no key '\x1b[2J'", hint="a\x07b")])


def test_widths() -> None:
    assert [display_width(text) for text in ("", "ab", "質", "ｆ", "e\u0301", "\u200b")] == [0, 2, 2, 2, 1, 0]


def test_paths_as_people_write_them() -> None:
    assert dotted(("environment", "par_mounts", 0, "jqscript")) == "environment.par_mounts[0].jqscript"
    assert dotted((0, "a")) == "[0].a"


# --- places ----------------------------------------------------------------------------------------------------


def test_what_is_written_nowhere_is_placed_at_what_surrounds_it() -> None:
    document = parse_document("a:\n  b: 1\n", "f.yml")
    place = locate(Finding("missing-key", "m", ("a", "default")), document).position
    assert str(place) == "f.yml:2:3"
    assert str(locate(Finding("missing-key", "m"), parse_document("", "empty.yml")).position) == "empty.yml:1:1"


def test_without_a_document_there_is_no_place() -> None:
    found = locate(Finding("unused-parameter", "m", ("a",), hint="h", expected="e"), None)
    assert (found.position, found.excerpt, found.severity, found.hint, found.expected) == (
        None,
        "",
        "warning",
        "h",
        "e",
    )


# --- formats for programs --------------------------------------------------------------------------------------


def test_json_has_a_version_counts_and_every_field() -> None:
    document = json.loads(render([WARNING, ERROR], "json"))
    assert (document["version"], document["errors"], document["warnings"]) == (1, 1, 1)
    assert document["diagnostics"] == [
        {
            "severity": "warning",
            "code": "unused-parameter",
            "message": "nothing in the spec uses the parameter 'x'",
            "path": ["x"],
            "file": None,
            "line": None,
            "column": None,
            "excerpt": "",
            "expected": "",
            "hint": "",
        },
        {
            "severity": "error",
            "code": "unknown-key",
            "message": "string-interpolated-cmd has no key 'comd'",
            "path": ["process", "comd"],
            "file": "spec.yml",
            "line": 3,
            "column": 3,
            "excerpt": "  comd: echo",
            "expected": "cmd",
            "hint": "Did you mean 'cmd'?",
        },
    ]


def test_json_and_sarif_of_nothing_are_still_documents() -> None:
    assert json.loads(render([], "json"))["diagnostics"] == []
    assert json.loads(render([], "sarif"))["runs"][0]["results"] == []
    assert render([], "github") == ""


def test_sarif_keeps_to_the_standard() -> None:
    log = json.loads(render([WARNING, ERROR], "sarif"))
    assert log["version"] == "2.1.0"
    assert log["$schema"].endswith("sarif-2.1.0.json")
    (run,) = log["runs"]
    assert run["columnKind"] == "unicodeCodePoints"
    rules = run["tool"]["driver"]["rules"]
    assert run["tool"]["driver"]["name"]
    assert [rule["id"] for rule in rules] == ["unknown-key", "unused-parameter"]
    assert all(rule["shortDescription"]["text"] and rule["help"]["text"] for rule in rules)
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] in {"none", "note", "warning", "error"}
        assert result["message"]["text"]
    assert "locations" not in run["results"][0]
    (location,) = run["results"][1]["locations"]
    assert location["physicalLocation"] == {
        "artifactLocation": {"uri": "spec.yml"},
        "region": {"startLine": 3, "startColumn": 3, "snippet": {"text": "  comd: echo"}},
    }


@pytest.mark.parametrize(
    ("file", "uri"),
    [
        ("steps/a b#1?.yml", "steps/a%20b%231%3F.yml"),
        ("a:b.yml", "a%3Ab.yml"),
        ("/tmp/ü.yml", "file:///tmp/%C3%BC.yml"),
        ("https://example.org/spec.yml", "https://example.org/spec.yml"),
        ("\udcff.yml", "%FF.yml"),
    ],
)
def test_sarif_names_files_by_uri(file: str, uri: str) -> None:
    one = Diagnostic("error", "wrong-type", "m", (), Position(file, 1, 1))
    (result,) = json.loads(render([one], "sarif"))["runs"][0]["results"]
    assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == uri


def test_github_command_names_the_place() -> None:
    assert render([ERROR], "github") == (
        "::error file=spec.yml,line=3,col=3,title=unknown-key::string-interpolated-cmd has no key 'comd'"
        "%0Aexpected: cmd%0ADid you mean 'cmd'?"
    )
    assert render([WARNING], "github").startswith("::warning title=unused-parameter::nothing")


def test_github_escapes_what_would_end_a_command() -> None:
    one = Diagnostic("error", "wrong-type", "100%\nend::error::x", (), Position("a,b:c%.yml", 1, 1))
    assert render([one], "github") == (
        "::error file=a%2Cb%3Ac%25.yml,line=1,col=1,title=wrong-type::100%25%0Aend::error::x"
    )


def test_an_unknown_format_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="xml") as caught:
        render([], "xml")
    assert all(name in caught.value.hint for name in FORMATS)


# --- the table of codes ----------------------------------------------------------------------------------------


def test_every_code_says_what_it_means_and_what_to_do() -> None:
    for code, told in CODES.items():
        assert code == code.lower()
        assert told.severity in {"error", "warning", "advice"}
        assert told.meaning.endswith(".")
        assert told.remedy.endswith(".")


def test_every_code_that_is_used_is_in_the_table_and_the_other_way_round() -> None:
    texts = set()
    package = Path(packtivity.spec.__file__).parent.parent
    for file in (*package.glob("*.py"), *package.glob("spec/*.py"), *package.glob("cli/*.py")):
        tree = ast.parse(file.read_text("utf-8"))
        if file.name == "diagnostics.py":
            tree.body = [one for one in tree.body if not (isinstance(one, ast.AnnAssign))]
        texts |= {one.value for one in ast.walk(tree) if isinstance(one, ast.Constant) and isinstance(one.value, str)}
        for call in ast.walk(tree):
            if (
                isinstance(call, ast.Call)
                and isinstance(call.func, ast.Name)
                and call.func.id in {"Finding", "Diagnostic"}
            ):
                given = call.args[0 if call.func.id == "Finding" else 1] if len(call.args) > 1 else None
                if isinstance(given, ast.Constant):
                    assert given.value in CODES, f"{file.name} uses {given.value!r}"
    assert set(CODES) <= texts
