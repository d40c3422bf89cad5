"""The same task through several backends: never at once, whatever its logs are called."""

from __future__ import annotations

import time

import pytest
from waiting import until

BACKENDS = ("defaultsync", "multiproc:1", "local:2")
TRIES = [3, pytest.param(8, marks=pytest.mark.soak)]
"""How many tasks, each through every backend."""

CHANCE = 4.0
"""Seconds for which one run of each task goes on, so that the others come to where they have to wait."""

SPEC = """\
process:
  process_type: string-interpolated-cmd
  cmd: 'cd "{where}" && set -C && : > busy || exit 9; while [ ! -e ../go ]; do sleep 0.1; done; rm busy; echo >> ran'
environment:
  environment_type: localproc-env
publisher:
  publisher_type: frompar-pub
  outputmap: {where: where}
"""


@pytest.mark.parametrize("tries", TRIES)
def test_the_same_task_through_several_backends_never_runs_beside_itself(commands, tmp_path, tries):
    commands.write("spec.yml", SPEC)
    state = {"PACKTIVITY_STATE_DIR": str(tmp_path / "state")}
    started = [
        commands.start(
            "packtivity-run", "spec.yml", "-p", 'where="{workdir}"', "-w", f"try{number}", "-b", backend, env=state
        )
        for number in range(tries)
        for backend in BACKENDS
    ]
    try:
        until(lambda: all((commands.directory / f"try{number}" / "busy").exists() for number in range(tries)), 60)
        time.sleep(CHANCE)
        (commands.directory / "go").touch()
        codes = [process.wait(90) for process in started]
    finally:
        for process in started:
            process.kill()
            process.communicate()
    assert codes == [0] * len(started)
    for number in range(tries):
        folder = commands.directory / f"try{number}"
        assert (folder / "ran").read_text() == "\n" * len(BACKENDS)
        names = {path.name for path in (folder / "_packtivity").glob("*.run.log")}
        assert len(names) == 2  # these have different names, which is what must not matter
        assert not list((folder / "_packtivity").glob("*.state.json"))
