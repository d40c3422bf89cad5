"""The shell program that cleans up after a task that died: its container and the processes that run it.

A reaper reads the name of a container, that its private folder is created, and then ``done``; when its input ends in
between, it cleans up. After ``done`` it waits for the next name: a process that runs many tasks starts as many reapers
as it has tasks at the same time.

Other users of the machine may write beside the folder, name processes as they like, and get the number of a process that
has ended. So a process is ended only if it began when the one did that has written its number into the folder, or is
of this user and was begun since.
"""

from __future__ import annotations

import atexit
import os
import select
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from packtivity import settings
from packtivity.runtimes import process

if TYPE_CHECKING:
    Kind = tuple[str, tuple[str, ...], bool, dict[str, str]]

_PROGRAM = (Path(__file__).parent / "reaper.sh").read_text("utf-8")
_PATIENCE = 10.0
_MOST_SPARE = 8

_spare: list[Reaper] = []
_living: set[Reaper] = set()


class Reaper:
    """A running reaper; :func:`take` returns one."""

    def __init__(self, kind: Kind) -> None:
        base, remove, named, environment = self.kind = kind
        argv = ("sh", "-c", _PROGRAM, base, "yes" if named else "", *remove)
        self._helper = process.start_helper(argv, environment)
        _living.add(self)

    def watch(self, name: str) -> bool:
        """Send it the name of a container; false when it has been killed."""
        return self._say(name)

    def made(self, inode: int, owner: int) -> bool:
        """Send it that the private folder exists; false when it has been killed."""
        return self._say(f"made {inode} {owner}")

    def done(self) -> None:
        """Dismiss it without a clean-up, and keep it for the next container."""
        if self._say("done") and len(_spare) < _MOST_SPARE:
            _spare.append(self)
        else:
            self.end()

    def clear(self) -> None:
        """Let it clean up; return as soon as it finds nothing more, or after ten seconds."""
        output = self._hang_up()
        if output is None:
            return
        poller = select.poll()  # which, unlike select, takes descriptors of any number
        poller.register(output, select.POLLIN)
        if poller.poll(_PATIENCE * 1000):
            os.read(output.fileno(), 64)
        output.close()
        # It may look a while longer for a container that a daemon was about to create; there is no need to wait for that.
        threading.Thread(target=self._helper.wait, daemon=True).start()

    def end(self) -> None:
        """End one that has nothing to clean up."""
        output = self._hang_up()
        if output is not None:
            output.close()
        self._helper.wait()

    def disown(self) -> None:
        """Close our ends of its pipes in a forked process: only the process that started it may hold them."""
        output = self._hang_up()
        if output is not None:
            output.close()
        self._helper.returncode = 0  # not our child: nothing to wait for

    def _say(self, word: str) -> bool:
        try:
            return self._helper.stdin is not None and bool(self._helper.stdin.write(f"{word}\n".encode()))
        except BrokenPipeError:
            return False

    def _hang_up(self) -> IO[bytes] | None:
        _living.discard(self)
        if self._helper.stdin is not None:
            self._helper.stdin.close()
        return self._helper.stdout


def take(name: str, base: str, remove: tuple[str, ...]) -> Reaper:
    """Return a reaper that watches over the container ``name`` and its private folder ``base/name``.

    :param remove: arguments that remove the container; empty when killing the processes is enough.
    :raises EnvironmentUnavailable: there is no ``sh``.
    """
    named = remove[-1:] == (name,)
    kind = (base, remove[:-1] if named else remove, named, settings.caller_environment())
    while (spare := _take_spare(kind)) is not None:
        if spare.watch(name):
            return spare
        spare.end()
    reaper = Reaper(kind)
    reaper.watch(name)
    return reaper


def _take_spare(kind: Kind) -> Reaper | None:
    for reaper in tuple(_spare):
        if reaper.kind == kind:
            with suppress(ValueError):  # another thread has just taken it
                _spare.remove(reaper)
                return reaper
    return None


def _end_spare() -> None:
    while _spare:
        _spare.pop().end()


def _in_forked_child() -> None:
    """Close the parent's pipes, whose end no reaper would see as long as we live."""
    _spare.clear()
    for reaper in list(_living):
        reaper.disown()


atexit.register(_end_spare)
os.register_at_fork(after_in_child=_in_forked_child)
