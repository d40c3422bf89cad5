"""Tasks whose Jobs are over are ended once, whatever their publishers do: no cluster is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from packtivity import record
from packtivity.backends.conclude import finish
from packtivity.backends.engine import Collected, Submission
from packtivity.backends.engines.kubernetes.engine import KubernetesEngine
from packtivity.errors import StateError
from packtivity.handlers.publisher_handlers import handlers, publisher
from packtivity.statecontexts import LocalFSState
from packtivity.task import Task

if TYPE_CHECKING:
    from pathlib import Path


class _Ended(KubernetesEngine):
    """A cluster whose Job has succeeded."""

    def __init__(self) -> None:
        """Without a connection."""

    def collect(self, submission: Submission, task: Task) -> Collected:
        return Collected(0)


class _Settlement:
    def __init__(self, task: Task, claim: str) -> None:
        self.task, self.claim = task, claim

    def settle(self) -> Any:
        status = finish(_Ended(), Submission("one"), self.task, self.claim)
        return {name: getattr(status, name) for name in ("status", "error", "record")}


@pytest.fixture
def settlement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The end of a task whose publisher raises an error."""
    state = LocalFSState([str(tmp_path / "work")])
    state.ensure()

    def make(error: Exception) -> _Settlement:
        @publisher("of-a-plug-in")
        def publish(*_: object) -> Any:
            raise error

        spec = {
            "process": {"process_type": "string-interpolated-cmd", "cmd": "true"},
            "environment": {"environment_type": "docker-encapsulated", "image": "a", "envscript": ""},
            "publisher": {"publisher_type": "of-a-plug-in"},
        }
        return _Settlement(Task(spec, {}, state.json(), {"name": "t"}, id="one"), record.state_path(state.metadir, "k"))

    yield make
    handlers.pop("of-a-plug-in", None)


def test_what_a_plug_in_raises_is_why_the_task_failed_and_stands_in_its_record(settlement: Any) -> None:
    told = settlement(LookupError("no such thing")).settle()
    assert (told["status"], told["error"]) == ("failed", {"type": "LookupError", "message": "no such thing"})
    assert record.read_outcome(told["record"])["error"] == told["error"]
    assert settlement(LookupError("another")).settle()["error"]["message"] == "no such thing"


def test_a_disk_that_cannot_be_read_now_says_nothing_of_the_task(settlement: Any) -> None:
    with pytest.raises(StateError, match="stale"):
        settlement(OSError("stale")).settle()
    assert settlement(LookupError("later")).settle()["status"] == "failed"
