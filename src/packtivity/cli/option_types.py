"""The kinds of values that options take: durations, log levels, backends, files and directories."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Iterable

    from click.shell_completion import CompletionItem

    ParamType = click.ParamType[Any]
else:
    ParamType = click.ParamType  # generic only from click 8.4 on


def _completions(words: Iterable[str], kind: str = "plain") -> list[CompletionItem]:
    from click.shell_completion import CompletionItem  # no other call needs it

    return [CompletionItem(word, type=kind) for word in words]


_UNITS = {"": 1.0, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile("([0-9. ]+)([a-z]*)")


def seconds(text: str) -> float:
    """Read a duration: ``90``, ``90s``, ``5m``, ``2h``, ``1d``, ``1h30m``, ``0.5h``.

    :returns: seconds, above 0 and finite.
    :raises ValueError: the text is none of these.
    """
    text = text.lower()
    if _PART.sub("", text).strip():
        raise ValueError(text)
    total = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    if not 0 < total < float("inf"):
        raise ValueError(text)
    return total


class Duration(ParamType):
    """A duration in seconds, or with a unit."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return seconds."""
        if isinstance(value, (int, float)):
            return float(value)
        try:
            return seconds(value)
        except (ValueError, KeyError):
            self.fail(f"{value!r} is not a duration; write seconds (90) or 90s, 5m, 2h, 1h30m.", param, ctx)


class Verbosity(ParamType):
    """A level of the ``logging`` module, in any case, as upstream 0.17.1 takes it."""

    name = "level"
    shown = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
    understood = (*shown, "WARN", "FATAL", "NOTSET")

    def get_metavar(self, *_: Any, **__: Any) -> str:
        """Return what stands for the value in the help."""
        return f"[{'|'.join(self.shown)}]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the level's name in capitals."""
        level = str(value).upper()
        if level not in self.understood:
            self.fail(f"{value!r} is not one of {', '.join(self.shown)}.", param, ctx)
        return level

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002
        """Complete the names of levels."""
        return _completions(level for level in self.shown if level.startswith(incomplete.upper()))


class BackendString(ParamType):
    """A backend string; any text is passed on, as plug-ins may add backends."""

    name = "backend"
    known = ("defaultsync", "foregroundasync", "multiproc:auto", "ipcluster", "celery", "fromenv")

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002
        """Complete the backends that are always there."""
        return _completions(name for name in self.known if name.startswith(incomplete))


class File(ParamType):
    """A file to read or write, which need not exist: a spec may be an address, and a missing file has a better message.

    Not a :class:`click.Path`, whose name in the help depends on what it checks.

    :param directory: whether a directory, too, is taken.
    :param nameless: whether no name at all is taken, for no file; elsewhere it is a slip, such as an unset variable.
    """

    name, completes = "path", "file"

    def __init__(self, *, directory: bool = True, nameless: bool = False) -> None:
        self.directory = directory
        self.nameless = nameless

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path as it is given."""
        if not (value or self.nameless):
            self.fail("'' names no file; leave the option out, or write a name.", param, ctx)
        if not self.directory and os.path.isdir(value):
            self.fail(f"File {os.fsdecode(value)!r} is a directory.", param, ctx)
        return value

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002
        """Let the shell complete names."""
        return _completions([incomplete], self.completes)


class Directory(File):
    """A directory, which need not exist; whether what is there will do is for the state to say."""

    name, completes = "directory", "dir"
