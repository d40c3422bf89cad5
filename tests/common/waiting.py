"""Wait for something that another process or thread does, but not for ever."""

from __future__ import annotations

import time
from pathlib import Path
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


def until_idle(pid: int, seconds: float = 60.0) -> None:
    """Wait until a process waits for something: it sleeps, and has used no processor time between ten looks."""
    looks: list[tuple[str, int]] = []

    def idle() -> bool:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        looks.append((fields[0], int(fields[11]) + int(fields[12])))
        time.sleep(0.05)
        return len(looks) >= 10 and looks[-1][0] == "S" and len(set(looks[-10:])) == 1

    until(idle, seconds)
