"""Each member of the family loads, renders and publishes as packtivity 0.17.1 has it, and runs where it ran.

What differs on purpose, and why, stands in ``differences.json``: one entry for each member, with what comes out here at
each stage that differs. A stage that no longer differs fails the test, so that the list stays true.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from family import FAMILY, RECORDED, SPECS, differences, docker_line, made_of, members, mended, recorded

from packtivity.spec.document import load_document
from packtivity.spec.yamltext import load_yaml

if TYPE_CHECKING:
    from pathlib import Path

MEMBERS = members()
DIFFERENCES = differences()


@pytest.fixture(autouse=True)
def _nobody_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what changes tasks from outside, and whoever could be asked."""
    for name in [name for name in os.environ if name.startswith("PACKTIVITY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PACKTIVITY_LOGGING_STREAM_LEVEL", "CRITICAL")
    monkeypatch.setattr("sys.stdin", io.StringIO())


def exact(value: Any) -> str:
    """Return a text that tells 1 from 1.0 and from true."""
    return json.dumps(value, sort_keys=True)


def agrees(name: str, stage: str, theirs: dict[str, Any], ours: dict[str, Any]) -> bool:
    """Tell whether a stage has the same value, or an error that whoever catches the original's catches too."""
    if stage not in theirs or stage not in ours:
        return False
    wanted, found, readonly = theirs[stage], ours[stage], MEMBERS[name].readonly()
    if is_error(wanted):
        return is_error(found) and wanted["error"][0] in found["error"]
    if stage == "race_spec":
        wanted = mended(wanted, theirs["env"], readonly)
    if stage == "docker_cmdline":
        return same_line(wanted, found, theirs["env"]["env"], readonly)
    return exact(found) == exact(wanted)


def is_error(value: Any) -> bool:
    return isinstance(value, dict) and {"error", "message"} <= set(value)


def same_line(wanted: str, found: str, variables: dict[str, str], readonly: list[str]) -> bool:
    """Tell whether two ``docker run`` lines run the same; whose user and home it is, the engines' tests show."""
    there, here = docker_line(wanted), docker_line(found)
    there["env"] |= variables
    # what may only be read cannot be written, and credentials are only read
    there["mounts"] = [(*paths, only or paths[1] in (*readonly, "/recast_auth")) for *paths, only in there["mounts"]]
    here["env"] = {name: value for name, value in here["env"].items() if name not in {"HOME", "USER"}}
    return there == here


def briefly(value: Any) -> Any:
    """Return a value, or ``{error}`` with the name of its class."""
    return {"error": value["error"][:1]} if is_error(value) else value


@pytest.mark.parametrize("name", MEMBERS)
def test_a_member_is_what_the_original_made_of_it_or_a_listed_difference(name: str, tmp_path: Path) -> None:
    theirs, listed = recorded(name), DIFFERENCES.get(name, {})
    ours = made_of(MEMBERS[name], tmp_path)
    for stage in {**theirs, **ours}.keys() - {"written"}:
        if stage == "docker_cmdline" and "race_spec" in listed:
            continue  # it says the same, in another form
        shown = f"{stage}: {theirs.get(stage)} there, {ours.get(stage)} here"
        assert agrees(name, stage, theirs, ours) == (stage not in listed), shown
        assert stage not in listed or exact(briefly(ours.get(stage))) == exact(listed[stage]), shown


@pytest.mark.parametrize("name", [name for name in MEMBERS if "written" in recorded(name)])
def test_references_are_resolved_as_the_original_resolved_them(name: str) -> None:
    member = MEMBERS[name]
    found = load_document(member.spec, str(SPECS / member.toplevel)).data
    assert exact(found) == exact(recorded(name)["written"])


def test_parameters_read_the_same_from_yaml_in_both() -> None:
    text = (FAMILY / "members.yml").read_text("utf-8")
    assert exact(load_yaml(text)) == exact(yaml.safe_load(text))


def test_every_listed_difference_is_of_a_member_and_has_a_reason() -> None:
    entries = json.loads((FAMILY / "differences.json").read_text("utf-8"))
    assert set(DIFFERENCES) <= set(MEMBERS)
    assert len(DIFFERENCES) == len(entries)
    assert all(entry["reason"] and entry["here"] for entry in entries)


def test_every_member_has_a_recording_and_nothing_else_has() -> None:
    assert {path.stem for path in RECORDED.iterdir()} == set(MEMBERS)


@pytest.mark.parametrize("every", [6, pytest.param(1, marks=pytest.mark.soak)])
def test_recording_again_gives_the_same(oracle: str, tmp_path: Path, every: int) -> None:
    names = sorted(MEMBERS)[::every]
    subprocess.run([oracle, "-I", str(FAMILY / "record.py"), str(tmp_path), *names], check=True)
    assert {path.stem for path in tmp_path.iterdir()} == set(names)
    for path in sorted(tmp_path.iterdir()):
        assert without_messages(path) == without_messages(RECORDED / path.name), path.name


def without_messages(path: Path) -> str:
    """Return a recording without what errors say, which is another text with another Python."""
    document = json.loads(path.read_text("utf-8"), object_hook=briefly)
    return json.dumps(document, indent=2)
