"""The commands about containers, and what a person at a terminal sees of them."""

from __future__ import annotations

import json
import os
import pty
import shlex
import signal
import subprocess
import time
from typing import Any

import pytest
from waiting import until

OUT = {"out": "{workdir}/out"}


def typed(lab: Any, argv: list[str], text: str) -> tuple[int, str]:
    """Run something at a terminal, type ``text``, return exit code and what was shown."""
    master, slave = pty.openpty()
    env = {**lab.person.env, "TERM": "dumb"}
    process = lab.person.popen(argv, stdin=slave, stdout=slave, stderr=slave, env=env, start_new_session=True)
    os.close(slave)
    shown, deadline, asked = b"", time.monotonic() + 60, False
    while time.monotonic() < deadline:
        try:
            chunk = os.read(master, 4096)
        except OSError:
            break
        shown += chunk
        if not asked and (b"# " in shown or b"$ " in shown or b"> " in shown):
            os.write(master, text.encode())
            asked = True
    os.close(master)
    return process.wait(timeout=30), shown.decode(errors="replace")


@pytest.fixture(autouse=True)
def by_the_caller(lab: Any) -> None:
    if lab.person.uid != os.getuid():
        pytest.skip("by the caller only; the matrix has the ordinary user")


def test_the_shell_is_the_task_s_own(lab: Any) -> None:
    workdir = lab.workdir()
    spec = lab.spec("true", env={"WORD": "a b"}, workdir="{workdir}")
    argv = lab.argv(spec, OUT, workdir)
    argv[2] = "from packtivity.cli.declarations import shell; shell()"
    code, shown = typed(lab, argv, 'echo "$WORD" > typed; id -u >> typed; exit 7\n')
    assert code == 7, shown
    assert (workdir / "typed").read_text() == f"a b\n{lab.person.uid}\n"
    assert lab.containers() == []


def test_the_line_for_a_shell_is_one_ascii_line_that_can_be_run_again(lab: Any) -> None:
    workdir = lab.workdir(" é'x")
    code = f"from packtivity.cli.declarations import utilcli; utilcli(['shell', *{lab.argv(lab.spec('true'), OUT, workdir)[3:]!r}])"
    lines = []
    for _ in range(2):
        done = lab.program(code)
        assert done.returncode == 0, done.stderr
        line = done.stdout.decode("ascii")
        assert line.count("\n") == 1
        lines.append(line.strip())
        words = shlex.split(line)
        assert words[:2] == ["sh", "-c"]
        inner = words[2]
        beginning = {
            "docker": "exec docker run --rm -i -t --cidfile ",
            "podman": "exec podman run --rm -i -t --cidfile ",
        }
        assert inner.startswith(beginning.get(lab.tool, f"exec {lab.tool} --quiet exec --containall "))
        status, shown = typed(lab, words, f"touch '{workdir}/made'; exit 5\n".replace("é'", "é'\\''"))
        assert status == 5, shown
        (workdir / "made").unlink()


def test_docker_s_line_begins_as_it_always_has(lab: Any) -> None:
    if lab.tool != "docker":
        pytest.skip("the line is Docker's")
    workdir = lab.workdir()
    code = f"from packtivity.cli.declarations import utilcli; utilcli(['shell', *{lab.argv(lab.spec('true'), OUT, workdir)[3:]!r}])"
    line = lab.program(code).stdout.decode("ascii").strip()
    assert line.startswith(f"docker run --rm -i -t --cidfile {workdir}/_packtivity/test")
    assert line.endswith(f" {lab.image} sh")


def test_the_doctor_finds_the_tool(lab: Any) -> None:
    done = lab.program("from packtivity.cli.declarations import doctor; doctor(['--format', 'json'])")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    (mine,) = [finding for finding in found["runtimes"] if finding["subject"] == lab.tool]
    assert mine["status"] == "works"
    assert mine["version"][0].isdigit()
    assert {need["subject"] for need in found["needs"]} >= {"CVMFS", "Kerberos ticket", "grid proxy", "bearer token"}
    assert b"Containers run with:" in lab.program("from packtivity.cli.declarations import doctor; doctor()").stdout


def test_ctrl_c_ends_task_and_container(lab: Any) -> None:
    workdir = lab.workdir()
    argv = lab.argv(
        lab.spec("trap 'echo cleaned > {out}; exit 3' INT TERM; touch {out}.started; sleep 60 & wait"), OUT, workdir
    )
    process = lab.person.popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    until((workdir / "out.started").exists, 30)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    log = workdir / "_packtivity" / "packtivity_syncbackend.run.log"
    assert said.decode().endswith(f"error: interrupted\n  The task was ended. Its output: {log}\n")
    assert (workdir / "out").read_text() == "cleaned\n"
    assert lab.containers() == []


def test_podman_by_the_name_of_docker_runs_tasks(lab: Any) -> None:
    if lab.tool != "podman":
        pytest.skip("it is about Podman")
    programs, workdir = lab.workdir("-bin"), lab.workdir()
    (programs / "docker").write_text('#!/bin/sh\nexec podman "$@"\n')
    (programs / "docker").chmod(0o755)
    argv = lab.argv(lab.spec("echo > {out}"), OUT, workdir)
    argv[argv.index("podman")] = "docker"
    path = f"{programs}:{lab.person.env['PATH']}"
    done = lab.person.run(argv, env={**lab.person.env, "PATH": path, "DOCKER_HOST": "unix:///nowhere"})
    assert (done.returncode, done.stderr) == (0, b"")
    assert lab.record(workdir)["command"][0] == "docker"


def test_a_tool_that_was_named_is_tried_and_its_failure_explained(lab: Any) -> None:
    if lab.tool != "docker":
        pytest.skip("the others have no daemon")
    done = lab.run(lab.spec("true"), OUT, lab.workdir(), env={"DOCKER_HOST": "unix:///nowhere"})
    assert (done.code, "cannot be pulled" in done.err) == (10, True)
    assert "its daemon does not answer at /nowhere" in done.err


def test_an_image_that_was_built_here_is_found_by_its_short_name(lab: Any) -> None:
    if lab.kind == "apptainer":
        pytest.skip("it has no images of its own")
    assert lab.run(lab.spec("echo > {out}"), OUT, lab.workdir()).code == 0  # which pulls it
    own = f"packtivity-own-{os.getpid()}:1"
    assert lab.person.run([lab.tool, "tag", lab.image, own]).returncode == 0
    try:
        done = lab.run(
            lab.spec("echo > {out}", image=own.partition(":")[0], imagetag="1"), OUT, lab.workdir(), "--pull", "never"
        )
        assert (done.code, done.err) == (0, "")
        assert done.note["image"] == own
    finally:
        lab.person.run([lab.tool, "rmi", own])
