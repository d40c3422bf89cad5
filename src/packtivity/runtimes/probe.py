"""Probes: short runs of a program for what it prints."""

from __future__ import annotations

from dataclasses import dataclass

from packtivity.errors import EnvironmentUnavailable
from packtivity.runtimes import process
from packtivity.types import Execution


@dataclass(frozen=True, slots=True)
class Reply:
    """What a program printed.

    :ivar code: exit code; 127 when it does not exist, 124 when it took too long.
    :ivar text: its standard output and error, decoded for reading.
    """

    code: int
    text: str

    @property
    def last_line(self) -> str:
        """Return the last line that is not empty: of an error, usually the reason."""
        return ([line for line in self.text.splitlines() if line.strip()] or [""])[-1]


class _Kept:
    path: str | None = None

    def __init__(self) -> None:
        self.chunks: list[bytes] = []

    def write(self, chunk: bytes) -> None:
        self.chunks.append(chunk)

    def note(self, message: str) -> None:
        pass


def probe(argv: tuple[str, ...], timeout: float = 60.0) -> Reply:
    """Run a program and return what it prints; a missing program or a time-out is a reply too.

    :param timeout: seconds.
    """
    kept = _Kept()
    try:
        done = process.run(Execution(argv, timeout=timeout), log=kept, grace=1.0)
    except EnvironmentUnavailable as error:
        return Reply(127, error.message)
    text = b"".join(kept.chunks).decode("utf-8", "replace")
    return Reply(124, f"no answer within {timeout:g} s") if done.timed_out else Reply(done.returncode, text)
