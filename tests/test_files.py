"""Files that are there as a whole or not at all."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from packtivity import files
from packtivity.errors import StateError
from packtivity.files import put, read_json, write_whole

if TYPE_CHECKING:
    from pathlib import Path

TOO_LARGE = """
import resource, sys
from packtivity.files import put
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    put(sys.argv[1], b"x" * 5000)
except OSError as error:
    print(error.strerror)
"""

KILLED = """
import os, signal, sys
from packtivity import files
os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
files.put(sys.argv[1], b"x" * 5000, sync=True)
"""


def test_a_file_that_cannot_be_written_is_not_there(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", TOO_LARGE, tmp_path / "a"], capture_output=True, text=True, check=True)
    assert done.stdout == "File too large\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="this system has no files without names")
def test_a_writer_that_is_killed_leaves_nothing(tmp_path: Path) -> None:
    assert subprocess.run([sys.executable, "-c", KILLED, tmp_path / "a"], check=False).returncode == -9
    assert list(tmp_path.iterdir()) == []


def test_a_file_has_the_usual_mode_and_replaces_nothing_by_itself(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    put(str(tmp_path / "a"), b"1")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "usual").stat().st_mode
    with pytest.raises(FileExistsError):
        put(str(tmp_path / "a"), b"2")
    assert (tmp_path / "a").read_bytes() == b"1"


@pytest.mark.parametrize("sync", [False, True])
def test_a_file_is_replaced_as_a_whole_in_a_folder_that_is_made(tmp_path: Path, sync: bool) -> None:
    path = tmp_path / "new" / "folder" / "a"
    for content in (b"1", b"22"):
        write_whole(str(path), content, sync=sync)
        assert path.read_bytes() == content
    assert os.listdir(path.parent) == ["a"]


def test_something_else_than_a_file_says_nothing_and_stays_closed(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    os.mkfifo(tmp_path / "pipe")
    assert [read_json(str(path)) for path in (tmp_path, tmp_path / "pipe", tmp_path / "none")] == [None] * 3
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize("sync", [False, True])
@pytest.mark.parametrize("by_name", [False, True])
def test_programs_that_write_the_same_file_at_the_same_time_do_not_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sync: bool, by_name: bool
) -> None:
    if by_name:
        monkeypatch.setattr(files, "has_descriptor_names", lambda: False)
    path, failures = tmp_path / "a", []

    def write(number: int) -> None:
        try:
            for _ in range(20 if sync else 300):
                write_whole(str(path), b"%d" % number, sync=sync)
        except StateError as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert path.read_bytes() in (b"0", b"1", b"2", b"3")
    assert os.listdir(tmp_path) == ["a"]


def test_files_are_whole_where_there_are_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / "a"
    put(str(path), b"1")
    with pytest.raises(FileExistsError):
        put(str(path), b"2")
    write_whole(str(path), b"3", stays=lambda: True)
    assert path.read_bytes() == b"1"
    write_whole(str(path), b"4", stays=lambda: False)
    assert path.read_bytes() == b"4"
    assert os.listdir(tmp_path) == ["a"]
