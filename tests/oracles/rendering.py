"""Answers cases of tests/test_rendering_differential.py with packtivity 0.17.1: one line of JSON each.

The test takes :func:`result` from here, too, and calls it with this package in place of the original.
"""

import json
import sys

from packtivity.statecontexts import LocalFSState
from packtivity.syncbackends import build_env, build_job, finalize_inputs, packconfig, prepublish, publish


def result(case):
    state = LocalFSState(**case["state"]) if case["state"] is not None else None
    config, spec, parameters = packconfig(), case["spec"], case["parameters"]
    if case["stage"] == "prepublish":
        return prepublish(spec, parameters, state, config)
    parameters, state = finalize_inputs(parameters, state)
    if case["stage"] == "job":
        return build_job(spec["process"], parameters, state, config)
    if case["stage"] == "env":
        return build_env(spec["environment"], parameters, state, config)
    if case["stage"] == "publish":
        return publish(spec["publisher"], parameters, state, config)
    return parameters


def main():
    for line in sys.stdin:
        try:
            found = result(json.loads(line))
            answer = {"value": found.json() if hasattr(found, "json") else found}
        except Exception as error:
            answer = {"error": [cls.__name__ for cls in type(error).__mro__], "message": str(error)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
