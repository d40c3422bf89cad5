"""What tests need and may not find; ``pyproject.toml`` puts this folder where conftest files can import from it.

A test that needs an engine (a container tool, a broker, a shell, root's right to mount …) has the mark ``engines``:
``make test`` leaves it out whether or not the engine is there, ``make test-engines`` runs it. Fixtures in
:data:`ENGINE_FIXTURES` give the mark to every test that has them; a test that asks for one by ``getfixturevalue``, or
calls :func:`need_engine` itself, has to be marked by hand, and fails when it is not.
"""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

MARK = "engines"

ENGINE_FIXTURES = frozenset({"engines", "redis", "rabbit", "room", "docker", "slurm"})
"""Fixtures that start or find an engine; those that build on them need no mention."""

running: list[pytest.Item] = []
"""The test that runs now, if one does."""

COLLECTED = pytest.StashKey[list[pytest.Item]]()
"""All tests that were found, before any was left out by its marks."""


def missing(what: str, remedy: str) -> NoReturn:
    """Skip on a laptop, fail in continuous integration, where everything is meant to be there."""
    message = f"{what} is not here; {remedy}"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


def need_engine(there: object, what: str, remedy: str = "run 'make test-engines' as root on Debian or Ubuntu") -> None:
    """Go on if an engine is there; the test fails if it is not marked, for ``make test`` would run it by chance."""
    if running and running[-1].get_closest_marker(MARK) is None:
        pytest.fail(f"{running[-1].nodeid} needs an engine ({what}): mark it pytest.mark.{MARK}")
    if not there:
        missing(what, remedy)


TOGETHER = {
    "reference": "matrix",
    "images": "docker",
    "cluster": "cluster",
    "ipcluster": "ipcluster",
    "farm": "ipyparallel",
    "celery_redis": "celery",
    "celery_rabbit": "celery",
    "slurm": "slurm",
    "published": "phenochain",
}
"""Fixtures that are dear or are there once only; where tests run side by side, those with one of them stay together."""


def together(item: pytest.Item) -> str | None:
    """Return the name that tests share which have to run one after another, in one process."""
    chosen = getattr(item, "callspec", None)
    if chosen is not None and isinstance(lab := chosen.params.get("lab"), str):
        tool, _, who = lab.replace("singularity", "apptainer").partition("-")
        return tool if tool == "docker" else f"{tool}-{who}"  # there is one Docker for all, with one store
    fixtures = set(getattr(item, "fixturenames", ()))
    return next((name for fixture, name in TOGETHER.items() if fixture in fixtures), None)
