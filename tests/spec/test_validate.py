"""Verdicts, defaults, cost; the messages are in ``test_invalid_specs.py``, random documents in ``test_schema_differential.py``."""

from __future__ import annotations

import gc
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import spec_reference

from packtivity.errors import ConfigurationError, InvalidSpec, LoadError
from packtivity.spec import check, custom_schemas, editor_schema, inspect, load
from packtivity.spec.document import parse_document
from packtivity.spec.reporters import render
from packtivity.spec.schemas import KINDS, accepts, branches, fill_defaults

FOLDER = Path(__file__).resolve().parent.parent / "specs" / "valid"
NAMES = sorted(path.name.removesuffix(".loaded.json") for path in FOLDER.glob("*.loaded.json"))

VALID = {
    "process": {"process_type": "string-interpolated-cmd", "cmd": "echo"},
    "environment": {"environment_type": "docker-encapsulated", "image": "python"},
    "publisher": {"publisher_type": "constant-pub", "publish": {}},
}
DEPTH = 5000
WRITE_ANEW = "write it anew: python tools/spec_reference.py"


def spec_of(name: str) -> str:
    return next(path.name for path in FOLDER.glob(f"{name}.*") if path.name in {f"{name}.yml", f"{name}.json"})


def with_part(kind: str, **changes: Any) -> dict[str, Any]:
    return {**VALID, kind: {**VALID[kind], **changes}}


# --- specs as data ---------------------------------------------------------------------------------------------


# Warnings about specs that are valid: most of them have values that YAML 1.1 reads otherwise than they look.
WARNED = {
    "container-empty-names": ["impossible-image"],
    "frompar-nested": ["not-as-written"],
    "interpolated-boolean": ["not-as-written"],
    "interpolated-number": ["not-as-written"],
    "yaml-booleans": ["not-as-written"] * 4,
    "yaml-numbers": ["not-as-written"] * 3,
}


@pytest.mark.parametrize("name", NAMES)
def test_a_valid_spec_loads_with_its_defaults_and_with_the_warnings_it_earns(name: str) -> None:
    expected = json.loads((FOLDER / f"{name}.loaded.json").read_text("utf-8"))
    report = inspect(spec_of(name), str(FOLDER))
    said = [one.code for one in report.diagnostics if one.severity != "advice"]
    assert said == WARNED.get(name, [])
    assert report.valid
    assert json.dumps(report.spec) == json.dumps(expected)
    assert json.dumps(load(spec_of(name), str(FOLDER))) == json.dumps(expected)


def test_there_are_enough_of_them_and_every_branch_occurs() -> None:
    assert len(NAMES) >= 40
    loaded = [json.loads((FOLDER / f"{name}.loaded.json").read_text("utf-8")) for name in NAMES]
    for kind in KINDS:
        seen = {part[f"{kind}_type"] for spec in loaded if (part := spec[kind])}
        assert seen == {form.name for form in branches(kind)}


# --- the corpus ------------------------------------------------------------------------------------------------


def test_verdict_and_defaults_of_every_real_spec(corpus: list[dict[str, Any]], tmp_path: Path) -> None:
    import yaml

    for number, row in enumerate(corpus):
        name = f"{row['id']}.{'json' if number % 2 else 'yml'}"
        dump = json.dumps if number % 2 else yaml.safe_dump
        (tmp_path / name).write_text(dump(row["spec"]), "utf-8")
        report = inspect(name, str(tmp_path))
        assert report.valid == row["valid"], (row["id"], render(report.diagnostics))
        assert report.spec == row["loaded"]
        assert report.valid == all(one.severity != "error" for one in report.diagnostics)


def test_somebody_elses_schemas_give_the_same_verdicts(corpus: list[dict[str, Any]], schemas: Path) -> None:
    for row in corpus[::5] + [row for row in corpus if not row["valid"]]:
        document = parse_document(json.dumps(row["spec"], indent=1), "spec.json")
        found = check(document, schemas)
        assert (not found) == row["valid"]
        assert all(one.code == "schema-violation" and one.position for one in found)


# --- verdicts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [None, [], "", 0, True, {}, {**VALID, "x": 1}, {"process": None}])
def test_what_is_no_spec_at_all(data: Any) -> None:
    assert not accepts(data)


def test_true_is_no_number_and_one_is_not_true() -> None:
    assert accepts({**VALID, "publisher": {"publisher_type": "interpolated-pub", "publish": True}})
    assert not accepts({**VALID, "publisher": {"publisher_type": "interpolated-pub", "publish": {}, "glob": 1}})


@pytest.mark.parametrize(
    "number",
    [float("nan"), float("inf"), float("-inf"), 10**5000, -(10**5000), 1e308],
    ids=["nan", "inf", "-inf", "huge", "-huge", "1e308"],
)
def test_odd_numbers_are_numbers(number: float) -> None:
    data = {**VALID, "publisher": {"publisher_type": "interpolated-pub", "publish": number}}
    assert accepts(data)
    assert fill_defaults(data)["publisher"]["publish"] is number
    assert not accepts(with_part("environment", imagetag=number))


@pytest.mark.parametrize(
    "text",
    ["\ud800", "\udfff\ud800", "\x00", "\U0010ffff", "é" * 10_000],
    ids=["half", "halves", "nul", "last", "long"],
)
def test_odd_texts_are_texts_as_values_and_unknown_as_keys(text: str) -> None:
    assert accepts(with_part("process", cmd=text))
    data = with_part("process", **{text: "x"})
    assert not accepts(data)
    document = parse_document("{}", "spec.yml")
    object.__setattr__(document, "data", data)
    assert [one.code for one in check(document)] == ["unknown-key"]


def test_values_that_are_not_json_are_refused_where_a_type_is_asked_for() -> None:
    assert not accepts(with_part("environment", resources=("CVMFS",)))
    assert not accepts(with_part("process", cmd=b"echo"))
    assert not accepts(with_part("publisher", publish={1}))


def test_a_value_that_is_not_json_is_called_so() -> None:
    document = parse_document("{}", "spec.yml")
    object.__setattr__(document, "data", with_part("process", cmd=b"echo"))
    assert [one.message for one in check(document)] == ["process.cmd is no JSON value, but must be a string"]


def test_a_deep_document_is_refused_in_words(tmp_path: Path) -> None:
    deep = "[" * DEPTH + "]" * DEPTH
    (tmp_path / "deep.json").write_text(json.dumps(VALID).replace('"publish": {}', f'"publish": {{"a": {deep}}}'))
    with pytest.raises(InvalidSpec) as caught:
        load("deep.json", str(tmp_path))
    assert caught.value.diagnostics[0].code == "too-deep"


# --- defaults --------------------------------------------------------------------------------------------------


def test_given_keys_keep_their_order_and_defaults_follow() -> None:
    filled = fill_defaults(
        {**VALID, "environment": {"imagetag": "1", "environment_type": "docker-encapsulated", "image": "a"}}
    )
    assert list(filled["environment"]) == [
        "imagetag",
        "environment_type",
        "image",
        "resources",
        "envscript",
        "env",
        "workdir",
        "par_mounts",
    ]


def test_a_missing_type_is_filled_from_the_first_branch_only() -> None:
    filled = fill_defaults({"process": {"cmd": "echo"}, "environment": {}, "publisher": {"publish": {}}})
    assert filled["process"] == {"cmd": "echo", "process_type": "string-interpolated-cmd"}
    assert filled["environment"] == {"environment_type": "noop-env"}
    assert filled["publisher"] == {"publish": {}}
    assert not accepts({**VALID, "process": {"script": "echo"}})


def test_defaults_are_never_shared() -> None:
    one, two = fill_defaults(VALID), fill_defaults(VALID)
    one["environment"]["resources"].append("CVMFS")
    one["environment"]["env"]["A"] = "1"
    assert two["environment"]["resources"] == []
    assert fill_defaults(VALID)["environment"]["env"] == {}


def test_values_shared_by_aliases_are_copied_apart(tmp_path: Path) -> None:
    (tmp_path / "spec.yml").write_text(
        "process: null\nenvironment: null\npublisher: {publisher_type: constant-pub, publish: {a: &x [1], b: *x}}\n"
    )
    publish = load("spec.yml", str(tmp_path))["publisher"]["publish"]
    publish["a"].append(2)
    assert publish["b"] == [1]


@pytest.mark.parametrize("data", [None, [1], "x", {"process": []}, {"process": {"process_type": []}}])
def test_what_is_no_spec_comes_back_as_it_is(data: Any) -> None:
    assert fill_defaults(data) == data


def test_without_validation_an_invalid_spec_is_filled_by_its_types(tmp_path: Path) -> None:
    (tmp_path / "spec.yml").write_text("process: {process_type: interpolated-script-cmd, typo: 1}\nextra: 2\n")
    loaded = load("spec.yml", str(tmp_path), validate=False)
    assert loaded == {
        "process": {"process_type": "interpolated-script-cmd", "typo": 1, "interpreter": "sh"},
        "extra": 2,
    }


def test_defaults_reach_through_references(tmp_path: Path) -> None:
    (tmp_path / "env.yml").write_text("environment_type: docker-encapsulated\nimage: python\n")
    (tmp_path / "spec.yml").write_text(
        "process: {cmd: echo}\nenvironment: {$ref: env.yml}\npublisher: {publisher_type: constant-pub, publish: {}}\n"
    )
    assert load("spec.yml", str(tmp_path))["environment"]["imagetag"] == "latest"


# --- errors ----------------------------------------------------------------------------------------------------


def test_every_mistake_is_in_the_exception(tmp_path: Path) -> None:
    (tmp_path / "spec.yml").write_text("process: 1\nenvironment: 2\npublisher: 3\n")
    with pytest.raises(InvalidSpec) as caught:
        load("spec.yml", str(tmp_path))
    assert [one.position.line for one in caught.value.diagnostics if one.position] == [1, 2, 3]
    assert [line.split(": ")[1] for line in str(caught.value).splitlines()] == ["error[wrong-type]"] * 3
    assert list(caught.value.path) == ["process"]


def test_an_invalid_spec_is_a_validation_error_of_jsonschema(tmp_path: Path) -> None:
    import jsonschema

    (tmp_path / "spec.yml").write_text("{}")
    with pytest.raises(jsonschema.ValidationError):
        load("spec.yml", str(tmp_path))


def test_inspecting_a_file_that_cannot_be_read_tells_why(tmp_path: Path) -> None:
    (tmp_path / "spec.yml").write_text("process: [")
    report = inspect("spec.yml", str(tmp_path))
    assert (report.spec, report.document, report.valid) == (None, None, False)
    assert [one.code for one in report.diagnostics] == ["yaml-syntax"]
    with pytest.raises(LoadError):
        inspect("missing.yml", str(tmp_path))


def test_only_one_schema_is_bundled() -> None:
    with pytest.raises(ConfigurationError, match="schemasource"):
        check(parse_document("{}", "spec.yml"), schemaname="yadage/workflow-schema")


# --- somebody else's schemas -----------------------------------------------------------------------------------


@pytest.fixture
def schemas(oracle: str) -> Path:
    """The schema files of yadage-schemas 0.11.1."""
    where = "import yadageschemas, os; print(os.fspath(yadageschemas.schemadir))"
    return Path(subprocess.run([oracle, "-c", where], check=True, capture_output=True, text=True).stdout.strip())


def write_schemas(folder: Path, **files: Any) -> Path:
    (folder / "packtivity").mkdir()
    for name, schema in files.items():
        text = schema if isinstance(schema, str) else json.dumps(schema)
        (folder / "packtivity" / f"{name.replace('_', '-')}.json").write_text(text)
    return folder


def test_defaults_of_somebody_elses_schemas(schemas: Path, tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text(json.dumps(VALID))
    assert load("spec.json", str(tmp_path), schemasource=schemas) == fill_defaults(VALID)
    assert inspect("spec.json", str(tmp_path), schemasource=str(schemas)).spec == fill_defaults(VALID)


def test_mistakes_by_somebody_elses_schemas_are_those_of_the_branch_that_was_meant(schemas: Path) -> None:
    document = parse_document(json.dumps(with_part("environment", imagetag=3, typo=1), indent=1), "spec.json")
    found = check(document, schemas)
    assert {one.path for one in found} == {("environment",), ("environment", "imagetag")}
    document = parse_document(json.dumps({**VALID, "publisher": {}}, indent=1), "spec.json")
    assert "no known form" in check(document, schemas)[0].message


def test_a_different_language_can_be_described(tmp_path: Path) -> None:
    extra = {"type": "string", "pattern": "^a+$", "default": "a"}
    source = write_schemas(
        tmp_path,
        packtivity_schema={
            "$schema": "http://json-schema.org/draft-04/schema#",
            "id": "whatever",
            "properties": {"x": {"$ref": "other.json#/definitions/x", "ignored": 1}, "y": {"default": {"deep": []}}},
            "required": ["x"],
        },
        other={"definitions": {"x": {"$ref": "#/definitions/same"}, "same": extra}},
    )
    (tmp_path / "good.yml").write_text("x: aa\n")
    (tmp_path / "bad.yml").write_text("y: 1\nx: b\n")
    assert load("good.yml", str(tmp_path), schemasource=source) == {"x": "aa", "y": {"deep": []}}
    assert inspect("good.yml", str(tmp_path), schemasource=source).diagnostics == ()
    found = inspect("bad.yml", str(tmp_path), schemasource=source).diagnostics
    assert [(one.code, str(one.position).rpartition("bad.yml:")[2]) for one in found] == [("schema-violation", "2:4")]


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ("{", "not JSON"),
        ("[]", "no object"),
        ({"type": "strin"}, "not a JSON Schema"),
        ({"$ref": "#/definitions/nowhere"}, "does not resolve"),
        ({"$ref": "https://example.org/schema.json"}, "no file of the schema directory"),
        ({"properties": {"process": {"pattern": "("}}}, "regular expression|regex"),
        ({"$ref": "#"}, "without end"),
    ],
)
def test_a_schema_that_cannot_be_used(tmp_path: Path, schema: Any, told: str) -> None:
    source = write_schemas(tmp_path, packtivity_schema=schema)
    gc.collect()  # what other tests have left is not to be finalised where the stack is full
    with pytest.raises(ConfigurationError, match=told):
        check(parse_document("process: echo", "spec.yml"), source)


def test_schemas_of_the_day_from_github(web: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PACKTIVITY_GITHUB_RAW_HOST", web.url)
    monkeypatch.setenv("PACKTIVITY_CACHE_DIR", str(tmp_path / "cache"))
    base = "/yadage/yadage-schemas/main/schemas/packtivity"
    web.routes[f"{base}/packtivity-schema.json"] = b'{"properties": {"x": {"$ref": "x.json#"}}}'
    web.routes[f"{base}/x.json"] = b'{"type": "string"}'
    custom_schemas._validators.cache_clear()
    assert check(parse_document("x: text", "spec.yml"), "from-github") == []
    assert [one.path for one in check(parse_document("x: 1", "spec.yml"), "from-github")] == [("x",)]
    assert len(web.seen) == 2
    web.routes.clear()
    assert check(parse_document("x: text", "spec.yml"), "from-github", offline=True) == []


def test_a_bad_regular_expression_that_the_metaschema_lets_pass() -> None:
    class Validator:
        def iter_errors(self, data: Any) -> Any:
            return [re.search("(", data)]

    with pytest.raises(ConfigurationError, match="regular expression '\\('"):
        custom_schemas._errors(Validator(), "text")


def test_a_schema_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="packtivity-schema.json"):
        check(parse_document("{}", "spec.yml"), tmp_path)


# --- the editor's schema ---------------------------------------------------------------------------------------


def test_the_editor_schema_is_made_from_the_branches() -> None:
    assert editor_schema() == spec_reference.build_editor_schema(), "write it anew: python tools/spec_reference.py"


def test_the_editor_schema_refers_to_no_other_file() -> None:
    text = json.dumps(editor_schema())
    assert all(part.startswith('"#/definitions/') for part in text.split('"$ref": ')[1:])


def test_pages_and_schema_are_written_where_they_are_said_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spec_reference, "EDITOR_SCHEMA", str(tmp_path / "editor.json"))
    spec_reference.write(str(tmp_path / "spec.md"))
    assert (tmp_path / "spec.md").read_text("utf-8") == spec_reference.spec_page()
    assert json.loads((tmp_path / "editor.json").read_text("utf-8")) == editor_schema()


def test_every_key_is_described_for_editors_and_every_example_is_valid() -> None:
    for kind in KINDS:
        for form in branches(kind):
            assert form.schema["title"]
            assert all(schema["description"] for schema in form.properties.values())
            for example in form.schema["examples"]:
                assert accepts({**VALID, kind: example})


# --- cost ------------------------------------------------------------------------------------------------------


def test_a_valid_spec_needs_no_jsonschema(tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text(json.dumps(VALID))
    program = "import sys; from packtivity.spec import load; load('spec.json'); print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    modules = set(out.stdout.split())
    assert "packtivity.spec.schemas" in modules
    assert not modules & {"jsonschema", "jsonschema_rs", "requests", "jq", "click", "yaml"}


def test_the_cost_of_a_check_does_not_grow_with_what_the_schema_does_not_look_at() -> None:
    small = {**VALID, "publisher": {"publisher_type": "constant-pub", "publish": {}}}
    large = {**VALID, "publisher": {"publisher_type": "constant-pub", "publish": {str(n): [n] for n in range(100_000)}}}

    def fastest(data: Any) -> float:
        times = []
        for _ in range(20):
            start = time.perf_counter()
            assert accepts(data)
            times.append(time.perf_counter() - start)
        return min(times)

    accepts(small)
    assert fastest(large) < 20 * fastest(small) + 1e-3
