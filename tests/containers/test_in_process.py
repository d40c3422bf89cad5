"""Containers started from a program that imports us, by the caller, in the program's own process."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from packtivity import api, errors


@pytest.fixture
def process(lab: Any, caller: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let this process see the engines as the caller's commands do."""
    if lab.person is not caller:
        pytest.skip("by the caller only; the matrix has the ordinary user")
    for name, value in caller.env.items():
        monkeypatch.setenv(name, value)
    return lab


def run(lab: Any, command: str, workdir: Any) -> Any:
    containers = {"runtime": lab.tool, "network": "none"}
    parameters = {"out": "{workdir}/out"}
    return api.run(lab.spec(command), parameters, workdir=str(workdir), config={"containers": containers})


def test_a_program_gets_the_result_and_finds_log_and_note(process: Any) -> None:
    workdir = process.workdir(" a b")
    result = run(process, "echo said; echo made > '{out}'", workdir)
    assert result.json() == {"out": f"{workdir}/out"}
    assert (workdir / "out").read_text() == "made\n"
    (note,) = (workdir / "_packtivity").glob("*.container.json")
    assert process.tool in note.read_text()
    (log,) = (workdir / "_packtivity").glob("*.run.log")
    assert log.read_text().endswith("| said\n")
    assert process.containers() == []


def test_a_program_catches_a_failure_with_its_exit_code(process: Any) -> None:
    with pytest.raises(errors.TaskFailed, match="exit code 3") as caught:
        run(process, "echo trouble; exit 3", process.workdir())
    assert (caught.value.returncode, caught.value.output) == (3, "trouble")
    assert process.containers() == []


def test_a_program_that_ignores_sigchld_hears_how_its_container_ended(process: Any) -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with pytest.raises(errors.TaskFailed, match="exit code 3") as caught:
            run(process, "echo trouble; exit 3", process.workdir())
        assert caught.value.returncode == 3
        assert run(process, "echo made > '{out}'", workdir := process.workdir()).json() == {"out": f"{workdir}/out"}
        assert signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert process.containers() == []
