"""Making states from their JSON."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest

from packtivity.errors import ConfigurationError, StateError
from packtivity.statecontexts import InvalidState, LocalFSState, load_state, statehandlers, stateloader

DOCUMENT = {
    "state_type": "localfs",
    "identifier": "x",
    "readwrite": [{"path": "/w", "name": "workdir"}],
    "readonly": [],
}


class CustomState:
    def __init__(self, data: Any) -> None:
        self.data = data

    @classmethod
    def fromJSON(cls, data: Any) -> CustomState:
        return cls(data)


@pytest.fixture
def custom_module(monkeypatch: pytest.MonkeyPatch) -> str:
    module = types.ModuleType("custom_states")
    module.CustomState = CustomState  # type: ignore[attr-defined]
    module.load_state = lambda data: ("provided", data)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "custom_states", module)
    return "custom_states"


@pytest.mark.parametrize("options", [None, {}, {"state": ""}, {"state": None}, {"state": "localfs"}, {"leafmodel": {}}])
def test_a_local_state_is_read_back(options: Any) -> None:
    state = load_state(DOCUMENT, options)
    assert isinstance(state, LocalFSState)
    assert state.json() == DOCUMENT


def test_an_option_names_the_class(custom_module: str) -> None:
    state = load_state({"any": 1}, {"state": f"py:{custom_module}:CustomState"})
    assert isinstance(state, CustomState)
    assert state.data == {"any": 1}


def test_a_setting_names_the_module(custom_module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PACKTIVITY_STATEPROVIDER", custom_module)
    assert load_state(DOCUMENT) == ("provided", DOCUMENT)
    assert isinstance(load_state({}, {"state": f"py:{custom_module}:CustomState"}), CustomState)


def test_a_class_or_module_that_is_not_there_is_an_error_of_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="nosuchmodule"):
        load_state(DOCUMENT, {"state": "py:nosuchmodule:State"})
    with pytest.raises(ConfigurationError, match="not of the form"):
        load_state(DOCUMENT, {"state": "py:nosuchmodule"})
    monkeypatch.setenv("PACKTIVITY_STATEPROVIDER", "nosuchmodule")
    with pytest.raises(ConfigurationError, match="PACKTIVITY_STATEPROVIDER"):
        load_state(DOCUMENT)


def test_a_class_or_module_that_makes_no_states_is_an_error_of_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match=r"option state: os has no 'sep\.fromJSON'"):
        load_state(DOCUMENT, {"state": "py:os:sep"})
    monkeypatch.setenv("PACKTIVITY_STATEPROVIDER", "os")
    with pytest.raises(ConfigurationError, match="PACKTIVITY_STATEPROVIDER: os has no 'load_state'"):
        load_state(DOCUMENT)


def test_types_that_need_more_than_their_json_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidState, match="option state"):
        load_state({"state_type": "frompython"})
    monkeypatch.setenv("PACKTIVITY_STATEPROVIDER", "")
    with pytest.raises(ConfigurationError, match=r"Set PACKTIVITY_STATEPROVIDER"):
        load_state({"state_type": "fromenv"})


def test_plug_ins_add_loaders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(statehandlers, "mine", {})

    @stateloader("mine")
    def load_mine(jsondata: Any, **_options: Any) -> Any:
        return ("mine", jsondata)

    assert load_state({"state_type": "mine"}) == ("mine", {"state_type": "mine"})
    assert statehandlers["mine"]["default"] is load_mine


def test_an_unknown_type_is_a_type_error_with_the_nearest_name() -> None:
    with pytest.raises(InvalidState, match=r"'local_fs'(?s:.*)Did you mean 'localfs'") as caught:
        load_state({"state_type": "local_fs"})
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, StateError)
    with pytest.raises(InvalidState, match=r"There are: .*localfs"):
        load_state({"state_type": 7})


@pytest.mark.parametrize("bad", [{}, None, [], "localfs"])
def test_a_document_without_a_type_is_shown(bad: Any) -> None:
    with pytest.raises(InvalidState, match="does not say its state_type"):
        load_state(bad)
