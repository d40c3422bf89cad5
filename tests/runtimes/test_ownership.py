"""Directories that are lent to a task that runs as somebody else are as they were when it is over."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from packtivity.runtimes.base import Host
from packtivity.runtimes.oci import Docker
from packtivity.runtimes.ownership import lent
from packtivity.types import Execution, Mount

if TYPE_CHECKING:
    from pathlib import Path

DOCKER = Docker(Host(os.getuid(), os.getgid(), "ada"))


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def asking(path: Path, user: str | None = "1234") -> Execution:
    return Execution(("sh",), mounts=(Mount(str(path), str(path)),), user=user)


def test_a_directory_is_open_to_the_task_s_user_as_long_as_the_task_runs(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    with lent(DOCKER, asking(tmp_path)):
        assert mode(tmp_path) & 0o070 == 0o070
    assert mode(tmp_path) == 0o750
    with lent(DOCKER, asking(tmp_path, user=None)):
        assert mode(tmp_path) == 0o750


def test_two_tasks_in_one_directory_leave_it_as_it_was(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    first, second = lent(DOCKER, asking(tmp_path)), lent(DOCKER, asking(tmp_path))
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)
    assert mode(tmp_path) == 0o755


def test_what_an_earlier_task_wrote_may_be_written_over(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "_packtivity").mkdir()
    modes = {"out": 0o644, "deep": 0o755, "deep/out": 0o644, "run": 0o755, "mine": 0o600, "_packtivity": 0o755}
    for name, found in modes.items():
        (tmp_path / name).is_dir() or (tmp_path / name).touch()
        (tmp_path / name).chmod(found)
    (tmp_path / "link").symlink_to("mine")
    with lent(DOCKER, asking(tmp_path)):
        now = {name: mode(tmp_path / name) & 0o070 for name in modes}
        assert now == {"out": 0o060, "deep": 0o070, "deep/out": 0o060, "run": 0o070, "mine": 0, "_packtivity": 0o050}
        (tmp_path / "out").chmod(0o604)  # the task's own doing
        (tmp_path / "deep" / "out").unlink()
    assert {name: mode(tmp_path / name) for name in modes if name != "deep/out"} == {
        "out": 0o604, "deep": 0o755, "run": 0o755, "mine": 0o600, "_packtivity": 0o755
    }  # fmt: skip


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
    with lent(DOCKER, asking(tmp_path, user="image")):
        (tmp_path / place).rename(tmp_path / "moved")
        if gone == "removed":  # and the link may get its inode
            subprocess.run(["rm", "-r", tmp_path / "moved"], check=True)
        (tmp_path / place).symlink_to(others)
    assert mode(others) == 0o700
    assert mode(others / "inner") == 0o700
