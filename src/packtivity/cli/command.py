"""What our commands have in common beyond click: how they end, ``--debug``, and groups that load what is called.

Click alone is most of what ``--help`` costs, so this module and the ones that declare commands import nothing else.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from packtivity.cli import start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from click.shell_completion import CompletionItem

DEBUG = "packtivity.cli.debug"
_HELP = "Show this message and exit."


def _columns(ctx: click.Context) -> click.Context:
    """Give click the width of the terminal, which it would import ``shutil`` for."""
    if ctx.terminal_width is None:
        try:
            ctx.terminal_width = min(os.get_terminal_size(1).columns or 80, 100)
        except OSError:
            ctx.terminal_width = 80
    return ctx


class _Program:
    """The outermost call of a command."""

    def main(self, args: Any = None, *more: Any, **extra: Any) -> Any:
        """Run as a program: parse, run, exit. Called with ``args``, the process is somebody else's: left as it is."""
        call: Any = super().main  # type: ignore[misc]
        if args is not None:
            return call(args, *more, **extra)
        try:
            return call(args, *more, **extra)
        except SystemExit as end:
            _leave(end.code)
            raise
        except OSError as error:  # printing a help text failed, before there was a command to run
            from packtivity.cli.errors import conclude

            raise SystemExit(conclude(error, debug=False)) from None
        finally:
            start.hand_over()

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Parse, or print a help text; click would end with code 1 what is interrupted or not read to its end."""
        with _our_codes():
            context: click.Context = super().make_context(*args, **extra)  # type: ignore[misc]
            return context


@contextmanager
def _our_codes() -> Iterator[None]:
    try:
        yield
    except click.ClickException as error:  # which may quote a name that somebody else has given a file
        from packtivity.printable import readable

        vars(error)["message"] = readable(error.message)
        raise
    except (KeyboardInterrupt, BrokenPipeError) as error:
        from packtivity.cli.errors import conclude

        raise click.exceptions.Exit(conclude(error)) from None


def _leave(code: Any) -> None:
    """End the process without taking the interpreter apart, which would be a twentieth of a short command.

    Only for a process in which nothing but our own code has run: others may count on their objects' finalizers. What
    was registered to run at the end does run. Returns where an ordinary end is called for: output that cannot be
    flushed, a thread that still runs, a message for an exit code.
    """
    import atexit
    import threading

    registry = sys.modules.get("packtivity.registry")
    guests = registry is not None and registry.foreign_code
    if guests or threading.active_count() > 1 or not (code is None or isinstance(code, int)):
        start.listen()
        return
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):  # a full disk, a closed stream, no stream at all
        return
    os._exit((code or 0) & 0xFF)


def _show_help(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        click.echo(ctx.get_help(), color=ctx.color)
        ctx.exit()


class Command(_Program, click.Command):
    """A command whose errors are printed as messages and end it with the error's own exit code.

    :param prepares: whether an interrupt may end it at once until it says :func:`packtivity.cli.start.hand_over`.
    """

    def __init__(self, *args: Any, prepares: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.prepares = prepares

    _help_option: click.Option | None = None

    def get_help_option(self, ctx: click.Context) -> click.Option | None:  # noqa: ARG002
        """Return ``--help``; click's own looks for translations of its text at every start."""
        if self._help_option is None:
            self._help_option = click.Option(
                ["--help"], is_flag=True, is_eager=True, expose_value=False, callback=_show_help, help=_HELP
            )
        return self._help_option

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse arguments; short options are written out first.

        click tries each one as a long option before, and for that failure imports :mod:`difflib` and looks for
        similar names, which takes longer than parsing.
        """
        return super().parse_args(ctx, list(args) if ctx.resilient_parsing else self._spelt_out(ctx, args))

    def _spelt_out(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Return the arguments with options such as ``-p`` in their long form, up to one that does not stand alone."""
        options = [option for option in self.get_params(ctx) if isinstance(option, click.Option)]
        known = {name: option for option in options for name in (*option.opts, *option.secondary_opts)}
        long = {name: known[name].opts[-1] for name in known if len(name) == 2}
        spelt: list[str] = []
        words = iter(args)
        for word in words:
            spelt.append(long.get(word, word))
            if word == "--" or (word not in known and len(word) > 1 and word[0] == "-" != word[1]):
                break
            if word in known and not known[word].is_flag:
                spelt += [value for value in (next(words, None),) if value is not None]
        return [*spelt, *words]

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; whatever goes wrong in it becomes a message and an exit code."""
        try:
            if not self.prepares:
                start.listen()
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except BaseException as error:  # noqa: BLE001 - the outermost frame: every end gets its exit code here
            start.finish()
            from packtivity.cli.errors import conclude

            end = conclude(error, debug=ctx.meta.get(DEBUG, False), validated=ctx.params.get("validate", True))
            raise click.exceptions.Exit(end) from None
        finally:
            start.finish()

    def get_help(self, ctx: click.Context) -> str:
        """Return the help text, fitted to the terminal."""
        return super().get_help(_columns(ctx))


class Group(_Program, click.Group):
    """A group that knows the names and one-line helps of its commands, and imports the one that is called.

    :param lazy: command name → (``module:attribute`` of the command, one-line help).
    """

    def __init__(self, *args: Any, lazy: Mapping[str, tuple[str, str]] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = dict(lazy or {})

    def invoke(self, ctx: click.Context) -> Any:
        """Import the command that is called, and run it."""
        with _our_codes():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order they were given, which is the order a newcomer needs them in."""
        return [*self.lazy, *(name for name in super().list_commands(ctx) if name not in self.lazy)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command called ``cmd_name``; ``None`` if there is none."""
        if cmd_name not in self.lazy:
            return super().get_command(ctx, cmd_name)
        from importlib import import_module

        module, _, attribute = self.lazy[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[Any, Any, list[str]]:
        """Find the command to run; for an unknown one, name the nearest."""
        if not ctx.resilient_parsing and args and args[0] not in self.list_commands(ctx) and args[0][:1] != "-":
            from packtivity.registry import nearest

            near = nearest(args[0], self.list_commands(ctx))
            ctx.fail(f"No such command {args[0]!r}." + (f" Did you mean {near!r}?" if near else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self._short_help(ctx, name)) for name in self.list_commands(ctx)])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete command names without importing the commands."""
        from click.shell_completion import CompletionItem

        names = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        if names or not incomplete.startswith("-"):
            return [CompletionItem(name, help=self._short_help(ctx, name)) for name in names]
        return click.Command.shell_complete(self, ctx, incomplete)

    def get_help(self, ctx: click.Context) -> str:
        """Return the help text, fitted to the terminal."""
        return super().get_help(_columns(ctx))

    def _short_help(self, ctx: click.Context, name: str) -> str:
        if name in self.lazy:
            return self.lazy[name][1]
        command = self.get_command(ctx, name)
        return command.get_short_help_str() if command else ""


def print_version(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    """Print the version that is installed and end the command."""
    if not value or ctx.resilient_parsing:
        return
    from importlib.metadata import version

    click.echo(f"packtivity {version('packtivity')}")
    ctx.exit()


def remember_debug(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    """Keep ``--debug`` where :class:`Command` finds it when something fails."""
    if value:
        ctx.meta[DEBUG] = True


def command(name: str, *decorators: Callable[[Any], Any], **attributes: Any) -> Callable[[Any], Command]:
    """Declare a command: its name, its options and arguments in the order its help shows them."""

    def declare(function: Callable[..., Any]) -> Command:
        decorated: Any = function
        for decorator in reversed(decorators):
            decorated = decorator(decorated)
        made: Command = click.command(name, cls=Command, **attributes)(decorated)
        return made

    return declare
