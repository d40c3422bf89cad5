"""Hand tests to processes so that those with one name in :func:`needs.together` stay in one of them.

``--dist loadgroup`` of pytest-xdist 3.8 is meant for that, but writes the name into a test's id where pytest 9.2 does not
look any more. Here each process writes down the names of its tests, and the scheduler reads them.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import pytest

GROUP = "xdist_group"


def write_names(path: Path, items: Iterable[pytest.Item]) -> None:
    """Write the names of the tests that have one, by their ids."""
    marks = ((item.nodeid, item.get_closest_marker(GROUP)) for item in items)
    names = {nodeid: mark.args[0] for nodeid, mark in marks if mark is not None}
    path.with_suffix(".new").write_text(json.dumps(names), encoding="utf-8")
    path.with_suffix(".new").rename(path)


class Together(LoadScopeScheduling):  # type: ignore[misc]
    """Tests with a name go to one process, all others to whichever is free.

    :param names: folder where the processes have written the names.
    """

    def __init__(self, config: pytest.Config, log: Any, names: Path) -> None:
        super().__init__(config, log)
        self._folder = names
        self._names: dict[str, str] | None = None

    def _split_scope(self, nodeid: str) -> str:
        if self._names is None:  # all processes have collected by now, the same tests
            self._names = json.loads(next(self._folder.glob("*.json")).read_text(encoding="utf-8"))
        return self._names.get(nodeid, nodeid)
