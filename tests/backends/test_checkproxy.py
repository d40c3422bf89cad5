"""The commands that submit tasks and ask for them, on real backends, piped and at a terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import jsonschema
import pytest
from specs import command_spec, from_parameters
from waiting import until, until_idle

from packtivity import record

BIN = Path(sys.executable).parent
GONE = {"proxyname": "LocalProxy", "proxydetails": {"task_id": "0-gone", "host": os.uname().nodename}}


class Desk:
    """A folder in which a user submits tasks and asks for them."""

    def __init__(self, folder, **environment):
        self.folder = folder
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PACKTIVITY_")}
        self.environment = {**kept, "PACKTIVITY_STATE_DIR": str(folder / "state"), "TERM": "xterm", **environment}
        self.environment.pop("NO_COLOR", None)
        self.started = []

    def argv(self, program, *arguments):
        return [str(BIN / program), *map(str, arguments)]

    def __call__(self, program, *arguments):
        return subprocess.run(
            self.argv(program, *arguments),
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def start(self, program, *arguments, **streams):
        chosen = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
        argv = self.argv(program, *arguments)
        process = subprocess.Popen(argv, cwd=self.folder, env=self.environment, start_new_session=True, **chosen)
        self.started.append(process)
        return process

    def spec(self, name, cmd):
        document = command_spec(cmd, from_parameters({"o": "out"}))
        (self.folder / f"{name}.json").write_text(json.dumps(document))
        return f"{name}.json"

    def options(self, name, backend):
        return ("-b", backend, "-p", "out='{workdir}/out'", "-w", self.folder / name)

    def submit(self, name, cmd, *options, backend="local:4"):
        """Submit a task and return the name of its proxy file."""
        spec = self.spec(name, cmd)
        done = self("packtivity-run", *self.options(name, backend), "--async", "-x", f"{name}.proxy", *options, spec)
        assert done.returncode == 0, done.stderr
        return f"{name}.proxy"

    def run(self, name, cmd, *options, backend):
        return self("packtivity-run", *self.options(name, backend), *options, self.spec(name, cmd))

    def check(self, *arguments):
        return self("packtivity-checkproxy", *arguments)

    def record(self, name):
        """Return the record of the last task in a folder, which fits the schema."""
        paths = sorted((self.folder / name / "_packtivity").glob("packtivity*.outcome.json"), key=lambda p: len(p.name))
        found = json.loads(paths[0].read_text())
        jsonschema.Draft4Validator(record.schema()).validate(found)
        return found

    def end(self):
        for process in self.started:
            with process:
                process.kill()
        supervisor = self.folder / "state" / "local" / os.uname().nodename
        for proxy in self.folder.glob("*.proxy"):
            if supervisor.is_dir():
                self.check("--cancel", proxy)


@pytest.fixture
def desk(tmp_path):
    made = Desk(tmp_path)
    yield made
    made.end()


HOLD = "touch begun; while [ ! -e ../go ]; do sleep 0.05; done; echo said; echo x > {out}"


@pytest.mark.parametrize("backend", ["local:4", "foregroundasync"])
def test_the_exit_code_says_how_a_task_went(desk, backend):
    good = desk.submit("good", "echo x > {out}", backend=backend)
    bad = desk.submit("bad", "echo alas >&2; exit 3", backend=backend)
    done = desk.check("--wait", good)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f'ready: True\nsuccessful: True\nresult: {{"o": "{desk.folder}/good/out"}}\n'
    done = desk.check("--wait", bad)
    assert (done.returncode, done.stdout) == (6, "ready: True\nsuccessful: False\n")
    assert "exit code 3" in done.stderr
    assert "alas" in done.stderr


@pytest.mark.parametrize("backend", ["defaultsync", "multiproc:1", "local:4", "externalasync:default"])
def test_a_mistake_has_the_same_exit_code_wherever_it_is_found(desk, backend):
    done = desk.run("wrong", "echo {nope} > {out}", backend=backend)
    assert (done.returncode, "no parameter is called 'nope'" in done.stderr) == (4, True)
    assert "MissingName" not in done.stderr


def test_a_task_that_runs_and_one_that_nobody_knows_have_exit_codes_of_their_own(desk):
    held = desk.submit("held", HOLD)
    (desk.folder / "gone.proxy").write_text(json.dumps(GONE))
    (desk.folder / "odd.proxy").write_text("{")
    done = desk.check(held)
    assert (done.returncode, done.stdout, done.stderr) == (75, "ready: False\n", "")
    for name in ("gone.proxy", "odd.proxy", "none.proxy"):
        done = desk.check(name)
        assert done.returncode == 12
        assert done.stderr
    assert desk.check(held, "gone.proxy").returncode == 12
    (desk.folder / "go").touch()
    assert desk.check("--wait", held).returncode == 0


def test_several_files_are_told_one_by_one_and_as_json(desk):
    names = [desk.submit(f"t{n}", f"echo said {n}; exit {n % 3}") for n in range(5)]
    (desk.folder / "gone.proxy").write_text(json.dumps(GONE))
    done = desk.check("--wait", "--format", "json", *names)
    assert done.returncode == 6
    told = json.loads(done.stdout)
    assert [entry["file"] for entry in told] == names
    assert [entry["status"] for entry in told] == ["succeeded", "failed", "failed", "succeeded", "failed"]
    assert [(entry["error"] or {}).get("returncode") for entry in told] == [None, 1, 2, None, 1]
    assert told[0]["result"] == {"o": f"{desk.folder}/t0/out"}
    assert all("said" in Path(entry["log"]).read_text() for entry in told)
    done = desk.check(*names, "gone.proxy")
    assert done.returncode == 12
    assert done.stdout.count("ready: True") == 5
    assert done.stdout.count("unknown: True") == 1
    assert [line for line in done.stdout.splitlines() if line.endswith(":")] == [
        f"{n}:" for n in (*names, "gone.proxy")
    ]


def test_waiting_ends_with_the_task_or_when_the_time_is_over(desk):
    held = desk.submit("held", HOLD)
    began = time.monotonic()
    done = desk.check("--wait", "--timeout", "1s", held)
    assert 1 <= time.monotonic() - began < 15
    assert (done.returncode, done.stdout) == (75, "ready: False\n")
    waiting = desk.start("packtivity-checkproxy", "--wait", held)
    time.sleep(0.5)
    assert waiting.poll() is None
    (desk.folder / "go").touch()
    assert waiting.wait(30) == 0


def test_logs_are_what_the_task_printed(desk):
    name = desk.submit("logs", "echo one; echo two >&2; printf three")
    done = desk.check("--wait", "--logs", name)
    assert [line.rpartition(" | ")[2] for line in done.stdout.splitlines()[3:]] == ["one", "two", "three"]
    (desk.folder / "gone.proxy").write_text(json.dumps(GONE))
    assert "there is no run log" in desk.check("--logs", name, "gone.proxy").stderr


def test_a_log_that_is_a_pipe_is_not_waited_for(desk):
    name = desk.submit("logs", "true")
    assert desk.check("--wait", name).returncode == 0
    (log,) = (desk.folder / "logs" / "_packtivity").glob("*.run.log")
    log.unlink()
    os.mkfifo(log)
    assert "there is no run log that can be read" in desk.check("--logs", name).stderr
    assert desk.check("--follow", name).returncode == 0


def test_following_shows_lines_while_the_task_still_runs(desk):
    name = desk.submit("follow", "echo early; " + HOLD)
    following = desk.start("packtivity-checkproxy", "--follow", name)
    assert b"early" in _line(following.stdout)
    assert not (desk.folder / "follow" / "out").exists()
    (desk.folder / "go").touch()
    rest, _ = following.communicate(timeout=30)
    assert b"said" in rest
    assert rest.endswith(f'ready: True\nsuccessful: True\nresult: {{"o": "{desk.folder}/follow/out"}}\n'.encode())
    assert following.returncode == 0


def test_what_is_followed_does_not_mix_with_the_document_for_programs(desk):
    done = desk.check("--follow", "--format", "json", desk.submit("follow", "echo said; echo x > {out}"))
    assert done.returncode == 0
    assert [entry["status"] for entry in json.loads(done.stdout)] == ["succeeded"]
    assert "said" in done.stderr


@pytest.mark.parametrize("options", [("--logs",), ("--follow",), ("--follow", "--format", "json")])
@pytest.mark.parametrize("closed", [1, 2])
def test_a_closed_stream_is_no_reason_not_to_answer(desk, options, closed):
    asked = desk.argv("packtivity-checkproxy", *options, desk.submit("good", "echo said; echo x > {out}"))
    until(lambda: desk.check("good.proxy").returncode == 0)
    shell = ["sh", "-c", f'"$@" {closed}>&-', "sh", *asked]
    done = subprocess.run(shell, cwd=desk.folder, env=desk.environment, capture_output=True, text=True, check=False)
    assert (done.returncode, "error" in done.stderr.replace('"error": null', "")) == (0, False)


def test_a_message_says_which_file_it_is_about(desk):
    (desk.folder / "odd.proxy").write_text('{"proxyname": "LocalProxy", "proxydetails": null}')
    done = desk.check("odd.proxy")
    assert (done.returncode, "proxy file odd.proxy: " in done.stderr) == (12, True)
    bad = desk.submit("bad", "exit 3")
    done = desk.check("--wait", bad, "odd.proxy")
    assert done.returncode == 12
    assert f"warning: {bad}: the task failed: TaskFailed: " in done.stderr
    assert "warning: odd.proxy: the task is not known: " in done.stderr


def _line(stream, seconds=30.0):
    assert select.select([stream], [], [], seconds)[0]
    return stream.readline()


def test_cancelling_ends_what_runs_and_what_waits_and_leaves_what_is_over(desk):
    over = desk.submit("over", "true", backend="local:1")
    assert desk.check("--wait", over).returncode == 0
    runs = desk.submit("runs", "echo $$ > pid; sleep 300", backend="local:1")
    until((desk.folder / "runs" / "pid").exists)
    names = [desk.submit(f"waits{n}", "true", backend="local:1") for n in range(8)]
    desk.check("--cancel", over, runs, *names)
    done = desk.check("--wait", "--timeout", "60s", "--format", "json", over, runs, *names)
    told = [entry["status"] for entry in json.loads(done.stdout)]
    assert done.returncode == 6
    assert told[:2] == ["succeeded", "cancelled"]
    assert set(told[2:]) <= {"cancelled", "succeeded"}
    assert not Path(f"/proc/{(desk.folder / 'runs' / 'pid').read_text().strip()}").exists()
    assert desk.record("over")["status"] == "succeeded"
    assert desk.record("runs")["status"] == "cancelled"


def test_a_task_that_cannot_be_cancelled_leaves_none_of_the_others_running(desk):
    given = (*desk.options("pool", "multiproc:1"), "--async", "-x", "pool.proxy")
    pool = desk.start("packtivity-run", *given, desk.spec("pool", HOLD))
    until(lambda: (desk.folder / "pool" / "begun").exists() and (desk.folder / "pool.proxy").exists())
    runs = desk.submit("runs", HOLD)
    until((desk.folder / "runs" / "begun").exists)
    (desk.folder / "state" / "seal.key").unlink()  # the one by which the pool's task is known to be ours
    done = desk.check("--cancel", "pool.proxy", runs)
    assert (done.returncode, "cannot be asked to end it" in done.stderr) == (11, True)
    assert json.loads(desk.check("--wait", "--format", "json", runs).stdout)[0]["status"] == "cancelled"
    (desk.folder / "go").touch()
    assert pool.wait(30) == 0


def test_a_task_of_somebody_s_pool_is_ended_by_asking(desk):
    given = (*desk.options("pool", "multiproc:1"), "--async", "-x", "pool.proxy")
    pool = desk.start("packtivity-run", *given, desk.spec("pool", HOLD))
    until(lambda: (desk.folder / "pool" / "begun").exists() and (desk.folder / "pool.proxy").exists())
    assert desk.check("pool.proxy").returncode == 75
    assert desk.check("--cancel", "pool.proxy").returncode in (6, 75)
    done = desk.check("--wait", "--timeout", "60s", "--format", "json", "pool.proxy")
    assert (done.returncode, json.loads(done.stdout)[0]["status"]) == (6, "cancelled")
    pool.wait(30)
    assert desk.record("pool")["status"] == "cancelled"


class Terminal:
    """A terminal for the standard error of a command; what is drawn on it is read all the time."""

    def __init__(self):
        self.master, self.slave = pty.openpty()
        self.seen = b""
        self._reader = threading.Thread(target=self._read, daemon=True)

    def __enter__(self):
        self._reader.start()
        return self

    def _read(self):
        while True:
            try:
                chunk = os.read(self.master, 4096)
            except OSError:
                return
            self.seen += chunk

    def __exit__(self, *_):
        os.close(self.slave)
        self._reader.join(5)
        os.close(self.master)


def test_a_progress_bar_counts_tasks_at_a_terminal_and_is_silent_when_piped(desk):
    names = [desk.submit(f"p{n}", "exit 1" if n < 2 else HOLD if n == 5 else "true") for n in range(6)]
    with Terminal() as terminal:
        waiting = desk.start("packtivity-checkproxy", "--wait", *names, stderr=terminal.slave)
        until(lambda: b"5/6 tasks, 2 failed" in terminal.seen)
        (desk.folder / "go").touch()
        out, _ = waiting.communicate(timeout=30)
        until(lambda: terminal.seen.rfind(b"\x1b[K") > 0)
    assert waiting.returncode == 6
    assert re.search(rb"\[#+\.+\] 5/6 tasks, 2 failed", terminal.seen)
    assert b"\x1b" not in out
    done = desk.check("--wait", *names)
    assert "tasks" not in done.stderr
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize("how", [["--wait"], ["--follow"]])
def test_ctrl_c_ends_the_waiting_and_not_the_task(desk, how):
    name = desk.submit("held", HOLD)
    until((desk.folder / "held" / "begun").exists)
    waiting = desk.start("packtivity-checkproxy", *how, name)
    until_idle(waiting.pid)
    waiting.send_signal(signal.SIGINT)
    _, err = waiting.communicate(timeout=30)
    assert waiting.returncode == 130
    assert err == b"error: interrupted\n"
    assert desk.check(name).returncode == 75
    (desk.folder / "go").touch()
    assert desk.check("--wait", name).returncode == 0


# --- options that go with a task -------------------------------------------------------------------------------


IN_ONE_WORD = ["defaultsync", "foregroundasync", "multiproc:1", "local:2", "externalasync:default"]


@pytest.fixture(params=[*IN_ONE_WORD, pytest.param("celery", marks=pytest.mark.engines)])
def backend(request, desk):
    """Each backend that the command can be told about in one word."""
    if request.param == "celery":
        conf = request.getfixturevalue("celery_redis").app.conf
        desk.environment |= {
            "PACKTIVITY_CELERY_REDIS_BROKER": conf.broker_url,
            "PACKTIVITY_CELERY_RESULTS": conf.result_backend,
            "PACKTIVITY_CELERY_QUEUE": conf.task_default_queue,
            "PACKTIVITY_STATE_DIR": request.getfixturevalue("state_home"),
        }
    return request.param


def test_what_may_pass_is_tried_again_and_nothing_else(desk, backend):
    flaky = "echo x >> ../tries; test $(wc -l < ../tries) -ge 3; echo x > {out}"
    flaky = flaky.replace("-ge 3;", "-ge 3 || exit 9;")
    done = desk.run("flaky", flaky, "--retries", "2", backend=backend)
    assert (done.returncode, desk.record("flaky")["attempts"]) == (0, 3), done.stderr
    (desk.folder / "tries").unlink()
    done = desk.run("once", "echo x >> ../tries; no-such-program-at-all", "--retries", "3", backend=backend)
    assert (done.returncode, desk.record("once")["attempts"]) == (6, 1)
    assert (desk.folder / "tries").read_text() == "x\n"
    done = desk.run("enough", "exit 9", "--retries", "1", backend=backend)
    assert (done.returncode, desk.record("enough")["attempts"]) == (6, 2)


def test_a_task_that_takes_too_long_is_ended(desk, backend):
    done = desk.run("long", "echo $$ > pid; sleep 300", "--timeout", "1s", "--retries", "2", backend=backend)
    assert done.returncode == 7
    assert "longer than 1 s" in done.stderr
    written = desk.record("long")
    assert (written["timed_out"], written["attempts"], written["error"]["type"]) == (True, 1, "TaskTimeout")
    assert not Path(f"/proc/{(desk.folder / 'long' / 'pid').read_text().strip()}").exists()


def test_externalasync_prints_no_log_lines_and_finds_what_is_not_there(desk):
    done = desk.run("bad", "exit 3", backend="externalasync:default")
    assert (done.returncode, done.stderr.count("exit code 3"), " INFO " in done.stderr) == (6, 1, False)
    done = desk.run("lost", "true", backend="externalasync:default")
    assert (done.returncode, "warning[missing-output]" in done.stderr) == (0, True)
    done = desk.run("lost", "true", "--strict", backend="externalasync:default")
    assert (done.returncode, "is not there after the run" in done.stderr) == (9, True)


def test_a_job_of_externalasync_whose_result_cannot_be_published_has_failed_and_is_known(desk):
    unreadable = {"publisher_type": "fromyaml-pub", "yamlfile": "nowhere.yml"}
    document = json.loads((desk.folder / desk.spec("unpub", "true")).read_text())
    (desk.folder / "unpub.json").write_text(json.dumps({**document, "publisher": unreadable}))
    options = desk.options("unpub", "externalasync:default")
    assert desk("packtivity-run", *options, "--async", "-x", "unpub.proxy", "unpub.json").returncode == 0
    done = desk.check("--wait", "unpub.proxy")
    assert (done.returncode, done.stdout) == (6, "ready: True\nsuccessful: False\n")
    assert "PublishError" in done.stderr


def test_a_signal_ends_a_job_of_externalasync_and_says_so(desk):
    spec = desk.spec("job", "echo $$ > pid; exec sleep 300")
    running = desk.start("packtivity-run", *desk.options("job", "externalasync:default"), spec, text=True)
    pid = desk.folder / "job" / "pid"
    until(lambda: pid.exists() and pid.read_text().strip())
    running.send_signal(signal.SIGTERM)
    _, told = running.communicate(timeout=30)
    assert (running.returncode, "goes on" in told) == (143, False)
    assert desk.record("job")["status"] == "cancelled"
    assert not Path(f"/proc/{pid.read_text().strip()}").exists()


@pytest.mark.parametrize("backend", ["local:4", "multiproc:1", "externalasync:default"])
def test_a_secret_parameter_is_nowhere_but_in_what_the_task_printed(desk, backend):
    desk.environment["MY_TOKEN"] = "environment-secret"
    spec = desk.spec("hush", "echo {api_token} $MY_TOKEN >&2; exit 3")
    secret = ("-p", "api_token=parameter-secret")
    done = desk("packtivity-run", *desk.options("hush", backend), *secret, spec)
    assert (done.returncode, "-secret" in done.stderr) == (6, False)
    kept = [*desk.folder.rglob("*.outcome.json"), *(desk.folder / "state" / "tasks").glob("*")]
    assert len(kept) >= 2
    assert not [path for path in kept if path.is_file() and "-secret" in path.read_text()]
