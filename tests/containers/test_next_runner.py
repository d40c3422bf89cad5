"""Whoever runs a task whose runner was killed waits until that one's container is gone."""

from __future__ import annotations

import itertools
import time
from typing import Any

from waiting import until

BEAT = """
name=$(tr -d - < /proc/sys/kernel/random/uuid)
for beat in $(seq 80); do
  echo $name >> '{out}'
  sleep 0.05
done
"""


def test_two_containers_of_a_task_never_run_at_once(lab: Any) -> None:
    workdir = lab.workdir()
    spec, parameters = lab.spec(BEAT), {"out": "{workdir}/out"}
    first = lab.person.popen(lab.argv(spec, parameters, workdir))
    until((workdir / "out").exists, 60)
    second = lab.person.popen(lab.argv(spec, parameters, workdir))  # waits for the first one's lock
    time.sleep(1.0)
    first.kill()
    first.wait()
    assert second.wait(60) == 0
    lives = [len(list(beats)) for _, beats in itertools.groupby((workdir / "out").read_text().splitlines())]
    assert lives[1:] == [80], "beats of the first container after some of the second"
    assert 0 < lives[0] < 80
    assert lab.containers() == []
