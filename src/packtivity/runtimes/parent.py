"""The parent of a process in place of a program that ignores SIGCHLD, where the kernel throws away how children end.

It is run as a program of its own that imports nothing of packtivity: ``python -I -S parent.py REPORT DROPPED WORKDIR PROGRAM …``.
REPORT is a descriptor. It gets a line with the process id, or ``error``, an error number and of what; in the end, one with the
wait status and what the process took: seconds of CPU, peak memory, blocks read and written (wait4(2)), and our own peak memory.
"""

from __future__ import annotations

import os
import resource
import signal
import sys

_NOT_OURS = {signal.SIGKILL, signal.SIGSTOP, signal.SIGTSTP, signal.SIGCONT, signal.SIGCHLD}
_FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT, signal.SIGTRAP}


def _nothing(*_: object) -> None:
    return


def own_peak() -> int:
    """Return the peak memory of this process, in the units of getrusage(2).

    Not what that says, which is what the process that has started this one had taken, if that was more.
    """
    try:
        with open("/proc/self/status", "rb") as file:
            return next(int(line.split()[1]) for line in file if line.startswith(b"VmHWM:"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main(report: int, dropped: str, workdir: str, argv: list[str]) -> None:
    """Start a process in a session of its own, wait for it, and report.

    :param dropped: a variable that this interpreter has added to the environment.
    :param workdir: directory to start it in; empty for this one.
    """
    for number in signal.valid_signals() - _NOT_OURS - _FAULTS:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _nothing)  # a handler is not inherited, as an ignored signal would be
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.environ.pop(dropped, None)
    os.set_inheritable(report, False)
    try:
        if workdir:
            os.chdir(workdir)
    except OSError as error:
        os.write(report, b"error %d directory\n" % (error.errno or 0))
        return
    try:
        pid = os.posix_spawnp(
            argv[0], argv, os.environ, setsid=True, setsigdef=(signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD)
        )
    except OSError as error:
        os.write(report, b"error %d program\n" % (error.errno or 0))
        return
    os.write(report, b"%d\n" % pid)
    _, status, usage = os.wait4(pid, 0)
    took = usage.ru_utime + usage.ru_stime, usage.ru_maxrss, usage.ru_inblock, usage.ru_oublock, own_peak()
    try:
        os.write(report, f"{status} {' '.join(map(str, took))}\n".encode())
    except BrokenPipeError:  # whoever wanted to know has died
        return


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4:])
