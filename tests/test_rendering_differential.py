"""Random processes, environments and publishers, rendered here and by packtivity 0.17.1: the same comes out.

The original runs in one process of its own and is told each case as a line of JSON. Where the two differ on purpose,
the reason stands in ``DIFFERENCES``. ``PACKTIVITY_SOAK_SECONDS`` makes it run about that long, with cases of its own.
"""

from __future__ import annotations

import copy
import json
import os
import re
import runpy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from packtivity.errors import PacktivityError

SOAK = int(os.environ.get("PACKTIVITY_SOAK_SECONDS", "0"))
EXAMPLES = SOAK * 30 or 120

result = runpy.run_path(str(Path(__file__).parent / "oracles" / "rendering.py"))["result"]

# --- the two sides ---------------------------------------------------------------------------------------------


def here(case: dict[str, Any]) -> dict[str, Any]:
    try:
        found = result(case)
    except PacktivityError as error:
        return {"error": [cls.__name__ for cls in type(error).__mro__], "message": str(error)}
    return {"value": found.json() if hasattr(found, "json") else found}


@pytest.fixture(scope="module")
def original(converse: Any) -> Any:
    return converse("rendering.py")


FILES = ("a.txt", "b.txt", "out 1.root", "sub/c.txt", "sub/deep/d.root", ".hidden/e.txt", "sub/.f", "é.txt")
YAML = {
    "good.yml": "a: [1, 2.5, x]\nb: {c: null, d: yes}\n",
    "scalar.yml": "just text\n",
    "empty.yml": "",
    "dated.yml": "when: 2017-05-01\n",
    "keys.yml": "2: one\ntrue: two\n",
    "broken.yml": "a: [1, 2\nb: }",
    "anchors.yml": "a: &x {k: 1}\nb: {<<: *x, l: 2}\n",
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tree").resolve()
    for name in FILES:
        (root / "work" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "work" / name).write_text("x")
    for name, text in YAML.items():
        (root / "work" / name).write_text(text)
    (root / "inputs").mkdir()
    (root / "inputs" / "a.txt").write_text("x")
    (root / "more").mkdir()
    return root


# --- the grammar of cases --------------------------------------------------------------------------------------

NAMES = ["x", "y", "lst", "dct", "num", "out put", "ä", "workdir", "value"]
names = st.sampled_from(NAMES)
words = st.text(st.characters(exclude_characters="{}\0", exclude_categories=["Cs"]), max_size=8)
paths = st.sampled_from(
    [*FILES, *YAML, "*.txt", "*", "**", "**/*.txt", "s*/[cd]*", "nope", "sub/", "", ".", "?.txt", ".*"]
)
texts = st.one_of(
    words,
    paths,
    paths.map("{workdir}/{}".replace("{}", "%s").__mod__),
    st.sampled_from(["{{x}}", "{}", "{0}", "{readdir0}/a.txt", "{workdir}", "{nobody}", "{", "{workdir!r:>40}"]),
)
numbers = st.one_of(
    st.integers(-(10**25), 10**25), st.integers(-5, 5), st.floats(allow_nan=False, allow_infinity=False, width=32)
)
scalars = st.one_of(texts, texts, numbers, st.booleans(), st.none())
keys = st.one_of(st.sampled_from(["k", "n", "0", "a/b", "~", ""]), words)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=4
)
documents = st.one_of(
    st.dictionaries(names, values, min_size=1, max_size=4),
    st.dictionaries(names, values, min_size=1, max_size=4),
    st.fixed_dictionaries(
        {
            "x": texts,
            "lst": st.lists(scalars, max_size=3),
            "dct": st.dictionaries(keys, values, max_size=2),
            "num": numbers,
        }
    ),
    st.lists(values, max_size=3),
    values,
)
fields = st.one_of(
    names,
    st.sampled_from(
        ["x[0]", "lst[1]", "dct[k]", "dct[n][0]", "num.real", "num.imag", "", "0", "1", "0[k]", "nobody", "x.upper"]
    ),
    st.sampled_from(["x.__class__", "dct.keys", "workdir", "value", "num.__class__.__name__", "x y", "lst[-1]"]),
)
conversions = st.sampled_from(["", "", "", "!r", "!s", "!a", "!z"])
formats = st.sampled_from(["", "", "", ":>6", ":05d", ":.2f", ":s", ":{num}", ":é^9", ":,", ":x"])
pieces = st.one_of(
    st.builds("{{{}{}{}}}".format, fields, conversions, formats),
    names.map("{{{}}}".format),
    words,
    st.sampled_from(["{{", "}}", "{{x}}", "awk '{{print $1}}'", "/", " ", "*.txt", "\n"]),
    st.sampled_from(["{", "}", "a.txt"]),
)
templates = st.lists(pieces, max_size=4).map("".join)
leaves = st.one_of(
    templates,
    templates,
    paths,
    paths.map("{workdir}/%s".__mod__),
    names.map("{{{}}}".format),
    st.sampled_from([None, False, True, 3, 1.5]),
)
nested = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=4
)
programs = st.sampled_from(
    [".", ".x", ".lst", "{a: .x, b: .num}", "{o: .lst[]}", "[.[]]", "..", "empty", ".x + 1", "{", "keys", ".num * 2",
     "to_entries", '"*.txt"', "{p: \"a.txt\", q: null, r: false}", "[.num, .x] | reverse"]
)  # fmt: skip

processes = st.one_of(
    st.fixed_dictionaries({"process_type": st.just("string-interpolated-cmd"), "cmd": templates}),
    st.fixed_dictionaries(
        {
            "process_type": st.just("interpolated-script-cmd"),
            "script": templates,
            "interpreter": st.sampled_from(["sh", "root -b"]),
        }
    ),
)
environments = st.one_of(
    st.just({"environment_type": "noop-env"}),
    st.fixed_dictionaries(
        {
            "environment_type": st.just("docker-encapsulated"),
            "image": st.just("busybox"),
            "env": st.dictionaries(words, words, max_size=1),
            "workdir": st.one_of(st.none(), texts),
            "par_mounts": st.lists(
                st.fixed_dictionaries({"jqscript": programs, "mountpath": st.just("/m")}), max_size=2
            ),
        }
    ),
)
publishers = st.one_of(
    st.fixed_dictionaries(
        {
            "publisher_type": st.just("frompar-pub"),
            "outputmap": st.dictionaries(keys, st.one_of(names, nested), max_size=3),
        }
    ),
    st.fixed_dictionaries(
        {"publisher_type": st.just("constant-pub"), "publish": st.dictionaries(keys, values, max_size=3)}
    ),
    st.fixed_dictionaries(
        {
            "publisher_type": st.just("interpolated-pub"),
            "publish": nested,
            "glob": st.booleans(),
            "relative_paths": st.booleans(),
        }
    ),
    st.fixed_dictionaries(
        {"publisher_type": st.just("fromyaml-pub"), "yamlfile": st.sampled_from([*YAML, "nope.yml", "sub"])}
    ),
    st.fixed_dictionaries({"publisher_type": st.just("fromglob-pub"), "globexpression": paths, "outputkey": keys}),
    st.fixed_dictionaries(
        {
            "publisher_type": st.just("fromparjq-pub"),
            "script": programs,
            "tryExact": st.booleans(),
            "glob": st.booleans(),
            "relative_paths": st.booleans(),
        }
    ),
)
specs = st.fixed_dictionaries({"process": processes, "environment": environments, "publisher": publishers})
stages = st.sampled_from(["job", "job", "env", "publish", "publish", "publish", "prepublish", "finalized"])
states = st.sampled_from(
    [
        {"readwrite": ["work"]},
        {"readwrite": ["work"]},
        {"readwrite": ["work"], "readonly": ["inputs"]},
        {"readonly": ["inputs"]},
        {"readonly": ["inputs", "more"]},
        {},
        None,
    ]
)

# --- where the two differ on purpose ---------------------------------------------------------------------------

INTERNALS = re.compile(r"\{[^{}]*\.(__|keys|upper)")


def publishes(case: dict[str, Any], kind: str) -> bool:
    return case["stage"] in {"publish", "prepublish"} and case["spec"]["publisher"]["publisher_type"] == kind


def is_workdir_parameter(case: dict[str, Any], theirs: dict[str, Any], ours: dict[str, Any]) -> bool:
    return publishes(case, "interpolated-pub") and "multiple values for keyword" in theirs.get("message", "")


def is_python_internal(case: dict[str, Any], theirs: dict[str, Any], ours: dict[str, Any]) -> bool:
    return "TemplateError" in ours.get("error", ()) and bool(INTERNALS.search(json.dumps(case)))


def is_without_workdir(case: dict[str, Any], theirs: dict[str, Any], ours: dict[str, Any]) -> bool:
    without = not (case["state"] or {}).get("readwrite")
    return publishes(case, "interpolated-pub") and without and "error" in theirs


def is_date(case: dict[str, Any], theirs: dict[str, Any], ours: dict[str, Any]) -> bool:
    dated = "datetime.date" in theirs.get("message", "")
    return publishes(case, "fromyaml-pub") and dated and "value" in ours


def is_exact_number(case: dict[str, Any], theirs: dict[str, Any], ours: dict[str, Any]) -> bool:
    return publishes(case, "fromparjq-pub") and "value" in theirs and rounded(theirs) == rounded(ours)


def is_order_of_paths(case: dict[str, Any], theirs: dict[str, Any], ours: dict[str, Any]) -> bool:
    globbing = case["spec"]["publisher"].get("glob") or publishes(case, "fromglob-pub")
    return bool(globbing) and "value" in theirs and unordered(theirs) == unordered(ours)


def rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


def unordered(value: Any) -> Any:
    value = rounded(value)
    if isinstance(value, dict):
        return {key: unordered(item) for key, item in value.items()}
    return sorted(map(unordered, value), key=json.dumps) if isinstance(value, list) else value


def is_env_without_state(case: dict[str, Any], theirs: dict[str, Any], ours: dict[str, Any]) -> bool:
    return case["stage"] == "env" and case["state"] is None and "NoneType" in theirs.get("message", "")


def is_not_looked_at(case: dict[str, Any], theirs: dict[str, Any], ours: dict[str, Any]) -> bool:
    return case["stage"] == "prepublish" and ours == {"value": None} and "error" in theirs


DIFFERENCES = {
    "parameters are looked at before the run only where something can be published": is_not_looked_at,
    "an environment without placeholders needs no state": is_env_without_state,
    "a parameter called workdir wins over the directory (COMPATIBILITY 3)": is_workdir_parameter,
    "formatting does not reach Python's internals (COMPATIBILITY 6)": is_python_internal,
    "text without {workdir} needs no work directory to be published (COMPATIBILITY 3, prepublish)": is_without_workdir,
    "dates in YAML stay strings (COMPATIBILITY 1)": is_date,
    "numbers that jq only moves stay what they are (COMPATIBILITY 6)": is_exact_number,
    "paths found by a pattern are sorted (COMPATIBILITY 3)": is_order_of_paths,
}


def same(theirs: dict[str, Any], ours: dict[str, Any]) -> bool:
    if "error" in theirs:
        # Clients catch KeyError for what a placeholder misses.
        return "error" in ours and ("KeyError" not in theirs["error"] or "KeyError" in ours["error"])
    return json.dumps(theirs, sort_keys=True) == json.dumps(ours, sort_keys=True)


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=not SOAK,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(spec=specs, parameters=documents, stage=stages, where=states)
def test_renders_and_publishes_what_the_original_does(
    original: Any, tree: Path, spec: Any, parameters: Any, stage: str, where: Any
) -> None:
    state = where and {kind: [str(tree / name) for name in given_names] for kind, given_names in where.items()}
    case = {"spec": spec, "parameters": parameters, "stage": stage, "state": state}
    theirs = original(case)
    untouched = copy.deepcopy(case)
    ours = here(case)
    assert case == untouched, "what was given is changed"
    if not same(theirs, ours):
        assert any(known(case, theirs, ours) for known in DIFFERENCES.values()), (theirs, ours)
