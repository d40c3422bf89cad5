"""A process group: when its leader ends, and the end of everything in it."""

from __future__ import annotations

import os
import resource
import signal
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from packtivity import runners

if TYPE_CHECKING:
    Collected = tuple[int, resource.struct_rusage]


class ExitWatch:
    """A descriptor that becomes readable when a child of ours has ended.

    :param pid: a child that nobody else waits for.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._collected: Collected | None = None
        self._thread: threading.Thread | None = None
        try:
            self._descriptor = os.pidfd_open(pid)
        except (AttributeError, OSError):  # not Linux 5.3, or a sandbox forbids it
            self._descriptor, writing = os.pipe()
            self._thread = threading.Thread(target=self._wait, args=(writing,), daemon=True)
            self._thread.start()

    def _wait(self, writing: int) -> None:
        try:
            self._collected = _wait4(self._pid)
        finally:
            os.close(writing)

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._descriptor

    def collect(self) -> Collected:
        """Return wait status and resource use, waiting for the end if necessary; may be called again."""
        if self._thread is not None:
            self._thread.join()
        if self._collected is None:
            self._collected = _wait4(self._pid)
        return self._collected

    def close(self) -> None:
        """Close the descriptor; may be called again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _wait4(pid: int) -> Collected:
    try:
        _, status, usage = os.wait4(pid, 0)
    except ChildProcessError:
        # A program that ignores SIGCHLD has its children's exit codes thrown away; subprocess says 0 then too.
        return 0, resource.struct_rusage([0] * 16)
    return status, usage


def signal_group(group: int, number: signal.Signals) -> None:
    """Send a signal to every process of ``group``; an empty group, or one of another user, is no error."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def end_group(group: int, grace: float, *, thorough: bool = False) -> int:
    """End what is left of a group whose leader has been waited for.

    Groups that a shell made for its background jobs are found by their session when anything of the group itself is
    left. A process that left the session (``setsid``) is out of reach.

    :param grace: seconds between ``TERM`` and ``KILL``, and to wait after that.
    :param thorough: look for the session also when the group itself is gone.
    :returns: how many processes there were.
    """
    if (not thorough and not _exists(group)) or os.path.exists(f"/proc/{group}"):
        return 0  # or its number has been reused: the leader has been waited for

    def members() -> list[int]:
        return [pid for pid in runners.pids() or [-group] if _belongs(pid, group)]

    return runners.end(members, lambda pid: _belongs(pid, group), grace)


def _exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _belongs(pid: int, group: int) -> bool:
    """Return whether a living process is of the group or its session; -``group`` stands for the group as a whole."""
    if pid < 0:
        return _exists(group)
    fields = runners.stat_fields(pid)
    return bool(fields) and group in (int(fields[2]), int(fields[3]))
