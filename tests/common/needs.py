"""What tests need and may not find; ``pyproject.toml`` puts this folder where conftest files can import from it."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def missing(what: str, remedy: str) -> NoReturn:
    """Skip on a laptop, fail in continuous integration, where everything is meant to be there."""
    message = f"{what} is not here; {remedy}"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)
