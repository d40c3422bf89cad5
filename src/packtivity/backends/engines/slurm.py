"""The backend ``slurm``: tasks as batch jobs of Slurm, on nodes that see the work directories under the same paths.

A job is named after its task. Its script feeds the envelope to ``packtivity-worker``; Slurm shows a script to its owner and
to operators only. Each command is followed by the parser of what it prints.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from packtivity import settings
from packtivity.backends.document import DocumentBackend
from packtivity.backends.engine import Engine, Limits, Native
from packtivity.backends.proxies import TaskProxy
from packtivity.errors import BackendError
from packtivity.runtimes.python_workers import interpreter_options, run_command

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from packtivity.backends.engine import Envelope, Submission
    from packtivity.backends.status import Cause

_SECONDS = 30.0
_NOT_FOR_US = re.compile("SQUEUE_|SACCT_|SBATCH_(WAIT|ARRAY_INX)$")
"""Variables of the user's that change what a command lists, how many jobs it submits or when it returns."""

RUNNING = frozenset({"RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "RESIZING", "SIGNALING", "STAGE_OUT"})
ENDED: dict[str, Cause | None] = {
    **dict.fromkeys(("COMPLETED", "FAILED", "NODE_FAIL", "BOOT_FAIL", "PREEMPTED", "REVOKED")),
    "CANCELLED": "cancel",
    "TIMEOUT": "timeout",
    "DEADLINE": "timeout",
    "OUT_OF_MEMORY": "memory",
}
"""States of squeue(1), and what has ended the job; it waits in all others."""
REFUSED = frozenset({"BadConstraints", "InvalidAccount", "InvalidQOS"})
"""Reasons for which a job fails without having run."""
REMEDIES = {
    "invalid partition": "sinfo -s lists partitions; write slurm:PARTITION.",
    "invalid account": "Set SBATCH_ACCOUNT; sacctmgr show associations user=$USER lists accounts.",
    "configuration is not available": "Do SBATCH_ variables ask for more than a node has (sinfo -Nl)?",
    "parameter too long": "Put large parameters into a file: a job script has 4 MB at most.",
    "unable to contact": "Does scontrol ping find the controller?",
    "held": "scontrol release lets it go.",
    "partition": "scontrol show job says what it asks for, scontrol show partition what there is.",
}
"""What to do, by parts of messages and of reasons, in small letters; the first one counts."""


def remedy(words: str) -> str:
    """Return what to do about a message or a reason; nothing where that is not known."""
    return next((hint for part, hint in REMEDIES.items() if part in words.lower()), "")


class _NoAnswerError(BackendError):
    """It may have been done all the same."""


def _run(*argv: str, script: str = "", may_fail: bool = False) -> subprocess.CompletedProcess[str]:
    """Run a command.

    :raises BackendError: it is not here, does not answer, or fails.
    """
    kept = {name: value for name, value in settings.environment().items() if not _NOT_FOR_US.match(name)}
    kept |= {"LC_ALL": "C", "SLURM_TIME_FORMAT": "%s"}
    try:
        done = run_command(argv, kept, stdin=script, timeout=_SECONDS)
    except OSError as error:
        hint = "Submit where Slurm's commands are: on a login node, or after module load slurm."
        raise BackendError.of(error, f"{argv[0]} cannot be run: {error.strerror}", hint=hint) from None
    except subprocess.TimeoutExpired:
        raise _NoAnswerError(f"{argv[0]} has not answered for {_SECONDS:g} seconds") from None
    if done.returncode and not may_fail:
        kind = _NoAnswerError if "timed out" in done.stderr else BackendError
        raise kind(f"{argv[0]}: {complaint(done.stderr)}", hint=remedy(done.stderr))
    return done


def complaint(stderr: str) -> str:
    """Return what a command complains of: the last line says it."""
    last = stderr.strip().rpartition("\n")[2]
    return re.sub(r"^(\w+: )?(\w+: )?(Batch job submission failed: |slurm_\w+ error: )?", "", last)


@cache
def cluster() -> str:
    """Return the name of the cluster; raises as :func:`_run`."""
    named = re.search(r"^ClusterName\s*= (\S+)", _run("scontrol", "show", "config").stdout, re.MULTILINE)
    return named[1] if named else ""


def sbatch(envelope: Envelope, partition: str) -> tuple[list[str], str]:
    """Return the command that submits a task, and its script; in one line of JSON nothing has a meaning for the shell."""
    name = re.sub(r"[^\w.-]", "_", str((envelope.task.get("metadata") or {}).get("name")), flags=re.ASCII)[:64]
    argv = ["sbatch", "--parsable", "--requeue", "--output=/dev/null", f"--job-name={name}-{envelope.id}"]
    command = "from packtivity.cli.start import worker; worker()"
    worker = shlex.join([sys.executable, *interpreter_options(), "-c", command, "-"])
    script = f"#!/bin/sh\nexec {worker} <<'ENVELOPE'\n{json.dumps(envelope.to_json())}\nENVELOPE\n"
    return [*argv, *([f"--partition={partition}"] if partition else [])], script


SQUEUE = ("squeue", "-t", "all", "-h", "-O", "JobID:|,State:|,Reason:|,exit_code:|,SubmitTime:|,Name:200")
SACCT = ("sacct", "-X", "-n", "-P", "-o", "JobIDRaw,State,Reason,ExitCode,Submit,JobName", "-j")
_LINE = re.compile(r"(\d+)\|(\w+)[^|]*\|([^|]*)\|(\d+)(:\d+)?\|(\d+)\|(.*?) *")


class Job(NamedTuple):
    """A job in a list; ``submitted`` is seconds since the epoch."""

    number: int
    state: str
    reason: str
    exit_code: int
    submitted: int
    name: str


def jobs(printed: str) -> list[Job]:
    """Return the jobs that squeue or sacct has printed, the oldest first; damaged lines are left out."""
    lines = (line for line in map(_LINE.fullmatch, printed.splitlines()) if line)
    return sorted(
        Job(int(line[1]), line[2], line[3], int(line[4]) >> (0 if line[5] else 8), int(line[6]), line[7])
        for line in lines
    )


def native(job: Job) -> Native:
    """Return what follows from a job."""
    why, hint = (f": {job.reason}", remedy(job.reason)) if job.reason not in ("", "None") else ("", "")
    text = f"job {job.number} is {job.state}{why}"
    if job.state not in ENDED:
        return Native("running" if job.state in RUNNING else "waiting", f"{text}. {hint}" if hint else text, hint)
    if job.exit_code in (126, 127):
        return Native("ended", f"{text}: its node has no Python where it was submitted with it", cause="refused")
    return Native("ended", text, cause="refused" if job.reason in REFUSED else ENDED[job.state])


def _listed(submissions: Sequence[Submission]) -> Iterator[tuple[Submission, Job]]:
    """Give the jobs of all deliveries; squeue forgets one some minutes after its end, sacct does not, where it is set up."""
    mine = ["--me"] if all(each.deliveries for each in submissions) else []  # everybody's are many
    left = {each.id: each for each in submissions}
    sizes = {len(task_id) for task_id in left}
    for again in (False, True):
        numbers = ",".join(each.handle for each in left.values() if each.handle)
        printed = _run(*SACCT, numbers, may_fail=True).stdout if again and numbers else ""
        found = jobs(printed if again else _run(*SQUEUE, *mine).stdout)
        pairs = [(left[job.name[-size:]], job) for job in found for size in sizes if job.name[-size:] in left]
        yield from pairs
        left = {task_id: each for task_id, each in left.items() if task_id not in {each.id for each, _ in pairs}}


def _is_latest(each: Submission, job: Job) -> bool:
    """Return whether a job is not of an earlier delivery, which its owner has killed."""
    if each.handle.isdecimal():
        return job.number >= int(each.handle)
    return each.deliveries < 2 or job.submitted >= each.time - _SECONDS


class SlurmProxy(TaskProxy):
    """Handle of a batch job; its place is the name of the cluster."""

    name, place_name = "SlurmProxy", "cluster"


class SlurmEngine(Engine):
    """The Slurm whose commands are here.

    :param partition: where jobs are to run; empty for the default one.
    """

    name, interval = "slurm", 5.0
    limits = Limits(arrival=60.0, begin=300.0, lag=60.0, patience=600.0)

    def __init__(self, partition: str) -> None:
        self.partition = partition

    def place(self) -> str:
        """Return the name of the cluster."""
        return cluster()

    def submit(self, envelopes: Sequence[Envelope]) -> list[str | BackendError]:
        """Submit a job for each task; when one is refused, the others would be, too."""
        taken: list[str | BackendError] = []
        for envelope in envelopes:
            argv, script = sbatch(envelope, self.partition)
            try:
                taken.append(_run(*argv, script=script).stdout.strip().partition(";")[0])
            except _NoAnswerError:
                taken.append("")
            except BackendError as error:
                return [*taken, *[error] * (len(envelopes) - len(taken))]
        return taken

    def look(self, submissions: Sequence[Submission]) -> list[Native]:
        """Return what follows from the latest job of each task."""
        try:
            here = cluster()
            found = {each.id: native(job) for each, job in _listed(submissions) if _is_latest(each, job)}
        except BackendError as error:
            return [Native("away", error.message, error.hint)] * len(submissions)
        return [
            found.get(each.id, Native("gone"))
            if each.place == here
            else Native("away", f"it is on the cluster {each.place}", "Ask there.")
            for each in submissions
        ]

    def kill(self, submissions: Sequence[Submission]) -> None:
        """Cancel the jobs of tasks, of all deliveries."""
        with suppress(BackendError):
            alive = [str(job.number) for _, job in _listed(submissions) if job.state not in ENDED]
            if alive:
                _run("scancel", *alive, may_fail=True)


class SlurmBackend(DocumentBackend[SlurmProxy]):
    """Runs tasks as batch jobs.

    :param partition: where; by default Slurm's default one.
    """

    proxy_class = SlurmProxy

    def __init__(self, partition: str = "", config: Mapping[str, Any] | None = None) -> None:
        super().__init__(SlurmEngine(partition), config)
