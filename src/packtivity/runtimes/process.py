"""Starts processes: the only place that does.

A process runs in a session of its own, its output (standard output and error through one pipe) streams to a log and
a reporter, and whatever it leaves running is ended with it. Nothing here decides what to run: that is
:mod:`packtivity.runtimes.plan`.

When this program itself dies by ``SIGKILL``, a plain process it started lives on: the kernel's parent-death signal
is bound to the starting *thread*, so it would end tasks of pool threads that merely finished.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from packtivity import errors, notes, signals
from packtivity.runtimes.cancellation import note_end
from packtivity.runtimes.process_group import ExitWatch, ReportedExit, end_group, parent_argv, signal_group
from packtivity.settings import caller_environment
from packtivity.signals import handled, interrupts_held, nothing
from packtivity.types import Completed, Execution, Reporter, RunLog

if TYPE_CHECKING:
    from collections.abc import Mapping

    from packtivity.runtimes.cancellation import Cancellation


CHUNK = 1 << 18
"""Bytes read at a time."""

TAIL = 8192
"""Bytes of output kept for messages."""

_PIPE = 1 << 20
"""Bytes of a pipe that much output comes through: fewer, larger reads."""

_LEFTOVER_GRACE = 1.0
_LONGEST_POLL = 86_400.0
"""Seconds; poll counts milliseconds in 32 bits, and a wait that ends too early only begins again."""

_LADDER = (signal.SIGTERM, signal.SIGKILL)
"""Signals by which a task is ended, after the one that its runner has got."""


def run(
    execution: Execution,
    *,
    log: RunLog | None = None,
    reporter: Reporter | None = None,
    grace: float = 10.0,
    cancel: Cancellation | None = None,
    keep: tuple[int, ...] = (),
    noted: bool = False,
) -> Completed:
    """Run ``execution`` to its end.

    Returns when the main process has ended: background processes that keep the pipe open are not waited for but
    ended (``TERM``, then ``KILL``). On ``KeyboardInterrupt`` or ``cancel``, the signal that this program has got (else
    ``INT``), ``TERM`` and ``KILL`` go to the whole group, ``grace`` seconds apart, before the error is raised; a second
    ``KeyboardInterrupt`` skips a wait.

    :param grace: seconds between the signals.
    :param keep: descriptors that the process inherits; a lock held through one is held as long as the process lives.
    :param noted: it is the task itself, so if it is cut short, the record says what it had taken by then.
    :raises EnvironmentUnavailable: the program cannot be started.
    :raises StateError: the work directory is not there, or the log cannot be written; the process is ended first.
    :raises ParameterError: the arguments are too long for the system.
    :raises TaskCancelled: ``cancel`` was used.
    """
    watch: _Watch | None = None
    try:
        with interrupts_held():
            watch = _Watch(execution, log, reporter, grace, cancel, keep)
            if noted:
                signals.receivers.add(watch.send)
        if reporter is not None:
            reporter.started(execution)
        watch.until_exit()
        return watch.finish()
    except BaseException as error:
        cut_short = None if watch is None else watch.interrupt(error)
        if noted:
            notes.current().completed = cut_short
            if isinstance(error, KeyboardInterrupt):
                note_end(error, None if log is None else log.path)
        raise


class _Watch:
    """One running process and everything that is waited for at the same time."""

    def __init__(
        self,
        execution: Execution,
        log: RunLog | None,
        reporter: Reporter | None,
        grace: float,
        cancel: Cancellation | None,
        keep: tuple[int, ...] = (),
    ) -> None:
        self._log, self._reporter, self._grace = log, reporter, grace
        self._started, self._clock = time.time(), time.monotonic()
        self._program = execution.argv[0]
        self._output, self._exit = _start(execution, keep)
        self._exited = self._finished = self._timed_out = self._signalled = False
        self._open, self._wide = True, False
        self._count, self._tail = 0, b""
        self._rungs: list[signal.Signals] = []
        now = time.monotonic()
        self._deadline = None if execution.timeout is None else now + execution.timeout
        self._interval = None if reporter is None else reporter.interval
        self._next_tick = None if self._interval is None else now + self._interval
        self._cancel = cancel
        self._poller = select.poll()
        for each in (self._output, self._exit, cancel):
            if each is not None:
                self._poller.register(each, select.POLLIN)

    def until_exit(self) -> None:
        """Read and act on deadlines until the main process has ended."""
        while not self._exited:
            for descriptor, _ in self._poller.poll(self._milliseconds()):
                if descriptor == self._output:
                    self._read()
                elif descriptor == self._exit.fileno():
                    self._exited = True
                elif self._cancel is not None and self._cancel.cancelled:
                    raise errors.TaskCancelled("the task was cancelled")
            self._act(time.monotonic())

    def _milliseconds(self) -> int | None:
        times = [moment for moment in (self._deadline, self._next_tick) if moment is not None]
        if not times:
            return None
        return max(0, int(min(min(times) - time.monotonic(), _LONGEST_POLL) * 1000) + 1)

    def _act(self, now: float) -> None:
        if self._next_tick is not None and now >= self._next_tick and self._reporter is not None:
            self._next_tick = now + (self._interval or 0)
            self._reporter.tick()
        if self._deadline is not None and now >= self._deadline and not self._exited:
            if not self._rungs:
                self._timed_out = True
                self._rungs = list(_LADDER)
            self._signalled = True
            self.send(self._rungs.pop(0))
            self._deadline = time.monotonic() + self._grace if self._rungs else None

    def send(self, number: int) -> None:
        """Send a signal to the process and its group."""
        if not self._exited:
            signal_group(self._exit.pid, number)

    def _read(self) -> bool:
        """Take what is there; false when there is nothing (for now, or ever)."""
        try:
            chunk = os.read(self._output, CHUNK)
        except BlockingIOError:
            return False
        if not chunk:
            self._close_output()
            return False
        self._count += len(chunk)
        self._tail = chunk[-TAIL:] if len(chunk) >= TAIL else (self._tail + chunk)[-TAIL:]
        if not self._wide and len(chunk) >= 1 << 16:
            self._wide = True
            with suppress(AttributeError, OSError):  # the usual size works as well, only slower
                fcntl.fcntl(self._output, fcntl.F_SETPIPE_SZ, _PIPE)
        if self._log is not None:
            self._log.write(chunk)
        if self._reporter is not None:
            self._reporter.output(chunk)
        return True

    def _close_output(self) -> None:
        if self._open:
            self._open = False
            self._poller.unregister(self._output)
            os.close(self._output)

    def _drain(self) -> None:
        """Read what the pipe holds and no more: a process out of reach may go on writing."""
        end = self._count + _PIPE
        while self._open and self._count < end and self._read():
            pass

    def finish(self) -> Completed:
        """Read the rest, collect the exit code, end what the process left running."""
        self._drain()
        collected = self._exit.collect()
        # Looking through all processes is only worth its time when the task did not end by itself.
        left = end_group(self._exit.pid, min(self._grace, _LEFTOVER_GRACE), thorough=self._signalled)
        self._finished = True
        signals.receivers.discard(self.send)
        self._drain()
        if left and self._log is not None:
            self._log.note(f"ended {left} process{'es' if left > 1 else ''} that the task had left running")
        self._close()
        if collected is None:
            raise errors.WorkerLost(
                f"it is not known how {self._program!r} ended: this program has collected its exit status elsewhere",
                hint="Does another part of it wait for all children, or ignore SIGCHLD? The task may have succeeded.",
            )
        completed = Completed(
            started=self._started,
            ended=self._started + time.monotonic() - self._clock,  # whatever is done to the clock meanwhile
            output_bytes=self._count,
            tail=self._tail,
            timed_out=self._timed_out,
            **collected._asdict(),
        )
        if self._reporter is not None:
            self._reporter.ended(completed)
        return completed

    def _close(self) -> None:
        self._close_output()
        self._exit.close()

    def interrupt(self, error: BaseException) -> Completed | None:
        """End the process because of ``error``, whatever else goes wrong; return how it ended, if that is known."""
        completed = None
        if isinstance(error, Exception) and not isinstance(error, errors.TaskCancelled):
            self._silence()  # the log or the reporter may be what failed
        if self._cancel is not None:
            self._poller.unregister(self._cancel)
            self._cancel = None
        first = signal.Signals(signals.received or signal.SIGINT)
        is_ignored = signal.getsignal(first) is signal.SIG_IGN  # by the task as well, which has inherited that
        self._rungs = [*(() if first in _LADDER or is_ignored else (first,)), *_LADDER]
        self._deadline = time.monotonic()
        while not self._finished:
            try:
                self.until_exit()
                completed = self.finish()
            except (KeyboardInterrupt, SystemExit):
                self._deadline = time.monotonic() if self._rungs else None
            except Exception:  # noqa: BLE001 - the first error is the one to raise; the process must end all the same
                self._silence()
        self._close()
        return completed

    def _silence(self) -> None:
        self._log = self._reporter = self._next_tick = None


def start_helper(argv: tuple[str, ...], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a program that outlives us, in a session of its own, with pipes to its input and from its output.

    :raises EnvironmentUnavailable: it cannot be started.
    """
    try:
        return subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env=environment,
            bufsize=0,
            start_new_session=True,
        )
    except OSError as error:
        raise _start_error(error, Execution(argv)) from error


def attach(argv: tuple[str, ...], workdir: str | None = None, env: Mapping[str, str] | None = None) -> int:
    """Run a program that has our terminal, and return its exit code (negative for a signal).

    It stays in our process group: what a person types, Ctrl-C included, is for the program.

    :param env: variables to add to ours.
    :raises EnvironmentUnavailable: it cannot be started.
    """
    execution = Execution(argv, workdir=workdir, env=env or {})
    try:
        with handled((signal.SIGINT,), nothing, signal.getsignal(signal.SIGINT) or signal.SIG_DFL):
            return subprocess.run(argv, cwd=workdir, env=_environment(execution), check=False).returncode
    except OSError as error:
        raise _start_error(error, execution) from error


# --- starting --------------------------------------------------------------------------------------------------


def _start(execution: Execution, keep: tuple[int, ...]) -> tuple[int, ExitWatch]:
    """Start a process; returns a descriptor of its output, and what tells of its end."""
    environment, argv = _environment(execution), execution.argv
    with ExitStack() as opened, ExitStack() as passed_on:
        try:
            output, writing = _pipe(opened, passed_on)
            report, workdir = -1, execution.workdir
            if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
                report, reporting = _pipe(opened, passed_on)
                keep = (*keep, reporting)
                argv, workdir = parent_argv(argv, reporting, workdir, environment), None
            stdin = _readable(execution.stdin)
            passed_on.callback(os.close, stdin)
            process = subprocess.Popen(
                argv,
                stdin=stdin,
                stdout=writing,
                stderr=writing,
                cwd=workdir,
                env=environment,
                pass_fds=keep,
                start_new_session=True,
            )
            opened.callback(process.wait)
            opened.callback(process.kill)
            passed_on.close()
            os.set_blocking(output, False)
            watch = ExitWatch(process) if report < 0 else ReportedExit(process, report, execution.workdir)
        except (OSError, ValueError) as error:
            raise _start_error(error, execution) from error
        opened.pop_all()
    return output, watch


def _pipe(ours: ExitStack, passed_on: ExitStack) -> tuple[int, int]:
    """Return both ends of a pipe, which are closed with what they are for."""
    reading, writing = os.pipe()
    ours.callback(os.close, reading)
    passed_on.callback(os.close, writing)
    return reading, writing


def _readable(content: bytes | None) -> int:
    """Return a descriptor to read ``content`` from: a file and not a pipe, which would have to be fed."""
    if not content:
        return os.open(os.devnull, os.O_RDONLY)
    try:
        descriptor = os.memfd_create("packtivity-stdin")
    except (AttributeError, OSError):  # not Linux, or a sandbox forbids it
        import tempfile

        with tempfile.TemporaryFile() as named:
            descriptor = os.dup(named.fileno())
    with open(descriptor, "wb", closefd=False) as file:
        file.write(content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _environment(execution: Execution) -> dict[str, str]:
    return {**(caller_environment() if execution.inherit_env else {}), **execution.env}


def check_arguments(execution: Execution) -> None:
    """Refuse what Linux would not start, without starting it.

    :raises ParameterError: an argument is longer than 32 pages (``MAX_ARG_STRLEN``).
    """
    limit = 32 * os.sysconf("SC_PAGE_SIZE")
    if sys.platform == "linux" and any(len(os.fsencode(argument)) >= limit for argument in execution.argv):
        raise _start_error(OSError(errno.E2BIG, os.strerror(errno.E2BIG)), execution)


def _start_error(error: OSError | ValueError, execution: Execution) -> errors.PacktivityError:
    program = execution.argv[0] if execution.argv else ""
    if isinstance(error, ValueError):
        return errors.ParameterError.of(
            error, f"{program!r} cannot be started: {error}", hint="Look for a NUL character."
        )
    if error.errno == errno.E2BIG:
        longest = max(len(os.fsencode(argument)) for argument in execution.argv)
        return errors.ParameterError.of(
            error,
            f"{program!r} cannot be started: its arguments are too long for this system (one has {longest} bytes)",
            hint="Use process_type interpolated-script-cmd, or pass long lists through a file.",
        )
    if execution.workdir is not None and error.filename == execution.workdir:
        return errors.StateError.of(error, f"work directory {execution.workdir} cannot be entered: {error.strerror}")
    hint = _SCARCE.get(error.errno or 0, "Is it installed, executable and on the PATH?")
    return errors.EnvironmentUnavailable.of(error, f"{program!r} cannot be started: {error.strerror}", hint=hint)


_SCARCE = {
    errno.EMFILE: "This program has as many files open as it may (ulimit -n).",
    errno.ENFILE: "All programs together have as many files open as they may.",
    errno.EAGAIN: "There are as many processes as there may be (ulimit -u, or a limit of the container or job).",
    errno.ENOMEM: "Memory is short.",
}
