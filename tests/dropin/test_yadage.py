"""yadage runs workflows on this package as it does on the original: same results, same files, same graph."""

from __future__ import annotations

from pathlib import Path

import pytest

WORKFLOWS = Path(__file__).resolve().parent.parent / "workflows"
NAMES = sorted(case.parent.name for case in WORKFLOWS.glob("*/case.yml"))
SUCCEEDING = [name for name in NAMES if name != "failing"]


def test_there_are_as_many_workflows_as_promised():
    assert len(NAMES) >= 12


@pytest.mark.parametrize("name", SUCCEEDING)
def test_a_workflow_gives_what_it_gives_with_the_original(name, workflow, ours, original):
    case = workflow(name)
    theirs = original.run(case)
    assert theirs.returncode == 0, theirs.log
    expected, files = theirs.document(proxies=True), theirs.files()
    original.keep("original")

    found = ours.run(case)

    assert found.returncode == 0, found.log
    assert found.document(proxies=True) == expected
    assert found.files() == files
    assert set(found.states().values()) == {"SUCCESS"}
    assert sum(not node.split("/")[-2] == "init" for node in found.states()) == case.tasks
