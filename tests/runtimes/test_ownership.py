"""Directories that are lent to a task that runs as somebody else are as they were afterwards, and what it made is the caller's."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from packtivity import folders
from packtivity.runtimes import give_back
from packtivity.runtimes.base import Host
from packtivity.runtimes.oci import Docker
from packtivity.runtimes.ownership import ACCESS, allowing, entries, shared, task_uid
from packtivity.types import Execution, Mount

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

DOCKER = Docker(Host(os.getuid(), os.getgid(), "ada"))
TASK = 1234
ROOT = os.getuid() == 0
only_root = pytest.mark.skipif(not ROOT, reason="only root can give files to others")


@pytest.fixture(autouse=True)
def own_state(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    monkeypatch.setenv("PACKTIVITY_STATE_DIR", str(tmp_path_factory.mktemp("state") / "packtivity"))
    yield
    assert os.listdir(folders.state("loans")) == []


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def asking(path: Path, user: str | None = str(TASK)) -> Execution:
    return Execution(("sh",), mounts=(Mount(str(path), str(path)),), user=user)


def no_helper(execution: Execution) -> Any:
    raise AssertionError("root gives files back without a container")


def lent(path: Path, said: list[str] | None = None) -> AbstractContextManager[Execution]:
    return shared(DOCKER, asking(path), TASK, no_helper, ([] if said is None else said).append)


def access(path: Path) -> bytes | None:
    return os.getxattr(path, ACCESS) if ACCESS in os.listxattr(path) else None


def rights(path: Path) -> dict[int, int]:
    """Return what a list gives to users, by id."""
    return {who: bits for (tag, who), bits in entries(access(path) or b"").items() if tag == 2}


@pytest.mark.parametrize(
    ("user", "uid"), [(None, 500), ("image", 500), ("77", 77), ("77:5", 77), ("caller", None), (str(os.getuid()), None)]
)
def test_whose_files_a_task_writes(tmp_path: Path, user: str | None, uid: int | None) -> None:
    assert task_uid(DOCKER, asking(tmp_path, user), lambda: 500) == uid


def test_rootless_the_files_are_the_caller_s(tmp_path: Path) -> None:
    rootless = Docker(replace(DOCKER.host, rootless=True))
    assert task_uid(rootless, asking(tmp_path, "77"), lambda: 500) is None


def test_a_directory_is_open_to_the_task_s_user_alone_and_as_long_as_the_task_runs(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    with lent(tmp_path):
        assert rights(tmp_path) == {TASK: 7}
        assert mode(tmp_path) & 0o007 == 0
    assert (mode(tmp_path), rights(tmp_path)) == (0o750, {})


def test_a_list_that_was_there_is_there_again(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    os.setxattr(tmp_path, ACCESS, allowing(None, 0o750, 77, 5))
    before = access(tmp_path)
    with lent(tmp_path):
        assert rights(tmp_path) == {77: 5, TASK: 7}
    assert access(tmp_path) == before


def test_two_tasks_in_one_directory_leave_it_as_it_was(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    first, second = lent(tmp_path), lent(tmp_path)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert rights(tmp_path) == {TASK: 7}  # the other one still runs
    second.__exit__(None, None, None)
    assert (mode(tmp_path), rights(tmp_path)) == (0o755, {})


@only_root
def test_the_task_that_began_first_may_end_last(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    for name in ("first", "common", "second"):
        (tmp_path / name).mkdir()
    common, said = tmp_path / "common", list[str]()

    def with_own(name: str) -> AbstractContextManager[Execution]:
        mounts = tuple(Mount(str(path), str(path)) for path in (tmp_path / name, common))
        return shared(DOCKER, replace(asking(common), mounts=mounts), TASK, no_helper, said.append)

    first, second = with_own("first"), with_own("second")
    first.__enter__()
    second.__enter__()
    for path in (tmp_path / "first", common, tmp_path / "second"):
        (path / "new").touch()
        os.chown(path / "new", TASK, TASK)
    second.__exit__(None, None, None)
    assert rights(common) == {TASK: 7}  # the other one still runs
    first.__exit__(None, None, None)
    assert {owner(path) for path in tmp_path.rglob("new")} == {0}
    assert [access(path) for path in (tmp_path / "first", common, tmp_path / "second")] == [None] * 3
    assert said == []


def test_what_an_earlier_task_wrote_may_be_written_over(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "_packtivity").mkdir()
    modes = {"out": 0o644, "deep": 0o755, "deep/out": 0o644, "run": 0o755, "mine": 0o600, "_packtivity": 0o755}
    for name, wanted in modes.items():
        (tmp_path / name).is_dir() or (tmp_path / name).touch()
        (tmp_path / name).chmod(wanted)
    (tmp_path / "link").symlink_to("mine")
    with lent(tmp_path):
        now = {name: rights(tmp_path / name).get(TASK) for name in modes}
        assert now == {"out": 6, "deep": 7, "deep/out": 6, "run": 7, "mine": None, "_packtivity": None}
        (tmp_path / "out").chmod(0o604)  # the task's own doing
        (tmp_path / "deep" / "out").unlink()
    assert {name: mode(tmp_path / name) for name in modes if name != "deep/out"} == {
        "out": 0o604, "deep": 0o755, "run": 0o755, "mine": 0o600, "_packtivity": 0o755
    }  # fmt: skip
    assert not any(rights(tmp_path / name) for name in modes if name != "deep/out")


@pytest.mark.parametrize("gone", ["moved", "removed"])
@pytest.mark.parametrize("place", ["deep", "deep/inner", "out"])
def test_a_link_that_the_task_has_put_in_the_place_of_what_was_lent_opens_nothing(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, place: str, gone: str
) -> None:
    others = tmp_path_factory.mktemp("others")
    (tmp_path / "deep" / "inner").mkdir(parents=True)
    (tmp_path / "out").touch()
    (others / "inner").mkdir()
    for path in (tmp_path / "deep", tmp_path / "deep" / "inner"):
        path.chmod(0o700 | 0o055)
    (tmp_path / "out").chmod(0o755)
    others.chmod(0o700)
    (others / "inner").chmod(0o700)
    with lent(tmp_path):
        (tmp_path / place).rename(tmp_path / "moved")
        if gone == "removed":  # and the link may get its inode
            subprocess.run(["rm", "-r", tmp_path / "moved"], check=True)
        (tmp_path / place).symlink_to(others)
    assert mode(others) == 0o700
    assert mode(others / "inner") == 0o700


def owner(path: Path) -> int:
    return path.lstat().st_uid


@only_root
def test_what_is_new_becomes_the_caller_s_and_what_was_there_stays_whose_it_is(tmp_path: Path) -> None:
    (tmp_path / "colleague").touch()
    os.chown(tmp_path / "colleague", TASK, TASK)  # the image's user is a real person here
    said: list[str] = []
    with lent(tmp_path, said):
        (tmp_path / "new" / "deep").mkdir(parents=True)
        (tmp_path / "new" / "deep" / "file").touch()
        (tmp_path / "link").symlink_to(tmp_path.parent)
        for path in ("new", "new/deep", "new/deep/file", "link"):
            os.chown(tmp_path / path, TASK, TASK, follow_symlinks=False)
        os.mknod(tmp_path / "device", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        os.chown(tmp_path / "device", TASK, TASK)
    assert {owner(path) for path in tmp_path.rglob("*") if path.name != "colleague"} == {0}
    assert owner(tmp_path / "colleague") == TASK
    assert owner(tmp_path.parent) == 0
    assert not (tmp_path / "device").exists()
    assert said == [f"device nodes that the task made have been removed: {tmp_path}/device"]


@only_root
def test_what_the_task_makes_anew_is_the_caller_s_though_there_was_one_of_another_owner(tmp_path: Path) -> None:
    old = [tmp_path / f"old{number}" for number in range(20)]
    for path in old:  # as 0.17.1 leaves them
        path.touch()
        os.chown(path, TASK, TASK)
    with lent(tmp_path):
        for path in old:
            path.unlink()
        for path in old:  # by themselves, file systems give them the same inodes again
            path.touch()
            os.chown(path, TASK, TASK)
    assert {owner(path) for path in old} == {0}


@only_root
def test_in_a_shared_directory_only_what_root_has_made_is_given_back(tmp_path: Path) -> None:
    tmp_path.chmod(0o2775)
    os.chown(tmp_path, 0, 50)
    before = give_back.survey([str(tmp_path)], 1001)
    for name, who in (("root", 0), ("somebody", 1002)):
        (tmp_path / name).touch()
        os.chown(tmp_path / name, who, 50)
    os.chown(tmp_path, 1001, 50)
    request: give_back.Request = {"tops": [str(tmp_path)], "before": before, "task": 0, "uid": 1001, "gid": 1001}
    report = give_back.give_back(request)
    assert report == {"given": 1, "removed": [], "left": [f"{tmp_path}/somebody"]}
    assert (owner(tmp_path / "root"), (tmp_path / "root").stat().st_gid) == (1001, 50)
    assert owner(tmp_path / "somebody") == 1002


@only_root
def test_what_the_task_took_from_others_goes_back_to_them(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    os.chown(tmp_path, 1001, 1001)
    theirs = tmp_path / "colleague"
    theirs.mkdir()
    for name in ("kept", "written"):
        (theirs / name).write_text("theirs\n")
    for path in (theirs, theirs / "kept", theirs / "written"):
        os.chown(path, 1000, 1000)
        os.utime(path, ns=(1, 1))
    before = give_back.survey([str(tmp_path)], 1001)
    (theirs / "kept").chmod(0o600)
    (theirs / "written").write_text("the task's\n")
    (tmp_path / "new").touch()
    for path in (tmp_path, *tmp_path.rglob("*")):
        os.chown(path, 0, 0)  # chown -R 0:0 . as root of a container
    request: give_back.Request = {"tops": [str(tmp_path)], "before": before, "task": 0, "uid": 1001, "gid": 1001}
    assert give_back.give_back(request)["left"] == []
    found = {path.name: (owner(path), path.stat().st_gid) for path in tmp_path.rglob("*")}
    colleague, caller = (1000, 1000), (1001, 1001)
    assert found == {"colleague": colleague, "kept": colleague, "written": caller, "new": caller}
    assert owner(tmp_path) == 1001


@only_root
def test_the_next_task_finishes_what_was_interrupted(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    program = f"""
import os, sys
from pathlib import Path
sys.path.insert(0, {os.path.dirname(__file__)!r})
from test_ownership import lent
folder = Path({str(tmp_path)!r})
held = lent(folder)  # kept
held.__enter__()
(folder / "new").touch()
os.chown(folder / "new", 1234, 1234)
os.kill(os.getpid(), 9)
"""
    import sys

    killed = subprocess.run([sys.executable, "-c", program], check=False)
    assert killed.returncode == -9
    assert (rights(tmp_path), owner(tmp_path / "new")) == ({TASK: 7}, TASK)
    with lent(tmp_path):
        assert owner(tmp_path / "new") == 0
    assert (mode(tmp_path), rights(tmp_path)) == (0o755, {})


def test_the_program_gives_back_what_it_is_asked_to(tmp_path: Path) -> None:
    import sys

    request = {"tops": [str(tmp_path)], "before": {"others": [], "closed": []}, "task": 0, "uid": os.getuid(), "gid": 0}
    argv = [sys.executable, "-I", "-S", give_back.__file__]
    done = subprocess.run(argv, input=json.dumps(request), capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"given": 0, "removed": [], "left": []}
