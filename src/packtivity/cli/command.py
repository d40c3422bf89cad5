"""What our commands have in common beyond click: how they end, and ``--debug``."""

from __future__ import annotations

import os
from contextlib import contextmanager
from inspect import cleandoc
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from packtivity.cli import start
from packtivity.printable import readable
from packtivity.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

DEBUG = "packtivity.cli.debug"
_WIDEST_HELP = 100


def _help_width() -> int:
    """Return the width of help texts; click would not use more than 80 columns."""
    try:
        return min(os.get_terminal_size(1).columns or 80, _WIDEST_HELP)
    except OSError:
        return 80


def _conclude(error: BaseException, *, debug: bool = False, validated: bool = True) -> int:
    """Print what ended the command and return its exit code; help and completion need no errors."""
    from packtivity.cli.errors import conclude

    return conclude(error, debug=debug, validated=validated)


class _Program:
    """The outermost call of a command."""

    def main(self, args: Sequence[str] | None = None, *more: Any, **extra: Any) -> Any:
        """Run as a program: parse, run, exit."""
        try:
            return super().main(args, *more, **extra)  # type: ignore[misc]
        except OSError as error:  # printing a help text failed, before there was a command to run
            if args is not None:
                raise
            raise SystemExit(_conclude(error)) from None

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Parse, or print a help text; click would end with code 1 what is interrupted or not read to its end."""
        extra.setdefault("terminal_width", _help_width())
        with _our_codes():
            context: click.Context = super().make_context(*args, **extra)  # type: ignore[misc]
            return context


@contextmanager
def _our_codes() -> Iterator[None]:
    try:
        yield
    except click.ClickException as error:  # which may quote a name that somebody else has given a file
        vars(error)["message"] = readable(error.message)
        raise
    except (KeyboardInterrupt, BrokenPipeError) as error:
        raise click.exceptions.Exit(_conclude(error)) from None


class Command(_Program, click.Command):
    """A command whose errors are printed as messages and end it with the error's own exit code.

    :param prepares: whether an interrupt may end it silently until it calls :func:`packtivity.cli.start.allow_interrupts`.
    """

    def __init__(self, *args: Any, prepares: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.prepares = prepares

    def invoke(self, ctx: click.Context) -> None:
        """Run the command; whatever goes wrong in it becomes a message and an exit code."""
        try:
            if not self.prepares:
                start.allow_interrupts()
            code = super().invoke(ctx)
            if code:
                ctx.exit(code)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except BaseException as error:  # noqa: BLE001 - the outermost frame: every end gets its exit code here
            start.exit_on_interrupt()
            end = _conclude(error, debug=ctx.meta.get(DEBUG, False), validated=ctx.params.get("validate", True))
            raise click.exceptions.Exit(end) from None
        finally:
            start.exit_on_interrupt()


class Group(_Program, click.Group):
    """A group that lists its commands in the order they are declared in, which is the order a newcomer needs them in."""

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


def remember_debug(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    """Keep ``--debug`` where :class:`Command` finds it when something fails."""
    if value:
        ctx.meta[DEBUG] = True


def print_version(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    """Print the version and end."""
    if value and not ctx.resilient_parsing:
        from packtivity.cli.printing import say  # help and completion print nothing themselves

        say(f"packtivity {VERSION}")
        ctx.exit()


Parameters: TypeAlias = "click.Parameter | Sequence[click.Parameter]"
"""An option or argument, or several of them."""


def group(name: str, *options: click.Parameter, **attributes: Any) -> Callable[[Callable[..., None]], Group]:
    """Declare a group of commands, with options of its own."""

    def declare(function: Callable[..., None]) -> Group:
        return Group(name, callback=function, params=[*options], help=cleandoc(function.__doc__ or ""), **attributes)

    return declare


def command(
    group: click.Group, name: str, *options: Parameters, **attributes: Any
) -> Callable[[Callable[..., int | None]], Command]:
    """Declare a command: its name, its options and arguments in the order its help shows them.

    Commands share their options, which click's own decorators would make anew for each, a millisecond in all.
    The function may return an exit code. In its group, ``packtivity-run`` is called ``run``.
    """
    parameters = [each for some in options for each in ((some,) if isinstance(some, click.Parameter) else some)]

    def declare(function: Callable[..., int | None]) -> Command:
        help_text = cleandoc(function.__doc__ or "")
        made = Command(name, callback=function, params=parameters, help=help_text, **attributes)
        group.add_command(made, name.removeprefix("packtivity-"))
        return made

    return declare
