"""What our commands have beyond click: how they end, and the kinds of values that their options take."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from importlib import import_module
from inspect import cleandoc
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from packtivity.cli import start
from packtivity.printable import readable
from packtivity.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from click.shell_completion import CompletionItem

    ParamType = click.ParamType[Any]
else:
    ParamType = click.ParamType  # generic only from click 8.4 on


class Options:
    """The options of a command: click's, in the order of its help, and in an instance the values given for them.

    The options of base classes stand before those of the class itself. Its docstring is the help of the command.

    :ivar chosen: names of the options that were given, and are not just their defaults.
    """

    debug: bool = False

    def __init__(self, *, chosen: Collection[str] = (), **given: Any) -> None:
        vars(self).update(given)
        self.chosen = frozenset(chosen)

    @classmethod
    def declared(cls) -> Iterator[click.Parameter]:
        """Give options and arguments."""
        for base in cls.__bases__:
            if issubclass(base, Options):
                yield from base.declared()
        yield from (value for value in vars(cls).values() if isinstance(value, click.Parameter))


# --- how commands end ------------------------------------------------------------------------------------------


def _conclude(error: BaseException, *, debug: bool = False, validated: bool = True) -> int:
    """Print what ended the command and return its exit code; help and completion need no errors."""
    from packtivity.cli.errors import conclude

    return conclude(error, debug=debug, validated=validated)


@contextmanager
def _our_codes() -> Iterator[None]:
    """Parse, or print a help text; click would end with code 1 what is interrupted or not read to its end."""
    try:
        yield
    except click.ClickException as error:  # which may quote a name that somebody else has given a file
        vars(error)["message"] = readable(error.message)
        raise
    except (KeyboardInterrupt, OSError) as error:
        raise click.exceptions.Exit(_conclude(error)) from None


class _Program(click.Command):
    """The outermost call of a command."""

    def __init__(self, name: str, help: str, **attributes: Any) -> None:
        super().__init__(name, help=cleandoc(help), **attributes)
        if name.startswith("packtivity"):  # others are commands of ``packtivity`` only
            text = "Print the version and exit."
            click.version_option(VERSION, message="packtivity %(version)s", help=text)(self)

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Parse; click would import much to ask the terminal for its width, and use no more than 80 columns."""
        try:
            width = min(os.get_terminal_size(1).columns or 80, 100)
        except OSError:
            width = 80
        extra.setdefault("terminal_width", width)
        with _our_codes():
            return super().make_context(*args, **extra)


class Command(_Program):
    """A command whose errors are printed as messages and end it with the error's own exit code.

    :param call: ``module:function`` in this package, imported on call: it is given ``options`` and may return an exit code.
    :param options: has its help as docstring.
    """

    def __init__(self, name: str, call: str, options: type[Options], short_help: str) -> None:
        super().__init__(name, options.__doc__ or "", params=[*options.declared()], short_help=short_help)
        self.call, self.options = call, options

    def invoke(self, ctx: click.Context) -> None:
        """Run the command; whatever goes wrong in it becomes a message and an exit code."""
        default = ParameterSource.DEFAULT
        chosen = [name for name in ctx.params if ctx.get_parameter_source(name) is not default]
        options = self.options(chosen=chosen, **ctx.params)
        try:
            module, _, function = self.call.partition(":")
            code = getattr(import_module(f"packtivity.cli.{module}"), function)(options)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except BaseException as error:  # noqa: BLE001 - the outermost frame: every end gets its exit code here
            start.exit_on_interrupt()
            code = _conclude(error, debug=options.debug, validated=ctx.params.get("validate", True))
        finally:
            start.exit_on_interrupt()
        if code:
            ctx.exit(code)


class Group(_Program, click.Group):
    """A group that lists its commands in the order they are declared in, which is the order a newcomer needs them in."""

    def add(self, name: str, call: str, options: type[Options], short_help: str) -> Command:
        """Declare a command; ``packtivity-run`` is called ``run`` here."""
        command = Command(name, call, options, short_help)
        self.add_command(command, name.removeprefix("packtivity-"))
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that is called."""
        with _our_codes():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the names; click would sort them."""
        return [*self.commands]

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[Any, Any, list[str]]:
        """Find the command to run; for an unknown one, name the nearest (as click does from 8.4 on)."""
        if not ctx.resilient_parsing and args and args[0] not in self.commands and args[0][:1] != "-":
            from difflib import get_close_matches

            near = get_close_matches(args[0], self.commands, n=1)
            ctx.fail(f"No such command {args[0]!r}." + (f" Did you mean {near[0]!r}?" if near else ""))
        return super().resolve_command(ctx, args)


# --- kinds of values -------------------------------------------------------------------------------------------


_UNITS = {"": 1.0, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile("([0-9. ]+)([a-z]*)")


def seconds(text: str) -> float:
    """Read a duration: ``90``, ``90s``, ``5m``, ``2h``, ``1d``, ``1h30m``, ``0.5h``.

    :returns: seconds, above 0 and finite.
    :raises ValueError: the text is none of these.
    """
    text = text.lower()
    total = 0.0
    if not _PART.sub("", text).strip():
        total = sum(float(number) * _UNITS.get(unit, float("nan")) for number, unit in _PART.findall(text))
    if not 0 < total < float("inf"):
        raise ValueError(text)
    return total


class Duration(ParamType):
    """A duration in seconds, or with a unit."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return seconds."""
        try:
            return seconds(value)
        except ValueError:
            self.fail(f"{value!r} is not a duration; write seconds (90) or 90s, 5m, 2h, 1h30m.", param, ctx)


class Word(ParamType):
    """A word that completion knows; others are taken, too, because plug-ins may add some."""

    def __init__(self, name: str, *known: str) -> None:
        self.name, self.known = name, known

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002
        """Complete what is known, in any case."""
        return _completions("plain", *(word for word in self.known if word.lower().startswith(incomplete.lower())))


class Level(Word):
    """A level of the ``logging`` module, in any case, as upstream 0.17.1 takes it."""

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the level in capitals."""
        level = value.upper()
        if level not in (*self.known, "WARN", "FATAL", "NOTSET"):
            self.fail(f"{value!r} is not one of {', '.join(self.known)}.", param, ctx)
        return level


class File(ParamType):
    """A file to read or write, which need not exist: a spec may be an address, and a missing file has a better message.

    Not a :class:`click.Path`, whose name in the help depends on what it checks.

    :param kind: what completion looks for: ``file``, or ``dir`` for a directory.
    :param directory: whether a directory, too, is taken.
    :param nameless: whether no name at all is taken, for no file; elsewhere it is a slip, such as an unset variable.
    """

    def __init__(self, kind: str = "file", *, directory: bool = True, nameless: bool = False) -> None:
        self.name = "directory" if kind == "dir" else "path"
        self.kind, self.directory, self.nameless = kind, directory, nameless

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path as it is given."""
        if not (value or self.nameless):
            self.fail("'' names no file; leave the option out, or write a name.", param, ctx)
        if not self.directory and os.path.isdir(value):
            self.fail(f"File {os.fsdecode(value)!r} is a directory.", param, ctx)
        return value

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002
        """Let the shell complete names."""
        return _completions(self.kind, incomplete)


def _completions(kind: str, *words: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem  # no other call needs it

    return [CompletionItem(word, type=kind) for word in words]
