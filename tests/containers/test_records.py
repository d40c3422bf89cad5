"""Records of tasks in containers: what they took, by the container's cgroup, and what they were made from."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from typing import Any

import pytest
from waiting import until

CONSTANT = {"publisher_type": "constant-pub", "publish": {}}
SPIN = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"


def has_cgroup(lab: Any) -> bool:
    """Return whether its containers have a cgroup of their own, as far as the tool says."""
    if lab.tool == "docker":
        return True
    if lab.kind == "apptainer":
        return False
    said = lab.person.run(["podman", "info", "--format", "json"]).stdout
    host = json.loads(said)["host"]
    return bool(not host["security"]["rootless"] or (host["cgroupVersion"] == "v2" and host["cgroupControllers"]))


def test_what_a_task_took_is_in_its_record(lab: Any) -> None:
    workdir = lab.workdir()
    command = f"{SPIN}; dd if=/dev/zero of=/dev/null bs=50M count=1 2>/dev/null; echo done; sleep 1"  # a busy machine may let the last look come too late
    assert lab.run(lab.spec(command, CONSTANT), {}, workdir).code == 0
    usage = lab.record(workdir)["usage"]
    assert usage["source"] == ("cgroup" if has_cgroup(lab) else "rusage")
    assert 0.05 < usage["cpu_seconds"] < 30
    assert usage["output_bytes"] == 5
    if lab.tool != "podman" or has_cgroup(lab):
        assert 50e6 < usage["peak_memory_bytes"] < 200e6


def test_the_image_is_recorded_by_its_digest_whatever_became_of_the_task(lab: Any) -> None:
    for command, options, code in (("true", (), 0), ("exit 3", (), 6), ("sleep 60", ("--timeout", "2s"), 7)):
        workdir = lab.workdir()
        assert lab.run(lab.spec(command, CONSTANT), {}, workdir, *options).code == code
        written = lab.record(workdir)
        assert written["image"]["reference"] == lab.image
        assert written["image"]["digest"].startswith("sha256:")
        assert written["command"][0].endswith(lab.tool)
        assert written["job"] == {"command": command}
        assert (written["timed_out"], written["usage"] is not None) == (code == 7, True)
    assert lab.containers() == []


def test_what_a_task_took_is_in_its_record_when_it_was_cut_short(lab: Any) -> None:
    workdir = lab.workdir()
    spec = lab.spec(f"{SPIN}; echo > {{workdir}}/spun; sleep 60", CONSTANT)
    argv = lab.argv(spec, {"workdir": "{workdir}"}, workdir)
    run = lab.person.popen(argv, env=lab.person.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until((workdir / "spun").exists, 60)
    time.sleep(0.6)  # the longest between two looks at what is taken
    run.send_signal(signal.SIGTERM)
    assert run.wait(30) == 128 + signal.SIGTERM
    written = lab.record(workdir)
    assert written["status"] == "cancelled"
    assert written["command"][0].endswith(lab.tool)
    assert written["image"]["reference"] == lab.image
    assert 0.05 < written["usage"]["cpu_seconds"] < 30


def test_a_task_that_ran_out_of_memory_is_recorded_as_such(lab: Any) -> None:
    if not has_cgroup(lab):
        pytest.skip(f"{lab.tool} gives {lab.person.name} no cgroup here, so there are no limits")
    for command, code in (("exec tail /dev/zero", 137), ("tail /dev/zero; sleep 1; exit 4", 4)):
        workdir = lab.workdir()
        done = lab.run(lab.spec(command, CONSTANT), {}, workdir, "--memory", "40M")
        assert done.code == 6
        assert "ran out of memory of 40 MiB" in done.err
        written = lab.record(workdir)
        assert (written["out_of_memory"], written["exit_code"]) == (True, code)
    assert written["usage"]["peak_memory_bytes"] > 30e6
    workdir = lab.workdir()
    assert lab.run(lab.spec("kill -9 $$", CONSTANT), {}, workdir, "--memory", "40M").code == 6
    assert lab.record(workdir)["out_of_memory"] in (False, None)
