"""What ``make engines`` changes is said and asked first, and taken back from a journal: that and no more."""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / "tools"


class Journal:
    """The functions of tools/journal.sh with a folder of a test's own in place of the system."""

    def __init__(self, folder: Path) -> None:
        self.state, self.system = folder / "state", folder / "system"
        self.system.mkdir()

    def __call__(self, code: str) -> str:
        lines = f'set -euo pipefail; STATE=$1; cd "$2"; . "$3"; mkdir -p "$STATE"/{{log,run}}\n{code}'
        argv = ["bash", "-c", lines, "bash", self.state, self.system, TOOLS / "journal.sh"]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def files(self) -> dict[str, str]:
        found = (path for path in sorted(self.system.rglob("*")) if not path.is_symlink())
        return {str(path.relative_to(self.system)): path.read_text() if path.is_file() else "" for path in found}


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path)


def test_files_folders_and_edits_are_taken_back(journal: Journal) -> None:
    (journal.system / "edited").write_text("limit = 1\nother = 2\n")
    before = journal.files()
    make = 'echo ours | config "$PWD/new/folder/file"; edit "$PWD/edited" "s/1/3/"; fresh "$PWD/lock"; echo x > lock'
    journal(f"{make}\n{make}")
    assert (journal.system / "new" / "folder" / "file").read_text().endswith("ours\n")
    assert "limit = 3" in (journal.system / "edited").read_text()
    journal("take_back")
    assert journal.files() == before
    assert not journal.state.exists()
    journal("rmdir $STATE/* $STATE; take_back")  # nothing left to do


def test_what_belongs_to_somebody_else_stays(journal: Journal) -> None:
    (journal.system / "theirs").write_text("kept\n")
    (journal.system / "edited").write_text("limit = 1\n")
    journal('echo ours | config "$PWD/theirs"; fresh "$PWD/theirs"; edit "$PWD/edited" "s/1/3/"')
    journal('echo ours | config "$PWD/replaced"; mkdir folder; echo ours | config "$PWD/folder/new/file"')
    (journal.system / "replaced").write_text("now theirs\n")
    (journal.system / "folder" / "new" / "guest").write_text("theirs\n")
    (journal.system / "edited").write_text("limit = 7\n")
    assert "was changed by somebody else since: kept" in journal("take_back")
    assert journal.files() == {
        "theirs": "kept\n",
        "edited": "limit = 7\n",
        "replaced": "now theirs\n",
        "folder": "",
        "folder/new": "",
        "folder/new/guest": "theirs\n",
    }


def test_what_was_noted_and_not_done_yet_is_no_obstacle(journal: Journal) -> None:
    journal(
        'note file "$PWD/a"; note folder "$PWD/b"; note edit "$PWD/c" "$STATE/saved/c" 0; note mount "$STATE/mem";'
        'note process x 999999999 1; note group no-such-group-here; note mode "$PWD/d" 600; note scratch "$PWD/e"; take_back'
    )
    assert journal.files() == {}
    assert not journal.state.exists()


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_daemon_is_ended_with_its_session_and_whoever_has_its_number_now_is_not(journal: Journal) -> None:
    code = "trap '' TERM; sleep 60 & echo $! > child; wait; sleep 60"
    journal(f'daemon stubborn bash -c "{code.replace("$", chr(92) + "$")}"; until [ -s child ]; do sleep 0.05; done')
    daemon, child = (
        int((journal.state / "run" / "stubborn.pid").read_text()),
        int((journal.system / "child").read_text()),
    )
    with subprocess.Popen(["sleep", "60"]) as other:
        journal(f"note process other {other.pid} 12345")
        assert is_alive(daemon)
        journal("GRACE=8; take_back")
        assert other.poll() is None
        other.kill()
    assert not is_alive(daemon)
    assert not is_alive(child)


@pytest.fixture
def start(tmp_path: Path):
    """Call ``tools/engines.sh start`` as somebody, with nothing set up yet."""

    def call(uid: int, stdin: int = subprocess.DEVNULL, **more: str) -> subprocess.CompletedProcess[str]:
        programs = tmp_path / "bin"
        programs.mkdir()
        for name, text in (("id", f"echo {uid}"), ("apt-get", "exit 99")):
            (programs / name).write_text(f"#!/bin/sh\n{text}\n")
            (programs / name).chmod(0o755)
        kept = {name: value for name, value in os.environ.items() if name not in ("CI", "YES")}
        state = {"PACKTIVITY_ENGINES": str(tmp_path / "engines"), "PACKTIVITY_BROKERS": str(tmp_path / "brokers")}
        state["PACKTIVITY_SLURM"] = str(tmp_path / "slurm")
        environment = {**kept, **state, "PATH": f"{programs}:{os.environ['PATH']}", **more}
        argv = [TOOLS / "engines.sh", "start"]
        return subprocess.run(argv, env=environment, stdin=stdin, capture_output=True, text=True, check=False)

    return call


def test_without_a_terminal_nothing_is_changed(start, tmp_path: Path) -> None:
    done = start(0)
    assert done.returncode == 3
    assert "there is no terminal to ask at, so nothing was changed; YES=1 says yes" in done.stderr
    for word in (
        "start     dockerd",
        "mount     a tmpfs",
        f"write     {tmp_path}/engines",
        f"write     {tmp_path}/brokers",
        f"write     {tmp_path}/slurm",
    ):
        assert word in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bin"]


def test_at_a_terminal_it_asks(start, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    os.write(ours, b"n\n")
    done = start(0, theirs)
    os.close(ours)
    os.close(theirs)
    assert (done.returncode, "engines: nothing was changed" in done.stdout) == (3, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bin"]


def test_an_ordinary_user_runs_what_is_there(start, tmp_path: Path) -> None:
    done = start(1000, YES="1")
    assert done.returncode == 0
    assert "only root can; tests whose engine is not running are skipped" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bin"]
