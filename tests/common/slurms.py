"""The Slurm that tools/start-slurm.sh runs for the tests: looked at and hurt from outside."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

from waiting import until

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "start-slurm.sh"
STATE = Path(os.environ.get("PACKTIVITY_SLURM", "/var/lib/packtivity-slurm"))
CONFIG = {"SLURM_CONF": str(STATE / "slurm.conf")}


def command(*argv: str) -> str:
    """Run a command of Slurm and return what it prints."""
    done = subprocess.run(argv, env={**os.environ, **CONFIG}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (argv, done.stderr)
    return done.stdout


def is_up() -> bool:
    """Return whether there is a controller that answers."""
    try:
        return bool(command("sinfo", "-h"))
    except (AssertionError, FileNotFoundError):
        return False


def start(how: str = "start") -> None:
    """Start what does not run; ``empty``: with a controller that knows no jobs."""
    # Processes with the temporary directory of the tests are ended with them; these are of those who started the engines.
    env = {name: value for name, value in os.environ.items() if name != "TMPDIR"}
    subprocess.run([str(SCRIPT), how], check=True, capture_output=True, env=env)


def kill(daemon: str) -> None:
    """Kill ``slurmctld`` or ``slurmd``."""
    pid = int((STATE / "run" / f"{daemon}.pid").read_text())
    os.kill(pid, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{pid}").exists() or "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text())


def states(task_id: str) -> dict[int, str]:
    """Return the states of all jobs of a task, by their numbers."""
    lines = command("squeue", "-t", "all", "-h", "-o", "%i|%T|%j").splitlines()
    listed = (line.split("|", 2) for line in lines)
    return {int(number): state for number, state, name in listed if name.endswith(f"-{task_id}")}


def step_daemons(task_id: str) -> list[int]:
    """Return the processes of Slurm that stand over the jobs of a task on the node."""
    names = {f"slurmstepd: [{number}.batch]" for number in states(task_id)}
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            if Path(f"/proc/{entry}/cmdline").read_bytes().rstrip(b"\0").decode() in names:
                found.append(int(entry))
    return found


def hurry(backend: Any, proxy: Any) -> None:
    """Let a job that is run again begin soon, and not two minutes after it has ended.

    Not while it ends, which Slurm takes for a fault; and not at once, because its controller may still have to read that the
    first run has ended, and would take that for the end of the second. Slurm may not have noticed that a job has died: then the backend does.
    """

    def has_begun() -> bool:
        pending = [number for number, state in states(proxy.task_id).items() if state == "PENDING"]
        if pending and not step_daemons(proxy.task_id):
            for number in pending:
                command("scontrol", "update", f"JobId={number}", "StartTime=now+5")
            return True
        return backend.status(proxy).is_over

    until(has_begun, 90)
