"""A document's variables on real tools: the task has each as it is written, and no process of the host has any."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

names = st.from_regex(r"V[A-Za-z0-9_]{1,8}", fullmatch=True)
values = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
awkward = st.lists(st.sampled_from(["\r", "\n", "\r\n", ",", '"', "'", "#", "=", "*", " ", "\t", "\\", "$X", "`", "é"]))

STEERING = {
    "LD_PRELOAD": "/MARK/evil.so:\r",
    "PATH": "/usr/bin:/bin:/MARK\r",
    "DOCKER_HOST": "tcp://MARK\r",
    "CONTAINER_HOST": "tcp://MARK\r\n",
    "APPTAINERENV_WORD": "MARK",
    "GLIBC_TUNABLES": "MARK\r",
}


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(names, values | awkward.map("".join), min_size=20, max_size=60))
@example({"V1": "\r", "V2": "a\r\nb", "V3": "\r\n", "V4": "\n", "V5": "", "V6": "\x7f\x1b\x01", "V7": "#x", "V8": "'"})
def test_the_task_has_each_value_as_it_is(lab: Any, variables: dict[str, str]) -> None:
    workdir = lab.workdir()
    spec = lab.spec("cat /proc/self/environ > {out}", env=variables)
    done = lab.run(spec, {"out": "{workdir}/out"}, workdir)
    assert done.code == 0, done.err
    seen = dict(entry.split("=", 1) for entry in (workdir / "out").read_bytes().decode().split("\0") if "=" in entry)
    assert {name: seen.get(name) for name in variables} == variables


@pytest.mark.parametrize("name", ["*", "A*", "BASH_FUNC_ls%%", "a-b"])
def test_what_is_no_name_is_refused_and_nothing_of_the_caller_s_gets_in(lab: Any, name: str) -> None:
    workdir = lab.workdir()
    done = lab.run(lab.spec("env > {out}", env={name: "\r"}), {"out": "{workdir}/out"}, workdir, env={"MINE": "1"})
    assert (done.code, repr(name) in done.err) == (4, True)
    assert not (workdir / "out").exists()


def test_no_process_of_the_host_has_one(lab: Any) -> None:
    if os.getuid() != 0:
        pytest.skip("only root may look at the environment of every process")
    workdir, mark = lab.workdir(), f"MARK{os.urandom(6).hex()}"
    variables = {name: value.replace("MARK", mark) for name, value in STEERING.items()}
    argv = lab.argv(
        lab.spec("touch {out}; while [ -e {out} ]; do sleep 0.1; done", env=variables),
        {"out": "{workdir}/out"},
        workdir,
    )
    process = lab.person.popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=lab.person.env)
    out, seen = workdir / "out", set[str]()
    try:
        deadline = time.monotonic() + 60
        while not out.exists() and process.poll() is None and time.monotonic() < deadline:
            seen |= holders(mark)
        assert out.exists(), process.communicate()[1]
        seen |= holders(mark)
        out.unlink()
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, said
    assert seen == set()


def holders(mark: str) -> set[str]:
    """Return the variables with ``mark`` in them of programs outside containers, whose process ids are of their own."""
    ours, found = os.readlink("/proc/self/ns/pid"), set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(entry / "ns/pid") == ours:
                found |= {one.decode(errors="replace") for one in (entry / "environ").read_bytes().split(b"\0")}
        except OSError:
            continue
    # Apptainer hands the arguments of a task to its own starter as JSON in variables of this name.
    return {one for one in found if mark in one and not one.startswith("ENGINE_CONFIG")}
