"""What is found out about the task that is running, noted where it is found out, for its record.

Whoever runs a task opens a page; handlers and runtimes write on it: the planned execution, how it ended, the digest
of an image, figures of a cgroup. Without an open page, notes go nowhere.

Names that the record takes up: ``job``, ``execution``, ``completed``, ``image`` (``{"reference", "digest"}``),
``argv`` (as given to a container tool), ``out_of_memory``, ``usage`` (figures of a cgroup, over those of the process;
None when nobody has measured any),
``missing`` (published paths that were not there).
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Page:
    """The notes on one task.

    :ivar held: descriptors that every process of the task inherits, because its lock hangs on them.
    :ivar tell: adds what it is given to what is said of the running task, for whoever finds it when we are dead.
    """

    __slots__ = ("held", "notes", "tell")

    def __init__(self, held: tuple[int, ...] = (), tell: Callable[..., None] | None = None) -> None:
        self.held = held
        self.tell = tell
        self.notes: dict[str, Any] = {}


_open: ContextVar[Page | None] = ContextVar("_open", default=None)


def open_page(page: Page) -> Any:
    """Make ``page`` the one that notes in this context go to; returns what :func:`close_page` takes."""
    return _open.set(page)


def close_page(token: Any) -> None:
    """Put the page away."""
    _open.reset(token)


def note(**found: Any) -> None:
    """Write down what was found out; what was noted under the same name before is replaced."""
    page = _open.get()
    if page is not None:
        page.notes.update(found)


def held() -> tuple[int, ...]:
    """Return the descriptors that a process started now has to inherit."""
    page = _open.get()
    return page.held if page is not None else ()


def tell(**state: Any) -> None:
    """Say at once, where the task's lock is, what the next runner has to know should this one die."""
    page = _open.get()
    if page is not None and page.tell is not None:
        page.tell(**state)
