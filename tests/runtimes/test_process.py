from __future__ import annotations

import gc
import os
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from packtivity import errors
from packtivity.runtimes import process, process_group
from packtivity.runtimes.cancellation import Cancellation
from packtivity.tasklog import RunLogFile
from packtivity.types import Execution


class Log:
    """Keeps what is written; fails on demand."""

    def __init__(self, error: Exception | None = None) -> None:
        self.content = b""
        self.notes: list[str] = []
        self.error = error

    def write(self, chunk: bytes) -> None:
        if self.error:
            raise self.error
        self.content += chunk

    def note(self, message: str) -> None:
        self.notes.append(message)


class Watcher:
    """A reporter that acts when some text comes out of the task."""

    def __init__(self, interval=None, text=b"", action=lambda: None) -> None:
        self.interval = interval
        self.events: list[object] = []
        self.text, self.action = text, action
        self.seen = b""

    def started(self, execution) -> None:
        self.events.append("started")

    def output(self, chunk) -> None:
        self.seen += chunk
        if self.text and self.text in self.seen:
            self.text = b""
            self.action()

    def tick(self) -> None:
        self.events.append("tick")

    def ended(self, completed) -> None:
        self.events.append(completed)


def shell(script: str, **more) -> Execution:
    return Execution(("sh", "-c", script), **more)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def children() -> set[int]:
    """Processes whose parent this one is, living or waiting to be collected; other tests may have some."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == os.getpid():
            found.add(int(stat.parent.name))
    return found


@pytest.fixture(autouse=True)
def _no_child_and_no_descriptor_is_left():
    gc.collect()  # what tests before this one have left to the collector has descriptors, too
    before = descriptors(), children()
    yield
    assert descriptors() <= before[0]  # fewer where something else of the tests closed one meanwhile
    assert children() - before[1] == set()


@pytest.fixture
def no_pidfd(monkeypatch):
    monkeypatch.delattr(os, "pidfd_open")


@pytest.fixture(params=["pidfd", "thread"])
def _either_way(request):
    if request.param == "thread":
        request.getfixturevalue("no_pidfd")


# --- the ordinary ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_either_way")
def test_output_and_error_arrive_in_one_stream_with_the_exit_code():
    log = Log()
    done = process.run(shell("echo out; echo err >&2; exit 3"), log=log)
    assert log.content == b"out\nerr\n"
    assert (done.returncode, done.output_bytes, done.tail, done.timed_out) == (3, 8, b"out\nerr\n", False)


def test_a_signal_is_a_negative_exit_code():
    assert process.run(shell("kill -SEGV $$")).returncode == -signal.SIGSEGV


def test_times_and_cpu_are_measured():
    before = time.time()
    done = process.run(Execution((sys.executable, "-c", "sum(i for i in range(2_000_000)); 'x' * 400_000_000")))
    assert before <= done.started < done.ended <= time.time()
    assert 0.02 < done.cpu < 10
    assert 400_000_000 < done.max_rss < 1_000_000_000


def test_no_input_is_an_empty_input():
    log = Log()
    process.run(shell("cat; echo end"), log=log)
    assert log.content == b"end\n"


@pytest.mark.parametrize("anonymous", [True, False])
def test_input_is_binary_safe_and_may_be_larger_than_a_pipe(anonymous, monkeypatch):
    if not anonymous:
        monkeypatch.delattr(os, "memfd_create")
    content = bytes(range(256)) * 4000
    log = Log()
    process.run(Execution(("cat",), stdin=content), log=log)
    assert log.content == content


def test_input_can_be_opened_again_by_name():
    log = Log()
    process.run(shell("cat /dev/stdin", stdin=b"macro"), log=log)
    assert log.content == b"macro"


def test_the_program_starts_in_the_work_directory_and_we_stay_where_we_are(tmp_path):
    here = os.getcwd()
    log = Log()
    process.run(Execution(("pwd",), workdir=str(tmp_path)), log=log)
    assert log.content.decode().strip() == os.path.realpath(tmp_path)
    assert os.getcwd() == here


def test_environment_is_inherited_added_to_or_replaced(monkeypatch):
    monkeypatch.setenv("MINE", "1")
    log = Log()
    process.run(shell('echo "$MINE$OTHER"', env={"OTHER": "2"}), log=log)
    process.run(shell('echo "$MINE$OTHER"', env={"OTHER": "2"}, inherit_env=False), log=log)
    assert log.content == b"12\n2\n"


def test_a_program_with_our_terminal_gets_variables_beside_ours(monkeypatch):
    monkeypatch.setenv("OURS", "1")
    assert process.attach(("sh", "-c", 'exit "$OURS$ADDED"'), env={"ADDED": "2"}) == 12
    assert process.attach(("sh", "-c", 'exit "$OURS$ADDED"')) == 1


def test_the_process_has_a_session_of_its_own():
    log = Log()
    process.run(shell("cut -d' ' -f6 /proc/self/stat; echo $$"), log=log)
    session, pid = log.content.split()
    assert session == pid


def test_output_without_line_end_and_binary_output_come_through():
    log = Log()
    process.run(Execution((sys.executable, "-c", "import os; os.write(1, bytes(range(256)) * 2000)")), log=log)
    assert log.content == bytes(range(256)) * 2000


def test_only_the_last_bytes_are_kept_as_tail():
    done = process.run(Execution((sys.executable, "-c", "print('x' * 100_000 + 'end', end='')")))
    assert len(done.tail) == process.TAIL
    assert done.tail.endswith(b"xend")
    assert done.output_bytes == 100_003


def test_waiting_for_a_process_that_closed_its_output_costs_no_cpu():
    before = time.process_time()
    done = process.run(shell("exec >&- 2>&-; sleep 0.5"))
    assert done.returncode == 0
    assert time.process_time() - before < 0.1


def test_the_reporter_sees_start_output_ticks_and_end():
    watcher = Watcher(interval=0.05)
    done = process.run(shell("echo hi; sleep 0.3"), reporter=watcher)
    assert watcher.events[0] == "started"
    assert watcher.events[-1] is done
    assert 2 <= watcher.events.count("tick") <= (done.ended - done.started) / 0.05 + 1
    assert watcher.seen == b"hi\n"


def test_two_hundred_runs_leak_neither_descriptor_nor_zombie():
    for _ in range(200):
        process.run(shell(":"))


@pytest.mark.soak
def test_five_thousand_runs_leak_neither_descriptor_nor_zombie():
    for _ in range(5000):
        process.run(shell(":"))


@pytest.mark.usefixtures("_either_way")
def test_threads_run_their_tasks_at_the_same_time():
    results: dict[int, bytes] = {}

    def one(number: int) -> None:
        log = Log()
        for _ in range(5):
            process.run(shell(f"echo {number}; sleep 0.02"), log=log)
        results[number] = log.content

    threads = [threading.Thread(target=one, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {n: b"%d\n" % n * 5 for n in range(8)}


def test_a_program_that_ignores_sigchld_still_gets_its_runs_back():
    script = (
        "import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "from packtivity.runtimes.process import run\nfrom packtivity.types import Execution\n"
        "print(run(Execution(('sh', '-c', 'echo hi'))).output_bytes)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=False)
    assert (done.stdout, done.stderr) == ("3\n", "")


# --- what cannot be started ------------------------------------------------------------------------------------


def test_a_missing_program_is_named():
    with pytest.raises(errors.EnvironmentUnavailable, match="'no-such-program' cannot be started: No such file"):
        process.run(Execution(("no-such-program",)))


def test_a_program_that_may_not_be_run_is_named(tmp_path):
    file = tmp_path / "plain"
    file.write_text("no program")
    with pytest.raises(errors.EnvironmentUnavailable, match=r"plain' cannot be started: Permission denied"):
        process.run(Execution((str(file),)))


def test_a_missing_work_directory_is_told_apart_from_a_missing_program(tmp_path):
    gone = str(tmp_path / "gone")
    with pytest.raises(errors.StateError, match=f"work directory {gone} cannot be entered"):
        process.run(Execution(("true",), workdir=gone))


def test_arguments_that_are_too_long_are_explained():
    with pytest.raises(errors.ParameterError, match=r"too long for this system \(one has 3000002 bytes\)") as caught:
        process.run(shell(": " + "x" * 3_000_000))
    assert "interpolated-script-cmd" in caught.value.hint


def test_a_nul_character_is_explained():
    with pytest.raises(errors.ParameterError, match="null byte"):
        process.run(Execution(("echo", "a\0b")))


def test_running_out_of_descriptors_ends_in_an_error_of_ours_and_no_process():
    script = (
        "import os, resource\n"
        "from packtivity import errors\nfrom packtivity.runtimes.process import run\n"
        "from packtivity.types import Execution\n"
        "import tempfile\n"
        "limit = 40\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))\n"
        "held = []\n"
        "try:\n    while True: held.append(os.dup(0))\nexcept OSError: pass\n"
        "seen = set()\n"
        "while held:\n"
        "    try: run(Execution(('true',))); seen.add('ran')\n"
        "    except errors.EnvironmentUnavailable: seen.add('refused')\n"
        "    os.close(held.pop())\n"
        "print(sorted(seen))\n"
        "try: os.waitpid(-1, 0)\nexcept ChildProcessError: print('none left')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout, done.stderr) == ("['ran', 'refused']\nnone left\n", "")


# --- endings ---------------------------------------------------------------------------------------------------

STUBBORN = "trap '' INT TERM; echo $$; sh -c \"trap '' INT TERM; echo \\$\\$; while :; do sleep 0.05; done\""


def interrupt(watcher: Watcher, script: str, grace: float = 0.2):
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        process.run(shell(script), reporter=watcher, grace=grace)
    return time.monotonic() - started


def test_ctrl_c_reaches_the_whole_tree_and_the_task_may_clean_up(tmp_path):
    marker = tmp_path / "cleaned"
    script = f"trap 'echo bye > {marker}; exit 1' INT; echo ready; sleep 30 & wait; sleep 30"
    watcher = Watcher(text=b"ready", action=lambda: signal.raise_signal(signal.SIGINT))
    assert interrupt(watcher, script, grace=10) < 5
    assert marker.read_text() == "bye\n"
    assert watcher.events[-1].returncode == 1


def test_a_tree_that_ignores_int_and_term_is_killed():
    def go() -> None:
        signal.raise_signal(signal.SIGINT)

    watcher = Watcher()
    watcher.output = lambda chunk: Watcher.output(watcher, chunk) or (watcher.seen.count(b"\n") == 2 and go())  # type: ignore[method-assign]
    assert 0.35 < interrupt(watcher, STUBBORN) < 5
    pids = [int(word) for word in watcher.seen.split()]
    assert len(pids) == 2
    assert not any(map(alive, pids))
    assert watcher.events[-1].returncode == -signal.SIGKILL


def test_a_second_ctrl_c_does_not_wait_for_the_grace_to_pass():
    again = [threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT)) for delay in (0.3, 0.6)]

    def go() -> None:
        for timer in again:
            timer.start()
        signal.raise_signal(signal.SIGINT)

    assert interrupt(Watcher(text=b"\n", action=go), STUBBORN, grace=60) < 10
    for timer in again:
        timer.join()


def test_ctrl_c_while_the_process_is_started_does_not_lose_it(monkeypatch):
    started: list[int] = []
    real = subprocess.Popen

    def interrupted(*args, **more):
        child = real(*args, **more)
        started.append(child.pid)
        signal.raise_signal(signal.SIGINT)
        return child

    monkeypatch.setattr(process.subprocess, "Popen", interrupted)
    with pytest.raises(KeyboardInterrupt):
        process.run(shell("sleep 60"), grace=0.2)
    assert not alive(started[0])
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("_either_way")
def test_time_out_ends_the_tree_and_says_so():
    started = time.monotonic()
    log = Log()
    done = process.run(shell("echo start; sleep 60 & sleep 60", timeout=0.2), log=log)
    assert done.timed_out
    assert done.returncode == -signal.SIGTERM
    assert time.monotonic() - started < 5
    assert log.content.startswith(b"start\n")


def test_time_out_kills_who_ignores_term():
    done = process.run(shell(STUBBORN, timeout=0.3), grace=0.2)
    assert done.timed_out
    assert done.returncode == -signal.SIGKILL


def test_time_out_of_a_task_that_writes_without_end():
    done = process.run(Execution(("yes",), timeout=0.3))
    assert done.timed_out


def test_a_task_that_ends_in_time_is_not_timed_out():
    assert not process.run(shell(":", timeout=10)).timed_out


@pytest.mark.parametrize("years", [0.1, 100, 1e12])
def test_a_time_limit_may_be_longer_than_the_system_can_wait_at_once(years):
    assert process.run(shell("sleep 0.01", timeout=years * 365 * 86400)).returncode == 0


def _lowest_free_descriptor() -> int:
    descriptor = os.open("/", os.O_RDONLY)
    os.close(descriptor)
    return descriptor


def test_too_many_open_files_are_told_as_such():
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (_lowest_free_descriptor(), hard))
    try:
        with pytest.raises(errors.EnvironmentUnavailable, match=r"Too many open files\n.*ulimit -n"):
            process.run(shell(":"))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_cancelling_from_another_thread_ends_every_run_that_watches():
    cancel = Cancellation()
    failures: list[BaseException] = []

    def one() -> None:
        try:
            process.run(shell("exec sleep 60"), cancel=cancel, grace=0.2)
        except errors.TaskCancelled as error:
            failures.append(error)

    threads = [threading.Thread(target=one) for _ in range(3)]
    for thread in threads:
        thread.start()
    cancel.cancel()
    cancel.cancel()
    for thread in threads:
        thread.join(10)
    assert len(failures) == 3
    with pytest.raises(errors.TaskCancelled), cancel:
        process.run(shell("exec sleep 60"), cancel=cancel, grace=0.2)


def test_a_log_that_fails_ends_the_task_and_is_the_error():
    watcher = Watcher(text=b"x")
    started = time.monotonic()
    with pytest.raises(errors.StateError, match="disk"):
        process.run(shell("echo x; sleep 60"), log=Log(errors.StateError("disk full")), reporter=watcher, grace=0.2)
    assert time.monotonic() - started < 5


def test_a_reporter_that_fails_ends_the_task_and_is_the_error():
    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        process.run(shell("echo x; sleep 60"), reporter=Watcher(text=b"x", action=fail), grace=0.2)


def test_the_end_of_this_program_by_sigterm_takes_the_task_along():
    script = (
        "import signal, sys\n"
        "def stop(*_): raise SystemExit(9)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "from packtivity.runtimes.process import run\nfrom packtivity.types import Execution\n"
        "class Show:\n"
        "    interval = None\n"
        "    started = ended = lambda self, _: None\n"
        "    def output(self, chunk): print(chunk.decode(), flush=True)\n"
        "run(Execution(('sh', '-c', 'echo $$; sleep 60')), reporter=Show(), grace=0.5)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        pid = int(program.stdout.readline())
        program.terminate()
        assert program.wait(10) == 9
    assert not alive(pid)


# --- what a task leaves behind ---------------------------------------------------------------------------------


def left_pid(log: Log) -> int:
    return int(log.content.split()[0])


@pytest.mark.parametrize("redirect", ["", ">/dev/null 2>&1"])
def test_background_processes_do_not_hold_the_run_up_and_do_not_outlive_it(redirect):
    log = Log()
    started = time.monotonic()
    done = process.run(shell(f"sleep 60 {redirect} & echo $!; exit 4"), log=log)
    assert time.monotonic() - started < 5
    assert done.returncode == 4
    assert not alive(left_pid(log))
    assert log.notes == ["ended 1 process that the task had left running"]


def test_a_background_process_that_ignores_term_is_killed():
    log = Log()
    script = "sh -c 'trap \"\" TERM; while :; do sleep 0.05; done' & echo $!; sleep 0.2"
    process.run(shell(script), log=log, grace=0.2)
    assert not alive(left_pid(log))


def test_a_background_job_with_a_group_of_its_own_is_found_by_its_session():
    log = Log()
    process.run(Execution(("bash", "-c", "sleep 61 & set -m; sleep 60 & echo $!")), log=log)
    assert not alive(left_pid(log))
    assert log.notes == ["ended 2 processes that the task had left running"]


def test_ending_a_task_ends_the_jobs_that_have_groups_of_their_own():
    log = Log()
    script = "set -m; sleep 63 & echo $!; set +m; exec sleep 64"
    process.run(Execution(("bash", "-c", script), timeout=0.5), log=log, grace=0.5)
    assert not alive(left_pid(log))


def test_who_left_the_session_and_writes_for_ever_does_not_hold_the_run_up():
    log = Log()
    started = time.monotonic()
    process.run(shell("setsid yes & sleep 0.1"), log=log)
    assert time.monotonic() - started < 5
    assert log.content.startswith(b"y\ny\n")  # and our end of the pipe being closed, it is gone now


def test_an_ordinary_run_leaves_nothing_to_note():
    log = Log()
    process.run(shell("sleep 0.01 & wait"), log=log)
    assert log.notes == []


def test_without_proc_the_group_is_ended_as_a_whole(monkeypatch):
    real = os.listdir

    def no_proc(path="."):
        if path == "/proc":
            raise FileNotFoundError(path)
        return real(path)

    monkeypatch.setattr(process_group.os, "listdir", no_proc)
    log = Log()
    process.run(shell("sleep 60 & echo $!"), log=log, grace=0.2)
    monkeypatch.undo()
    assert not alive(left_pid(log))


# --- speed and size --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command", ["head -c 200000000 /dev/zero", "yes 'a line of forty characters or nearly so' | head -c 200000000"]
)
def test_memory_stays_flat_whatever_the_output(tmp_path, command):
    script = (
        "import re, sys\n"
        "from packtivity.runtimes.process import run\nfrom packtivity.tasklog import RunLogFile\n"
        "from packtivity.types import Execution\n"
        "log = RunLogFile(sys.argv[1], 'pack.x.run')\n"
        "done = run(Execution(('sh', '-c', sys.argv[2])), log=log); log.close()\n"
        "peak = re.search(r'VmHWM:\\s*(\\d+)', open('/proc/self/status').read())[1]\n"
        "print(done.output_bytes, int(peak) * 1024)\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "log"), command], capture_output=True, text=True, check=True
    ).stdout
    count, memory = map(int, out.split())
    assert count == 200_000_000
    assert memory < 60_000_000
    assert (tmp_path / "log").stat().st_size >= count


def test_much_output_reaches_the_log_file_whole(tmp_path):
    log = RunLogFile(str(tmp_path / "log"), "pack.x.run")
    process.run(shell("seq 100000"), log=log)
    log.close()
    lines = (tmp_path / "log").read_text().splitlines()
    assert [line.rpartition(" | ")[2] for line in lines[1:]] == [str(n) for n in range(1, 100001)]


def test_a_pipe_that_cannot_be_widened_works_as_well(monkeypatch):
    import fcntl

    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    assert process.run(Execution(("head", "-c", "1000000", "/dev/zero"))).output_bytes == 1_000_000


def test_readiness_is_waited_for_and_never_slept_for(monkeypatch):
    polled: list[object] = []
    real = select.poll

    class Counting:
        def __init__(self) -> None:
            self.inner = real()
            self.register, self.unregister = self.inner.register, self.inner.unregister

        def poll(self, timeout):
            polled.append(timeout)
            return self.inner.poll(timeout)

    monkeypatch.setattr(process.select, "poll", Counting)
    process.run(shell("sleep 0.3"))
    assert polled.count(None) == len(polled) <= 3
