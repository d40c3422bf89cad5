"""Things the tests of handlers share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from packtivity.statecontexts import LocalFSState


@pytest.fixture
def state(tmp_path: Path) -> LocalFSState:
    """A state with one read-write directory that is there."""
    (tmp_path / "work").mkdir()
    return LocalFSState([str(tmp_path / "work")])


@pytest.fixture
def workdir(state: LocalFSState) -> Path:
    """Its work directory."""
    return Path(state.readwrite[0])


class Leaf:
    """A typed leaf."""

    def __init__(self, path: str) -> None:
        self.path = path

    @classmethod
    def fromJSON(cls, data: Any) -> Leaf:
        return cls(**data)

    def json(self) -> Any:
        return {"path": self.path}


@pytest.fixture
def leaf_model() -> dict[str, Any]:
    """A leaf model with one type."""
    return {"keyword": "$t", "types": {"leaf": Leaf}}
