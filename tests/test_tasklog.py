from __future__ import annotations

import logging
import os
import re
import sys
import threading
import time
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from room import Room, only_root

from packtivity import errors, tasklog
from packtivity.handlers.config import ExecutionConfig

PREFIX = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} \| {name} \| {level} \| "


def prefix(name: str, level: str) -> str:
    return PREFIX.replace("{name}", re.escape(f"{name[:20]:>20}")).replace("{level}", f"{level:>6}")


@pytest.fixture(autouse=True)
def _plain(monkeypatch):
    for name in ("DISABLE", "HANDLER", "STREAM_LEVEL"):
        monkeypatch.delenv(f"PACKTIVITY_LOGGING_{name}", raising=False)


@pytest.fixture
def state(tmp_path):
    return SimpleNamespace(metadir=str(tmp_path / "_packtivity"))


@pytest.fixture
def config():
    return ExecutionConfig({"logging_level": "CRITICAL"})


def topic(config, state, topic="step", name="one"):
    return tasklog.setup_logging_topic(config, {"name": name}, state, topic, return_logger=True)


def read(state, name="one", topic="step") -> str:
    with open(f"{state.metadir}/{name}.{topic}.log", encoding="utf-8") as file:
        return file.read()


BEGINNING = r"starting file logging for topic: {} \(times are UTC[+-]\d\d:\d\d\)"
"""What a log begins with; the times in it have no zone, as those of 0.17.1."""

# --- topics ----------------------------------------------------------------------------------------------------


def test_a_step_log_has_the_name_and_the_lines_that_are_relied_on(config, state):
    with topic(config, state, name="packtivity_syncbackend") as log:
        assert log.name == "pack.packtivity_syncbackend.step"
        log.debug("value %s", 1)
    lines = read(state, "packtivity_syncbackend").splitlines()
    assert re.fullmatch(prefix(log.name, "INFO") + BEGINNING.format("step"), lines[0])
    assert re.fullmatch(prefix(log.name, "DEBUG") + "value 1", lines[1])


def test_short_names_are_right_aligned(config, state):
    with topic(config, state):
        pass
    assert " |        pack.one.step |   INFO | " in read(state)


def test_logs_append_over_runs(config, state):
    for word in ("first", "second"):
        with topic(config, state) as log:
            log.info(word)
    assert re.findall("first|second", read(state)) == ["first", "second"]


def test_nothing_is_given_unless_a_logger_is_asked_for(config, state):
    with tasklog.setup_logging_topic(config, {"name": "one"}, state, "step") as log:
        assert log is None


def test_the_same_topic_inside_is_the_same_logger_and_stays_usable(config, state):
    with topic(config, state) as outer:
        with topic(config, state) as inner:
            assert inner is outer
        outer.info("after")
    assert read(state).count("starting file logging") == 1
    assert "after" in read(state)


def test_steps_go_to_standard_error_from_the_level_that_is_set(state, capsys):
    with topic(ExecutionConfig({"logging_level": "warning"}), state) as log:
        log.info("quiet")
        log.warning("loud")
    assert [line.rpartition(" | ")[2] for line in capsys.readouterr().err.splitlines()] == ["loud"]


def test_other_topics_do_not_go_to_standard_error(state, capsys):
    with topic(ExecutionConfig(), state, "run") as log:
        log.info("quiet")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("level", ["LOUD", "\u00b2", ""])
def test_a_level_that_is_none_is_named(level, state):
    with pytest.raises(errors.ConfigurationError, match=f"'{level}' is no logging level"):
        with topic(ExecutionConfig({"logging_level": level}), state):
            pass


def test_without_a_state_there_is_no_file(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with topic(config, None) as log:
        log.info("x")
    assert os.listdir(tmp_path) == []


def test_logging_switched_off_writes_nothing_anywhere(state, capsys, monkeypatch):
    monkeypatch.setenv("PACKTIVITY_LOGGING_DISABLE", "true")
    with topic(ExecutionConfig(), state) as log:
        log.error("x")
    with tasklog.run_log(ExecutionConfig(), {"name": "one"}, state) as run:
        assert run is None
    assert not os.path.exists(state.metadir)
    assert capsys.readouterr().err == ""


def test_handlers_of_somebody_elses_get_the_lines_and_stay(config, state):
    seen: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record):
            seen.append(record.getMessage())

    logger, handler = logging.getLogger("pack.theirs.step"), Keep()
    logger.addHandler(handler)
    for _ in range(2):
        with topic(config, state, name="theirs") as log:
            log.info("hello")
    with topic(config, state, "run", name="theirs") as log:
        log.info("not this topic")
    assert seen[1::2] == ["hello"] * 2
    assert all(re.fullmatch(BEGINNING.format("step"), line) for line in seen[::2])
    assert logger.handlers == [handler]
    logger.removeHandler(handler)


def test_five_hundred_topics_leave_neither_descriptors_nor_loggers(config, state):
    def count() -> tuple[int, int, int]:
        return len(os.listdir("/proc/self/fd")), len(logging.Logger.manager.loggerDict), len(logging._handlers)

    before = count()
    for number in range(500):
        with topic(config, state, name=f"n{number % 7}") as log:
            log.info("x")
    assert count() == before


def test_a_failing_block_closes_its_handlers(config, state):
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ZeroDivisionError), topic(config, state) as log:
        raise ZeroDivisionError
    assert log.handlers == []
    assert len(os.listdir("/proc/self/fd")) == before


def test_tasks_of_one_name_in_threads_keep_their_lines_apart(config, tmp_path):
    states = [SimpleNamespace(metadir=str(tmp_path / str(n))) for n in range(8)]
    barrier = threading.Barrier(len(states))

    def work(number: int) -> None:
        barrier.wait()
        for line in range(50):
            with topic(config, states[number]) as log:
                log.info("%s:%s", number, line)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(len(states))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, state in enumerate(states):
        assert re.findall(r"\| (\d+:\d+)$", read(state), re.MULTILINE) == [f"{number}:{n}" for n in range(50)]


# --- custom handlers -------------------------------------------------------------------------------------------

calls: list[tuple[object, ...]] = []
lines: list[str] = []


class Collect(logging.Handler):
    def emit(self, record):
        lines.append(record.getMessage())


@pytest.fixture
def custom(monkeypatch, tmp_path):
    """A module with a handler function, as a deployment would name it."""
    import types

    def add(log, metadata, state, topic):
        calls.append((log.name, metadata, state, topic))
        log.addHandler(Collect())

    module = types.ModuleType("their_logging")
    module.add = add  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "their_logging", module)
    monkeypatch.setenv("PACKTIVITY_LOGGING_HANDLER", "their_logging:add")
    calls.clear()
    lines.clear()


@pytest.mark.usefixtures("custom")
def test_a_custom_handler_replaces_the_usual_ones(state, capsys):
    with topic(ExecutionConfig(), state) as log, topic(ExecutionConfig(), state):
        log.info("hello")
    assert calls == [("pack.one.step", {"name": "one"}, state, "step")]
    assert lines == ["hello"]
    assert not os.path.exists(state.metadir)
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("custom")
def test_a_custom_handler_gets_the_output_line_by_line(config, state):
    with tasklog.run_log(config, {"name": "one"}, state) as log:
        log.write(b"one\ntw")
        log.write(b"o\nb\xffd\n\nlast")
        log.note("remark")
        log.write(b"x" * 70000)
    assert lines == ["one", "two", "b\ufffdd", "", "last", "remark", "x" * 65536, "x" * (70000 - 65536)]
    assert calls[0][3] == "run"


def test_a_custom_handler_that_is_not_there_is_named(state, monkeypatch):
    monkeypatch.setenv("PACKTIVITY_LOGGING_HANDLER", "no_such_module:add")
    with pytest.raises(errors.ConfigurationError, match="PACKTIVITY_LOGGING_HANDLER: module 'no_such_module'"):
        with topic(ExecutionConfig(), state):
            pass


@pytest.mark.parametrize("error", [ValueError("oh no"), OSError(13, "oh no")])
def test_a_custom_handler_that_fails_is_named(error, state, monkeypatch):
    def fail(*_):
        raise error

    monkeypatch.setattr(sys.modules[__name__], "fail", fail, raising=False)
    monkeypatch.setitem(sys.modules, "their_logging", sys.modules[__name__])
    monkeypatch.setenv("PACKTIVITY_LOGGING_HANDLER", "their_logging:fail")
    with pytest.raises(errors.ConfigurationError, match=r"their_logging:fail failed for the topic step: \w+: .*oh no"):
        with topic(ExecutionConfig(), state):
            pass


# --- names -----------------------------------------------------------------------------------------------------


@given(name=st.one_of(st.text(max_size=300), st.integers(), st.none()))
def test_no_name_leaves_the_directory_of_logs_or_breaks_a_line(name):
    path = tasklog.log_path({"name": name}, SimpleNamespace(metadir="/m"), "run")
    assert path.startswith("/m/")
    assert "/" not in path[3:]
    assert path.isprintable()
    assert len(os.fsencode(path[3:])) <= 255
    path.encode()


def test_ordinary_names_stay_as_they_are():
    assert [tasklog.safe_name({"name": n}) for n in ("a-b_c", "step [0]: x.y", "größe")] == [
        "a-b_c",
        "step [0]: x.y",
        "größe",
    ]


@pytest.mark.parametrize("metadata", [None, {}, {"name": ""}])
def test_without_a_name_there_is_a_default(metadata):
    assert tasklog.get_topic_loggername(metadata, "run") == "pack.packtivity.run"


def test_a_name_with_slashes_writes_inside(config, state):
    with topic(config, state, name="../../evil"):
        pass
    assert os.listdir(state.metadir) == [".._.._evil.step.log"]


# --- the run log -----------------------------------------------------------------------------------------------


def written(state, *chunks: bytes) -> list[str]:
    with tasklog.run_log(ExecutionConfig(), {"name": "one"}, state) as log:
        for chunk in chunks:
            log.write(chunk)
    with open(f"{state.metadir}/one.run.log", "rb") as file:
        first, *lines = file.read().decode("latin-1").split("\n")
    if not (first or lines):
        return [first]
    assert re.fullmatch(prefix("pack.one.run", "INFO") + BEGINNING.format("run"), first)
    return lines


@given(chunks=st.lists(st.binary(max_size=20).map(lambda b: b.replace(b"|", b"")) | st.just(b"\n"), max_size=12))
def test_each_line_of_output_has_one_prefix_however_it_arrives(tmp_path_factory, chunks):
    state = SimpleNamespace(metadir=str(tmp_path_factory.mktemp("log")))
    found = written(state, *(chunk for chunk in chunks if chunk))
    whole = b"".join(chunks).decode("latin-1")
    expected = whole.removesuffix("\n").split("\n") if whole else []
    assert found.pop() == ""
    assert len(found) == len(expected)
    for line, text in zip(found, expected, strict=True):
        assert re.fullmatch(prefix("pack.one.run", "INFO") + re.escape(text), line, re.DOTALL)


@pytest.mark.parametrize(("zone", "offset"), [("UTC", "+00:00"), ("XXX-5:45", "+05:45"), ("XXX+3", "-03:00")])
@pytest.mark.parametrize("what", ["run", "step"])
def test_a_log_says_once_which_zone_its_times_are_in(what, zone, offset, config, state, monkeypatch):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        for _ in range(2):
            with tasklog.run_log(ExecutionConfig(), {"name": "one"}, state) as log:
                log.write(b"said\n")
        with topic(config, state):
            pass
        lines = read(state, topic=what).splitlines()
        assert lines[0].endswith(f"topic: {what} (times are UTC{offset})")

        assert [line.rpartition(" | ")[2] for line in lines[1:]] == (["said"] * 2 if what == "run" else [])
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_run_without_output_has_an_empty_log(state):
    assert written(state) == [""]


def test_a_remark_stands_on_a_line_of_its_own(state):
    with tasklog.run_log(ExecutionConfig(), {"name": "one"}, state) as log:
        log.write(b"half")
        log.note("remark")
        log.write(b"other half\n")
    texts = [line.rpartition(" | ")[2] for line in read(state, topic="run").splitlines()]
    assert texts[1:] == ["half", "remark", "other half"]
    assert "WARNING | remark" in read(state, topic="run")


def test_a_log_that_cannot_be_opened_is_named(tmp_path, config):
    (tmp_path / "file").write_text("")
    state = SimpleNamespace(metadir=str(tmp_path / "file" / "_packtivity"))
    for context in (topic(config, state), tasklog.run_log(config, {"name": "one"}, state)):
        with pytest.raises(errors.StateError, match=r"file/_packtivity"), context:
            pass


def test_a_full_disk_is_an_error_that_names_the_file(state):
    full = SimpleNamespace(metadir=state.metadir)
    os.mkdir(state.metadir)
    os.symlink("/dev/full", f"{state.metadir}/one.run.log")
    os.symlink("/dev/full", f"{state.metadir}/one.step.log")
    with pytest.raises(errors.StateError, match=r"one\.run\.log cannot be written: No space left"):
        written(full, b"x")
    with pytest.raises(errors.StateError, match=r"one\.step\.log cannot be written: No space left"):
        with topic(ExecutionConfig({"logging_level": "CRITICAL"}), full):
            pass


@pytest.mark.engines
def test_a_file_system_that_fills_up_ends_the_task_with_an_error(tmp_path):
    only_root()
    room = Room(tmp_path / "small", "256k")
    try:
        from packtivity.runtimes import process
        from packtivity.types import Execution

        state = SimpleNamespace(metadir=str(room.folder))
        with pytest.raises(errors.StateError, match="No space left on device"):
            with tasklog.run_log(ExecutionConfig(), {"name": "one"}, state) as log:
                process.run(Execution(("yes",)), log=log, grace=0.2)
    finally:
        room.close()
