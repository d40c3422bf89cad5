"""A small disk to be filled, and what mounting takes."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from needs import need_engine

if TYPE_CHECKING:
    from pathlib import Path

PAGE = 4096


class Room:
    """A small disk.

    :param size: bytes, or what else ``mount`` takes after ``size=``.
    """

    def __init__(self, folder: Path, size: int | str) -> None:
        self.folder, self.ballast = folder, folder / "ballast"
        folder.mkdir()
        mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))

    def free(self) -> int:
        status = os.statvfs(self.folder)
        return status.f_bavail * status.f_frsize

    def leave(self, pages: int) -> None:
        """Fill it but for some pages."""
        with suppress(FileNotFoundError):
            self.ballast.unlink()
        with self.ballast.open("wb") as file:
            file.truncate(0)
            os.posix_fallocate(file.fileno(), 0, max(PAGE, self.free() - pages * PAGE))

    def close(self) -> None:
        for _ in range(50):
            if subprocess.run(["umount", str(self.folder)], check=False, capture_output=True).returncode == 0:
                return
            time.sleep(0.1)
        subprocess.run(["umount", "-l", str(self.folder)], check=False)


def mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    problem = f"a file system of its own ({done.stderr.strip()})"
    need_engine(done.returncode == 0, problem, "run the tests as root, where mounting is allowed")


def only_root() -> None:
    need_engine(True, "a file system of its own")
    if os.getuid() != 0:
        pytest.skip("only root can mount a small disk")
