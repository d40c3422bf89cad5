"""Wait for something that another process or thread does, but not for ever."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def wait_for(condition: Callable[[], object], seconds: float = 10.0) -> bool:
    """Return whether a condition comes true within some seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def until(condition: Callable[[], object], seconds: float = 40.0) -> None:
    """Wait until a condition is true.

    :raises AssertionError: it is not true after some seconds.
    """
    assert wait_for(condition, seconds), f"not so after {seconds:g} s"
