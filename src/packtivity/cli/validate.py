"""The command ``packtivity-validate``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from packtivity import spec
from packtivity.cli.errors import render_diagnostics
from packtivity.cli.inputs import as_errors, is_strict, prepare_loading
from packtivity.cli.parameters import Parameters
from packtivity.cli.terminal import say, say_json, show_error, wants_colour
from packtivity.errors import PacktivityError, UsageError
from packtivity.types import Diagnostic

if TYPE_CHECKING:
    from collections.abc import Sequence

    from packtivity.cli.declarations import ValidateOptions
    from packtivity.spec import Report


class UnfitParameters(click.ClickException):
    """The spec is valid, the parameters do not fit it."""

    exit_code = 4


def validate(options: ValidateOptions) -> None:
    """Carry out ``packtivity-validate``.

    :raises PacktivityError: something cannot be read.
    :raises click.ClickException: something is not valid.
    """
    if options.show and options.format != "text":
        raise UsageError("--show and --format cannot be used together", hint="Both print a document; ask twice.")
    report = _inspect(options)
    diagnostics = as_errors(report.diagnostics) if is_strict(options.strict) else report.diagnostics
    _print(diagnostics, options.format)
    wrong = [diagnostic for diagnostic in diagnostics if diagnostic.severity == "error"]
    if not report.valid or any(_about_spec(report, diagnostic) for diagnostic in wrong):
        raise click.ClickException("packtivity definition not valid")
    if wrong:
        raise UnfitParameters("parameters not valid")
    if options.show:
        say_json(report.spec)
    elif options.format == "text":
        green = "green" if wants_colour(sys.stdout) else None
        click.secho("packtivity definition is valid", fg=green)


def _inspect(options: ValidateOptions) -> Report:
    """Inspect; a program that reads diagnostics finds in them, too, what cannot be read at all."""
    prepare_loading(options)
    given = options.parfiles or options.parameter
    try:
        return spec.inspect(
            options.spec,
            options.toplevel,
            schemasource=options.schemasource,
            schemaname=options.schemaname,
            parameters=Parameters(options.parfiles, options.parameter) if given else None,
            offline=options.offline or None,
            trusted_sources=options.trust_source,
        )
    except PacktivityError as error:
        if options.format != "text":
            whole = Diagnostic("error", "unreadable", error.message, hint=error.hint)
            _print(getattr(error, "diagnostics", ()) or [whole], options.format)
        raise


def _print(diagnostics: Sequence[Diagnostic], form: str) -> None:
    if form != "text":
        say(render_diagnostics(diagnostics, form))
    elif diagnostics:
        show_error(render_diagnostics(diagnostics))


def _about_spec(report: Report, diagnostic: Diagnostic) -> bool:
    place, document = diagnostic.position, report.document
    return place is not None and document is not None and place.file == document.source
