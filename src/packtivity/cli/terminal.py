"""How commands print, and what a person at a terminal sees: a live line while a task runs, a bar for many, a table.

Nothing else in the command line writes to a stream. The lines are our own, because those of click and rich show neither
what a task printed last nor how many tasks failed, and would draw on terminals that cannot move their cursor.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from time import monotonic
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

import click

from packtivity.printable import escaped
from packtivity.settings import caller_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

    from packtivity.types import Completed, Execution

T = TypeVar("T")

_KEPT = 8192
_CLEAR = "\r\x1b[K"
_BAR = 24
"""Characters."""
_REDRAWN = 0.1
"""Seconds between two drawings of the bar at least."""


def say(text: str, *, err: bool = False) -> None:
    """Print lines, ``err`` on standard error; what a document has put into them cannot steer a terminal."""
    click.echo(escaped(text), err=err)


def say_json(document: object, **how: Any) -> None:
    """Print a document as JSON, which is ASCII with everything else escaped.

    :param how: keyword arguments of :func:`json.dumps`.
    """
    click.echo(json.dumps(document, **how))


def show(text: str) -> None:
    """Print text as it is: coloured by us, and all from documents in it escaped before, or for a program to read."""
    click.echo(text, color=True)


def show_error(text: str) -> None:
    """Print the same on standard error; a closed or full one is no reason to fail."""
    try:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
    except UnicodeEncodeError:
        sys.stderr.write(text.encode("ascii", "backslashreplace").decode("ascii") + "\n")
    except (OSError, ValueError, AttributeError):
        pass


def plain(result: Any) -> Any:
    """Return a result as JSON; backends of others may give it so already."""
    return result.json() if hasattr(result, "json") else result


def named_leaves(document: object, name: str = "") -> Iterator[tuple[str, Any]]:
    """Give each value with its name, ``null``, ``false`` and empty containers too; no name if it is all there is."""
    if isinstance(document, dict) and document:
        for key, value in document.items():
            yield from named_leaves(value, f"{name}.{key}" if name else str(key))
    elif isinstance(document, list) and document:
        for position, value in enumerate(document):
            yield from named_leaves(value, f"{name}[{position}]")
    else:
        yield name, document


# --- terminals -------------------------------------------------------------------------------------------------------


def is_terminal(stream: TextIO | None) -> bool:
    """Tell whether a person watches the stream; one that is closed is nobody's."""
    try:
        return stream is not None and stream.isatty()
    except (AttributeError, ValueError):
        return False


def can_steer(stream: TextIO | None) -> bool:
    """Tell whether the cursor of the stream can be moved."""
    return is_terminal(stream) and caller_environment().get("TERM") not in (None, "", "dumb")


def wants_colour(stream: TextIO | None) -> bool:
    """Tell whether the stream is a terminal whose user has not set ``NO_COLOR`` (no-color.org)."""
    return can_steer(stream) and not caller_environment().get("NO_COLOR")


def columns(stream: TextIO | None = None) -> int:
    """Return the width of the terminal: ``COLUMNS``, what the terminal says, or 80."""
    told = caller_environment().get("COLUMNS", "")
    if len(told) < 10 and told.isascii() and told.isdigit() and int(told) > 0:
        return int(told)
    try:
        return os.get_terminal_size((stream or sys.__stdout__).fileno()).columns or 80  # type: ignore[union-attr]
    except (OSError, ValueError, AttributeError):
        return 80


def duration(seconds: float) -> str:
    """Write a time as people do: ``0.4 s``, ``12 s``, ``3 min 05 s``, ``2 h 07 min``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def fitted(text: str, width: int) -> str:
    """Cut text to what fits into ``width`` cells; wide characters take two, combining ones none."""
    if width <= 0:
        return ""
    if text.isascii():
        return text[:width]
    from unicodedata import combining, east_asian_width  # a library of a megabyte, and most output is ASCII

    used = 0
    for position, character in enumerate(text):
        used += 0 if combining(character) else 2 if east_asian_width(character) in "WF" else 1
        if used > width:
            return text[:position]
    return text


class _Line:
    """A line on a terminal that is drawn over and over again."""

    interval: float | None = 0.1

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._shown = False

    def _draw(self, text: str) -> None:
        encoding = self._stream.encoding or "ascii"
        # The last column stays empty: writing there makes some terminals wrap.
        text = fitted(text, columns(self._stream) - 1).encode(encoding, "replace").decode(encoding)
        self._write(_CLEAR + text)
        self._shown = True

    def clear(self) -> None:
        """Take the line away; the next tick draws it again."""
        if self._shown:
            self._shown = False
            self._write(_CLEAR)

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            self.interval = None  # the terminal has gone; the task goes on


class LiveLine(_Line):
    """A reporter that keeps one line on a terminal: how long the task has been running and what it said last.

    :param stream: a terminal, normally standard error.
    :param label: what is running.
    """

    def __init__(self, stream: TextIO, label: str) -> None:
        super().__init__(stream)
        self._label = label
        self._tail = b""
        self._frame = 0
        self._began = 0.0
        try:
            self._frames = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
            self._frames.encode(stream.encoding or "ascii")
        except (UnicodeError, LookupError):
            self._frames = "|/-\\"

    def started(self, execution: Execution) -> None:  # noqa: ARG002 - the reporter protocol
        """Begin to count."""
        self._began = monotonic()
        self.tick()

    def output(self, chunk: bytes) -> None:
        """Remember the end of what the task wrote; it is drawn at the next tick."""
        self._tail = (self._tail + chunk[-_KEPT:])[-_KEPT:]

    def tick(self) -> None:
        """Draw the line anew."""
        frame = self._frames[self._frame % len(self._frames)]
        self._frame += 1
        text = f"{frame} {self._label} {duration(monotonic() - self._began)}  {last_line(self._tail)}"
        self._draw(text.rstrip())

    def ended(self, completed: Completed) -> None:  # noqa: ARG002 - the reporter protocol
        """Take the line away."""
        self.clear()

    def around(self, function: Callable[[T], None] | None) -> Callable[[T], None]:
        """Return ``function`` such that what it prints does not run into the line."""

        def printing(argument: T) -> None:
            self.clear()
            if function is not None:
                function(argument)

        return printing

    def guard_logging(self) -> None:
        """Keep log lines on the same terminal apart from the line."""

        def make_room(_record: logging.LogRecord) -> bool:
            self.clear()
            return True

        for handler in logging.getLogger().handlers:
            handler.addFilter(make_room)


class Progress(_Line):
    """A progress bar on standard error, if a person is there to see it; a context manager.

    :param total: how many tasks there are.
    :param what: what they are called.
    """

    def __init__(self, total: int, what: str) -> None:
        super().__init__(sys.stderr)
        self._total, self._what = total, what
        self._wanted = can_steer(sys.stderr)
        self._began, self._drawn = monotonic(), 0.0
        self._before: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def show(self, over: int, failed: int) -> None:
        """Draw the bar anew: bar, numbers, failures, estimated time left.

        :param over: how many are over, failed ones included.
        """
        now, total = monotonic(), self._total
        if self._before is None:
            self._before = over
        if not self._wanted or (now - self._drawn < _REDRAWN and over < total):
            return
        self._drawn = now
        filled = _BAR * over // total if total else _BAR
        line = f"[{'#' * filled}{'.' * (_BAR - filled)}] {over}/{total} {self._what}"
        if failed:
            line += f", {failed} failed"
        if self._before < over < total:
            line += f", {duration((now - self._began) / (over - self._before) * (total - over))} left"
        self._draw(line)


def last_line(data: bytes) -> str:
    """Return the last line with something in it, cleaned of control sequences; progress bars use ``\\r``."""
    for line in reversed(data.replace(b"\r", b"\n").split(b"\n")):
        text = clean(line.decode("utf-8", "replace")).strip()
        if text:
            return text
    return ""


def clean(text: str) -> str:
    """Return text without escape sequences (ECMA-48) and other characters that do not print."""
    if "\x1b" in text:
        text = re.sub(r"\x1b(\[[0-?]*[ -/]*[@-~]?|\][^\x07\x1b]*(\x07|\x1b\\)?|.)?", "", text)
    text = text.replace("\t", " ")
    return text if text.isprintable() else "".join(c for c in text if c.isprintable())


def table(result: object, *, colour: bool = False) -> list[str]:
    """Return the lines of a table of the result's leaves; values are never cut, they are there to be copied."""
    if result in ({}, None):
        return ["  (nothing was published)"]
    found = []
    for name, value in named_leaves(result):
        is_plain = isinstance(value, str) and value and value.isprintable()
        found.append((clean(name), value if is_plain else json.dumps(value)))
    width = max((len(name) for name, _ in found if len(name) <= 32), default=0)
    bold, plain = ("\x1b[1m", "\x1b[0m") if colour else ("", "")
    return [f"  {bold}{name}{plain}{' ' * (width - len(name))}  {text}".rstrip() for name, text in found]
