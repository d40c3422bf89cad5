"""Completing environments."""

from __future__ import annotations

import copy
import subprocess
import sys
from typing import Any

import pytest

from packtivity.datamodel import TypedLeafs
from packtivity.errors import ConfigurationError, MissingParameter, ParameterError
from packtivity.handlers.environment_handlers import environment, find

DOCKER = {
    "environment_type": "docker-encapsulated",
    "image": "busybox",
    "imagetag": "latest",
    "resources": [],
    "envscript": "",
    "env": {},
    "workdir": None,
    "par_mounts": [],
}


def built(changes: dict[str, Any], parameters: Any = None, state: Any = None) -> Any:
    given = {**copy.deepcopy(DOCKER), **changes}
    before = copy.deepcopy(given)
    found = find("docker-encapsulated")(given, TypedLeafs(parameters or {}), state)
    assert given == before, "the environment given was changed"
    return found


def test_a_plain_environment_comes_back_as_it_is_but_apart() -> None:
    found = built({"env": {"A": "1"}})
    assert found == {**DOCKER, "env": {"A": "1"}}
    assert found["env"] is not DOCKER["env"]


def test_mounted_parameters_are_what_jq_prints(state: Any) -> None:
    mounts = [{"jqscript": ".l[]", "mountpath": "/a"}, {"jqscript": "empty", "mountpath": "/b"}]
    found = built({"par_mounts": mounts}, {"l": ["é", 1.0, {"b": 1, "a": 2}]}, state)
    assert found["par_mounts"] == [
        {"mountpath": "/a", "mountcontent": '"\\u00e9"\n1\n{"b": 1, "a": 2}'},
        {"mountpath": "/b", "mountcontent": ""},
    ]


@pytest.mark.parametrize("program", ["{", ".x.y", 'error("no")'])
def test_a_jq_program_that_fails_is_named(program: str) -> None:
    with pytest.raises(ParameterError, match=r"environment\.par_mounts\[1\]\.jqscript: jq program"):
        built(
            {"par_mounts": [{"jqscript": ".", "mountpath": "/a"}, {"jqscript": program, "mountpath": "/a"}]}, {"x": "s"}
        )


@pytest.mark.parametrize("key", ["jqscript", "mountpath"])
def test_an_incomplete_mount_is_named(key: str) -> None:
    mount = {"jqscript": ".", "mountpath": "/a"}
    del mount[key]
    with pytest.raises(ParameterError, match=rf"environment\.par_mounts\[0\] has no '{key}'"):
        built({"par_mounts": [mount]}, {"x": 1})


def test_the_working_directory_is_contextualized(state: Any) -> None:
    assert built({"workdir": "{workdir}/in"}, {}, state)["workdir"] == f"{state.readwrite[0]}/in"


def test_an_unknown_directory_is_named_with_its_place(state: Any) -> None:
    with pytest.raises(ParameterError, match=r"^environment\.workdir: .*nowhere"):
        built({"workdir": "{nowhere}/in"}, {}, state)


def test_without_a_state_a_working_directory_can_have_no_placeholders() -> None:
    assert built({"workdir": "/fixed"})["workdir"] == "/fixed"
    with pytest.raises(MissingParameter, match=r"environment\.workdir"):
        built({"workdir": "{workdir}/in"})


@pytest.mark.parametrize("kind", ["localproc-env", "noop-env", "manual-instructions-env", "somebody-elses-env"])
def test_other_environments_stay_as_they_are(kind: str) -> None:
    given = {"environment_type": kind, "more": [1]}
    found = find(kind)(given, TypedLeafs({}), None)
    assert found == given
    assert found is not given


def test_a_plug_in_environment_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "table", dict(environment.table))

    @environment("mine-env", "special")
    def mine(environment: Any, parameters: Any, state: Any) -> Any:
        return {"mine": True}

    assert find("mine-env", "special")({}, None, None) == {"mine": True}


def test_an_implementation_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="'docker-encapsulated' has no implementation 'nope'"):
        find("docker-encapsulated", "nope")


def test_jq_is_imported_only_for_mounted_parameters() -> None:
    code = """if True:
        import sys
        from packtivity.datamodel import TypedLeafs
        from packtivity.handlers.environment_handlers import find
        find("docker-encapsulated")({"par_mounts": [], "workdir": None}, TypedLeafs({}), None)
        assert "jq" not in sys.modules
        """
    subprocess.run([sys.executable, "-c", code], check=True)
