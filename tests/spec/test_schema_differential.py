"""Random documents from the grammar of specs: our verdict and defaults beside those of yadage-schemas 0.11.1.

A few hundred documents by default; ``PACKTIVITY_SOAK_SECONDS=300`` keeps drawing for five minutes.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from packtivity.spec import editor_schema, explain
from packtivity.spec.diagnostics import locate
from packtivity.spec.lint import lint_parameters, lint_spec, needs
from packtivity.spec.schemas import (
    KINDS,
    Branch,
    accepts,
    branches,
    fill_defaults,
    type_key,
    violations,
)

SOAK = float(os.environ.get("PACKTIVITY_SOAK_SECONDS", "0"))

# --- documents -------------------------------------------------------------------------------------------------

texts = st.sampled_from(["", "x", "{a} {b}", "{workdir}/*", "ü", "\U0001f600", "\ud800", "null", "1"])
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, 1, -1, 1.0, 0.5, 10**30, 1e300, float("inf"), float("nan")]),
    texts,
)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2), max_leaves=4
)
VALUES = {
    "string": texts,
    "boolean": st.booleans(),
    "number": st.sampled_from([0, 2.5, float("nan"), 10**400]),
    "array": st.lists(anything, max_size=2),
    "object": st.dictionaries(texts, anything, max_size=2),
    "null": st.none(),
}
ORIGINAL = frozenset(
    [
        "string-interpolated-cmd",
        "interpolated-script-cmd",
        "manual-instructions-proc",
        "docker-encapsulated",
        "localproc-env",
        "noop-env",
        "manual-instructions-env",
        "frompar-pub",
        "constant-pub",
        "fromparjq-pub",
        "fromyaml-pub",
        "fromglob-pub",
        "interpolated-pub",
        "manual-instructions-pub",
    ]
)
"""Types that the original knows; of a newer one it can only say that it is none."""
ALL_KEYS = sorted({key for kind in KINDS for form in branches(kind) for key in form.properties})
keys = st.sampled_from([*ALL_KEYS, *KINDS, "extra", "Cmd", "process-type", "\ud800"])
mounts = st.lists(
    st.dictionaries(st.sampled_from(["jqscript", "mountpath", "other"]), texts | anything, max_size=3), max_size=2
)


def right_value(key: str, schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if key == "par_mounts":
        return mounts
    types = schema["type"]
    return st.one_of(*(VALUES[name] for name in ([types] if isinstance(types, str) else types)))


@st.composite
def parts(draw: st.DrawFn, kind: str) -> Any:
    """Draw one part: mostly right, with up to two things done to it."""
    if draw(st.integers(0, 19)) == 19:
        return draw(anything)
    form = draw(st.sampled_from([form for form in branches(kind) if form.name in ORIGINAL]))
    optional = [key for key in form.properties if key not in form.required]
    chosen = [*form.required, *draw(st.lists(st.sampled_from(optional), unique=True) if optional else st.just([]))]
    part = {key: draw(right_value(key, form.properties[key])) for key in draw(st.permutations(chosen))}
    for _ in range(draw(st.sampled_from([0, 0, 0, 0, 0, 0, 1, 1, 2]))):
        spoil(draw, kind, part)
    return part


def spoil(draw: st.DrawFn, kind: str, part: dict[str, Any]) -> None:
    what = draw(st.sampled_from(["drop", "drop type", "add", "change", "retype"]))
    if what == "drop" and part:
        del part[draw(st.sampled_from(list(part)))]
    elif what == "drop type":
        part.pop(type_key(kind), None)
    elif what == "add":
        part[draw(keys)] = draw(anything)
    elif what == "change" and part:
        part[draw(st.sampled_from(list(part)))] = draw(anything)
    else:
        part[type_key(kind)] = draw(st.sampled_from(sorted(ORIGINAL)))


@st.composite
def documents(draw: st.DrawFn) -> Any:
    document = {kind: draw(parts(kind)) for kind in draw(st.permutations(KINDS))}
    match draw(st.integers(0, 30)):
        case 27:
            del document[draw(st.sampled_from(KINDS))]
        case 28:
            document[draw(keys)] = draw(anything)
        case 29:
            return draw(anything)
        case 24 | 25:
            document[draw(st.sampled_from(KINDS))] = None
    return document


def canonical(data: Any) -> str:
    return json.dumps(data, sort_keys=True)


# --- comparison ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def original(converse: Any) -> Any:
    return converse("schemas.py")


def drawing(examples: int) -> settings:
    return settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


def test_verdict_and_defaults_are_those_of_the_original(original: Any) -> None:
    verdicts = []

    @drawing(250)
    @given(documents())
    def compare(document: Any) -> None:
        answer = original(document)
        assert accepts(document) == answer["valid"]
        verdicts.append(answer["valid"])
        if answer["valid"]:
            filled = fill_defaults(document)
            assert canonical(filled) == canonical(answer["loaded"])
            assert [list(filled[kind] or ()) for kind in filled] == [
                list(part or ()) for part in answer["loaded"].values()
            ]

    until = time.monotonic() + SOAK
    compare()
    while time.monotonic() < until:
        compare()
    assert 0.1 < sum(verdicts) / len(verdicts) < 0.9, "the grammar should draw both valid and invalid documents"


@drawing(100)
@given(documents())
def test_every_rejected_document_is_explained_and_only_those(document: Any) -> None:
    if accepts(document):
        return
    findings = explain.mistakes(document)
    assert findings
    assert all(locate(finding, None).severity == "error" for finding in findings)
    assert len(findings) == len({(finding.path, finding.message) for finding in findings})


@drawing(100)
@given(documents())
def test_editor_schema_agrees_with_the_branches(document: Any) -> None:
    validator = EDITOR
    assert validator.is_valid(document) == accepts(document)


EDITOR = jsonschema.Draft7Validator(editor_schema())


@drawing(100)
@given(st.sampled_from([(kind, form) for kind in KINDS for form in branches(kind)]), st.data())
def test_our_check_finds_exactly_what_the_library_finds(chosen: tuple[str, Branch], data: st.DataObject) -> None:
    kind, form = chosen
    part = data.draw(parts(kind))
    if isinstance(part, dict):
        errors = jsonschema.Draft4Validator(form.schema).iter_errors({type_key(kind): form.name, **part})
        found = {(one.keyword, one.path) for one in violations(form, part)}
        assert found == {(error.validator, tuple(error.absolute_path)) for error in errors}


@drawing(100)
@given(documents(), anything)
def test_every_accepted_document_can_be_linted(document: Any, parameters: Any) -> None:
    if not accepts(document):
        return
    spec = fill_defaults(document)
    found = [
        *lint_spec(None, spec),
        *lint_parameters(spec, parameters),
        *lint_parameters(spec, parameters, ["workdir"]),
    ]
    assert all(one.severity == "warning" for one in found)
    assert all(paths for paths in needs(spec).values())


@drawing(100)
@given(documents())
def test_filling_defaults_leaves_the_document_alone(document: Any) -> None:
    before = canonical(document)
    filled = fill_defaults(document)
    assert canonical(document) == before
    if isinstance(filled, dict):
        for part in filled.values():
            if isinstance(part, dict):
                part["touched"] = True
    assert canonical(document) == before
