"""The step log of a task: its file, standard error, and those who listen."""

from __future__ import annotations

import logging
import os
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from packtivity import errors, tasklog
from packtivity.handlers.config import ExecutionConfig

METADATA = {"name": "one"}


@pytest.fixture
def state(tmp_path: Any) -> Any:
    return SimpleNamespace(metadir=str(tmp_path / "_packtivity"))


def read(state: Any) -> str:
    with open(f"{state.metadir}/one.step.log", encoding="utf-8", newline="") as file:
        return file.read()


def listener(log: logging.Logger, *_: Any) -> None:
    log.addHandler(logging.NullHandler())


def test_an_error_is_written_with_where_it_was_raised(state: Any) -> None:
    with tasklog.step_log(ExecutionConfig({"logging_level": "CRITICAL"}), METADATA, state) as log:
        try:
            raise ValueError("here")
        except ValueError as error:
            log.error("it failed: %s", "x", exc_info=error)
    text = read(state)
    assert " |  ERROR | it failed: x\nTraceback (most recent call last):\n" in text
    assert text.endswith("ValueError: here\n")


def test_inside_a_block_it_is_the_same_log(state: Any) -> None:
    config = ExecutionConfig({"logging_level": "CRITICAL"})
    with tasklog.step_log(config, METADATA, state) as outer:
        with tasklog.step_log(config, METADATA, state) as inner:
            assert inner is outer
        outer.info("after")
    assert read(state).count("starting file logging") == 1


def test_a_logger_of_that_name_with_handlers_gets_the_lines(state: Any, caplog: Any) -> None:
    named = logging.getLogger("pack.one.step")
    named.addHandler(caplog.handler)
    try:
        with tasklog.step_log(ExecutionConfig({"logging_level": "CRITICAL"}), METADATA, state) as log:
            log.info("heard")
    finally:
        named.removeHandler(caplog.handler)
    assert "heard" in caplog.messages
    assert "heard" in read(state)


def test_a_custom_handler_is_used(state: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("PACKTIVITY_LOGGING_HANDLER", "listening:listener")
    monkeypatch.setitem(sys.modules, "listening", SimpleNamespace(listener=listener))
    with tasklog.step_log(ExecutionConfig(), METADATA, state) as log:
        assert [type(handler) for handler in log.handlers] == [logging.NullHandler]
    assert not os.path.exists(state.metadir)


def test_switched_off_it_writes_nothing(state: Any, capsys: Any) -> None:
    with tasklog.step_log(ExecutionConfig({"logging": False}), METADATA, state) as log:
        log.error("nobody hears this")
    assert not os.path.exists(state.metadir)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("level", ["LOUD", "\u00b2", ""])
def test_a_level_that_is_none_is_named(level: str, state: Any) -> None:
    with pytest.raises(errors.ConfigurationError, match=f"'{level}' is no logging level"):
        with tasklog.step_log(ExecutionConfig({"logging_level": level}), METADATA, state):
            pass


def test_levels_may_be_numbers(state: Any, capsys: Any) -> None:
    with tasklog.step_log(ExecutionConfig({"logging_level": 30}), METADATA, state) as log:
        log.info("quiet")
        log.warning("loud")
    assert [line.rpartition(" | ")[2] for line in capsys.readouterr().err.splitlines()] == ["loud"]


@pytest.mark.parametrize("stream", [None, "closed"])
def test_standard_error_may_be_gone(stream: Any, state: Any, monkeypatch: Any, tmp_path: Any) -> None:
    if stream == "closed":
        stream = (tmp_path / "stream").open("w")
        stream.close()
    monkeypatch.setattr("sys.stderr", stream)
    with tasklog.step_log(ExecutionConfig({"logging_level": "INFO"}), METADATA, state) as log:
        log.info("kept")
    assert "kept" in read(state)


def test_a_full_disk_is_an_error_that_names_the_file(state: Any) -> None:
    os.mkdir(state.metadir)
    os.symlink("/dev/full", f"{state.metadir}/one.step.log")
    with pytest.raises(errors.StateError, match=r"one\.step\.log cannot be written: No space left"):
        with tasklog.step_log(ExecutionConfig({"logging_level": "CRITICAL"}), METADATA, state):
            pass


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Any) -> None:
    (tmp_path / "file").write_text("")
    state = SimpleNamespace(metadir=str(tmp_path / "file" / "_packtivity"))
    with pytest.raises(errors.StateError, match="file/_packtivity"):
        with tasklog.step_log(ExecutionConfig(), METADATA, state):
            pass
