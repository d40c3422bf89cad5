"""A task in a container gets the signals that its command gets, as a plain process does."""

from __future__ import annotations

import json
import signal
import subprocess
from typing import Any

import pytest
from waiting import until

NOTES = """
trap 'echo USR1 >> got' USR1
trap 'echo TERM >> got; exit 3' TERM
trap 'echo INT >> got; exit 3' INT
sleep 1  # the client of Podman 4.3 passes signals on from some time after the task has begun only, and says nothing of it
touch begun
while ! test -e enough; do sleep 0.1; done
echo made > {out}
"""


def start(lab: Any, workdir: Any) -> subprocess.Popen[bytes]:
    argv = lab.argv(lab.spec(f"cd {workdir} && {NOTES}"), {"out": "{workdir}/out"}, workdir)
    env = {**lab.person.env, **lab.extra}
    command: subprocess.Popen[bytes] = lab.person.popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    until(lambda: (workdir / "begun").exists() or command.poll() is not None, 120)
    return command


def record(workdir: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((workdir / "_packtivity" / "packtivity_syncbackend.outcome.json").read_text())
    return found


def test_usr1_is_passed_on_to_the_task_which_goes_on(lab: Any) -> None:
    workdir = lab.workdir()
    command = start(lab, workdir)
    command.send_signal(signal.SIGUSR1)
    until((workdir / "got").exists)
    (workdir / "enough").touch()
    output = command.communicate(timeout=120)[0].decode()
    assert command.returncode == 0, output
    assert set((workdir / "got").read_text().split()) == {"USR1"}
    assert record(workdir)["status"] == "succeeded"
    assert lab.containers() == []


@pytest.mark.parametrize("name", ["TERM", "INT"])
def test_what_ends_the_command_is_what_the_task_gets_first(lab: Any, name: str) -> None:
    workdir = lab.workdir()
    command = start(lab, workdir)
    command.send_signal(getattr(signal, f"SIG{name}"))
    output = command.communicate(timeout=120)[0].decode()
    assert command.returncode == 128 + getattr(signal, f"SIG{name}"), output
    assert (workdir / "got").read_text().split()[0] == name
    found = record(workdir)
    assert (found["status"], found["ended_by"]) == ("cancelled", {"reason": "signal", "signal": f"SIG{name}"})
    until(lambda: lab.containers() == [])
