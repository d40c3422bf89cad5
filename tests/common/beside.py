"""A task of which somebody who looks from outside sees whether it runs beside itself, and that look."""

from __future__ import annotations

import fcntl
import itertools
from typing import TYPE_CHECKING

from arena import TASK

if TYPE_CHECKING:
    from pathlib import Path

# Each run of it holds a lock of its own and says every 50 ms that it lives, so that who looks from outside sees runs side
# by side, whatever the runs themselves have noticed.
TICKING = {
    **TASK,
    "process": {
        "process_type": "interpolated-script-cmd",
        "script": "me=run.$$.$(date +%s%N); exec 8>$me; flock 8; exec 9>busy; flock -n 9 || {{ echo >> twice; exit 42; }}\n"
        "sleep {seconds} &\n"
        "while kill -0 $! && read -r _ _ how _ < /proc/$!/stat && [ $how != Z ]; do\n"
        "date +%s%N >> $me.ticks; sleep 0.05; done 2> $me.errors\n"
        "wait $!; echo {n} > {out}\n",
        "interpreter": "sh",
    },
}


def overlapping(folder: Path) -> list[str]:
    """Return the runs of a task in a folder that ticked while an earlier one did: nothing may, at any time."""
    ticks = [(path.name, path.read_text().split()) for path in folder.glob("run.*.ticks")]
    runs = sorted((int(found[0]), int(found[-1]), name) for name, found in ticks if found)
    return [later[2] for earlier, later in itertools.pairwise(runs) if later[0] < earlier[1]]


def side_by_side(folder: Path) -> bool:
    """Return whether two runs of a task in a folder hold their locks now."""
    held = 0
    for path in folder.glob("run.*[0-9]"):
        with path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                held += 1
    return held > 1
