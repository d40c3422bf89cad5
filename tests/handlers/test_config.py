"""Configuration of handlers and of execution."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from packtivity.errors import ConfigurationError
from packtivity.handlers.config import GRACE, ExecutionConfig, container_config, packconfig

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.startswith("PACKTIVITY_"):
            monkeypatch.delenv(name)


def test_an_implementation_that_nobody_chose_is_the_default_one() -> None:
    chosen = packconfig(publisher={"frompar-pub": "mine"})
    assert chosen.get_impl("publisher", "frompar-pub") == "mine"
    assert chosen.get_impl("publisher", "constant-pub") == "default"
    assert chosen.get_impl("process", "frompar-pub") == "default"


def test_the_configuration_file_replaces_whole_categories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "sync.yml"
    file.write_text("publisher: {constant-pub: theirs}\n")
    monkeypatch.setenv("PACKTIVITY_SYNCCONFIGFILE", str(file))
    chosen = packconfig(publisher={"frompar-pub": "mine"}, process={"p": "mine"})
    assert chosen.to_json() == {"publisher": {"constant-pub": "theirs"}, "process": {"p": "mine"}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot be read: No such file"),
        ("a: [1", "is not YAML"),
        ("- 1", "is not a mapping of mappings"),
        ("a: b", "is not a mapping of mappings"),
        ("publisher: {frompar-pub: [1]}", "is not a mapping of mappings of names"),
    ],
)
def test_a_configuration_file_that_cannot_be_used_is_named(
    text: str | None, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "sync.yml"
    if text is not None:
        file.write_text(text)
    monkeypatch.setenv("PACKTIVITY_SYNCCONFIGFILE", str(file))
    with pytest.raises(ConfigurationError, match="PACKTIVITY_SYNCCONFIGFILE") as caught:
        packconfig()
    assert str(file) in str(caught.value)
    assert said in str(caught.value)


CONTAINER_DEFAULTS = {
    "workdir_location": None,
    "pull_software": True,
    "container_runtime": "docker",
    "cvmfs_repos": ["atlas.cern.ch", "atlas-condb.cern.ch", "sft.cern.ch"],
    "cvmfs_location": "/cvmfs",
    "cvmfs_propagation": None,
    "cvmfs_source": "external",
    "container_runtime_modifier": "",
    "auth_location": "/home/recast/recast_auth",
    "auth_targetdir": "/recast_auth",
}


@pytest.mark.parametrize(("method", "value"), CONTAINER_DEFAULTS.items())
def test_container_defaults_are_those_of_the_original(method: str, value: Any) -> None:
    assert getattr(container_config(), method)() == value


@pytest.mark.parametrize(
    ("method", "variable", "given", "value"),
    [
        ("workdir_location", "WORKDIR_LOCATION", "/a:/b", "/a:/b"),
        ("pull_software", "DOCKER_NOPULL", "", False),
        ("container_runtime", "CONTAINER_RUNTIME", "podman", "podman"),
        ("cvmfs_repos", "CVMFS_REPOS", "[a.ch]", ["a.ch"]),
        ("cvmfs_location", "CVMFS_LOCATION", "/c", "/c"),
        ("cvmfs_propagation", "CVMFS_PROPAGATION", "rslave", "rslave"),
        ("cvmfs_source", "CVMFS_SOURCE", "voldriver", "voldriver"),
        ("container_runtime_modifier", "DOCKER_CMD_MOD", "--net host", "--net host"),
        ("auth_location", "AUTH_LOCATION", "/creds", "/creds"),
        ("auth_targetdir", "AUTH_TARGETDIR", "/in", "/in"),
    ],
)
def test_container_settings_are_read_when_asked_for(
    method: str, variable: str, given: str, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = container_config()
    monkeypatch.setenv(f"PACKTIVITY_{variable}", given)
    assert getattr(config, method)() == value


def test_configured_credentials_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PACKTIVITY_AUTH_LOCATION", "/from-environment")
    monkeypatch.setenv("PACKTIVITY_AUTH_TARGETDIR", "/from-environment")
    config = container_config({"auth_location": "/given", "auth_targetdir": "/into"})
    assert (config.auth_location(), config.auth_targetdir()) == ("/given", "/into")


def test_pulling_can_be_switched_off_by_the_configuration() -> None:
    assert ExecutionConfig({"containers": {"pull_images": False}}).container_config.pull_software() is False


def test_execution_defaults() -> None:
    config = ExecutionConfig()
    assert not config.disable_logging()
    assert config.custom_logging_handler() is None
    assert config.stream_loglevel() == "INFO"
    assert config.dry_run() is False
    assert (config.timeout, config.strict, config.clean_env, config.pass_env) == (None, False, False, ())
    assert config.grace == GRACE
    assert (config.reporter, config.warn, config.interaction) == (None, None, None)


def test_the_original_s_keys_are_understood() -> None:
    config = ExecutionConfig({"logging": False, "logging_level": "DEBUG", "dry_run": True, "something": "else"})
    assert config.disable_logging()
    assert config.stream_loglevel() == "DEBUG"
    assert config.dry_run()


@pytest.mark.parametrize(
    ("method", "variable", "given", "value"),
    [
        ("disable_logging", "LOGGING_DISABLE", "false", False),
        ("disable_logging", "LOGGING_DISABLE", "true", True),
        ("custom_logging_handler", "LOGGING_HANDLER", "m:f", "m:f"),
        ("stream_loglevel", "LOGGING_STREAM_LEVEL", "ERROR", "ERROR"),
        ("dry_run", "DRYRUN", "false", False),
        ("dry_run", "DRYRUN", "true", True),
    ],
)
def test_the_environment_wins_over_the_configuration(
    method: str, variable: str, given: str, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ExecutionConfig({"logging": value is True, "logging_level": "DEBUG", "dry_run": value is False})
    monkeypatch.setenv(f"PACKTIVITY_{variable}", given)
    assert getattr(config, method)() == value


def test_strict_comes_from_the_environment_unless_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PACKTIVITY_STRICT", "1")
    assert ExecutionConfig().strict
    assert not ExecutionConfig(strict=False).strict


def test_a_configuration_travels_as_json_without_its_hooks() -> None:
    config = ExecutionConfig(
        {"logging": False}, timeout=5, strict=True, clean_env=True, pass_env=("HOME",), grace=2, warn=print
    )
    again = ExecutionConfig(json.loads(json.dumps(config.to_json())))
    assert again.to_json() == config.to_json()
    assert (again.timeout, again.strict, again.clean_env, again.grace) == (5.0, True, True, 2.0)
    assert again.pass_env == ("HOME",)
    assert again.disable_logging()
    assert again.warn is None


def test_replacing_keeps_the_rest_and_takes_none_as_the_default() -> None:
    config = ExecutionConfig({"logging": False}, timeout=5, warn=print)
    changed = config.replace(timeout=None, strict=True)
    assert (changed.timeout, changed.strict, changed.warn) == (None, True, print)
    assert changed.disable_logging()
    assert config.timeout == 5


def test_the_caller_s_dictionary_stays_as_it_is() -> None:
    given = {"logging": False}
    ExecutionConfig(given, timeout=3)
    assert given == {"logging": False}


@pytest.mark.parametrize("timeout", ["soon", True, -1, float("inf"), float("nan")])
def test_a_time_that_is_no_number_of_seconds_is_an_error(timeout: Any) -> None:
    with pytest.raises(ConfigurationError, match="timeout: expected a number of seconds"):
        ExecutionConfig({"timeout": timeout})


@pytest.mark.parametrize("given", ["HOME", [1]])
def test_names_to_pass_on_are_a_list(given: Any) -> None:
    with pytest.raises(ConfigurationError, match="pass_env: expected a list of names"):
        ExecutionConfig({"pass_env": given})


@pytest.mark.parametrize("retries", [-1, 1.5, True, "2"])
def test_retries_that_are_no_whole_number_are_an_error(retries: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"retries: expected a whole number, not {retries!r}"):
        ExecutionConfig(retries=retries)


@pytest.mark.parametrize(("user", "taken"), [("", None), ("image", "image"), ("5", "5"), ("5:6", "5:6")])
def test_who_a_container_runs_as(user: str, taken: str | None) -> None:
    assert container_config({"user": user}).user() == taken
