"""Things the tests of handlers share."""

from __future__ import annotations

from pathlib import Path

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
