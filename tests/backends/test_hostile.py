"""Proxies and task documents from somebody who means harm: nothing is imported or run that the user did not configure."""

from __future__ import annotations

import copy
import json
import random
import subprocess
import sys

import pytest

from packtivity import backendutils
from packtivity.errors import PacktivityError
from packtivity.worker import answer

MODULE = "antigravity_of_the_attacker"
BAITS = [
    MODULE,
    f"{MODULE}:Evil",
    f"py:{MODULE}:Evil",
    "os:system",
    "subprocess:Popen",
    "builtins:eval",
    f"$(touch {MODULE})",
    "../../../../etc/passwd",
    "{workdir.__class__}",
    "{0.__init__.__globals__}",
    None,
    -1,
    1e308,
    True,
    [],
    {},
    "",
    "\0",
    "\ud800",
    "x" * 5000,
]
KEYS = [
    "types",
    "literals",
    "parser",
    "magics",
    "keyword",
    "state",
    "proxy",
    "proxystring",
    "backend",
    "module",
    "id",
    "name",
]
PROXIES = [
    {
        "proxyname": "ForegroundProxy",
        "proxydetails": {"resultdata": {"a": {"$type": "E"}, "b": "e:x"}, "datamodel": None, "success": True},
    },
    {"proxyname": "MultiProcProxy", "proxydetails": {"task_id": "a", "record": None, "runner": {"pid": 1}}},
    {"proxyname": "LocalProxy", "proxydetails": {"task_id": "a", "host": "here"}},
    {
        "proxyname": "ExternalAsyncProxy",
        "proxydetails": {
            "resultdata": None,
            "jobproxy": {"task_id": "a", "record": None, "runner": {}},
            "spec": {"publisher": {"publisher_type": "constant-pub", "publish": {}}},
            "statedata": None,
            "pardata": {},
        },
    },
    {"proxyname": "fromenv", "proxydetails": {"a": 1}},
    {"proxyname": "frompython", "proxydetails": {"proxystring": f"py:{MODULE}:Evil"}},
]
TASK = {
    "version": 1,
    "spec": {
        "process": {"process_type": "string-interpolated-cmd", "cmd": "true"},
        "environment": {"environment_type": "noop-env"},
        "publisher": {"publisher_type": "constant-pub", "publish": {}},
    },
    "parameters": {},
    "state": None,
    "metadata": {"name": "x"},
    "config": {},
    "datamodel": None,
    "id": "x",
}
MODEL = {
    "keyword": "$type",
    "types": {"E": f"{MODULE}:Evil"},
    "literals": {"parser": f"{MODULE}:Evil", "magics": ["e:"]},
}


def mutated(document, chance):
    """Change a document in a few places."""
    text = json.loads(json.dumps(document))
    for _ in range(chance.randint(1, 4)):
        place = text
        while isinstance(place, dict) and place and chance.random() < 0.7:
            key = chance.choice(list(place))
            if not isinstance(place[key], dict):
                break
            place = place[key]
        if isinstance(place, dict):
            key = chance.choice([*place, *KEYS])
            place[key] = copy.deepcopy(chance.choice([MODEL, *BAITS]))
    return text


ASK = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
from packtivity.backends.registry import load_proxy
from packtivity import backendutils
from packtivity.errors import PacktivityError
started = []
sys.addaudithook(lambda event, args: started.append(args) if event in ("subprocess.Popen", "os.system", "os.exec") else None)
odd = []
for line in open(sys.argv[2], encoding="utf-8"):
    document = json.loads(line)
    try:
        proxy, backend = load_proxy(document, best_effort_backend=True, raise_on_unknown=True)
        if backend is not None and backend.ready(proxy) and backend.successful(proxy):
            backend.result(proxy)
    except PacktivityError:
        pass
    except Exception as error:
        odd.append([type(error).__name__, str(error)[:200], line[:600]])
print(json.dumps({"started": len(started), "imported": [n for n in sys.modules if n.startswith("antigravity")], "odd": odd[:5]}))
"""


@pytest.mark.parametrize(
    "count", [pytest.param(1000, id="sample"), pytest.param(5000, id="soak", marks=pytest.mark.soak)]
)
def test_hostile_proxies_import_and_run_nothing(tmp_path, count):
    chance = random.Random(count)
    (tmp_path / f"{MODULE}.py").write_text("raise SystemExit('imported')")
    lines = [json.dumps(mutated(chance.choice(PROXIES), chance)) for _ in range(count)]
    (tmp_path / "proxies").write_text("\n".join(lines), encoding="utf-8")
    argv = [sys.executable, "-c", ASK, str(tmp_path), str(tmp_path / "proxies")]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=120)
    assert json.loads(done.stdout) == {"started": 0, "imported": [], "odd": []}


@pytest.mark.parametrize(
    "count", [pytest.param(1000, id="sample"), pytest.param(5000, id="soak", marks=pytest.mark.soak)]
)
def test_hostile_task_documents_import_nothing(tmp_path, count, monkeypatch):
    chance = random.Random(count)
    (tmp_path / f"{MODULE}.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    for _ in range(count):
        document = mutated(TASK, chance)
        try:
            said = answer(document)
        except PacktivityError:
            continue
        assert said["status"] in ("succeeded", "failed")
    assert MODULE not in sys.modules


def test_a_leaf_type_of_a_configured_module_is_allowed(monkeypatch):
    monkeypatch.setenv("PACKTIVITY_PLUGINS", "json")
    said = answer({**TASK, "id": "leaf", "datamodel": {"keyword": "$t", "types": {"D": "json:JSONDecoder"}}})
    assert said["status"] == "succeeded"


@pytest.mark.parametrize("model", ["json:JSONDecoder", ["json:JSONDecoder"], 1])
def test_what_is_no_leaf_model_is_refused_where_it_is_used(model):
    document = {**PROXIES[0], "proxydetails": {**PROXIES[0]["proxydetails"], "datamodel": model}}
    proxy, backend = backendutils.load_proxy(document)
    with pytest.raises(PacktivityError, match="leaf model"):
        backend.result(proxy)
