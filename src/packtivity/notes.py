"""What is found out about the task that is running, noted where it is found out, for its record.

Whoever runs a task opens its notes; handlers and runtimes write in them. Without open notes, what is noted is dropped.
"""

from __future__ import annotations

from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from packtivity.types import JSON, Completed, Execution, Job


@dataclass(eq=False, repr=False)
class RunNotes:
    """The notes on one attempt at a task; what is not known yet is None or empty.

    :ivar held: descriptors that every process of the task inherits, because its lock hangs on them.
    :ivar publish: writes at once, beside the task's lock, what the next runner has to know should this one die.
    :ivar job: the rendered process.
    :ivar execution: what was planned.
    :ivar argv: what a container tool was given.
    :ivar completed: how the main process ended.
    :ivar image: ``{"reference", "digest"}`` of the image that was run.
    :ivar usage: figures of a container, over those of its tool; None when nobody has measured any.
    :ivar out_of_memory: whether it was killed because memory ran out.
    :ivar missing: published paths that do not exist.
    :ivar warnings: code and message of each.
    """

    held: tuple[int, ...] = ()
    publish: Callable[..., None] | None = None
    job: Job | None = None
    execution: Execution | None = None
    argv: Sequence[str] | None = None
    completed: Completed | None = None
    image: Mapping[str, str | None] | None = None
    usage: Mapping[str, JSON] | None = field(default_factory=dict)
    out_of_memory: bool | None = None
    missing: Sequence[str] = ()
    warnings: list[str] = field(default_factory=list)


_open: ContextVar[RunNotes | None] = ContextVar("notes", default=None)


def open_notes(notes: RunNotes) -> Token[RunNotes | None]:
    """Make ``notes`` those of this context; returns what :func:`close_notes` takes."""
    return _open.set(notes)


def close_notes(token: Token[RunNotes | None]) -> None:
    """Close the notes."""
    _open.reset(token)


def current() -> RunNotes:
    """Return the notes on the task that runs in this context; without open notes, new ones, which are dropped."""
    return _open.get() or RunNotes()
