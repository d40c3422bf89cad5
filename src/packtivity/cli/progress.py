"""One line on a terminal that says how many of many tasks are over, how many failed, and when the rest will be."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Self

_BAR = 24
_REDRAWN = 0.1
"""Seconds between two drawings at least."""


class Progress:
    """A progress bar on standard error, if a person is there to see it; a context manager.

    :param total: how many tasks there are.
    :param what: what they are called.
    """

    def __init__(self, total: int, what: str) -> None:
        from time import monotonic

        from packtivity.cli.terminal import can_steer

        self._total, self._what = total, what
        self._shown = can_steer(sys.stderr)
        self._began, self._drawn = monotonic(), 0.0
        self._before: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown and self._drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def show(self, over: int, failed: int) -> None:
        """Draw the bar anew.

        :param over: how many are over, failed ones included.
        """
        from time import monotonic

        now = monotonic()
        if self._before is None:
            self._before = over
        if not self._shown or (now - self._drawn < _REDRAWN and over < self._total):
            return
        self._drawn = now
        from packtivity.cli.terminal import columns, fitted

        line = text(self._total, over, failed, self._what, self._left(now, over))
        sys.stderr.write("\r\x1b[K" + fitted(line, columns(sys.stderr) - 1))
        sys.stderr.flush()

    def _left(self, now: float, over: int) -> float | None:
        done = over - (self._before or 0)
        return (now - self._began) / done * (self._total - over) if done > 0 else None


def text(total: int, over: int, failed: int, what: str, left: float | None) -> str:
    """Return the line: bar, numbers, failures, estimated time left in seconds."""
    from packtivity.cli.terminal import duration

    filled = _BAR * over // total if total else _BAR
    line = f"[{'#' * filled}{'.' * (_BAR - filled)}] {over}/{total} {what}"
    if failed:
        line += f", {failed} failed"
    return line if left is None or over >= total else f"{line}, {duration(left)} left"
