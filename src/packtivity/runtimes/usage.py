"""What a container has taken, whoever counted it; and how the kernel's files are read that say so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Usage:
    """What a container has taken; ``None`` for what nobody counts.

    :ivar source: ``cgroup``, or ``rusage`` where its processes were looked at one by one; ``None`` when nobody could look.
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
            "read_bytes": self.read,
            "written_bytes": self.written,
        }


def text(path: str) -> str:
    """Return what a file of the kernel's says; empty when it is not there or not ours to read."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read().decode("ascii", "replace")
    except (OSError, ValueError):
        return ""
