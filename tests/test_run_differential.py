"""Whole tasks, run here and by packtivity 0.17.1: the same results, files, log names and proxy documents."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from specs import command_spec

from packtivity.asyncbackends import ExternalAsyncProxy
from packtivity.backendutils import backend_from_string, load_proxy
from packtivity.statecontexts import LocalFSState

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def original(converse):
    return converse("running.py")


@pytest.fixture(autouse=True)
def _quiet(monkeypatch):
    monkeypatch.setenv("PACKTIVITY_LOGGING_STREAM_LEVEL", "CRITICAL")


FROMPAR = {"publisher_type": "frompar-pub", "outputmap": {"a": "out", "b": ["n", None]}}
INTERPOLATED = {"publisher_type": "interpolated-pub", "glob": True, "relative_paths": False}
JQ = {"publisher_type": "fromparjq-pub", "script": "{o: .out}", "tryExact": True, "glob": False}
CASES = {
    "frompar": command_spec("echo {n} '{text}' > {out}", FROMPAR),
    "quotes and shell": command_spec('for i in 1 2; do echo $i "a  b"; done > {out}; echo {list}', FROMPAR),
    "constant": command_spec("true", {"publisher_type": "constant-pub", "publish": {"a": [1, "{workdir}", {}]}}),
    "glob": command_spec("touch a1 b2", {**INTERPOLATED, "publish": {"f": "{workdir}/a*", "none": "{workdir}/z*"}}),
    "yaml": command_spec("echo 'a: [1, 2.5, x]' > r.yml", {"publisher_type": "fromyaml-pub", "yamlfile": "r.yml"}),
    "one file found": command_spec(
        "mkdir sub; touch sub/x.root",
        {"publisher_type": "fromglob-pub", "globexpression": "sub/*.root", "outputkey": "f"},
    ),
    "jq": command_spec("touch {out}", {**JQ, "relative_paths": False}),
    "nothing runs": command_spec("exit 1", FROMPAR, "noop-env"),
    "failure": command_spec("exit 3", FROMPAR),
    "unknown parameter": command_spec("echo {nope}", FROMPAR),
}
PARAMETERS = {"n": 5, "text": "größe", "out": "{workdir}/out", "list": ["x", "y"]}


def case(name, folder, **more):
    (folder / "in").mkdir(parents=True)
    directories = {"readwrite": [str(folder / "work")], "readonly": [str(folder / "in")]}
    return {"kind": "run", "spec": CASES[name], "parameters": PARAMETERS, **directories, **more}


def files(folder: Path) -> dict[str, str]:
    found = (path for path in folder.rglob("*") if path.is_file() and "_packtivity" not in path.parts)
    return {str(path.relative_to(folder)): path.read_text().replace(str(folder), "DIR") for path in found}


def run_here(case: dict[str, Any]) -> dict[str, Any]:
    state = LocalFSState(case["readwrite"], case["readonly"])
    state.ensure()
    _, backend = backend_from_string(case["backend"])
    try:
        prepublished = backend.prepublish(case["spec"], case["parameters"], state)
        result = backend.run(case["spec"], case["parameters"], state)
    except Exception as error:
        return {"error": [cls.__name__ for cls in type(error).__mro__]}
    before = prepublished and prepublished.json()
    return {"value": {"prepublished": before, "result": result.json(), "repr": repr(result)}}


@pytest.mark.parametrize("name", CASES)
def test_a_task_gives_the_same_result_and_the_same_files(name, original, tmp_path):
    ours, theirs = tmp_path / "ours", tmp_path / "them"
    here = run_here(case(name, ours, backend="defaultsync"))
    there = original(case(name, theirs, backend="defaultsync"))
    said = json.loads(json.dumps(there).replace(str(theirs), str(ours)))
    if "error" in said:
        assert said["error"][0] in here["error"], "whoever catches the original's error catches ours"
    else:
        assert here == said
    assert files(ours) == files(theirs)


def test_a_proxy_has_the_same_document_and_can_be_read_by_the_other(original, tmp_path):
    here, there = case("frompar", tmp_path / "ours"), case("frompar", tmp_path / "them")
    said = original({**there, "backend": "foregroundasync"})["value"]
    state = LocalFSState(here["readwrite"], here["readonly"])
    _, backend = backend_from_string("foregroundasync")
    proxy = backend.submit(here["spec"], here["parameters"], state)
    proxy.set_details({"labels": {"a": 1}})
    assert json.dumps(proxy.json()) == json.dumps(said["proxy"]).replace("/them/", "/ours/")
    assert set(said["logs"]) <= set(os.listdir(state.metadir))
    theirs, reader = load_proxy(said["proxy"])
    assert reader.result(theirs).json() == said["proxy"]["proxydetails"]["resultdata"]


def test_the_proxy_of_an_external_job_has_the_same_document(original, tmp_path):
    question = case("frompar", tmp_path, kind="proxy")
    said = original(question)["value"]
    state = LocalFSState(question["readwrite"], question["readonly"])
    ours = ExternalAsyncProxy({"job_id": 1}, question["spec"], state.json(), question["parameters"])
    assert json.dumps(ours.json()) == json.dumps(said)
    assert ExternalAsyncProxy.fromJSON(said).json() == said
