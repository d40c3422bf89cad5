"""A real Slurm of one node; each test starts with its daemons running, whatever the one before has done to them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import slurms

from packtivity.backendutils import backend_from_string

if TYPE_CHECKING:
    from collections.abc import Callable


def eager(backend: Any) -> Any:
    """Let a backend look often and decide soon: the only node is this machine, whose files it sees at once."""
    backend.engine.interval = 0.2
    backend.engine.limits = replace(backend.engine.limits, lag=0.4, arrival=2.0)
    return backend


@pytest.fixture
def backend(slurm: None, own_records: None) -> Any:
    """Backend whose jobs run in the default partition."""
    slurms.start()
    return eager(backend_from_string("slurm")[1])


@pytest.fixture
def closed(slurm: None) -> Any:
    """Let jobs wait: their partition is down until it is opened, at the end of the test if not before."""

    def change(state: str) -> None:
        slurms.command("scontrol", "update", "PartitionName=main", f"State={state}")

    change("DOWN")
    yield lambda: change("UP")
    change("UP")


@pytest.fixture
def submit(backend: Any, tmp_path: Any) -> Callable[..., Any]:
    """Submit a task that sleeps and says by files when it begins, and when it finds itself running twice at a time."""
    from arena import TASK

    from packtivity.statecontexts import LocalFSState

    def give(name: str = "work", seconds: float = 60.0, *, spec: Any = TASK) -> Any:
        state = LocalFSState([str(tmp_path / name)])
        state.ensure()
        return backend.submit(spec, {"seconds": seconds, "n": 7, "out": "{workdir}/out"}, state, {"name": "task"})

    return give
