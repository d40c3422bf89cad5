"""A process group: when its leader ends, how, and the end of everything in it."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from packtivity import runners
from packtivity.runtimes.parent import own_peak

if TYPE_CHECKING:
    from collections.abc import Mapping

    from packtivity.runtimes.python_workers import Child

_BLOCK = 512  # bytes, whatever the device's own blocks are: getrusage(2)
_RSS_UNIT = 1 if os.uname().sysname == "Darwin" else 1024
_SURE = 1 << 20
"""Bytes: the kernel counts memory in batches."""


class Collected(NamedTuple):
    """How a process ended, and what it and its children took.

    :ivar returncode: exit code, negative for a signal.
    :ivar cpu: seconds.
    :ivar max_rss: peak memory of the largest process, bytes; None when none was larger than this program: the kernel counts a
        process from before its own program is loaded.
    :ivar read_bytes, written_bytes: bytes.
    """

    returncode: int
    cpu: float
    max_rss: int | None
    read_bytes: int
    written_bytes: int

    @classmethod
    def of(cls, status: int, cpu: float, max_rss: int, read: int, written: int, parent: int) -> Collected:
        """Read what wait4(2) says.

        :param parent: peak memory of what started it, as it was then, in the units of ``max_rss``.
        """
        code, is_own = os.waitstatus_to_exitcode(status), (max_rss - parent) * _RSS_UNIT > _SURE
        return cls(code, cpu, max_rss * _RSS_UNIT if is_own else None, read * _BLOCK, written * _BLOCK)


class ExitWatch:
    """A descriptor that becomes readable when a child of ours has ended.

    :ivar pid: of the child.
    """

    def __init__(self, process: Child) -> None:
        self.pid = process.pid
        self._process, self._peak = process, own_peak()
        self._collected: Collected | None = None
        self._thread: threading.Thread | None = None
        try:
            self._descriptor = os.pidfd_open(self.pid)
        except (AttributeError, OSError):  # not Linux 5.3, or a sandbox forbids it
            self._descriptor, writing = os.pipe()
            self._thread = threading.Thread(target=self._wait, args=(writing,), daemon=True)
            self._thread.start()

    def _wait(self, writing: int) -> None:
        try:
            self._collect()
        finally:
            os.close(writing)

    def _collect(self) -> None:
        with suppress(ChildProcessError):  # another part of this program has collected it: the status cannot be had
            _, status, usage = os.wait4(self.pid, 0)
            took = usage.ru_utime + usage.ru_stime, usage.ru_maxrss, usage.ru_inblock, usage.ru_oublock
            self._collected = Collected.of(status, *took, self._peak)
        self._process.returncode = 0 if self._collected is None else self._collected.returncode

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._descriptor

    def collect(self) -> Collected | None:
        """Return how the child ended, waiting for that if necessary; None when it cannot be had. May be called again."""
        if self._thread is not None:
            self._thread.join()
        if self._process.returncode is None:
            self._collect()
        return self._collected

    def close(self) -> None:
        """Close the descriptor; may be called again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class ReportedExit(ExitWatch):
    """The same for a process whose parent is another one, which reports through a pipe: see :mod:`packtivity.runtimes.parent`.

    :param report: descriptor to read from.
    :param workdir: what it is started in.
    :raises OSError: the process could not be started.
    """

    def __init__(self, process: Child, report: int, workdir: str | None) -> None:
        self._process, self._descriptor = process, report
        self._collected, self._lines = None, b""
        while b"\n" not in self._lines and (piece := os.read(report, 256)):
            self._lines += piece
        first = self._lines.partition(b"\n")[0].split()
        if not first:
            raise OSError(errno.ECHILD, "what starts it in our place has ended too soon")
        if len(first) > 1:
            number = int(first[1])
            raise OSError(number, os.strerror(number), workdir if first[2] == b"directory" else None)
        self.pid = int(first[0])

    def collect(self) -> Collected | None:
        """Return how the process ended, waiting for that if necessary; None when it cannot be had. May be called again."""
        if self._process.returncode is None:
            while piece := os.read(self._descriptor, 256):
                self._lines += piece
            words = self._lines.split()[1:]
            if len(words) == 6:
                status, cpu, *counts = words
                self._collected = Collected.of(int(status), float(cpu), *map(int, counts))
            else:  # somebody has killed its parent
                signal_group(self.pid, signal.SIGKILL)
            self._process.wait()
        return self._collected


def parent_argv(
    argv: tuple[str, ...], report: int, workdir: str | None, environment: Mapping[str, str]
) -> tuple[str, ...]:
    """Return what starts a process whose end is reported to a descriptor."""
    program = os.path.join(os.path.dirname(__file__), "parent.py")
    added = "" if "LC_CTYPE" in environment else "LC_CTYPE"  # PEP 538
    return (sys.executable, "-I", "-S", program, str(report), added, workdir or "", *argv)


def signal_group(group: int, number: int) -> None:
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
