"""What a container uses, read at intervals and once more at the moment its first process ends.

The engine is not queried. The container tool writes the container's identifier into a file; by that its cgroup is found, and
in it its first process, whose end a descriptor reports. The cgroup is removed some milliseconds later, by which time
it has been read, unless the machine is very busy. Rootless Podman may have no cgroup: there the processes are counted.
"""

from __future__ import annotations

import os
import select
import threading
from contextlib import suppress
from dataclasses import replace
from typing import Self

from packtivity.runtimes import cgroup
from packtivity.runtimes.cgroup import Usage, text

_SEARCHED = 0.2
"""Seconds without finding it in a usual place after which it is looked for everywhere, once."""

_FIRST = 0.08
"""Seconds before the first look; no engine is as fast."""

_POLL = 0.015
"""Seconds between looks as long as it has not been found; shorter than an engine takes to remove a cgroup."""

_EAGER = 5.0
"""Seconds after which it is hardly to be found any more, with a daemon elsewhere for example, and looked for less often."""

_PAUSE = (0.05, 0.5)
"""Seconds between looks after that, at first and at most: what is left when the last look comes too late."""


class ContainerStats:
    """Use as a context around the run of a container; :attr:`usage` is set after it, None when nothing was found.

    :param folder: where the tool writes the files :meth:`cidfile` and :meth:`pidfile`.
    """

    def __init__(self, folder: str) -> None:
        self.usage: Usage | None = None
        self._folder = folder
        self._stop = self._stopped = -1
        self._pause = _PAUSE[0]
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def cidfile(self) -> str:
        """Return the file for the container's identifier."""
        return f"{self._folder}/cid"

    def pidfile(self) -> str:
        """Return the file for the process that Podman leaves beside a container."""
        return f"{self._folder}/monitor"

    def __enter__(self) -> Self:
        with suppress(OSError, RuntimeError):  # no more descriptors or threads: then without figures
            self._stopped, self._stop = os.pipe()
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._stop >= 0:
            os.close(self._stop)
        if self._thread.ident is not None:
            self._thread.join()
        if self._stopped >= 0:
            os.close(self._stopped)

    def _watch(self) -> None:
        look = self._find()
        end = -1
        while look is not None:
            end = look.first_process() if end < 0 else end
            ready = self._wait(end)
            self._note(look.usage())
            if end in ready:
                os.close(end)
                end = look.first_process()  # what engines start first is not yet the task
            if self._stopped in ready or (ready and end < 0):
                break
        if end >= 0:
            os.close(end)

    def _note(self, usage: Usage | None) -> None:
        if usage is None and self.usage is not None:
            usage = replace(self.usage, killed=self.usage.killed or None)  # it may have come after the last look
        self.usage = usage

    def _wait(self, end: int) -> list[int]:
        """Wait for the end of the run or of a process; return the descriptors that are ready."""
        poller = select.poll()
        for descriptor in (self._stopped, end):
            if descriptor >= 0:
                poller.register(descriptor, select.POLLIN)
        pause = _POLL
        if end >= 0:
            pause, self._pause = self._pause, min(self._pause * 1.2, _PAUSE[1])
        return [descriptor for descriptor, _ in poller.poll(pause * 1000)]

    def _find(self) -> cgroup.Group | Conmon | None:
        """Wait until the container can be observed; None when the run ends before that."""
        poller, cidfile = select.poll(), self.cidfile()
        poller.register(self._stopped, select.POLLIN)
        pause = _FIRST
        while not os.path.exists(cidfile):
            if poller.poll(pause * 1000):
                return None
            pause = _POLL
        waited, searched, pause = 0.0, False, _POLL
        while not poller.poll(pause * 1000):
            container = text(cidfile)
            waited += pause
            pause = _POLL if waited < _EAGER else _PAUSE[1]
            counted = (container and cgroup.find(container)) or find_conmon(self.pidfile())
            if not counted and container and waited > _SEARCHED and not searched:
                searched, counted = True, cgroup.search(container)
            if counted:
                return counted
        return None


# --- without a cgroup ------------------------------------------------------------------------------------------

_CUTIME, _CSTIME = 13, 14  # fields after the name in /proc/PID/stat, counted from 0: proc(5)


def find_conmon(pidfile: str) -> Conmon | None:
    """Return the processes below the one named in a file; None as long as there are none."""
    monitor = text(pidfile).strip()
    if not monitor.isdigit():
        return None
    children = text(f"/proc/{monitor}/task/{monitor}/children").split()
    first = next((child for child in children if _is_inside(child, monitor)), None)
    return None if first is None else Conmon(monitor, first)


def _is_inside(pid: str, monitor: str) -> bool:
    """Return whether a process is in a container, and not the tool that makes it."""
    with suppress(OSError):
        return os.readlink(f"/proc/{pid}/ns/pid") != os.readlink(f"/proc/{monitor}/ns/pid")
    return False


class Conmon:
    """The process that Podman leaves beside a container (``conmon``), and what it waits for.

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
        """Return what it has used once it is over and counted; None otherwise."""
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
        fields = dict(line.split(": ") for line in text(f"/proc/{self._monitor}/io").splitlines() if ": " in line)
        read, written = fields.get("read_bytes"), fields.get("write_bytes")
        return int(read) if read else None, int(written) if written else None
