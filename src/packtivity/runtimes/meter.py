"""What a container takes, looked at now and then and once more at the moment its first process ends.

No engine is asked. The container tool writes the container's identifier into a file; by that its cgroup is found, and
in it its first process, whose end a descriptor tells. The cgroup is removed some milliseconds later, by which time
it has been read, unless the machine is so busy that we get no turn. Rootless Podman may have no cgroup to give: there the processes themselves are looked at.
"""

from __future__ import annotations

import os
import select
import threading
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Self

from packtivity.runtimes import cgroup, family
from packtivity.runtimes.usage import text

if TYPE_CHECKING:
    from packtivity.runtimes.usage import Usage

    Look = cgroup.Group | family.Family

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


class Meter:
    """Use as a context around the run of a container; :attr:`usage` is there after it, None when nothing was found.

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
            told = self._wait(end)
            self._note(look.usage())
            if end in told:
                os.close(end)
                end = look.first_process()  # what engines start first is not yet the task
            if self._stopped in told or (told and end < 0):
                break
        if end >= 0:
            os.close(end)

    def _note(self, usage: Usage | None) -> None:
        if usage is None and self.usage is not None:
            usage = replace(self.usage, killed=self.usage.killed or None)  # it may have come after the last look
        self.usage = usage

    def _wait(self, end: int) -> list[int]:
        """Wait for the end of the run or of a process; return the descriptors that told it."""
        poller = select.poll()
        for descriptor in (self._stopped, end):
            if descriptor >= 0:
                poller.register(descriptor, select.POLLIN)
        pause = _POLL
        if end >= 0:
            pause, self._pause = self._pause, min(self._pause * 1.2, _PAUSE[1])
        return [descriptor for descriptor, _ in poller.poll(pause * 1000)]

    def _find(self) -> Look | None:
        """Wait until there is something to look at; None when the run is over before."""
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
            found = (container and cgroup.find(container)) or family.find(self.pidfile())
            if not found and container and waited > _SEARCHED and not searched:
                searched, found = True, cgroup.search(container)
            if found:
                return found
        return None
