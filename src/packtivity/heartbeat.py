"""Claims where file locks do not work, as on Lustre without ``flock``: who has one says every few seconds that he lives.

Each claim says whose it is by a token. Whoever wants to take it over waits until his own clock has seen no change of it for
:data:`STALE` seconds, writes a token of his own, and has it if that is still there after :data:`SETTLE` seconds (Fischer's
algorithm). A runner that could not say for :data:`LOST` seconds that it lives, or finds another token, ends its task. So no two run
at once as long as clocks run at the same speed and a runner is not stopped (``SIGSTOP``) while its task goes on.
"""

from __future__ import annotations

import os
import select
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from packtivity.files import parsed

if TYPE_CHECKING:
    from collections.abc import Callable

BEAT, LOST, STALE, SETTLE = 10.0, 30.0, 60.0, 5.0
"""Seconds; see above."""

_seen: dict[str, tuple[tuple[int, ...], float]] = {}


def new_token() -> str:
    """Return what tells one claim of a task apart from every other one."""
    return os.urandom(8).hex()


def is_stale(path: str, descriptor: int) -> bool:
    """Return whether this process has seen for :data:`STALE` seconds that nobody has changed a claim.

    :param descriptor: of the claim, which was opened just now: a network's file system looks at it then.
    """
    found, now = os.fstat(descriptor), time.monotonic()
    as_it_is = (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)
    if _seen.get(path, (None,))[0] != as_it_is:
        _seen[path] = as_it_is, now
    return now - _seen[path][1] >= STALE


def token_in(content: bytes) -> str | None:
    """Return the token that a claim says."""
    found = parsed(content)
    token = found.get("token") if isinstance(found, dict) else None
    return token if isinstance(token, str) else None


class Heartbeat:
    """Says that a runner lives, from a thread of its own, until it is closed.

    :param beat: says so once; false when the claim is somebody else's.
    :ivar lost: whether the claim has been lost, so that the task is to be ended.
    """

    def __init__(self, beat: Callable[[], bool]) -> None:
        self._beat, self._last = beat, time.monotonic()
        self._over, self._lock = threading.Event(), threading.Lock()
        self.lost = False
        self._read, self._write = os.pipe()
        for act in (self._run, self._watch):  # the first may be held up by the file system for as long as that likes
            threading.Thread(target=act, name="packtivity-heartbeat", daemon=True).start()

    def fileno(self) -> int:
        """Return a descriptor that is readable once the claim is lost."""
        return self._read

    def _run(self) -> None:
        while not self._over.wait(BEAT) and not self.lost:
            with suppress(OSError):  # the file system may be back in time
                if not self._beat():
                    self._lose()
                elif not self._is_late():
                    self._last = time.monotonic()

    def _watch(self) -> None:
        while not self._over.wait(BEAT) and not self.lost:
            if self._is_late():
                self._lose()

    def _is_late(self) -> bool:
        return time.monotonic() - self._last >= LOST

    def _lose(self) -> None:
        with self._lock:
            if not self.lost and not self._over.is_set():
                self.lost = True
                os.write(self._write, b".")

    def close(self) -> None:
        """Say it no more."""
        with self._lock:
            self._over.set()
        for descriptor in (self._read, self._write):
            os.close(descriptor)


def either(first: int, second: int) -> select.epoll:
    """Return what is readable when one of two descriptors is."""
    both = select.epoll()
    for descriptor in (first, second):
        both.register(descriptor, select.EPOLLIN | select.EPOLLHUP)
    return both
