"""The command ``packtivity-validate``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from packtivity import spec
from packtivity.cli.errors import render_diagnostics
from packtivity.cli.inputs import SpecOptions, as_errors, is_strict
from packtivity.cli.parameters import parameter_document
from packtivity.cli.printing import say, say_json, show_error
from packtivity.cli.terminal import wants_colour
from packtivity.errors import PacktivityError, UsageError
from packtivity.types import Diagnostic

if TYPE_CHECKING:
    from collections.abc import Sequence

    from packtivity.spec import Report


class ValidateOptions(SpecOptions):
    """The options of ``packtivity-validate``."""

    parfiles: tuple[str, ...]
    parameter: tuple[str, ...]
    schemaname: str
    show: bool
    strict: bool
    format: str


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
    _judge(report, diagnostics)
    if options.show:
        say_json(report.spec)
    elif options.format == "text":
        green = "green" if wants_colour(sys.stdout) else None
        click.secho("packtivity definition is valid", fg=green)


def _inspect(options: ValidateOptions) -> Report:
    """Inspect; a program that reads diagnostics finds in them, too, what cannot be read at all."""
    try:
        return spec.inspect(
            options.spec,
            options.toplevel,
            schemasource=options.schemasource,
            schemaname=options.schemaname,
            parameters=parameter_document(options.parfiles, options.parameter),
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


def _judge(report: Report, diagnostics: Sequence[Diagnostic]) -> None:
    """End the command if something is wrong."""
    wrong = [diagnostic for diagnostic in diagnostics if diagnostic.severity == "error"]
    if report.valid and not wrong:
        return
    if report.valid and all(_about_parameters(report, diagnostic) for diagnostic in wrong):
        raise UnfitParameters("parameters not valid")
    raise click.ClickException("packtivity definition not valid")


def _about_parameters(report: Report, diagnostic: Diagnostic) -> bool:
    position = diagnostic.position
    return position is None or report.document is None or position.file != report.document.source
