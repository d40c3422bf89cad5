"""Every rendering of the family, and of the corpus of real specs, comes out as packtivity 0.17.1 made it.

What differs, and why, stands in ``corpus_differences.json``: one entry for each spec, rendering and stage. An entry
that no longer differs fails the test, so that the list stays true.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from packtivity.errors import PacktivityError
from packtivity.handlers.config import packconfig
from packtivity.statecontexts import LocalFSState
from packtivity.task import build_env, build_job, finalize_inputs, prepublish

WORKDIR = "/a/work/dir"
DIFFERENCES = Path(__file__).parent / "corpus_differences.json"
STAGES = ("finalized", "job", "env", "prepublish")


def with_workdir(document: Any) -> Any:
    return json.loads(json.dumps(document).replace("{WORKDIR}", WORKDIR))


def attempted(make: Any) -> Any:
    """Return what comes out, or the names of the classes of the error, so that a KeyError is told from others."""
    try:
        found = make()
    except PacktivityError as error:
        return {"error": [cls.__name__ for cls in type(error).__mro__]}
    return found if found is None or isinstance(found, dict) else found.json()


def rendered(spec: dict[str, Any], parameters: Any) -> dict[str, Any]:
    state, config = LocalFSState([WORKDIR]), packconfig()
    early = attempted(lambda: prepublish(spec, parameters, state, config))
    finalized = attempted(lambda: finalize_inputs(parameters, state)[0])
    if isinstance(finalized, dict) and "error" in finalized:
        return {"finalized": finalized}
    final, _ = finalize_inputs(parameters, state)
    return {
        "finalized": finalized,
        "job": attempted(lambda: build_job(spec["process"], final, state, config)),
        "env": attempted(lambda: build_env(spec["environment"], final, state, config)),
        "prepublish": early,
    }


def stage_agrees(rendering: dict[str, Any], stage: str, ours: dict[str, Any]) -> bool:
    error = rendering.get(f"{stage}_error")
    if error:
        return error.partition(":")[0] in ours.get(stage, {}).get("error", ())
    if stage not in rendering:
        return stage not in ours
    return stage in ours and ours[stage] == with_workdir(rendering[stage])


@pytest.fixture(scope="module")
def renderings(corpus: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    return [
        (f"{entry['id']}#{number}", entry["loaded"], rendering)
        for entry in corpus
        for number, rendering in enumerate(entry.get("render") or [])
    ]


def test_every_rendering_agrees_or_is_a_listed_difference(renderings: Any) -> None:
    listed = {(each["rendering"], each["stage"]): each["reason"] for each in json.loads(DIFFERENCES.read_text())}
    differing = set()
    for name, spec, rendering in renderings:
        ours = rendered(spec, rendering["parameters"])
        differing |= {(name, stage) for stage in STAGES if not stage_agrees(rendering, stage, ours)}
    assert differing - set(listed) == set(), "these differ and are not listed"
    assert set(listed) - differing == set(), "these are listed and no longer differ"
    assert all(listed.values()), "every listed difference has a reason"


def test_all_renderings_are_there(request: pytest.FixtureRequest, renderings: Any) -> None:
    least = {"family": 80, "corpus": 433}[request.node.callspec.params["corpus"]]
    assert len(renderings) >= least


def test_rendering_changes_nothing_that_it_was_given(renderings: Any) -> None:
    for name, spec, rendering in renderings:
        given = copy.deepcopy((spec, rendering["parameters"]))
        rendered(spec, rendering["parameters"])
        assert (spec, rendering["parameters"]) == given, name
