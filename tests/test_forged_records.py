"""What a task does to the directory of its record: it neither writes its own record nor reaches another file by it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from specs import command_spec, constant
from waiting import until

from packtivity import claims, errors, lease, record, runners
from packtivity.backends import task_files
from packtivity.backends.task_files import Entry, TaskFiles
from packtivity.handlers.config import ExecutionConfig
from packtivity.syncbackends import defaultsyncbackend
from packtivity.task import Task
from packtivity.worker import answer

pytestmark = pytest.mark.usefixtures("own_records")

NAME = {"name": "task"}
FORGED = {"status": "succeeded", "result": {"o": "forged"}, "error": None}


def spec(script):
    """Return a spec, and parameters with the script that it runs, which has a forged record in FORGED."""
    forged = shlex.quote(json.dumps({**FORGED, "id": "one", "key": None}))
    return command_spec("{script}", constant({"o": "real"})), {
        "script": f"FORGED={forged}; {script}".replace("{", "{{").replace("}", "}}")
    }


def run(state, script, task_id=None, **execution):
    """Run a task and return its error, if any, after a look that nothing is left behind but what it may leave."""
    made, parameters = spec(script)
    if task_id is not None:
        config = {"exec": {name: value for name, value in execution.items() if value is not None}}
        return answer(Task.of(made, parameters, state, NAME, config, id=task_id).to_json())
    try:
        defaultsyncbackend({"exec": ExecutionConfig(**execution)}).run(made, parameters, state, NAME)
    except errors.PacktivityError as error:
        return error
    return None


def path_of(state, task_id=None):
    return record.record_path(state.metadir, NAME, task_id)


def told(state, task_id=None):
    return (record.read_outcome(path_of(state, task_id)) or {}).get("status")


# --- a record of its own ---------------------------------------------------------------------------------------

MOVED = 'cd _packtivity; s=$(echo task.*.state.json); mv "$s" ../aside; echo "$FORGED" > "$s"; '
FORGERIES = {
    "another file in place of the locked one": MOVED,
    "a link to another file in its place": MOVED + 'mv "$s" ../forged.json; ln -s ../forged.json "$s"; ',
    "a pipe in its place": MOVED + 'rm "$s"; mkfifo "$s"; ',
    "a directory in its place": MOVED + 'rm "$s"; mkdir "$s"; ',
    "a hard link to it": 'cd _packtivity; ln task.*.state.json ../linked; ',
    "a record already": 'echo "$FORGED" > _packtivity/task.outcome.json; cp _packtivity/task.outcome.json _packtivity/task.one.outcome.json; ',
    "a record that is a link": 'echo "$FORGED" > forged.json; for r in task task.one; do ln -s ../forged.json _packtivity/$r.outcome.json; done; ',
    "a record that is a pipe": 'for r in task task.one; do mkfifo _packtivity/$r.outcome.json; done; ',
    "the whole directory anew": 'mv _packtivity ../old; mkdir _packtivity; echo "$FORGED" > _packtivity/task.outcome.json; ',
    "nothing left": 'rm -rf ./* ./.[!.]*; ',
}  # fmt: skip


@pytest.mark.parametrize("task_id", [None, "one"])
@pytest.mark.parametrize("forgery", FORGERIES.values(), ids=FORGERIES)
def test_the_record_says_how_the_task_ended_whatever_it_put_there(state, forgery, task_id):
    run(state, f"({forgery}); exit 1", task_id)
    assert {told(state), told(state, task_id)} == {"failed"}
    assert not Path(path_of(state)).is_symlink()
    run(state, f"({forgery}); exit 0", task_id and "two")
    assert {told(state), told(state, task_id and "two")} == {"succeeded"}
    assert record.read_outcome(path_of(state))["result"] == {"o": "real"}


@pytest.mark.parametrize("name", ["task.outcome.json", "task.one.outcome.json"])
def test_a_directory_in_place_of_the_record_is_an_error(state, name):
    said = run(state, f"mkdir _packtivity/{name}", "one")
    assert (said["status"], said["error"]["type"]) == ("failed", "StateError")
    assert f"{state.metadir}/task.outcome.json cannot be written" in said["error"]["message"]
    assert told(state) != "succeeded"
    assert told(state, "one") != "succeeded"


# What chattr(1) does, which is not everywhere: ioctl_iflags(2), FS_IOC_SETFLAGS with FS_IMMUTABLE_FL or without.
CHANGE_FLAGS = """
import fcntl, os, struct, sys
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x40086602, struct.pack("l", int(sys.argv[2], 16)))
"""


def change_flags(path: str, flags: str) -> list[str]:
    return [sys.executable, "-c", CHANGE_FLAGS, path, flags]


@pytest.mark.skipif(os.getuid() != 0, reason="only root may make files that cannot be changed")
def test_a_record_that_cannot_be_changed_is_an_error(state):
    path = path_of(state)
    try:
        error = run(state, f'echo "$FORGED" > {path} && {shlex.join(change_flags(path, "10"))} || exit 9')
        if not isinstance(error, errors.StateError):
            pytest.skip("this file system has no files that cannot be changed")
        assert f"{path} cannot be written" in str(error)
    finally:
        subprocess.run(change_flags(path, "0"), check=False)


def test_a_task_that_closes_the_directory_has_a_record_or_an_error(state):
    error = run(state, "chmod 0 _packtivity")
    os.chmod(state.metadir, 0o755)
    assert (error is None) is (told(state) == "succeeded")
    assert error is None or isinstance(error, errors.StateError)


SURVIVOR = """
import os, sys, time
reading, writing = os.pipe()
if os.fork():
    os.read(reading, 1)
    os._exit(0)
os.setsid()
inherited = [int(n) for n in os.listdir("/proc/self/fd") if ".state.json" in os.path.realpath(f"/proc/self/fd/{n}")]
os.write(writing, b".")
null = os.open("/dev/null", os.O_RDWR)
for number in range(3):
    os.dup2(null, number)
while os.path.exists(sys.argv[1]):
    time.sleep(0.01)
for number in inherited:
    for open_again in (False, True):
        try:
            number = os.open(f"/proc/self/fd/{number}", os.O_RDWR) if open_again else number
            os.pwrite(number, sys.argv[2].encode(), 0)
            os.ftruncate(number, len(sys.argv[2]))
        except OSError:
            pass
with open(sys.argv[3], "w") as file:
    print(len(inherited), file=file)
"""


@pytest.mark.parametrize("task_id", [None, "one"])
def test_a_process_that_the_task_has_left_behind_cannot_write_into_the_record(state, tmp_path, task_id):
    wait, done, program = (tmp_path / name for name in ("wait", "done", "survivor.py"))
    wait.touch()
    program.write_text(SURVIVOR)
    run(state, f'{sys.executable} {program} {wait} "$FORGED" {done}; exit 1', task_id)
    before = Path(path_of(state)).read_bytes()
    wait.unlink()
    until(lambda: done.exists() and done.read_text().endswith("\n"))
    assert int(done.read_text()) > 0
    assert Path(path_of(state)).read_bytes() == before
    assert told(state) == told(state, task_id) == "failed"


def test_a_file_that_the_task_has_linked_to_is_not_the_record(state):
    run(state, "ln _packtivity/task.*.state.json linked; exit 1")
    Path(state.readwrite[0], "linked").write_text(json.dumps(FORGED))
    assert told(state) == "failed"


def test_a_process_of_the_task_can_read_what_it_inherits_and_not_write_it(state):
    probe = (
        "import fcntl, os; every = [int(n) for n in os.listdir('/proc/self/fd')];"
        "held = [n for n in every if os.path.realpath(f'/proc/self/fd/{n}').endswith('.state.json')];"
        "assert held; assert all(fcntl.fcntl(n, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY for n in held)"
    )
    assert run(state, f"{sys.executable} -c {shlex.quote(probe)}") is None


# --- other people's files --------------------------------------------------------------------------------------


@pytest.fixture
def other(tmp_path):
    """A directory that is none of the task's business."""
    made = tmp_path / "other"
    made.mkdir()
    return made


@pytest.mark.parametrize("recorded", [True, False])
def test_a_link_that_was_there_before_is_refused_and_the_hint_says_why(state, other, monkeypatch, recorded):
    monkeypatch.setenv("PACKTIVITY_RECORD", str(recorded))
    shutil.rmtree(state.metadir, ignore_errors=True)
    os.symlink(other, state.metadir)
    error = run(state, "true")
    assert f"{state.metadir} is a link to another place" in error.message
    assert error.hint == (
        "A task may have put that there, so nothing is written through it: remove it, or take another directory."
    )
    assert list(other.iterdir()) == []


@pytest.mark.parametrize("ends", ["exit 0", "exit 1"])
def test_a_link_in_place_of_the_directory_is_not_written_through(state, other, ends):
    error = run(state, f"mv _packtivity old; ln -s {other} _packtivity; {ends}")
    assert list(other.iterdir()) == []
    assert f"{state.metadir} is a link to another place" in "".join([str(error), *getattr(error, "__notes__", ())])
    error = run(state, ends)
    assert isinstance(error, errors.StateError)
    assert list(other.iterdir()) == []


def test_another_attempt_does_not_write_through_a_link_of_the_first(state, other):
    run(state, f"mv _packtivity old; ln -s {other} _packtivity; exit 1", retries=2)
    assert list(other.iterdir()) == []


def test_the_work_directory_itself_may_not_become_a_link(state, other):
    work = state.readwrite[0]
    error = run(state, f"cp -r _packtivity {other}; mv {work} {work}.old; ln -s {other} {work}")
    assert isinstance(error, errors.StateError)
    assert not list((other / "_packtivity").glob("*.outcome.json"))


DEVICES = ["c 1 5", "b 7 200"]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make devices")
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("topic", ["run", "step"])
def test_a_device_in_place_of_a_log_is_not_written_to(state, device, topic):
    log = f"{state.metadir}/task.{topic}.log"
    assert run(state, f"rm -f {log}; mknod {log} {device}") is None
    error = run(state, "true")
    assert isinstance(error, errors.StateError)
    assert f"log file {log} cannot be opened: it is something else than a file" in str(error)


def test_a_link_to_a_pipe_in_place_of_a_log_is_not_followed(state, other):
    os.mkfifo(other / "pipe")
    reading = os.open(other / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        os.symlink(other / "pipe", f"{state.metadir}/task.run.log")
        assert isinstance(run(state, "echo harm"), errors.StateError)
        assert os.read(reading, 99) == b""
    finally:
        os.close(reading)


@pytest.mark.parametrize("kind", ["pipe", "device", "huge", "link"])
def test_what_is_in_place_of_a_state_file_is_neither_waited_for_nor_read_whole(state, tmp_path, kind):
    made, parameters = spec("true")
    key = record.task_key(made, parameters, state)
    path = Path(record.state_path(state.metadir, key))
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        if os.getuid() != 0:
            pytest.skip("only root can make devices")
        os.mknod(path, 0o20666, os.makedev(1, 5))
    elif kind == "huge":
        path.touch()
        os.truncate(path, 1 << 43)
    else:
        path.symlink_to(tmp_path / "anything")
    error = run(state, "true")
    assert isinstance(error, errors.StateError) or (error is None and kind == "huge")
    assert not (tmp_path / "anything").exists()


# --- who asks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("link", ["file", "directory"])
def test_who_asks_follows_no_link_out_of_the_directory(state, other, link):
    (other / "task.one.outcome.json").write_text(json.dumps({**FORGED, "id": "one"}))
    if link == "directory":
        os.rmdir(state.metadir)
        os.symlink(other, state.metadir)
    else:
        os.symlink(other / "task.one.outcome.json", path_of(state, "one"))
    assert record.read_outcome(path_of(state, "one")) is None
    assert task_files.ending_of(path_of(state, "one"), "one") is None
    assert claims.of_task(path_of(state, "one"), "one") is None


@pytest.mark.parametrize("link", ["file", "directory"])
def test_a_log_that_is_a_link_is_not_printed(state, other, link):
    (other / "task.run.log").write_text("a secret\n")
    if link == "directory":
        os.rmdir(state.metadir)
        os.symlink(other, state.metadir)
    else:
        os.symlink(other / "task.run.log", f"{state.metadir}/task.run.log")
    program = "import sys; from packtivity.cli.proxy_files import print_from; print_from(sys.argv[1], 0, sys.stdout)"
    argv = [sys.executable, "-c", program, f"{state.metadir}/task.run.log"]
    assert subprocess.run(argv, capture_output=True, check=True).stdout == b""


def test_a_link_does_not_ask_for_the_end_of_a_task(state, other):
    from packtivity.runtimes.cancellation import CancelFile

    (other / "there").touch()
    path = path_of(state, "one")
    os.symlink(other / "there", record.cancel_path(path))
    with CancelFile(record.cancel_path(path)) as cancel:
        assert not cancel.cancelled
        assert not task_files.is_cancelled(path)


def test_a_task_s_document_is_not_written_through_a_link(state, other):
    files = TaskFiles()
    entry = Entry("one", "local", None, path_of(state, "one"), None, 0.0, {}, {"id": "one"})
    files.write([], sync=False)
    (other / "victim").write_text("as it was")
    os.symlink(other / "victim", files.path("one"))
    files.write([entry], sync=False)
    assert (other / "victim").read_text() == "as it was"
    files.remove("one")
    files.write([entry], sync=False)
    assert files.read("one") == entry
    assert os.stat(files.path("one")).st_mode & 0o777 == 0o600


# --- commands --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["-o", "-x"])
@pytest.mark.parametrize("there", [True, False])
def test_what_a_command_writes_into_a_directory_of_the_task_replaces_a_link(state, other, option, there):
    work = Path(state.readwrite[0])
    victim = other / "victim"
    if there:
        victim.write_text("as it was")
    made, parameters = spec("true" if option == "-x" else f"ln -sf {victim} answer.json")
    (work.parent / "spec.json").write_text(json.dumps(made))
    (work.parent / "parameters.json").write_text(json.dumps(parameters))
    if option == "-x":
        (work / "answer.json").symlink_to(victim)
    more = ["--async", "-b", "foregroundasync"] if option == "-x" else []
    argv = [Path(sys.executable).parent / "packtivity-run", *more, option, "answer.json", "-w", ".", "-t", work.parent]
    subprocess.run([*argv, "spec.json", "../parameters.json"], cwd=work, check=True, stdout=subprocess.DEVNULL)
    assert victim.exists() is there
    assert not there or victim.read_text() == "as it was"
    assert not (work / "answer.json").is_symlink()
    assert json.loads((work / "answer.json").read_text())


def test_a_pipe_that_the_task_makes_in_place_of_the_result_is_not_waited_for(state):
    work = Path(state.readwrite[0])
    made, parameters = spec("mkfifo answer.json")
    (work.parent / "spec.json").write_text(json.dumps(made))
    (work.parent / "parameters.json").write_text(json.dumps(parameters))
    argv = [Path(sys.executable).parent / "packtivity-run", "-o", "answer.json", "-w", ".", "-t", work.parent]
    done = [*argv, "spec.json", "../parameters.json"]
    subprocess.run(done, cwd=work, check=True, stdout=subprocess.DEVNULL, timeout=60)
    assert json.loads((work / "answer.json").read_text()) == {"o": "real"}


# --- whom a state file can have ended --------------------------------------------------------------------------

KEEPER = """
import fcntl, os, sys, time
descriptor = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(descriptor, fcntl.LOCK_EX)
print(flush=True)
time.sleep(60)
"""


@pytest.fixture
def keeper(tmp_path):
    """Somebody's program that has a file of its own locked."""
    path = tmp_path / "its.lock"
    process = subprocess.Popen([sys.executable, "-c", KEEPER, path], stdout=subprocess.PIPE)
    process.stdout.readline()
    yield process, path
    process.kill()
    process.communicate()


def dead_runner():
    gone = subprocess.Popen(["true"])
    gone.wait()
    return {**runners.runner(), "pid": gone.pid, "began": "1"}


def forged_state(path):
    Path(path).write_text(json.dumps({"id": "one", "runner": dead_runner()}))


def ends_nobody(path, process):
    claims.end_orphans(str(path))
    claims.end_holders(str(path))
    assert claims.end_orphans_in(str(Path(path).parent)) == [str(path)] or Path(path).is_symlink()
    deadline = time.monotonic() + 1.5
    with pytest.raises((errors.TaskCancelled, errors.StateError)):
        lease.take(str(path), cancelled=lambda: time.monotonic() > deadline)
    assert process.poll() is None


def test_a_runner_that_lives_is_not_ended_because_the_file_says_that_it_is_dead(keeper, tmp_path):
    process, lock = keeper
    path = tmp_path / "task.key.state.json"
    os.rename(lock, path)
    forged_state(path)
    ends_nobody(path, process)


def test_a_link_to_somebody_s_locked_file_ends_nobody(keeper, tmp_path):
    process, lock = keeper
    path = tmp_path / "task.key.state.json"
    forged_state(lock)
    path.symlink_to(lock)
    ends_nobody(path, process)


def test_a_link_in_place_of_the_directory_ends_nobody(keeper, tmp_path):
    process, lock = keeper
    real = tmp_path / "elsewhere"
    real.mkdir()
    os.rename(lock, real / "task.key.state.json")
    forged_state(real / "task.key.state.json")
    (tmp_path / "_packtivity").symlink_to(real)
    path = tmp_path / "_packtivity" / "task.key.state.json"
    claims.end_orphans(str(path))
    assert claims.end_orphans_in(str(path.parent)) == []
    assert process.poll() is None


HANDED_ON = """
import fcntl, os, subprocess, sys
descriptor = os.open(sys.argv[1], os.O_RDONLY)
fcntl.flock(descriptor, fcntl.LOCK_EX)
number = int(sys.argv[2])
somebody = {} if number == os.getuid() else {"user": number, "group": number, "extra_groups": []}
subprocess.Popen(["sleep", "60"], pass_fds=[descriptor], stdout=subprocess.DEVNULL, **somebody)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root could end others' processes")
def test_somebody_else_s_process_that_has_the_lock_is_not_ended_by_root(tmp_path):
    """Who may read a state file can lock it, and give the descriptor to whom he wants."""
    path = tmp_path / "task.key.state.json"
    forged_state(path)
    subprocess.run([sys.executable, "-c", HANDED_ON, path, "65534"], check=True)
    try:
        (pid,) = [int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit() and has_open(p, path)]
        assert claims.is_held(str(path))
        assert claims.end_holders(str(path)) == 0
        os.kill(pid, 0)
    finally:
        os.kill(pid, signal.SIGKILL)


def has_open(process, path):
    try:
        return any(os.path.realpath(each) == str(path) for each in (process / "fd").iterdir())
    except OSError:
        return False


def test_a_process_that_began_before_the_runner_is_not_taken_for_its_heir(tmp_path):
    path = tmp_path / "task.key.state.json"
    path.touch()
    subprocess.run([sys.executable, "-c", HANDED_ON, path, str(os.getuid())], check=True)
    (pid,) = [int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit() and has_open(p, path)]
    try:
        path.write_text(json.dumps({"id": "one", "runner": {**dead_runner(), "began": "9" * 15}}))
        assert claims.end_holders(str(path)) == 0
        os.kill(pid, 0)
        forged_state(path)
        assert claims.end_holders(str(path)) == 1
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_what_is_left_of_a_task_is_ended_also_when_it_has_moved_its_state_file(tmp_path):
    path = tmp_path / "task.key.state.json"
    path.touch()
    subprocess.run([sys.executable, "-c", HANDED_ON, path, str(os.getuid())], check=True)
    forged_state(path)
    os.rename(path, tmp_path / "aside")
    assert claims.end_holders(str(tmp_path / "aside")) == 1


# --- where the system has less -----------------------------------------------------------------------------------


@pytest.mark.parametrize("lacks", ["names of descriptors", "hard links", "locks for readers"])
def test_records_are_written_where_the_system_has_less(state, monkeypatch, lacks):
    import fcntl

    from packtivity import files

    def refuse(*_, **__):
        raise OSError(1, "Operation not permitted")

    if lacks == "names of descriptors":
        monkeypatch.setattr(files, "has_descriptor_names", lambda: False)
    elif lacks == "hard links":
        monkeypatch.setattr(os, "link", refuse)
    else:
        flock = fcntl.flock

        def as_nfs(descriptor, how):
            if how & fcntl.LOCK_EX and fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
                raise OSError(9, "Bad file descriptor")
            flock(descriptor, how)

        monkeypatch.setattr(fcntl, "flock", as_nfs)
    for task_id, ends in (("one", "exit 1"), ("two", "true"), ("three", "sleep 1.1")):
        status = "failed" if ends == "exit 1" else "succeeded"
        assert run(state, ends, task_id)["status"] == told(state) == told(state, task_id) == status
    assert not [name for name in os.listdir(state.metadir) if "tmp" in name or "state" in name]


def test_as_many_descriptors_are_open_after_tasks_as_before(state):
    run(state, "true")
    before = len(os.listdir("/proc/self/fd"))
    for script in (
        "true",
        "exit 1",
        "sleep 1.1",
        MOVED + "exit 1",
        "rm -rf ./*",
        "mkdir _packtivity/task.outcome.json",
    ):
        run(state, script)
    assert len(os.listdir("/proc/self/fd")) == before
