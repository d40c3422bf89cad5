"""What the processes of a container take, where it has no cgroup: rootless Podman on many machines.

Podman leaves a process beside each container (``conmon``), which waits for it: what that one's children have taken is
what the container has, once it is over. Nobody counts their memory.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress

from packtivity.runtimes.usage import Usage, text

_CUTIME, _CSTIME = 13, 14  # fields after the name in /proc/PID/stat, counted from 0: proc(5)


def find(pidfile: str) -> Family | None:
    """Return the processes below the one that a file names; None as long as there are none."""
    monitor = text(pidfile).strip()
    if not monitor.isdigit():
        return None
    first = next((child for child in _children(monitor) if _is_inside(child, monitor)), None)
    return None if first is None else Family(monitor, first)


def _is_inside(pid: str, monitor: str) -> bool:
    """Return whether a process is in a container, and not the tool that makes it."""
    with suppress(OSError):
        return os.readlink(f"/proc/{pid}/ns/pid") != os.readlink(f"/proc/{monitor}/ns/pid")
    return False


class Family:
    """The process beside a container, and what it waits for.

    :param monitor: its process id.
    :param first: process id of the container's first process.
    """

    def __init__(self, monitor: str, first: str) -> None:
        self._monitor, self._first = monitor, first
        self._before = self._waited_for()
        self._io_before = self._io()

    def first_process(self) -> int:
        """Return a descriptor that is readable when the container's first process has ended; -1 when there is none."""
        try:
            return os.pidfd_open(int(self._first))
        except (AttributeError, OSError):
            return -1

    def usage(self) -> Usage | None:
        """Return what it has taken when it is over and somebody has counted; None otherwise."""
        if not self._is_over():
            return None
        cpu, before = self._waited_for(), self._before
        if cpu is None or before is None:
            return None
        read, written = (
            None if now is None or was is None else now - was
            for now, was in zip(self._io(), self._io_before, strict=True)
        )
        return Usage("rusage", cpu - before, None, read, written)

    def _is_over(self) -> bool:
        """Return whether the first process has been waited for; that follows its end at once."""
        idle = threading.Event()
        for _ in range(20):
            state = text(f"/proc/{self._first}/stat").rpartition(")")[2][:2]
            if state != " Z":
                return not state
            idle.wait(0.001)
        return False

    def _waited_for(self) -> float | None:
        fields = text(f"/proc/{self._monitor}/stat").rpartition(")")[2].split()
        if len(fields) <= _CSTIME:
            return None
        return (int(fields[_CUTIME]) + int(fields[_CSTIME])) / os.sysconf("SC_CLK_TCK")

    def _io(self) -> tuple[int | None, int | None]:
        found = dict(line.split(": ") for line in text(f"/proc/{self._monitor}/io").splitlines() if ": " in line)
        read, written = found.get("read_bytes"), found.get("write_bytes")
        return int(read) if read else None, int(written) if written else None


def _children(pid: str) -> list[str]:
    return text(f"/proc/{pid}/task/{pid}/children").split()
