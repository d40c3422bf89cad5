"""Every broken spec and parameter file under ``tests/specs/invalid``: named once, where it stands.

``NAME.yml`` (or ``.json``) with ``NAME.expected.json`` is one test; dropping a pair there adds one. The expectation has
``diagnostics`` (code, severity, file, line, column and, where a name is near, ``expected``), and perhaps
``parameters``, the file the spec is to be run with, and ``state_names``.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from packtivity.errors import InvalidSpec
from packtivity.spec import inspect, load
from packtivity.spec.diagnostics import CODES
from packtivity.spec.document import Document, parse_document
from packtivity.spec.explain import mistakes
from packtivity.spec.reporters import render
from packtivity.spec.schemas import KINDS, branches, type_key

if TYPE_CHECKING:
    from packtivity.types import Diagnostic

FOLDER = Path(__file__).resolve().parent.parent / "specs" / "invalid"
NAMES = sorted(path.name.removesuffix(".expected.json") for path in FOLDER.glob("*.expected.json"))


def spec_of(name: str) -> str:
    return next(path.name for path in FOLDER.glob(f"{name}.*") if path.name in {f"{name}.yml", f"{name}.json"})


def expectation(name: str) -> dict[str, Any]:
    expected: dict[str, Any] = json.loads((FOLDER / f"{name}.expected.json").read_text("utf-8"))
    return expected


@cache
def diagnose(name: str) -> tuple[Diagnostic, ...]:
    """Return what is said of a spec and its parameters, the parameter file read first as the commands do."""
    expected = expectation(name)
    parameters: Document | None = None
    if "parameters" in expected:
        file = expected["parameters"]
        try:
            parameters = parse_document((FOLDER / file).read_bytes(), str(FOLDER / file))
        except InvalidSpec as error:
            return error.diagnostics
    return inspect(
        spec_of(name), str(FOLDER), parameters=parameters, state_names=expected.get("state_names")
    ).diagnostics


def told(diagnostic: Diagnostic) -> dict[str, Any]:
    assert diagnostic.position
    where = diagnostic.position
    return {
        "code": diagnostic.code,
        "severity": diagnostic.severity,
        "file": Path(where.file).name,
        "line": where.line,
        "column": where.column,
    }


@pytest.mark.parametrize("name", NAMES)
def test_each_mistake_is_named_once_where_it_stands(name: str) -> None:
    diagnostics = diagnose(name)
    expected = expectation(name)["diagnostics"]
    nearest = [one.pop("expected", None) for one in expected]
    assert [told(one) for one in diagnostics] == expected
    for said, near in zip(diagnostics, nearest, strict=True):
        assert near is None or said.expected == near
        assert said.code in CODES


@pytest.mark.parametrize("name", NAMES)
def test_every_format_can_show_it(name: str) -> None:
    diagnostics = diagnose(name)
    for format in ("text", "json", "sarif", "github"):
        shown = render(diagnostics, format)
        assert all(one.code in shown for one in diagnostics)


@pytest.mark.parametrize("name", NAMES)
def test_loading_fails_for_errors_and_only_for_them(name: str) -> None:
    expected = expectation(name)
    errors = [
        one
        for one in expected["diagnostics"]
        if one["severity"] == "error" and one["file"] != expected.get("parameters")
    ]
    if not errors:
        load(spec_of(name), str(FOLDER))
        return
    with pytest.raises(InvalidSpec) as caught:
        load(spec_of(name), str(FOLDER))
    assert [one.code for one in caught.value.diagnostics if one.severity == "error"] == [one["code"] for one in errors]


def test_there_are_enough_of_them() -> None:
    assert len(NAMES) >= 130


def test_every_code_of_specs_and_parameters_occurs() -> None:
    elsewhere = {
        "schema-violation",
        "reference-not-allowed",
        "too-deep",
        "too-large",
        "not-utf-8",
        "unreadable",
        "missing-output",
        "missing-parameter",
        "empty-parameter-file",
    }  # tested where they come from
    seen = {one["code"] for name in NAMES for one in expectation(name)["diagnostics"]}
    assert seen | elsewhere == set(CODES)


@pytest.mark.parametrize("kind", KINDS)
def test_every_key_of_every_branch_occurs(kind: str) -> None:
    wrong = {one.path for name in NAMES for one in diagnose(name)}
    last = {str(part) for path in wrong for part in path[-1:]}
    said = " ".join(one.message for name in NAMES for one in diagnose(name))
    for form in branches(kind):
        for key in form.properties:
            assert key in last or repr(key) in said, f"{type_key(kind)} {form.name}: no broken example for {key!r}"


def test_a_key_that_stands_beside_its_part_is_told_where_it_belongs() -> None:
    publisher = {"publisher_type": "constant-pub", "publish": {}}
    data = {"process": {"process_type": "string-interpolated-cmd"}, "cmd": "ls", "environment": None}
    hints = {found.path: found.hint for found in mistakes({**data, "publisher": publisher})}
    assert hints[("cmd",)] == "It belongs inside process: indent it as the other keys there are."


def test_a_key_beside_an_empty_one_is_told_that_it_may_belong_to_that() -> None:
    assert diagnose("publish-key-beside-publish")[1].hint.startswith("'publish' is empty: if 'listing' belongs to it")


def test_parameters_in_place_of_a_spec_are_told_their_place() -> None:
    assert "give the spec first" in diagnose("root-parameters-in-place-of-a-spec")[0].hint
