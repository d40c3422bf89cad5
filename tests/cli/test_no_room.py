"""Disks that are full, directories that may not be read or written, read-only mounts: real ones, at every stage.

A clear error and an exit code, nothing half-written, and what an earlier run has left stays readable.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jsonschema
import pytest
from room import PAGE, Room, mount, only_root
from specs import command_spec, from_parameters

from packtivity import record

BIN = Path(sys.executable).parent
SCHEMA = record.schema()
ENDS = {5, 6, 73, 74}
"""Exit codes for what cannot be written: the task's directories, the task itself, a file for the caller, the rest."""


@pytest.fixture
def room(tmp_path):
    only_root()
    made = Room(tmp_path / "room", 1 << 20)
    yield made
    made.close()


class Caller:
    """Runs our commands with specs in one folder."""

    def __init__(self, folder):
        self.folder = folder
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PACKTIVITY_")}
        self.environment = {**kept, "PACKTIVITY_STATE_DIR": str(folder / "state"), "HOME": str(folder)}

    def spec(self, cmd, name="spec"):
        document = command_spec(cmd, from_parameters({"o": "out", "n": "n"}))
        (self.folder / f"{name}.json").write_text(json.dumps(document))
        return str(self.folder / f"{name}.json")

    def __call__(self, program, *arguments, **more):
        return subprocess.run(
            [str(BIN / program), *map(str, arguments)],
            cwd=self.folder,
            env={**self.environment, **more},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    def run(self, workdir, cmd, *options, n=1):
        given = ("-p", "out='{workdir}/out'", "-p", f"n={n}", "-w", workdir)
        return self("packtivity-run", *given, *options, self.spec(cmd))


@pytest.fixture
def caller(tmp_path):
    return Caller(tmp_path)


def clear(done, *words):
    """Hold that a command ended with a message a person can use."""
    assert done.returncode in ENDS, (done.returncode, done.stderr)
    assert "Traceback" not in done.stderr
    assert "internal error" not in done.stderr
    assert done.stderr.count("error: ") >= 1
    for word in words:
        assert word in done.stderr


def read_whole(path):
    found = json.loads(path.read_text())
    jsonschema.Draft4Validator(SCHEMA).validate(found)
    return found


OUTCOME = "_packtivity/packtivity_syncbackend.outcome.json"
COMMANDS = {
    "quiet": "echo x > {out}",
    "talks": "echo x > {out}; head -c 9000 /dev/zero | tr '\\0' x",
    "fills": "cat /dev/zero > {out} 2>/dev/null; true",
    "writes and fails": "head -c 9000 /dev/zero > {out}",
}


@pytest.mark.parametrize("kind", COMMANDS)
@pytest.mark.parametrize("pages", [*range(4), *(pytest.param(n, marks=pytest.mark.soak) for n in range(4, 16))])
def test_a_run_on_a_full_disk_says_so_and_loses_nothing(room, caller, pages, kind):
    work, result = room.folder / "work", room.folder / "result.json"
    assert caller.run(work, "echo x > {out}; sleep 0.12", "-o", result).returncode == 0  # long enough for an fsync
    before = read_whole(work / OUTCOME)
    assert before["result"]["n"] == 1
    names = sorted(path.name for path in work.rglob("*"))
    room.leave(pages)
    done = caller.run(work, COMMANDS[kind], "-o", result, n=2)
    after = read_whole(work / OUTCOME)
    told = json.loads(result.read_text())
    if done.returncode == 0:
        assert (after["status"], after["result"]["n"], told["n"]) == ("succeeded", 2, 2)
    else:
        clear(done, "No space left on device")
        assert told["n"] == 1 if done.returncode != 73 else told["n"] in (1, 2)
        assert after == before or (
            after["parameters"]["n"] == 2 and (after["status"] == "failed" or done.returncode == 73)
        )
    assert sorted(path.name for path in work.rglob("*")) == names
    assert sorted(path.name for path in room.folder.iterdir()) == ["ballast", "result.json", "work"]
    room.ballast.unlink()
    (work / "out").unlink(missing_ok=True)
    assert caller.run(work, "echo x > {out}", "-o", result, n=3).returncode == 0
    assert json.loads(result.read_text())["n"] == 3


def test_output_that_does_not_fit_into_the_log_ends_the_task(room, caller):
    done = caller.run(room.folder / "work", "echo $$ > {out}; yes")
    clear(done, "run.log cannot be written: No space left on device")
    assert done.returncode == 5
    assert not list((room.folder / "work" / "_packtivity").glob("*.tmp"))


@pytest.mark.engines
def test_there_are_no_files_left_to_be_made(tmp_path, caller):
    only_root()
    room = Room(tmp_path / "room", "1m,nr_inodes=12")
    try:
        work = room.folder / "work"
        assert caller.run(work, "echo x > {out}").returncode == 0
        with suppress(OSError):
            for number in range(20):
                (room.folder / f"file{number}").touch()
        done = caller.run(work, "echo x > {out}", n=2)
        clear(done, "No space left on device")
        assert read_whole(work / OUTCOME)["result"]["n"] == 1
    finally:
        room.close()


@pytest.mark.parametrize("pages", [0, 1])
def test_a_proxy_that_cannot_be_written_is_at_least_printed(room, caller, pages):
    proxy = room.folder / "proxy.json"
    proxy.write_text('{"earlier": true}')
    room.leave(pages)
    big = "-p", f"big={'x' * 3 * PAGE}"
    done = caller.run(caller.folder / "work", "echo x > {out}", "-b", "foregroundasync", "--async", "-x", proxy, *big)
    if pages == 0:
        clear(done, str(proxy), "No space left")
        assert done.returncode == 73
        assert json.loads(proxy.read_text()) == {"earlier": True}
    assert json.loads(done.stdout.splitlines()[-1].removeprefix("proxy-json "))["proxyname"] == "ForegroundProxy"
    assert sorted(path.name for path in room.folder.iterdir()) == ["ballast", "proxy.json"]


def test_what_was_fetched_is_used_even_if_it_cannot_be_kept(room, caller):
    content = Path(caller.spec("echo x > {out}")).read_bytes()

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        room.leave(0)
        address = f"http://127.0.0.1:{server.server_port}/spec.json"
        done = caller("packtivity-validate", address, PACKTIVITY_CACHE_DIR=str(room.folder / "cache"))
        server.shutdown()
    assert (done.returncode, done.stderr) == (0, "")
    assert not [path for path in room.folder.rglob("*") if path.is_file() and path != room.ballast]


@pytest.mark.parametrize(
    "pages", [0, 2, pytest.param(6, marks=pytest.mark.soak), pytest.param(4, marks=pytest.mark.soak)]
)
def test_a_map_goes_on_where_it_stopped_for_want_of_room(room, caller, pages):
    argv = ("map", caller.spec("echo {n} > {out}"), "-p", "out='{workdir}/out'", "-w", room.folder / "map")
    table = room.folder / "map" / "results.csv"
    assert caller("packtivity", *argv, "-p", "n=1..2", "-b", "foregroundasync").returncode == 0
    earlier = table.read_text()
    room.leave(pages)
    done = caller("packtivity", *argv, "-p", "n=1..6", "-b", "foregroundasync")
    clear(done, "No space left on device")
    assert table.read_text() == earlier or table.read_text().count("\n") == 7
    assert not list(room.folder.rglob("*.tmp"))
    assert [
        read_whole(path)["status"] for path in sorted(room.folder.glob("map/000[01]/_packtivity/*outcome.json"))
    ] == [
        "succeeded",
        "succeeded",
    ]
    room.ballast.unlink()
    assert caller("packtivity", *argv, "-p", "n=1..6", "-b", "foregroundasync").returncode == 0
    assert table.read_text().count("succeeded") == 6


def test_tasks_cannot_be_submitted_without_room_and_those_that_were_are_not_lost(room, caller):
    caller.environment["PACKTIVITY_STATE_DIR"] = str(room.folder / "state")
    hold = "while [ ! -e ../go ]; do sleep 0.05; done; echo x > {out}"
    submit = ("-b", "local:2", "--async", "-x")
    assert caller.run(caller.folder / "one", hold, *submit, "one.proxy").returncode == 0
    room.leave(0)
    done = caller.run(caller.folder / "two", "true", *submit, "two.proxy")
    clear(done, "No space left on device")
    assert not (caller.folder / "two.proxy").exists()
    (caller.folder / "go").touch()
    told = caller("packtivity-checkproxy", "--wait", "--timeout", "3s", "one.proxy")
    assert told.returncode in (0, 75), told.stderr
    room.ballast.unlink()
    told = caller("packtivity-checkproxy", "--wait", "--timeout", "60s", "one.proxy")
    assert (told.returncode, told.stderr) == (0, "")
    log = next((room.folder / "state").glob("detached/*/supervisor.log"))
    assert "Traceback" not in log.read_text()
    _end_supervisor(room.folder)


def _end_supervisor(folder):
    """End what still has files of the disk open, by process id."""
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            if str(folder).encode() in Path(f"/proc/{name}/environ").read_bytes() and int(name) != os.getpid():
                os.kill(int(name), 15)


def test_a_read_only_disk_is_named(room, caller):
    work = room.folder / "work"
    assert caller.run(work, "echo x > {out}").returncode == 0
    mount("-o", "remount,ro", str(room.folder))
    for place in (work, room.folder / "new"):
        done = caller.run(place, "echo x > {out}", n=2)
        clear(done, "Read-only file system", str(room.folder))
        assert done.returncode == 5
    assert read_whole(work / OUTCOME)["result"]["n"] == 1
    done = caller.run(caller.folder / "w", "echo x > {out}", "-o", room.folder / "result.json")
    clear(done, "cannot be written")
    assert not (caller.folder / "w" / "out").exists()  # said before anything has run


# --- as somebody who may not -----------------------------------------------------------------------------------

AS_NOBODY = """
import contextlib, io, json, os, sys
warm, uid = json.loads(sys.argv[1])
import difflib, importlib, logging.handlers, pkgutil, traceback, packtivity
from packtivity import cli
for module in pkgutil.walk_packages(packtivity.__path__, "packtivity."):  # may not be for this user to read
    if not module.name.startswith(("packtivity.backends.c", "packtivity.backends.i", "packtivity.backends.k")):
        importlib.import_module(module.name)
for arguments in warm:  # as may not be what is imported when it is needed
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        with contextlib.suppress(SystemExit):
            cli.runcli.main(arguments)
print("ready", flush=True)
for line in sys.stdin:
    argv, environment, out, err = json.loads(line)
    child = os.fork()
    if child:
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        continue
    for number, path, flags in ((0, os.devnull, os.O_RDONLY), (1, out, os.O_WRONLY), (2, err, os.O_WRONLY)):
        os.dup2(os.open(path, flags), number)
    os.environ.update(environment)
    os.chdir("/")
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
    getattr(cli, argv[0]).main(argv[1:], prog_name=argv[0])
"""
NOBODY = 65534


@pytest.fixture
def nobody(nobodies):
    """Run commands as somebody who owns one folder only."""
    nobodies.folder = Path(tempfile.mkdtemp(prefix="theirs-", dir=nobodies.place))
    owned(nobodies.folder, 0o755)
    return nobodies


@pytest.fixture(scope="module")
def nobodies():
    """Start who runs them; pytest's own folders are for one user alone."""
    open_to_all = Path(tempfile.mkdtemp(prefix="packtivity-tests-", dir="/tmp"))
    open_to_all.chmod(0o755)
    with _as_nobody(Caller(open_to_all), open_to_all) as run:
        yield run
    shutil.rmtree(open_to_all, ignore_errors=True)


@contextmanager
def _as_nobody(caller, tmp_path):
    """Start a process that has imported everything, of which each command is a copy."""
    warm_work = tmp_path / "warm"
    spec, failing = caller.spec("echo x > {out}"), caller.spec("echo {nope}; exit 1", "failing")
    os.chmod(spec, 0o644)
    given = ["-p", "out='{workdir}/out'", "-p", "n=1"]
    warm = [
        [*given, "-w", str(warm_work), "-o", str(tmp_path / "warm.json"), spec],
        [*given, "-w", str(warm_work), failing],
        [*given, "-w", "/dev/null/x", spec],
        [*given, "-w", str(warm_work), "-b", "foregroundasync", "--async", "-x", str(tmp_path / "warm.proxy"), spec],
    ]

    def run(*arguments, program="runcli", **environment):
        listed = [program, *(given if program == "runcli" else []), *map(str, arguments)]
        out, err = tmp_path / "stdout", tmp_path / "stderr"
        for path in (out, err):
            path.write_text("")
        print(json.dumps([listed, environment, str(out), str(err)]), file=process.stdin, flush=True)
        code = int(process.stdout.readline())
        return subprocess.CompletedProcess(listed, code, out.read_text(), err.read_text())

    run.spec, run.place = spec, tmp_path
    argv = [sys.executable, "-c", AS_NOBODY, json.dumps([warm, NOBODY])]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(argv, env=caller.environment, **pipes) as process:
        assert process.stdout.readline() == "ready\n"
        yield run
        process.stdin.close()


def owned(path, mode):
    if os.getuid() == 0:
        os.chown(path, NOBODY, NOBODY)
    os.chmod(path, mode)


def test_every_directory_that_may_not_be_written_is_named(nobody):
    work = nobody.folder / "work"
    assert nobody("-w", work, nobody.spec).returncode == 0
    before = read_whole(work / OUTCOME)
    owned(work / "_packtivity", 0o555)
    done = nobody("-w", work, nobody.spec)
    clear(done, "Permission denied", str(work / "_packtivity"))
    assert read_whole(work / OUTCOME) == before
    owned(work / "_packtivity", 0o755)
    closed = nobody.folder / "closed"
    closed.mkdir()
    owned(closed, 0o555)
    done = nobody("-w", closed / "new", nobody.spec)
    clear(done, "Permission denied", str(closed))
    for option in ("-o", "-x"):
        extra = ("-b", "foregroundasync", "--async") if option == "-x" else ()
        done = nobody("-w", work, *extra, option, closed / "file", nobody.spec)
        clear(done, "cannot be written", str(closed))
        assert done.returncode == 73
    done = nobody(
        "-w", work, "-b", "local:1", "--async", "-x", work / "x", nobody.spec, PACKTIVITY_STATE_DIR=str(closed)
    )
    clear(done, str(closed))


def test_every_file_that_may_not_be_read_is_named(nobody):
    work, shut = nobody.folder / "work", nobody.folder / "shut"
    shut.mkdir()
    (shut / "spec.json").write_text(Path(nobody.spec).read_text())
    (nobody.folder / "par.yml").write_text("n: 1\n")
    owned(shut, 0o000)
    owned(nobody.folder / "par.yml", 0o000)
    for arguments, place, code in (
        (("-w", work, shut / "spec.json"), shut, 3),
        (("-w", work, nobody.spec, nobody.folder / "par.yml"), nobody.folder / "par.yml", None),
        (("-w", shut / "work", nobody.spec), shut, 5),
    ):
        done = nobody(*arguments)
        assert done.returncode in (3, 4, 5) if code is None else done.returncode == code, done.stderr
        assert "Permission denied" in done.stderr
        assert str(place) in done.stderr
        assert "Traceback" not in done.stderr
    owned(shut, 0o700)


def test_a_record_that_may_not_be_read_is_named_by_who_asks(nobody):
    work = nobody.folder / "work"
    assert nobody("-w", work, nobody.spec).returncode == 0
    unreadable = work / "_packtivity" / "x.a.outcome.json"
    unreadable.write_text((work / OUTCOME).read_text())
    for path in (unreadable, work / OUTCOME):
        owned(path, 0o000)
    details = {"task_id": "a", "record": str(unreadable), "runner": {}}
    proxy = nobody.folder / "proxy.json"
    proxy.write_text(json.dumps({"proxyname": "MultiProcProxy", "proxydetails": details}))
    proxy.chmod(0o644)
    done = nobody(proxy, program="checkproxy")
    assert (done.returncode, "Traceback" in done.stderr) == (12, False)
    assert f"{unreadable} cannot be read: Permission denied" in done.stderr
    assert nobody("-w", work, nobody.spec).returncode == 0  # another run replaces it all the same
    assert read_whole(work / OUTCOME)["status"] == "succeeded"
