"""What is started under a lifeline ends with the process that holds it."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from needs import missing
from waiting import wait_for

from packtivity import notes
from packtivity.errors import StateError
from packtivity.runtimes import process
from packtivity.runtimes.cleanup import Cleanup, new_name
from packtivity.types import Execution

HOLDER = """
import sys
from packtivity.runtimes import process
from packtivity.runtimes.cleanup import Cleanup, new_name
from packtivity.types import Execution
with Cleanup(new_name(), ("sh", "-c", 'test -e "$1" && rm "$1" && echo removed', "sh", sys.argv[2])) as life:
    process.run(Execution(life.argv(("sh", "-c", 'touch "$1" "$2"; sleep 60', "sh", *sys.argv[1:]))))
"""


PODMAN = """#!/bin/sh
exec >/dev/null 2>&1
trap 'sleep 0.5; touch finished; exit' TERM
touch started
while :; do sleep 0.05; done
"""
RUNNER = """
import sys
from packtivity.runtimes import process
from packtivity.runtimes.cleanup import Cleanup, new_name
from packtivity.types import Execution
with Cleanup(new_name()) as life:
    beside = sys.argv[2] and f"{sys.argv[2]} {life.name} & "
    process.run(Execution(life.argv(("sh", "-c", f"{beside}exec {sys.argv[1]}")), workdir=sys.argv[3]))
"""


@pytest.mark.parametrize("runs", [False, True], ids=["while it makes a container", "while the container runs"])
def test_podman_may_finish_what_it_does_with_its_store(tmp_path: Path, runs: bool) -> None:
    for name, program in (("podman", PODMAN), ("conmon", "#!/bin/sh\nsleep 60; :")):
        (tmp_path / name).write_text(program)
        (tmp_path / name).chmod(0o755)
    argv = [
        sys.executable,
        "-c",
        RUNNER,
        str(tmp_path / "podman"),
        str(tmp_path / "conmon") if runs else "",
        str(tmp_path),
    ]
    holder = subprocess.Popen(argv, env={**os.environ, "TMPDIR": str(tmp_path)})
    try:
        assert wait_for((tmp_path / "started").exists)
        (folder,) = tmp_path.glob("packtivity-*")
        task = int((folder / "pid").read_text())
        holder.kill()
        holder.wait()
        assert wait_for(lambda: not Path(f"/proc/{task}").exists())
        assert (tmp_path / "finished").exists() is not runs
        assert wait_for(lambda: not list(tmp_path.glob("packtivity-*")))
    finally:
        holder.kill()
        holder.wait()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_killing_the_holder_ends_what_it_started(tmp_path: Path, number: signal.Signals) -> None:
    started, container = tmp_path / "started", tmp_path / "container"
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(started), str(container)], env=env)
    try:
        assert wait_for(started.exists)
        (folder,) = tmp_path.glob("packtivity-*")
        task = int((folder / "pid").read_text())
        holder.send_signal(number)
        holder.wait(timeout=10)
        assert wait_for(lambda: not Path(f"/proc/{task}").exists())
        assert wait_for(lambda: not container.exists())
        assert wait_for(lambda: not list(tmp_path.glob("packtivity-*")))
    finally:
        holder.kill()
        holder.wait()


def test_a_good_end_leaves_nothing_and_removes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    touched = tmp_path / "touched"
    with Cleanup(new_name(), ("touch", str(touched))) as life:
        done = process.run(Execution(life.argv(("sh", "-c", "exit 3"))))
        (Path(life.folder) / "left by the tool").mkdir()
    assert done.returncode == 3
    assert list(tmp_path.iterdir()) == []


CLOSING = """
import sys
from packtivity.runtimes.cleanup import Cleanup, new_name
from packtivity.runtimes import process
from packtivity.types import Execution
with Cleanup(new_name()) as life:
    closing = 'mkdir -p "$1/a/b" "$2" && touch "$1/a/b/c" && ln -s "$2" "$1/a/out" && chmod 0 "$1/a/b" && chmod 500 "$1/a" "$2"'
    process.run(Execution(life.argv(("sh", "-c", closing, "sh", life.folder, sys.argv[1]))))
    life.cut() if sys.argv[2] == "cut" else life.release()
"""


@pytest.mark.parametrize("how", ["release", "cut"])
def test_a_task_that_closes_its_directories_leaves_none(tmp_path: Path, how: str) -> None:
    rights = ["dac_override", "dac_read_search"]
    ordinary = ["setpriv", f"--bounding-set=-{',-'.join(rights)}"] if os.getuid() == 0 else []
    if ordinary and shutil.which("setpriv") is None:
        missing("setpriv, to be an ordinary user with", "install util-linux")
    private, others = tmp_path / "private", tmp_path / "others"
    private.mkdir()
    argv = [*ordinary, sys.executable, "-c", CLOSING, str(others), how]
    subprocess.run(argv, env={**os.environ, "TMPDIR": str(private)}, check=True)
    assert wait_for(lambda: list(private.iterdir()) == [])
    assert others.stat().st_mode & 0o777 == 0o500


def test_a_good_end_leaves_no_reaper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    def children() -> set[str]:
        return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())

    before = children()
    with Cleanup(name := new_name(), ("touch", name)) as life:
        process.run(Execution(life.argv(("true",))))
        assert children() > before
    assert children() <= before


def test_a_reaper_that_somebody_killed_keeps_no_task_from_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with Cleanup(new_name()) as life:
        assert life._reaper is not None
        life._reaper.kill()
        assert process.run(Execution(life.argv(("sh", "-c", "exit 3")))).returncode == 3
    assert list(tmp_path.iterdir()) == []


FORKING_HOLDER = """
import os, sys, time
from packtivity.runtimes import process
from packtivity.runtimes.cleanup import Cleanup, new_name
from packtivity.types import Execution
with Cleanup(new_name()):
    pass
with Cleanup(new_name()) as life:
    if os.fork() == 0:
        time.sleep(30)
        os._exit(0)
    process.run(Execution(life.argv(("sh", "-c", 'echo "$$" > "$1"; sleep 60', "sh", sys.argv[1]))))
"""


def test_a_forked_child_that_lives_on_does_not_keep_it_from_ending(tmp_path: Path) -> None:
    started = tmp_path / "started"
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    holder = subprocess.Popen([sys.executable, "-c", FORKING_HOLDER, str(started)], env=env, start_new_session=True)
    try:
        assert wait_for(lambda: started.exists() and started.read_text().endswith("\n"))
        task = int(started.read_text())
        holder.kill()
        holder.wait(timeout=10)
        assert wait_for(lambda: not Path(f"/proc/{task}").exists())
        assert wait_for(lambda: not list(tmp_path.glob("packtivity-*")))
    finally:
        os.killpg(holder.pid, signal.SIGKILL)


def test_an_error_ends_what_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    container = tmp_path / "container"
    container.touch()
    remove = ("sh", "-c", f"test -e {container} && rm {container} && echo removed")
    with pytest.raises(KeyError):  # noqa: PT012 - the block is what is tested
        with Cleanup(new_name(), remove) as life:
            process.run(Execution(life.argv(("true",))))
            raise KeyError
    assert wait_for(lambda: not container.exists())


def test_a_tool_that_comes_after_the_end_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with Cleanup(new_name()) as life:
        late = life.argv(("touch", str(tmp_path / "late")))
        life.cut()
    assert subprocess.run(late, stderr=subprocess.DEVNULL, check=False).returncode != 0
    assert wait_for(lambda: list(tmp_path.iterdir()) == [])


def test_no_room_for_the_folder_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "absent"))
    with pytest.raises(StateError, match="TMPDIR"):
        with Cleanup(new_name()):
            pass


def test_no_room_to_say_where_the_folder_is_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    def full(**_: object) -> None:
        raise StateError("no room")

    token = notes.open_notes(notes.RunNotes(publish=full))
    try:
        with pytest.raises(StateError, match="no room"):
            with Cleanup(new_name()):
                pass
    finally:
        notes.close_notes(token)
    assert list(tmp_path.iterdir()) == []


def test_the_end_is_waited_for_in_a_program_with_many_open_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limits[1] < 2000:
        pytest.skip(f"this user may have only {limits[1]} files open")
    resource.setrlimit(resource.RLIMIT_NOFILE, (2000, limits[1]))
    held = [os.dup(0) for _ in range(1100)]
    try:
        with Cleanup("packtivity-of-its-own-kind", ("rm", "-f", str(tmp_path / "container"))) as life:
            process.run(Execution(life.argv(("true",))))
            life.cut()
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert wait_for(lambda: list(tmp_path.iterdir()) == [])


def test_names_differ() -> None:
    assert len({new_name() for _ in range(1000)}) == 1000
