"""How commands end: a message on standard error, an exit code for each kind of error, never a traceback unasked."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from waiting import until

from packtivity import errors
from packtivity.cli.errors import conclude, exit_codes, printable

OUT = ["-p", "outputfile=o"]

ENDS = {
    "no such spec": (["nope.yml"], 3, "nope.yml"),
    "no such option": (["spec.yml", "--nope"], 2, "--nope"),
    "no spec at all": ([], 2, "SPEC"),
    "a spec that is not valid": (["invalid.yml"], 1, "invalid.yml:3:3"),
    "a spec that is not YAML": (["notyaml.yml"], 1, "notyaml.yml:1"),
    "a parameter without =": (["spec.yml", "-p", "name"], 4, "'name' has no '='"),
    "a parameter without a name": (["spec.yml", "-p", "=3"], 4, "no name"),
    "a parameter that is not YAML": (["spec.yml", "-p", "name={workdir}/x"], 4, "-p name:1:10"),
    "a parameter file that is not there": (["spec.yml", "par.yml"], 4, "parameter file par.yml"),
    "a parameter in place of a file": (["spec.yml", "name=x"], 4, "write -p name=x"),
    "a parameter file that is a list": (["spec.yml", "list.yml"], 4, "is a list, but must be a mapping"),
    "a parameter file that is a value": (["spec.yml", "value.yml"], 4, "is a single value"),
    "a parameter file with a mistake": (["spec.yml", "broken.yml"], 4, "broken.yml:2:2"),
    "a directory for a parameter file": (["spec.yml", "."], 4, "parameter file ."),
    "a missing parameter": (["spec.yml", *OUT], 4, "name"),
    "a failing task": (["failing.yml", *OUT], 6, "exit code 3"),
    "a task that takes too long": (["slow.yml", *OUT, "--timeout", "0.2"], 7, "0.2 s"),
    "a result that cannot be made": (["unpublished.yml"], 8, "out.yml"),
    "an output that is missing": (["spec.yml", "-p", "name=x", "-p", 'outputfile="{workdir}/o"', "--strict"], 9, "/o"),
    "an unused parameter under --strict": (["spec.yml", "-p", "name=x", *OUT, "-p", "q=1", "--strict"], 4, "'q'"),
    "a missing directory under --strict": (["spec.yml", "-p", "name=x", *OUT, "-r", "gone", "--strict"], 5, "gone"),
    "a state file that is not there": (["spec.yml", "-s", "gone.yml"], 5, "state file gone.yml"),
    "a state file that is a list": (["spec.yml", "-s", "list.yml"], 5, "list.yml: not a mapping"),
    "a work directory that is a file": (["spec.yml", "-p", "name=x", *OUT, "-w", "spec.yml"], 5, "spec.yml"),
    "an unknown backend": (["spec.yml", "-p", "name=x", *OUT, "-b", "defaultsnc"], 11, "'defaultsync'"),
    "an output file that cannot be written": (["spec.yml", "-o", "gone/out.json"], 73, "gone/out.json"),
    "options that do not go together": (["spec.yml", "--pass-env", "X"], 2, "--clean-env"),
    "an output file without a name": (["spec.yml", "-o", ""], 2, "'--outfile': '' names no file"),
    "a proxy file without a name": (["spec.yml", "-x", ""], 2, "'--proxyfile': '' names no file"),
}


@pytest.fixture
def prepared(commands: Any) -> Any:
    commands.spec("echo {name}")
    commands.spec("echo to tell; echo the tale >&2; exit 3", "failing.yml")
    commands.spec("sleep 30", "slow.yml")
    commands.write(
        "invalid.yml",
        "process:\n  process_type: string-interpolated-cmd\n  cmmd: x\nenvironment: null\npublisher: {outputmap: {}}\n",
    )
    commands.write("notyaml.yml", "{")
    commands.write("list.yml", "[1, 2]")
    commands.write("value.yml", "seven")
    commands.write("broken.yml", "a: [1\nb: 2")
    commands.write(
        "unpublished.yml",
        "process: {cmd: 'true'}\nenvironment: {environment_type: localproc-env}\n"
        "publisher: {publisher_type: fromyaml-pub, yamlfile: out.yml}\n",
    )
    return commands


@pytest.mark.parametrize("case", ENDS)
def test_run_ends_with_a_message_and_its_code(prepared: Any, quick: Any, case: str) -> None:
    arguments, code, message = ENDS[case]
    done = quick("packtivity-run", *arguments)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False)
    assert message in done.stderr
    assert "rror: " in done.stderr
    assert "internal error" not in done.stderr


def test_a_failed_task_shows_its_last_output_and_its_log(prepared: Any) -> None:
    done = prepared("packtivity-run", "failing.yml", *OUT)
    assert "to tell" in done.stderr
    assert "the tale" in done.stderr
    assert "_packtivity/packtivity_syncbackend.run.log" in done.stderr
    assert done.stderr.count("exit code 3") == 1


def test_debug_shows_where_an_error_comes_from(prepared: Any) -> None:
    done = prepared("packtivity-run", "--debug", "failing.yml", *OUT)
    assert "Traceback (most recent call last)" in done.stderr
    assert done.returncode == 6


PLUGIN = """
from packtivity.handlers.process_handlers import process

@process("string-interpolated-cmd")
def broken(*arguments):
    {raised}
"""


@pytest.mark.parametrize(
    ("raised", "code", "message"),
    [
        (
            "raise ZeroDivisionError('oh\\nno')",
            14,
            "error: PACKTIVITY_PLUGINS: plug:broken failed: ZeroDivisionError: oh no\n",
        ),
        ("raise OSError(28, 'No space left on device', 'f')", 74, "error: No space left on device: f\n"),
        ("raise MemoryError", 74, "error: out of memory\n"),
        ("raise SystemExit(5)", 5, ""),
    ],
)
def test_what_a_plugin_raises_is_one_line(prepared: Any, raised: str, code: int, message: str) -> None:
    prepared.write("plug.py", PLUGIN.format(raised=raised))
    environment = {"PACKTIVITY_PLUGINS": "plug", "PYTHONPATH": str(prepared.directory)}
    environment["PACKTIVITY_LOGGING_DISABLE"] = "1"
    done = prepared("packtivity-run", "spec.yml", "-p", "name=x", *OUT, env=environment)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert message in done.stderr


GUESTS = """
import logging

def fail(*_, **__):
    raise ValueError("not today")

class Handler(logging.Handler):
    emit = fail

def add(log, metadata, state, topic):
    log.addHandler(Handler())

class Late(logging.Handler):
    def emit(self, record):
        if record.levelno == logging.ERROR:
            fail()

def add_late(log, metadata, state, topic):
    log.addHandler(Late())

class Backend:
    def prepublish(self, spec, parameters, state): return None
    def submit(self, spec, parameters, state, metadata=None): return Proxy()
    def ready(self, proxy): return True
    def successful(self, proxy): return True
    def result(self, proxy): return {}
    def fail_info(self, proxy): return None

class Proxy:
    def json(self): return {"proxyname": "Mine", "proxydetails": {}}

    @classmethod
    def fromJSON(cls, document): return cls()

for method in ("prepublish", "submit", "ready", "successful", "result"):
    globals()[method] = type(method, (Backend,), {method: fail})
"""


@pytest.fixture
def guests(prepared: Any) -> Any:
    prepared.write("theirs.py", GUESTS)

    def call(program: str, *arguments: str, **settings: str) -> Any:
        environment = {"PYTHONPATH": str(prepared.directory)}
        return prepared(program, *arguments, env={**environment, **{f"PACKTIVITY_{k}": v for k, v in settings.items()}})

    return call


@pytest.mark.parametrize("method", ["prepublish", "submit", "ready", "result"])
def test_a_backend_that_fails_is_named(guests: Any, method: str) -> None:
    done = guests("packtivity-run", "spec.yml", "-p", "name=x", *OUT, "-b", f"py:theirs:{method}")
    assert done.returncode == 14
    assert done.stderr == (
        f"error: backend 'py:theirs:{method}': theirs:fail failed: ValueError: not today\n"
        "  It is not part of packtivity: tell those who wrote it. Run again with --debug to see where.\n"
    )


def test_a_backend_that_fails_is_named_by_commands_that_ask_it(guests: Any, prepared: Any) -> None:
    prepared.write("proxy.json", '{"proxyname": "Mine", "proxydetails": {}}')
    done = guests("packtivity-checkproxy", "proxy.json", ASYNCBACKEND="theirs:ready:Proxy")
    assert (done.returncode, done.stdout) == (14, "")
    assert done.stderr.startswith("error: PACKTIVITY_ASYNCBACKEND: theirs:fail failed: ValueError: not today\n")


@pytest.mark.parametrize("backend", ["defaultsync", "foregroundasync"])
def test_a_log_handler_that_fails_is_named(guests: Any, backend: str) -> None:
    arguments = ["packtivity-run", "spec.yml", "-p", "name=x", *OUT, "-b", backend]
    done = guests(*arguments, LOGGING_HANDLER="theirs:add")
    assert done.returncode == 14
    assert done.stderr.startswith("error: PACKTIVITY_LOGGING_HANDLER: theirs:fail failed: ValueError: not today\n")
    assert "Traceback" in guests(*arguments, "--debug", LOGGING_HANDLER="theirs:add").stderr


def test_a_log_handler_that_fails_does_not_hide_why_the_task_did(guests: Any) -> None:
    done = guests("packtivity-run", "failing.yml", *OUT, LOGGING_HANDLER="theirs:add_late")
    assert done.returncode == 6
    assert "error: the task failed with exit code 3" in done.stderr


def test_a_log_handler_that_fails_in_a_worker_is_told_with_its_kind(guests: Any) -> None:
    done = guests("packtivity-run", "spec.yml", "-p", "name=x", *OUT, "-b", "multiproc:1", LOGGING_HANDLER="theirs:add")
    assert (done.returncode, done.stderr) == (6, "error: ValueError: not today\n")


def test_warnings_do_not_stop_a_run(prepared: Any) -> None:
    done = prepared("packtivity-run", "spec.yml", "-p", "name=x", *OUT, "-p", "nam=1", "-r", "gone")
    assert done.returncode == 0
    assert "'nam'" in done.stderr
    assert "warning: directory to read" in done.stderr


def test_strict_is_a_setting_too(prepared: Any) -> None:
    arguments = ["spec.yml", "-p", "name=x", *OUT, "-p", "nam=1"]
    assert prepared("packtivity-run", *arguments, env={"PACKTIVITY_STRICT": "1"}).returncode == 4


def test_a_reader_that_stops_reading_is_no_error_message(prepared: Any) -> None:
    running = prepared.start("packtivity-run", "spec.yml", "-p", "name=x", *OUT)
    running.stdout.close()
    assert running.stderr.read() == ""
    assert running.wait() == 141


def test_help_into_a_closed_pipe_is_quiet(prepared: Any) -> None:
    running = prepared.start("packtivity-run", "--help")
    running.stdout.close()
    assert running.stderr.read() == ""
    assert running.wait() == 141


@pytest.mark.parametrize("arguments", [["spec.yml", "-p", "name=x", *OUT], ["--help"]], ids=["run", "help"])
def test_a_full_disk_under_standard_output_is_told(prepared: Any, arguments: list[str]) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    program = str(prepared_program("packtivity-run"))
    done = prepared.run(["sh", "-c", 'exec "$0" "$@" >/dev/full', program, *arguments])
    assert done.returncode == 74
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def prepared_program(name: str) -> Path:
    import sys

    return Path(sys.executable).with_name(name)


def wait_for(path: Path) -> str:
    until(lambda: path.exists() and path.read_text().strip())
    return path.read_text().strip()


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated"), (signal.SIGHUP, 129, "went away")],
)
def test_a_signal_ends_the_task_first(commands: Any, number: int, code: int, word: str) -> None:
    commands.spec("sleep 60 & echo $! > child; echo $$ > shell; wait")
    running = commands.start("packtivity-run", "spec.yml", *OUT)
    processes = [int(wait_for(commands.directory / name)) for name in ("child", "shell")]
    running.send_signal(number)
    _, said = running.communicate(timeout=20)
    assert running.returncode == code
    assert f"error: {word}" in said or f"error: the terminal {word}" in said
    log = commands.directory.resolve() / "_packtivity" / "packtivity_syncbackend.run.log"
    assert said.endswith(f"\n  The task was ended. Its output: {log}\n")
    assert "Traceback" not in said
    assert [pid for pid in processes if is_running(pid)] == []


@pytest.mark.parametrize("backend", ["foregroundasync", "multiproc:1"])
def test_an_interrupt_of_a_wait_ends_the_task_and_says_where_its_output_is(commands: Any, backend: str) -> None:
    commands.spec("echo $$ > shell; sleep 60")
    running = commands.start("packtivity-run", "-b", backend, "spec.yml", *OUT)
    process = int(wait_for(commands.directory / "shell"))
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=30)
    assert running.returncode == 130
    log = commands.directory.resolve() / "_packtivity" / "packtivity.run.log"
    assert said == f"error: interrupted\n  The task was ended. Its output: {log}\n"
    assert not is_running(process)


def test_an_interrupt_of_a_map_ends_what_runs_and_begins_nothing_else(commands: Any) -> None:
    commands.spec("echo $$ > shell; sleep 60")
    running = commands.start("packtivity", "map", "-b", "multiproc:2", "spec.yml", *OUT, "-p", "n=1..9")
    processes = [int(wait_for(commands.directory / "map" / name / "shell")) for name in ("0000", "0001")]
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=30)
    assert running.returncode == 130
    assert "the same command goes on where this one stopped" in said
    assert [pid for pid in processes if is_running(pid)] == []
    assert not list(commands.directory.glob("map/000[2-9]/shell"))


def test_a_detached_task_that_nobody_waits_for_goes_on(commands: Any, tmp_path: Path) -> None:
    commands.spec("echo yes > begun; while ! [ -e end ]; do sleep 0.05; done; touch '{outputfile}'")
    running = commands.start(
        "packtivity-run",
        "-b",
        "local",
        "spec.yml",
        "-p",
        "outputfile='{workdir}/o'",
        env={"PACKTIVITY_STATE_DIR": str(tmp_path)},
    )
    wait_for(commands.directory / "begun")
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=30)
    assert running.returncode == 130
    head, _, proxy = said.partition(" in a file: ")
    assert head == "error: interrupted\n  The task goes on where it was submitted. For packtivity-checkproxy,"
    commands.write("proxy.json", proxy)
    commands.write("end", "")
    done = commands("packtivity-checkproxy", "--wait", "proxy.json", env={"PACKTIVITY_STATE_DIR": str(tmp_path)})
    assert "successful: True" in done.stdout


def test_a_second_sigterm_does_not_disturb_the_end(commands: Any) -> None:
    cleaning = "echo yes > cleaning; sleep 0.5; touch cleaned; exit 1"
    commands.spec(f"trap '{cleaning}' INT TERM; echo yes > begun; while true; do sleep 0.05; done")
    running = commands.start("packtivity-run", "spec.yml", *OUT)
    for file in ("begun", "cleaning"):
        wait_for(commands.directory / file)
        running.terminate()
    running.communicate(timeout=20)
    assert running.returncode == 143
    assert (commands.directory / "cleaned").exists()


def test_an_ignored_hangup_stays_ignored(commands: Any) -> None:
    commands.spec("echo yes > begun; sleep 0.5")
    running = commands.start(
        "packtivity-run", "spec.yml", *OUT, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)
    )
    wait_for(commands.directory / "begun")
    running.send_signal(signal.SIGHUP)
    running.communicate(timeout=20)
    assert running.returncode == 0


def test_the_table_of_exit_codes_names_every_error_of_ours() -> None:
    table = exit_codes()
    names = {name for _, name, _ in table}
    assert set(errors.__all__) <= names | {"PacktivityError"}
    assert all(meaning.endswith((".", ")", ";")) or meaning for _, _, meaning in table)
    assert table == sorted(table)
    codes = {code for code, _, _ in table}
    assert {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 70, 73, 74, 129, 130, 131, 141, 143} <= codes


def test_codes_of_the_table_are_those_of_the_classes() -> None:
    by_name = {name: code for code, name, _ in exit_codes()}
    assert by_name["InvalidSpec"] == errors.InvalidSpec.exit_code == 1
    assert by_name["TaskFailed"] == errors.TaskFailed.exit_code == 6


def test_no_two_kinds_of_error_share_a_code_but_a_class_and_its_kind() -> None:
    shared: dict[int, set[str]] = {}
    for code, name, _ in exit_codes():
        shared.setdefault(code, set()).add(name)
    assert {code: names for code, names in shared.items() if len(names) > 1} == {
        4: {"MissingParameter", "ParameterError"},
        11: {"BackendError", "ConfigurationError"},
        130: {"SIGINT", "TaskCancelled"},
    }


def test_a_closed_standard_error_is_no_reason_to_fail(prepared: Any) -> None:
    done = prepared.run(["sh", "-c", 'exec "$0" nope.yml 2>&-', str(prepared_program("packtivity-run"))])
    assert done.returncode == 3


def test_messages_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert printable("a\x1b[2Jb\tc\r") == "a\\x1b[2Jb    c"
    assert conclude(errors.LoadError("gone", hint="Look.")) == 3
    assert capsys.readouterr().err == "error: gone\n  Look.\n"


def test_conclude_leaves_system_exit_alone() -> None:
    with pytest.raises(SystemExit):
        conclude(SystemExit(4))


def test_subprocesses_are_not_left_over(commands: Any) -> None:
    commands.spec("sleep 60 & echo $! > child")
    done = commands("packtivity-run", "spec.yml", *OUT)
    assert done.returncode == 0
    assert not is_running(int((commands.directory / "child").read_text()))
