"""Answers cases of tests/test_run_differential.py with packtivity 0.17.1: one line of JSON each."""

import json
import os
import sys
import warnings

warnings.simplefilter("ignore")
answers = os.fdopen(os.dup(1), "w")
nowhere = os.open(os.devnull, os.O_WRONLY)
os.dup2(nowhere, 1)  # what tasks print goes to standard output there
os.dup2(nowhere, 2)  # and what is logged to standard error

from packtivity.asyncbackends import ExternalAsyncProxy
from packtivity.backendutils import backend_from_string
from packtivity.statecontexts import LocalFSState


def answer(case):
    state = LocalFSState(case["readwrite"], case["readonly"])
    state.ensure()
    if case["kind"] == "proxy":
        return ExternalAsyncProxy({"job_id": 1}, case["spec"], state.json(), case["parameters"]).json()
    is_sync, backend = backend_from_string(case["backend"])
    prepublished = backend.prepublish(case["spec"], case["parameters"], state)
    if is_sync:
        result = backend.run(case["spec"], case["parameters"], state)
        return {"prepublished": prepublished and prepublished.json(), "result": result.json(), "repr": repr(result)}
    proxy = backend.submit(case["spec"], case["parameters"], state)
    proxy.set_details({"labels": {"a": 1}})
    return {"prepublished": prepublished and prepublished.json(), "proxy": proxy.json(), "logs": logs(state)}


def logs(state):
    return sorted(os.listdir(state.metadir))


for line in sys.stdin:
    try:
        found = {"value": answer(json.loads(line))}
    except Exception as error:
        found = {"error": [cls.__name__ for cls in type(error).__mro__]}
    answers.write(json.dumps(found) + "\n")
    answers.flush()
