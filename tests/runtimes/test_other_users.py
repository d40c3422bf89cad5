"""What other users of the machine can do where we put things aside: not end our processes, nor reach our files."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from waiting import wait_for

from packtivity.errors import StateError
from packtivity.runners import began
from packtivity.runtimes import process
from packtivity.runtimes.cleanup import Cleanup, await_end, new_name
from packtivity.types import Execution

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOBODY = 65534
IS_ROOT = os.getuid() == 0

HOLDER = """
import sys
from packtivity.runtimes import process
from packtivity.runtimes.cleanup import Cleanup
from packtivity.types import Execution
with Cleanup(sys.argv[1], ("sh", "-c", 'test -e "$1" && rm "$1" && echo removed', "sh", sys.argv[3])) as life:
    process.run(Execution(life.argv(("sh", "-c", 'touch "$1" "$2"; exec sleep 60', "sh", *sys.argv[2:4]))))
"""


def reapers(base: Path) -> list[str]:
    """Return the processes that clear folders away in a directory, which is among their arguments."""
    found = []
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if os.fsencode(base) in command.read_bytes().split(b"\0"):
                found.append(command.parent.name)
    return found


def by_somebody_else(line: str, *arguments: object) -> None:
    """Run a shell line as another user, if we may."""
    more: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if IS_ROOT else {}
    subprocess.run(["sh", "-c", line, "sh", *map(str, arguments)], check=True, cwd="/", **more)


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory such as /tmp."""
    path = Path(
        subprocess.run(
            ["mktemp", "-d", "/tmp/shared-XXXXXX"], capture_output=True, text=True, check=True
        ).stdout.strip()
    )
    path.chmod(0o1777)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def victim() -> Iterator[subprocess.Popen[bytes]]:
    """A process of ours that has nothing to do with the task."""
    time.sleep(2 / os.sysconf("SC_CLK_TCK"))  # it did not begin in the same tick as the task, by which it is known
    started = subprocess.Popen(["sleep", "60"], start_new_session=True)
    yield started
    started.kill()
    started.wait()


class Run:
    """A container of ours, which runs, and its folder."""

    def __init__(self, shared: Path, tmp_path: Path, name: str = "") -> None:
        self.name = name or new_name()
        self.folder, self.container = shared / self.name, tmp_path / "container"
        started = tmp_path / "started"
        argv = [sys.executable, "-c", HOLDER, self.name, str(started), str(self.container)]
        self.holder = subprocess.Popen(argv, env={**os.environ, "TMPDIR": str(shared)})
        assert wait_for(self.container.exists)
        self.task = int((self.folder / "pid").read_text())

    def kill(self) -> None:
        self.holder.kill()
        self.holder.wait()

    def is_over(self) -> bool:
        return not Path(f"/proc/{self.task}").exists() and not self.container.exists()


@pytest.fixture
def run(shared: Path, tmp_path: Path) -> Iterator[Run]:
    made = Run(shared, tmp_path)
    yield made
    made.kill()
    with suppress(ProcessLookupError):
        os.kill(made.task, signal.SIGKILL)


# --- beside the folder -----------------------------------------------------------------------------------------

BESIDE = {
    "a directory": 'mkdir -m 777 "$1.end"; echo "$2" > "$1.end/pid"',
    "a link": 'mkdir -m 777 "$3/theirs"; echo "$2" > "$3/theirs/pid"; ln -s "$3/theirs" "$1.end"',
    "a file": 'echo "$2" > "$1.end"',
}


@pytest.mark.parametrize("line", BESIDE.values(), ids=BESIDE)
def test_what_is_put_beside_the_folder_ends_nobody(
    run: Run, shared: Path, victim: subprocess.Popen[bytes], line: str
) -> None:
    by_somebody_else(line, run.folder, victim.pid, shared)
    run.kill()
    assert wait_for(run.is_over)
    assert wait_for(lambda: not run.folder.exists())
    assert victim.poll() is None


@pytest.mark.parametrize("by", ["directory", "link"])
def test_another_folder_in_place_of_ours_ends_nobody_and_is_not_emptied(
    run: Run, shared: Path, victim: subprocess.Popen[bytes], by: str
) -> None:
    """Where a directory for all has no sticky bit, everybody can take away what is in it."""
    shared.chmod(0o777)
    line = 'mv "$1" "$1.old"; mkdir -m 777 "$3/theirs"; echo "$2" | tee "$3/theirs/pid" > "$3/theirs/kept"; '
    line += 'mv "$3/theirs" "$1"' if by == "directory" else 'ln -s "$3/theirs" "$1"'
    by_somebody_else(line, run.folder, victim.pid, shared)
    run.kill()
    assert wait_for(run.is_over)
    assert (run.folder / "kept").exists()
    assert victim.poll() is None


def test_a_link_in_place_of_the_folder_is_not_emptied_after_a_good_end(shared: Path, tmp_path: Path) -> None:
    shared.chmod(0o777)
    (tmp_path / "kept").write_text("as it was")
    code = (
        "import os, sys; from packtivity.runtimes.cleanup import Cleanup, new_name\n"
        "with Cleanup(new_name()) as life:\n"
        "    os.rename(life.folder, life.folder + '.old'); os.symlink(sys.argv[1], life.folder)\n"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path], env={**os.environ, "TMPDIR": str(shared)}, check=True)
    assert (tmp_path / "kept").read_text() == "as it was"


def test_a_closed_directory_behind_a_link_stays_closed(shared: Path, tmp_path: Path, run: Run) -> None:
    shared.chmod(0o777)
    closed = tmp_path / "closed"
    (closed / "inside").mkdir(parents=True)
    closed.chmod(0o500)
    by_somebody_else('mv "$1" "$1.old"; ln -s "$2" "$1"', run.folder, closed)
    assert reapers(shared)
    run.kill()
    assert wait_for(run.is_over)
    assert wait_for(lambda: not reapers(shared))
    assert closed.stat().st_mode & 0o777 == 0o500
    closed.chmod(0o700)


def test_a_folder_that_is_there_already_is_not_used(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(shared))
    name = new_name()
    by_somebody_else('mkdir -m 777 "$1"; touch "$1/kept"', shared / name)
    with pytest.raises(StateError, match="cannot be made: File exists"):
        with Cleanup(name):
            pass
    assert (shared / name / "kept").exists()


@pytest.mark.skipif(not IS_ROOT, reason="only root can be somebody else as well")
@pytest.mark.parametrize("line", ['mkdir -m 777 "$1/tmp"', 'ln -s "$2" "$1/tmp"'])
def test_a_directory_for_such_folders_that_another_user_has_put_there_is_refused(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    by_somebody_else(line, shared, tmp_path)
    monkeypatch.setenv("TMPDIR", str(shared / "tmp"))
    with pytest.raises(StateError, match="was put there by another user") as caught:
        with Cleanup(new_name()):
            pass
    assert caught.value.exit_code == 15
    assert list((shared / "tmp").iterdir()) == []


def test_the_folder_is_for_us_alone_whatever_is_usual(run: Run) -> None:
    assert run.folder.stat().st_mode & 0o777 == 0o700


# --- numbers of processes --------------------------------------------------------------------------------------


def test_a_number_that_somebody_else_has_got_ends_nobody(run: Run, victim: subprocess.Popen[bytes]) -> None:
    (run.folder / "pid").write_text(f"{victim.pid}\n")
    run.kill()
    assert wait_for(lambda: not run.container.exists())
    assert wait_for(lambda: not run.folder.exists())
    assert victim.poll() is None
    os.kill(run.task, signal.SIGKILL)


@pytest.mark.parametrize("number", ["x", "$$", "{victim} {victim}", "-{victim}", "*"])
def test_what_is_no_number_ends_nobody(run: Run, victim: subprocess.Popen[bytes], number: str) -> None:
    (run.folder / "pid").write_text(number.format(victim=victim.pid))
    run.kill()
    assert wait_for(lambda: not run.container.exists())
    assert wait_for(lambda: not run.folder.exists())
    assert victim.poll() is None
    os.kill(run.task, signal.SIGKILL)


ALONE = """
sleep 60 &
victim=$!
"$@" &
holder=$!
until [ -e "$6" ]; do sleep 0.05; done
echo "$NUMBER" > "$TMPDIR/$4/pid"
kill -KILL $holder
for round in $(seq 60); do [ -e "$TMPDIR/$4" ] || break; sleep 0.1; done
kill -0 $victim && [ ! -e "$6" ] && [ ! -e "$TMPDIR/$4" ] && echo lives
"""


@pytest.mark.skipif(not IS_ROOT, reason="only root can make a world of processes to be killed in")
@pytest.mark.parametrize("number", ["0", "-0", "1", "-1", "01", "1 1"])
def test_numbers_that_stand_for_everybody_end_nobody(shared: Path, tmp_path: Path, number: str) -> None:
    holder = [sys.executable, "-c", HOLDER, new_name(), tmp_path / "started", tmp_path / "container"]
    argv = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", ALONE, "sh", *holder]
    env = {**os.environ, "TMPDIR": str(shared), "NUMBER": number}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False, timeout=60)
    if "unshare" in done.stderr:
        pytest.skip(done.stderr)
    assert done.stdout == "lives\n", done.stderr


MONITOR = "#!/bin/sh\nsleep 60\n:\n"


@pytest.fixture
def conmon(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start a process that is called conmon and has a container's name among its arguments."""
    folder = Path(subprocess.run(["mktemp", "-d"], capture_output=True, text=True, check=True).stdout.strip())
    folder.chmod(0o755)
    program = folder / "conmon"
    program.write_text(MONITOR)
    program.chmod(0o755)
    started = []

    def start(name: str, **how: Any) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen([program, "--name", name], cwd="/", start_new_session=True, **how))
        assert wait_for(lambda: Path(f"/proc/{started[-1].pid}/comm").read_text() == "conmon\n")
        return started[-1]

    yield start
    for each in started:
        with suppress(ProcessLookupError):
            os.killpg(each.pid, signal.SIGKILL)
        each.wait()
    shutil.rmtree(folder)


@pytest.mark.skipif(not IS_ROOT, reason="only root could end others' processes")
def test_another_user_s_process_that_calls_itself_a_monitor_is_not_ended(run: Run, conmon: Any) -> None:
    theirs = conmon(run.name, user=NOBODY, group=NOBODY, extra_groups=[])
    run.kill()
    assert wait_for(run.is_over)
    assert wait_for(lambda: not run.folder.exists())
    assert theirs.poll() is None


def test_a_monitor_that_is_older_than_the_container_is_not_its_own(shared: Path, tmp_path: Path, conmon: Any) -> None:
    name = new_name()
    older = conmon(name)
    ticks = os.sysconf("SC_CLK_TCK")
    assert wait_for(lambda: time.clock_gettime(time.CLOCK_BOOTTIME) * ticks > int(began(older.pid)) + 1)
    made = Run(shared, tmp_path, name)
    made.kill()
    assert wait_for(made.is_over)
    assert wait_for(lambda: not made.folder.exists())
    assert older.poll() is None


def test_a_monitor_of_the_container_is_ended(run: Run, conmon: Any) -> None:
    ours = conmon(run.name)
    run.kill()
    assert wait_for(lambda: ours.poll() is not None)


def test_a_container_whose_folder_a_cleaner_has_removed_is_removed(run: Run) -> None:
    shutil.rmtree(run.folder)
    run.kill()
    assert wait_for(lambda: not run.container.exists())
    os.kill(run.task, signal.SIGKILL)


def test_a_group_whose_number_somebody_else_has_got_is_not_ended(victim: subprocess.Popen[bytes]) -> None:
    """When the leader has been waited for, one that leads a group of that number is another one."""
    from packtivity.runtimes.process_group import end_group

    assert end_group(victim.pid, 0.1) == 0
    assert end_group(victim.pid, 0.1, thorough=True) == 0
    assert victim.poll() is None


# --- what a state file says ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["anything", "of another form", "open to others", "a link", "relative", "odd"])
def test_a_folder_that_is_none_of_ours_is_not_waited_for(tmp_path: Path, kind: str) -> None:
    own = tmp_path / new_name()
    own.mkdir(0o700)
    if kind == "open to others":
        own.chmod(0o755)
    elif kind == "a link":
        own.rename(tmp_path / "real")
        own.symlink_to(tmp_path / "real")
    which = {"anything": "/", "of another form": str(tmp_path), "relative": f"./{own.name}", "odd": f"/\0/{own.name}"}
    began = time.monotonic()
    assert await_end(which.get(kind, str(own)))
    assert time.monotonic() - began < 1


def test_a_folder_of_ours_is_waited_for(tmp_path: Path) -> None:
    own = tmp_path / new_name()
    own.mkdir(0o700)
    assert not await_end(str(own), 0.2)


# --- credentials -----------------------------------------------------------------------------------------------


@pytest.mark.skipif(not IS_ROOT, reason="only root can be somebody else as well")
@pytest.mark.parametrize("kind", ["voms_proxy", "kerberos", "token"])
def test_credentials_that_another_user_has_put_there_are_not_used(shared: Path, kind: str) -> None:
    from packtivity.runtimes.credentials import find

    path = shared / f"bt_u{os.getuid()}"
    caller = {"KRB5CCNAME": f"FILE:{path}", "X509_USER_PROXY": str(path), "XDG_RUNTIME_DIR": str(shared)}
    by_somebody_else('echo theirs > "$1"', path)
    assert find(caller, os.getuid()) == {}
    path.unlink()
    path.write_text("ours")
    assert kind in find(caller, os.getuid())


@pytest.mark.skipif(not IS_ROOT, reason="only root can be somebody else as well")
@pytest.mark.parametrize("kind", ["voms_proxy", "kerberos", "token"])
def test_another_user_s_link_names_no_file_of_ours_as_a_credential(shared: Path, tmp_path: Path, kind: str) -> None:
    from packtivity.runtimes.credentials import find

    path, secret = shared / f"bt_u{os.getuid()}", tmp_path / "id_rsa"
    secret.write_text("ours")
    caller = {"KRB5CCNAME": f"FILE:{path}", "X509_USER_PROXY": str(path), "XDG_RUNTIME_DIR": str(shared)}
    by_somebody_else('ln -s "$2" "$1"', path, secret)
    assert find(caller, os.getuid()) == {}
    path.unlink()
    path.symlink_to(secret)
    assert kind in find(caller, os.getuid())


# --- the run itself --------------------------------------------------------------------------------------------


def test_a_task_in_a_directory_open_to_all_runs_as_ever(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for mode in (0o1777, 0o777, 0o2770):
        shared.chmod(mode)
        monkeypatch.setenv("TMPDIR", str(shared))
        with Cleanup(new_name()) as life:
            assert process.run(Execution(life.argv(("sh", "-c", "exit 3")))).returncode == 3
        assert list(shared.iterdir()) == []
