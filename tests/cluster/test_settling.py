"""Tasks whose Jobs are over are ended once, whatever their publishers do: no cluster is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from packtivity import record
from packtivity.backends.kubernetes.proxy import KubernetesProxy
from packtivity.backends.kubernetes.reading import View
from packtivity.backends.kubernetes.settle import Settlement
from packtivity.handlers.publisher_handlers import handlers, publisher
from packtivity.statecontexts import LocalFSState

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def settlement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The end of a task whose publisher raises an error."""
    state = LocalFSState([str(tmp_path / "work")])
    state.ensure()
    place = record.record_path(str(state.metadir), {"name": "t"}, "one")
    known = {"job_id": "j", "task_id": "one", "key": "k", "name": "t", "record": place, "namespace": "n"}

    def make(error: Exception) -> Settlement:
        @publisher("of-a-plug-in")
        def publish(*_: object) -> Any:
            raise error

        spec = {
            "process": {"process_type": "string-interpolated-cmd", "cmd": "true"},
            "environment": {"environment_type": "docker-encapsulated", "image": "a", "envscript": ""},
            "publisher": {"publisher_type": "of-a-plug-in"},
        }
        proxy = KubernetesProxy(dict(known), spec, state.json(), {})
        return Settlement(proxy, View("succeeded", returncode=0), None)  # type: ignore[arg-type]

    yield make
    handlers.pop("of-a-plug-in", None)


def test_what_a_plug_in_raises_is_why_the_task_failed_and_stands_in_its_record(settlement: Any) -> None:
    told = settlement(LookupError("no such thing")).settle()
    assert (told["status"], told["error"]) == ("failed", {"type": "LookupError", "message": "no such thing"})
    assert record.read_outcome(told["record"])["error"] == told["error"]
    assert settlement(LookupError("another")).settle()["error"]["message"] == "no such thing"


def test_a_disk_that_cannot_be_read_now_says_nothing_of_the_task(settlement: Any) -> None:
    with pytest.raises(OSError, match="stale"):
        settlement(OSError("stale")).settle()
    assert settlement(LookupError("later")).settle()["status"] == "failed"
