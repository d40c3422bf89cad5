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
from typing import Self, TypeVar

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


Figure = TypeVar("Figure", int, float)


class ContainerStats:
    """Use as a context around the run of a container; :attr:`usage` is set after it, None when nothing was found.

    :param folder: where the tool writes :attr:`cidfile`, the container's identifier, and :attr:`pidfile`, the process
        that Podman leaves beside a container.
    """

    def __init__(self, folder: str) -> None:
        self.usage: Usage | None = None
        self.cidfile = f"{folder}/cid"
        self.pidfile = f"{folder}/monitor"
        self._stop = self._stopped = -1
        self._thread = threading.Thread(target=self._watch, daemon=True)

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
        look, end, pause = self._find(), -1, _PAUSE[0]
        while look is not None:
            end = look.first_process() if end < 0 else end
            ready = self._wait(_POLL if end < 0 else pause, end)
            pause = min(pause * 1.2, _PAUSE[1])
            self.usage = _joined(self.usage, look.usage())
            if end in ready:
                os.close(end)
                end = look.first_process()  # what engines start first is not yet the task
            if self._stopped in ready or (ready and end < 0):
                break
        if end >= 0:
            os.close(end)

    def _wait(self, pause: float, end: int = -1) -> list[int]:
        """Wait for the end of the run or of a process; return the descriptors that are ready."""
        poller = select.poll()
        for descriptor in (self._stopped, end):
            if descriptor >= 0:
                poller.register(descriptor, select.POLLIN)
        return [descriptor for descriptor, _ in poller.poll(pause * 1000)]

    def _find(self) -> cgroup.Group | Conmon | None:
        """Wait until the container can be observed; None when the run ends before that."""
        pause, waited, searched = _FIRST, 0.0, False
        while not self._wait(pause):
            container = text(self.cidfile)
            waited += pause if container else 0
            pause = _POLL if waited < _EAGER else _PAUSE[1]
            look = (container and cgroup.find(container)) or find_conmon(self.pidfile)
            if not look and waited > _SEARCHED and not searched:
                searched, look = True, cgroup.search(container)
            if look:
                return look
        return None


def _joined(before: Usage | None, now: Usage | None) -> Usage | None:
    """Join two looks: an engine may have removed some or all of what counts before the later one; no figure ever falls."""
    if before is None:
        return now
    now = now or Usage(None)
    return Usage(
        before.source,
        _most(before.cpu, now.cpu),
        _most(before.memory, now.memory),
        _most(before.read, now.read),
        _most(before.written, now.written),
        # That nobody was killed is known of the last look only: it may have come after an earlier one.
        _most(before.killed or None, now.killed),
    )


def _most(before: Figure | None, now: Figure | None) -> Figure | None:
    return now if before is None else before if now is None else max(before, now)


# --- without a cgroup ------------------------------------------------------------------------------------------

_CUTIME, _CSTIME = 13, 14  # fields after the name in /proc/PID/stat, counted from 0: proc(5)


def find_conmon(pidfile: str) -> Conmon | None:
    """Return the processes below the one named in a file; None as long as there are none."""
    monitor = text(pidfile).strip()
    if not monitor.isdigit():
        return None
    for child in text(f"/proc/{monitor}/task/{monitor}/children").split():
        with suppress(OSError):
            if os.readlink(f"/proc/{child}/ns/pid") != os.readlink(f"/proc/{monitor}/ns/pid"):
                return Conmon(monitor, child)  # in a container, and not the tool that makes it
    return None


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
        return cgroup.open_process(self._first)

    def usage(self) -> Usage | None:
        """Return what it has used once it is over and counted; None otherwise."""
        cpu = self._waited_for() if self._is_over() else None
        if cpu is None or self._before is None:
            return None
        read, written = (
            None if now is None or was is None else now - was
            for now, was in zip(self._io(), self._io_before, strict=True)
        )
        return Usage("rusage", cpu - self._before, None, read, written)

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
