"""What happens to a command between rooms: closed streams, files that are none, programs of others that fail."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

RUN = str(Path(sys.executable).with_name("packtivity-run"))
OUT = ["-p", "name=x", "-p", "outputfile=o"]


@pytest.fixture
def prepared(commands: Any) -> Any:
    commands.spec("echo {name}")
    commands.write("broken.yml", "a: [1\nb: 2")
    return commands


# --- streams ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_no_reason_to_fail(prepared: Any, closed: str) -> None:
    done = prepared.run(["sh", "-c", f'exec "$0" "$@" {closed}', RUN, "spec.yml", *OUT, "-o", "result.json"])
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads((prepared.directory / "result.json").read_text()) == {"output": "o"}


def test_parameters_from_a_closed_standard_input_are_refused(prepared: Any) -> None:
    done = prepared.run(["sh", "-c", 'exec "$0" spec.yml - <&-', RUN])
    assert (done.returncode, "standard input is closed" in done.stderr) == (4, True)


@pytest.mark.parametrize(("backend", "file"), [([], "-o"), (["-b", "foregroundasync", "--async"], "-x")])
def test_a_result_is_written_although_nobody_reads_what_is_printed(
    prepared: Any, backend: list[str], file: str
) -> None:
    prepared.write(
        "spec.yml",
        "process: {process_type: string-interpolated-cmd, cmd: 'touch begun; while test ! -e go; do sleep 0.02; done'}\n"
        "environment: {environment_type: localproc-env}\n"
        "publisher: {publisher_type: fromglob-pub, outputkey: found, globexpression: 'begun'}\n",
    )
    running = prepared.start("packtivity-run", "spec.yml", *backend, file, "kept.json")
    running.stdout.close()
    (prepared.directory / "go").touch()
    assert running.stderr.read() == ""
    assert running.wait(timeout=20) == 141
    assert "found" in (prepared.directory / "kept.json").read_text()


# --- files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["spec.yml/out.json", "a" * 300, "loop"])
def test_a_result_that_could_not_be_written_stops_the_task_before_it_runs(prepared: Any, quick: Any, name: str) -> None:
    prepared.spec("touch ran")
    (prepared.directory / "loop").symlink_to("loop")
    done = quick("packtivity-run", "spec.yml", "-p", "outputfile=o", "-o", name)
    assert (done.returncode, "cannot be written" in done.stderr) == (73, True)
    assert not (prepared.directory / "ran").exists()


def test_a_file_that_may_be_written_in_a_directory_that_may_not_is_written(
    prepared: Any, quick: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = prepared.directory / "kept"
    kept.mkdir()
    (kept / "result.json").touch()
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: False if str(path) == "kept" else real(path, mode))
    assert quick("packtivity-run", "spec.yml", *OUT, "-o", "kept/result.json").returncode == 0
    assert quick("packtivity-run", "spec.yml", *OUT, "-o", "kept/new.json").returncode == 73
    assert (kept / "result.json").read_text() == '{"output": "o"}'


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["unreadable.yml"], 3), (["spec.yml", "unreadable.yml"], 4), (["spec.yml", "-s", "unreadable.yml"], 5)],
)
def test_a_file_that_may_not_be_read_has_the_code_of_what_it_is(
    prepared: Any, quick: Any, arguments: list[str], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (prepared.directory / "unreadable.yml").write_text("a: 1")
    (prepared.directory / "unreadable.yml").chmod(0)
    real = os.access  # the superuser may read everything
    monkeypatch.setattr(os, "access", lambda path, mode: "unreadable" not in str(path) and real(path, mode))
    done = quick("packtivity-run", *arguments)
    assert "Usage" not in done.stderr
    assert done.returncode == code or os.getuid() == 0


def test_a_state_file_that_is_not_yaml_is_an_error_of_the_state(prepared: Any, quick: Any) -> None:
    done = quick("packtivity-run", "spec.yml", *OUT, "-s", "broken.yml")
    assert done.returncode == 5
    assert "broken.yml:2:2: error[yaml-syntax]" in done.stderr
    assert done.stderr.endswith("error: the state file cannot be read\n")


@pytest.mark.parametrize("form", ["json", "sarif", "github"])
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["spec.yml", "broken.yml"], 4, "yaml-syntax"),
        (["spec.yml", "-p", "name=@"], 4, "yaml-syntax"),
        (["spec.yml", "gone.yml"], 4, "unreadable"),
        (["gone.yml"], 3, "unreadable"),
    ],
)
def test_what_cannot_be_read_is_told_to_programs_too(
    prepared: Any, quick: Any, form: str, arguments: list[str], code: int, message: str
) -> None:
    done = quick("packtivity-validate", *arguments, "--format", form)
    assert done.returncode == code
    assert message in done.stdout
    assert form == "github" or json.loads(done.stdout)
    assert "the spec is not valid" not in done.stderr


def test_a_directory_that_is_gone_is_named(prepared: Any) -> None:
    (prepared.directory / "gone").mkdir()
    done = prepared.run(["sh", "-c", 'cd gone && rmdir ../gone && exec "$0" ../spec.yml', RUN])
    assert done.returncode == 74
    assert done.stderr.startswith("error: the current directory is not there any more\n")


# --- names that would steer a terminal -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [["\x1b[31m.yml"], ["spec.yml", *OUT, "-r", "\x1b[31m"], ["spec.yml", *OUT, "-o", "\x1b[31m/x"]],
    ids=["spec", "directory", "output"],
)
def test_names_cannot_steer_the_terminal(prepared: Any, quick: Any, arguments: list[str]) -> None:
    said = quick("packtivity-run", *arguments).stderr
    assert r"\x1b[31m" in said
    assert "\x1b" not in said


def test_a_width_that_nobody_has_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    from packtivity.cli.terminal import columns

    monkeypatch.setenv("COLUMNS", "9" * 5000)
    assert 0 < columns() < 10000


# --- what is of others -----------------------------------------------------------------------------------------


NO_COMMAND = """\
process: {process_type: string-interpolated-cmd}
environment: {environment_type: localproc-env}
publisher: {publisher_type: constant-pub, publish: 1}
"""


@pytest.mark.parametrize("text", ["{}", "[]", "process: 3", NO_COMMAND])
@pytest.mark.parametrize("option", [[], ["--print-command"], ["--dry-run"]])
def test_a_spec_that_was_not_validated_is_what_is_blamed(quick: Any, text: str, option: list[str]) -> None:
    quick.write("wrong.yml", text)
    done = quick("packtivity-run", "wrong.yml", "--no-validate", *option)
    assert done.returncode == 1
    assert "error: the spec cannot be used: " in done.stderr
    assert "--no-validate" in done.stderr


@pytest.mark.parametrize("name", ["py:os:getcwd", "py:collections:OrderedDict"])
def test_a_backend_that_is_none_is_named(prepared: Any, quick: Any, name: str) -> None:
    done = quick("packtivity-run", "spec.yml", *OUT, "-b", name)
    assert (done.returncode, "is no backend" in done.stderr) == (11, True)


@pytest.mark.parametrize("name", ["multiproc", "local"])
def test_a_number_of_workers_that_is_none_is_told_in_the_words_of_its_backend(
    prepared: Any, quick: Any, name: str
) -> None:
    done = quick("packtivity-run", "spec.yml", *OUT, "-b", f"{name}:0")
    assert (done.returncode, f"Write {name}:4" in done.stderr) == (11, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--async"], "--async has no effect on the backend 'defaultsync'"),
        (["--async", "-b", "foregroundasync", "-o", "result.json"], "--outfile has no effect with --async"),
    ],
)
def test_an_option_that_does_nothing_is_told(prepared: Any, quick: Any, arguments: list[str], said: str) -> None:
    done = quick("packtivity-run", "spec.yml", *OUT, *arguments)
    assert (done.returncode, f"warning: {said}" in done.stderr) == (0, True)
    assert "warning" not in quick("packtivity-run", "spec.yml", *OUT).stderr


def test_quitting_ends_the_task_first(commands: Any) -> None:
    """Ctrl-backslash: the task is in a session of its own, where the terminal's signal does not come."""
    commands.spec("echo $$; exec sleep 60")
    running = commands.start("packtivity-run", "spec.yml", *OUT, "-v", "INFO")
    log = commands.directory / "_packtivity" / "packtivity_syncbackend.run.log"
    while not (log.exists() and log.read_text().strip()):
        assert running.poll() is None
    task = int(log.read_text().split()[-1])
    running.send_signal(signal.SIGQUIT)
    assert "error: quit" in running.communicate(timeout=20)[1]
    assert running.returncode == 131
    with pytest.raises(ProcessLookupError):
        os.kill(task, 0)


# --- interrupted before there is anything to interrupt ---------------------------------------------------------


def interrupt(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("program", "module", "name"),
    [
        ("packtivity-run", "packtivity.cli.command.Duration", "convert"),
        ("packtivity", "packtivity.cli.command.Group", "get_command"),
    ],
)
def test_an_interrupt_while_arguments_are_parsed_has_its_code(
    quick: Any, monkeypatch: pytest.MonkeyPatch, program: str, module: str, name: str
) -> None:
    monkeypatch.setattr(f"{module}.{name}", interrupt)
    done = quick(program, *(["run"] if program == "packtivity" else []), "spec.yml", "--timeout", "5")
    assert (done.returncode, done.stderr) == (130, "error: interrupted\n")
