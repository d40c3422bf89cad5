"""The command ``packtivity-validate``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from packtivity import spec
from packtivity.cli.errors import render_diagnostics
from packtivity.cli.inputs import as_errors, how_to_give, is_strict, prepare_loading
from packtivity.cli.parameters import Parameters
from packtivity.cli.terminal import say, say_json, show_error, wants_colour
from packtivity.errors import PacktivityError, UsageError
from packtivity.spec.parts import needs
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
    parameters = None
    try:
        if options.parfiles or options.parameter:
            parameters = Parameters(options.parfiles, options.parameter)
        report = spec.inspect(
            options.spec,
            options.toplevel,
            schemasource=options.schemasource,
            schemaname=options.schemaname,
            parameters=parameters,
            offline=options.offline or None,
            trusted_sources=options.trust_source,
        )
    except PacktivityError as error:
        if options.format != "text":
            whole = Diagnostic("error", "unreadable", error.message, hint=error.hint)
            _print(getattr(error, "diagnostics", ()) or [whole], options.format)
        raise
    return report if parameters is None else _with_missing(report, parameters, options)


def _with_missing(report: Report, parameters: Parameters, options: ValidateOptions) -> Report:
    """Put one error for all parameters that are missing in the place of a warning for each place that uses one."""
    asked = needs(report.spec) if report.spec else {}
    missing = [name for name in asked if name not in parameters.data]
    if not missing or report.document is None:
        return report
    position = report.document.position(asked[missing[0]][0])
    error = Diagnostic(
        "error",
        "missing-parameter",
        f"the spec needs parameters that are not given: {', '.join(missing)}",
        position=position,
        excerpt=report.document.excerpt(position) if position else "",
        hint=f"{how_to_give(missing, options)} Double braces that are meant as they are.",
    )
    others = [one for one in report.diagnostics if not one.hint.startswith("Give it with -p ")]
    return report._replace(diagnostics=(*others, error))


def _print(diagnostics: Sequence[Diagnostic], form: str) -> None:
    if form != "text":
        say(render_diagnostics(diagnostics, form))
    elif diagnostics:
        show_error(render_diagnostics(diagnostics))


def _about_spec(report: Report, diagnostic: Diagnostic) -> bool:
    place, document = diagnostic.position, report.document
    if diagnostic.code == "missing-parameter" or place is None or document is None:
        return False
    return place.file == document.source
