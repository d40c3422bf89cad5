"""What a container has taken, and its cgroup (version 1 or 2), which counts it: where it is, and what it says."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any

ROOT = "/sys/fs/cgroup"

# Where engines make cgroups, by file system and by systemd, for root and for an ordinary user.
_OF_USER = "user.slice/user-{uid}.slice/user@{uid}.service"
_PLACES = (
    "docker/{id}",
    "system.slice/docker-{id}.scope",
    "libpod_parent/libpod-{id}",
    "machine.slice/libpod-{id}.scope",
    _OF_USER + "/user.slice/libpod-{id}.scope",
    _OF_USER + "/user.slice/docker-{id}.scope",
    _OF_USER + "/app.slice/docker-{id}.scope",
)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a container has used; ``None`` for what nothing counts.

    :ivar source: ``cgroup``, or ``rusage`` where its processes were counted one by one; ``None`` when nothing could be counted.
    :ivar cpu: seconds, user and system.
    :ivar memory: peak, bytes; that of a cgroup has the pages of files in it.
    :ivar read, written: bytes from and to block devices.
    :ivar killed: how many processes were killed because memory ran out.
    """

    source: str | None
    cpu: float | None = None
    memory: int | None = None
    read: int | None = None
    written: int | None = None
    killed: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the figures as they stand in a record."""
        return {
            "source": self.source,
            "cpu_seconds": None if self.cpu is None else round(self.cpu, 6),
            "peak_memory_bytes": self.memory,
            "peak_memory_of": None if self.memory is None else "all processes",
            "read_bytes": self.read,
            "written_bytes": self.written,
        }


def text(path: str) -> str:
    """Return what a file of the kernel's says; empty when it is not there or not ours to read."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read().decode("utf-8", "replace")
    except (OSError, ValueError):
        return ""


# --- finding it ------------------------------------------------------------------------------------------------


def find(container: str, root: str = ROOT) -> Group | None:
    """Return the cgroup of a container if it is in one of the usual places."""
    base = _base(root)
    for place in _PLACES:
        path = place.format(id=container, uid=os.getuid())
        if os.path.isdir(f"{base}/{path}"):
            return Group(root, path)
    return None


def search(container: str, root: str = ROOT) -> Group | None:
    """Return the cgroup of a container, looked for everywhere."""
    base = _base(root)
    for folder, names, _ in os.walk(base):
        for name in names:
            if container in name:
                return Group(root, os.path.relpath(f"{folder}/{name}", base))
    return None


def _base(root: str) -> str:
    """Return the folder with the tree of cgroups: version 2 has one, of version 1 memory's is taken."""
    return root if os.path.exists(f"{root}/cgroup.controllers") else f"{root}/memory"


# --- reading it ------------------------------------------------------------------------------------------------


class Group:
    """One cgroup, of version 1 or 2.

    :param root: where cgroups are mounted.
    :param path: below it, or below each of its controllers in version 1.
    """

    def __init__(self, root: str, path: str) -> None:
        self._root, self._path = root, path
        self._unified = os.path.exists(f"{root}/cgroup.controllers")
        self._highest = 0

    def first_process(self) -> int:
        """Return a descriptor that becomes readable when its first process ends; -1 when none is available."""
        pids = text(f"{_base(self._root)}/{self._path}/cgroup.procs").split()
        return open_process(min(pids, key=int, default="0"))

    def usage(self) -> Usage | None:
        """Return what it has used so far; None when it is gone."""
        return self._version_2() if self._unified else self._version_1()

    def _version_2(self) -> Usage | None:
        folder = f"{self._root}/{self._path}"
        cpu = _fields(text(f"{folder}/cpu.stat")).get("usage_usec")
        if cpu is None:
            return None
        peak = _number(text(f"{folder}/memory.peak"))
        if peak is None:  # before Linux 5.19
            self._highest = max(self._highest, _number(text(f"{folder}/memory.current")) or 0)
            peak = self._highest or None
        read, written = _bytes(text(f"{folder}/io.stat"))
        killed = _fields(text(f"{folder}/memory.events")).get("oom_kill")
        return Usage("cgroup", cpu / 1e6, peak, read, written, killed)

    def _version_1(self) -> Usage | None:
        cpu = _number(text(f"{self._root}/cpuacct/{self._path}/cpuacct.usage"))
        if cpu is None:
            return None
        peak = _number(text(f"{self._root}/memory/{self._path}/memory.max_usage_in_bytes"))
        read, written = _bytes(text(f"{self._root}/blkio/{self._path}/blkio.throttle.io_service_bytes"))
        killed = _fields(text(f"{self._root}/memory/{self._path}/memory.oom_control")).get("oom_kill")
        return Usage("cgroup", cpu / 1e9, peak, read, written, killed)


def open_process(pid: str) -> int:
    """Return a descriptor of a process; -1 when none is available: in a namespace of its own, or not Linux 5.3."""
    try:
        return os.pidfd_open(int(pid))
    except (AttributeError, OSError):
        return -1


def _number(text: str) -> int | None:
    return int(text) if text.strip().isdigit() else None


def _fields(text: str) -> dict[str, int]:
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


_READ, _WRITTEN = re.compile(r"\b(?:rbytes=|Read )(\d+)"), re.compile(r"\b(?:wbytes=|Write )(\d+)")
"""What counts in ``8:0 rbytes=4096 wbytes=0 …`` (version 2) and ``8:0 Read 4096`` (version 1)."""


def _bytes(text: str) -> tuple[int | None, int | None]:
    """Return bytes that were read and written."""
    if not text:
        return None, None
    return sum(map(int, _READ.findall(text))), sum(map(int, _WRITTEN.findall(text)))
