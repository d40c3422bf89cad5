"""The command ``packtivity-validate``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from packtivity.cli import options
from packtivity.cli.command import command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from packtivity.spec import Report
    from packtivity.types import Diagnostic


class UnfitParameters(click.ClickException):
    """The spec is valid, the parameters do not fit it."""

    exit_code = 4


@command(
    "packtivity-validate",
    options.spec,
    options.parfiles,
    options.parameter,
    options.document,
    options.schemaname,
    options.show,
    options.strict,
    options.diagnostics_format,
    options.version,
    prepares=True,
)
def validatecli(**given: Any) -> None:
    """Check SPEC, and with PARFILES or -p the parameters it is to be run with.

    Every mistake is told once, with its place and how to mend it. A valid SPEC gives the line "packtivity definition
    is valid" and exit code 0; an invalid one gives exit code 1, parameters that do not fit give 4. Warnings change
    the exit code only with --strict.
    """
    from packtivity.cli.inputs import is_strict, promoted
    from packtivity.errors import UsageError

    if given["show"] and given["format"] != "text":
        raise UsageError("--show and --format cannot be used together", hint="Both print a document; ask twice.")
    report = _inspected(given)
    diagnostics = promoted(report.diagnostics) if is_strict(given["strict"]) else report.diagnostics
    _tell(diagnostics, given["format"])
    _judge(report, diagnostics)
    if given["show"]:
        from packtivity.cli.printing import say_json

        say_json(report.spec)
    elif given["format"] == "text":
        from packtivity.cli.terminal import wants_colour

        green = "green" if wants_colour(sys.stdout) else None
        click.secho("packtivity definition is valid", fg=green)


def _inspected(given: dict[str, Any]) -> Report:
    """Inspect; a program that reads diagnostics is also told in them what cannot be read at all."""
    from packtivity.errors import PacktivityError

    try:
        return _inspect(given)
    except PacktivityError as error:
        if given["format"] != "text":
            from packtivity.types import Diagnostic

            whole = Diagnostic("error", "unreadable", error.message, hint=error.hint)
            told = getattr(error, "diagnostics", ()) or [whole]
            _tell(told, given["format"])
        raise


def _inspect(given: dict[str, Any]) -> Report:
    from packtivity import spec
    from packtivity.cli.parameters import parameter_document

    parameters = None
    if given["parfiles"] or given["parameter"]:
        parameters = parameter_document(given["parfiles"], given["parameter"])
    return spec.inspect(
        given["spec"],
        given["toplevel"],
        schemasource=given["schemasource"],
        schemaname=given["schemaname"],
        parameters=parameters,
        offline=given["offline"] or None,
        trusted_sources=given["trust_source"],
    )


def _tell(diagnostics: Sequence[Diagnostic], form: str) -> None:
    from packtivity.cli.errors import told
    from packtivity.cli.printing import say, show_error

    if form != "text":
        say(told(diagnostics, form))
    elif diagnostics:
        show_error(told(diagnostics))


def _judge(report: Report, diagnostics: Sequence[Diagnostic]) -> None:
    """End the command if something is wrong."""
    if not any(diagnostic.severity == "error" for diagnostic in diagnostics) and report.valid:
        return
    if report.valid and all(_about_parameters(report, d) for d in diagnostics if d.severity == "error"):
        raise UnfitParameters("parameters not valid")
    raise click.ClickException("packtivity definition not valid")


def _about_parameters(report: Report, diagnostic: Diagnostic) -> bool:
    position = diagnostic.position
    return position is None or report.document is None or position.file != report.document.source
