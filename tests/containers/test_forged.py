"""A task in a container, root or not, neither writes its own record nor reaches the host by what it leaves in its directory."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

FORGED = '{{"status": "succeeded", "result": {{"out": "forged"}}, "error": null}}'
STATE = "s=$(ls -d {meta}/*.state.json); "
FORGERIES = {
    "another file in place of the locked one": STATE + "mv $s {meta}/aside; echo '" + FORGED + "' > $s",
    "a link in its place": STATE + "echo '" + FORGED + "' > {meta}/forged; mv $s {meta}/aside; ln -s forged $s",
    "a hard link to it": STATE + "ln $s {meta}/linked",
    "the directory anew": "mv {meta} {meta}.old; mkdir {meta}",
    "nothing left": "rm -rf {meta}",
}


@pytest.mark.parametrize("forgery", FORGERIES.values(), ids=FORGERIES)
def test_the_record_says_how_the_task_ended(lab: Any, forgery: str) -> None:
    workdir = lab.workdir()
    meta = workdir / "_packtivity"
    spec = lab.spec(forgery + "; exit 1")
    done = lab.run(spec, {"meta": str(meta), "out": "x"}, workdir)
    assert done.code == 6, done.err
    record = lab.record(workdir)
    assert (record["status"], record["exit_code"]) == ("failed", 1)
    if (meta / "linked").exists():
        (meta / "linked").write_text(json.dumps({"status": "succeeded"}))
        assert lab.record(workdir) == record


@pytest.mark.parametrize("ends", ["exit 0", "exit 1"])
def test_a_link_in_place_of_the_directory_leads_nowhere(lab: Any, ends: str) -> None:
    workdir, other = lab.workdir(), lab.workdir()
    spec = lab.spec(f"mv {{meta}} {{meta}}.old; ln -s {{other}} {{meta}}; {ends}")
    parameters = {"meta": str(workdir / "_packtivity"), "other": str(other), "out": "x"}
    for attempts in ("0", "1"):
        done = lab.run(spec, parameters, workdir, "--retries", attempts)
        assert done.code != 0
        assert "Traceback" not in done.err
    assert list(other.iterdir()) == []


def test_a_device_in_place_of_a_log_is_not_written_to(lab: Any) -> None:
    if lab.person.uid != 0 and lab.tool != "docker":
        pytest.skip("root of such a container may make no devices")
    workdir = lab.workdir()
    log = workdir / "_packtivity" / "packtivity_syncbackend.run.log"
    spec = lab.spec("rm -f {log}; mknod {log} c 1 5 && chmod 666 {log}; exit 1")
    done = lab.run(spec, {"log": str(log), "out": "x"}, workdir, "--retries", "1")
    if not log.is_char_device():
        pytest.skip("a container may make no devices here")
    assert done.code == 5, done.err
    assert "it is something else than a file" in done.err
    os.unlink(log)
