"""What Slurm's commands print, recorded from Slurm 22.05 with and without accounting, and what is made of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from packtivity.backends.engine import Envelope, Submission
from packtivity.backends.engines import slurm
from packtivity.errors import BackendError

RECORDED = Path(__file__).parent / "slurm_output"
ID = "18ec453b81dfa01b-d2b40211b344970"

SQUEUE = {
    "1": ("ended", None, ""),
    "2": ("ended", None, "NonZeroExitCode"),
    "3": ("ended", "refused", "no Python"),
    "4": ("ended", None, "JobLaunchFailure"),
    "5": ("ended", "cancel", "CANCELLED"),
    "6": ("waiting", None, "scontrol release"),
    "7": ("ended", "timeout", "TimeLimit"),
    "8": ("running", None, "RUNNING"),
    "9": ("ended", "refused", "BadConstraints"),
    "a": ("ended", None, "COMPLETED"),
}
SACCT = {**SQUEUE, "2": ("ended", None, "FAILED"), "7": ("ended", "timeout", ""), "9": ("ended", None, "FAILED")}
SACCT |= {"4": ("ended", None, "FAILED"), "8": ("ended", None, "NODE_FAIL")}
del SACCT["a"]


@pytest.mark.parametrize(("name", "expected"), [("squeue", SQUEUE), ("sacct", SACCT)])
def test_each_state_means_something(name, expected):
    listed = {job.name: job for job in slurm.jobs((RECORDED / f"{name}.txt").read_text())}
    for last, (said, cause, words) in expected.items():
        native = slurm.native(listed[f"task-{ID}{last}"])
        assert (native.said, native.cause) == (said, cause), last
        assert words in native.reason, last


def test_of_several_jobs_of_a_task_the_last_comes_last_and_damaged_lines_are_left_out():
    text = (RECORDED / "squeue.txt").read_text()
    jobs = slurm.jobs(f"slurm_load_jobs error: x\n1|RUN\n{text}12_[1-3]|PENDING|None|0|1795886572|arr\n")
    assert [job.number for job in jobs] == sorted(job.number for job in jobs)
    assert len(jobs) == len(text.splitlines())
    assert slurm.native(jobs[-1]).reason == "job 18 is PENDING: Priority"


def test_a_state_that_nobody_knows_is_of_a_job_that_exists():
    (job,) = slurm.jobs("7|BRAND_NEW|None|0|1795886572|x")
    assert slurm.native(job).said == "waiting"


@pytest.mark.parametrize(
    ("stderr", "message", "remedy"),
    [
        (
            (
                "sbatch: error: invalid partition specified: nope\n"
                "sbatch: error: Batch job submission failed: Invalid partition name specified\n"
            ),
            "Invalid partition name specified",
            "sinfo -s",
        ),
        (
            (
                "sbatch: error: Memory specification can not be satisfied\n"
                "sbatch: error: Batch job submission failed: Requested node configuration is not available\n"
            ),
            "Requested node configuration is not available",
            "SBATCH_ variables",
        ),
        (
            "sbatch: error: Batch job submission failed: Pathname of a file, directory or other parameter too long\n",
            "Pathname of a file, directory or other parameter too long",
            "4 MB",
        ),
        (
            "slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n",
            "Unable to contact slurm controller (connect failure)",
            "scontrol ping",
        ),
        ("squeue: error: one\nsqueue: fatal: Unable to process configuration file\n", "Unable to process", ""),
    ],
)
def test_a_complaint_is_told_with_a_remedy(stderr, message, remedy):
    assert slurm.complaint(stderr).startswith(message)
    assert remedy in slurm.remedy(stderr)


def test_the_document_is_in_the_script_alone():
    envelope = Envelope({"id": "1-2", "metadata": {"name": "a b;$(id)\n"}, "parameters": {"key": "sesame\nENVELOPE\n"}})
    argv, script = slurm.sbatch(envelope, "short")
    assert "--job-name=a_b___id__-1-2" in argv
    assert argv[-1] == "--partition=short"
    assert "sesame" not in " ".join(argv)
    assert script.count("\nENVELOPE\n") == 1
    assert [line for line in script.splitlines() if "sesame" in line] == [script.splitlines()[2]]


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """Put programs in place of Slurm's."""

    def make(**texts):
        for name, text in {"scontrol": "echo 'ClusterName             = c'", **texts}.items():
            path = tmp_path / name
            path.write_text(f"#!/bin/sh\n{text}\n")
            path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
        slurm.cluster.cache_clear()

    yield make
    slurm.cluster.cache_clear()


def submission(last, **more):
    return Submission(f"{ID}{last}", "c", **{"deliveries": 1, **more})


def test_what_squeue_has_forgotten_sacct_is_asked_for(commands):
    commands(squeue="exit 0", sacct=f'[ "$7" = 5,7 ] && cat {RECORDED}/sacct.txt')
    asked = [submission("5", handle="5"), submission("7", handle="7"), submission("f")]
    natives = slurm.SlurmEngine("").look(asked)
    assert [(each.said, each.cause) for each in natives] == [("ended", "cancel"), ("ended", "timeout"), ("gone", None)]


def test_without_accounting_what_squeue_has_forgotten_is_gone(commands):
    commands(squeue="exit 0", sacct="echo 'Slurm accounting storage is disabled' >&2; exit 1")
    (native,) = slurm.SlurmEngine("").look([submission("5", handle="5")])
    assert native.said == "gone"


def test_the_job_of_an_earlier_delivery_counts_no_more(commands):
    commands(squeue=f"cat {RECORDED}/squeue.txt")
    engine = slurm.SlurmEngine("")
    for again in (submission("5", handle="6", deliveries=2), submission("5", deliveries=2, time=1795886700.0)):
        assert engine.look([again])[0].said == "gone"
    for same in (submission("5", handle="5"), submission("5"), submission("5", deliveries=2, time=1795886573.0)):
        assert engine.look([same])[0].cause == "cancel"


def test_where_slurm_is_not_installed_that_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    slurm.cluster.cache_clear()
    with pytest.raises(BackendError, match="scontrol cannot be run: No such file or directory") as caught:
        slurm.SlurmEngine("").place()
    assert "login node" in caught.value.hint


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo '17;cluster'", ["17", "17"]),
        (
            "echo 'sbatch: error: Batch job submission failed: Socket timed out on send/recv operation' >&2; exit 1",
            ["", ""],
        ),
        (
            "echo 'sbatch: error: Batch job submission failed: Invalid qos specification' >&2; exit 1",
            [BackendError] * 2,
        ),
    ],
)
def test_a_submission_was_taken_or_refused_or_is_in_doubt(commands, script, expected):
    commands(sbatch=f"cat >/dev/null; {script}")
    taken = slurm.SlurmEngine("").submit([Envelope({"id": f"1-{number}"}) for number in range(2)])
    assert [each if isinstance(each, str) else type(each) for each in taken] == expected
