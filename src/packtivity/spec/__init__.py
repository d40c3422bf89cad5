"""Specs: load, validate, explain what is wrong.

:func:`load` is the straight path and imports nothing that a valid spec does not need; :func:`inspect` collects
everything there is to say about a spec, for people and editors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from packtivity.spec.diagnostics import LocatedParameters
    from packtivity.spec.document import Document
    from packtivity.types import JSON, Diagnostic

__all__ = ["Report", "editor_schema", "inspect", "load"]

SCHEMA_NAME = "packtivity/packtivity-schema"


def load(
    spec: str,
    toplevel: str | None = None,
    *,
    schemasource: Any = None,
    schemaname: str = SCHEMA_NAME,
    validate: bool = True,
    offline: bool | None = None,
    trusted_sources: Sequence[str] = (),
) -> dict[str, Any]:
    """Return a spec as plain data with its defaults filled.

    :param spec: file name, address or ``file.yml#/pointer``, relative to ``toplevel``.
    :param toplevel: directory or remote source; the current directory by default.
    :param schemasource: directory of schemas to keep to in place of the bundled ones.
    :param schemaname: schema inside ``schemasource``, without ``.json``.
    :param validate: whether a document that is no spec is an error; defaults are filled either way.
    :param offline: take remote documents from the cache only; by default as the settings say.
    :param trusted_sources: sources that documents may refer to as if they were named here (logins, private networks).
    :raises LoadError: a document cannot be fetched.
    :raises InvalidSpec: a document cannot be read, or is no spec; every mistake is in its ``diagnostics``.
    """
    from packtivity.spec.document import load_document
    from packtivity.spec.validate import check

    document = load_document(spec, toplevel, offline=offline, trusted_sources=trusted_sources)
    if validate:
        mistakes = check(document, schemasource, schemaname, offline=offline)
        if mistakes:
            raise _invalid(mistakes)
    filled: dict[str, Any] = _filled(document.data, schemasource, schemaname, offline)
    return filled


def _filled(data: JSON, schemasource: Any, schemaname: str, offline: bool | None) -> JSON:
    if schemasource:
        from packtivity.spec import foreign

        return foreign.fill_defaults(data, schemasource, schemaname, offline=offline)
    from packtivity.spec.validate import fill_defaults

    return fill_defaults(data)


def _invalid(mistakes: list[Diagnostic]) -> Exception:
    from packtivity.errors import InvalidSpec
    from packtivity.spec.diagnostics import arrange, one_line

    ordered = arrange(mistakes)
    return InvalidSpec("\n".join(one_line(mistake) for mistake in ordered), ordered)


@dataclass(frozen=True, slots=True)
class Report:
    """Everything there is to say about a spec.

    :ivar spec: with defaults filled; ``None`` when it is not valid.
    :ivar document: as it was read; ``None`` when it could not be.
    :ivar diagnostics: sorted by place, each once.
    """

    spec: dict[str, Any] | None
    document: Document | None
    diagnostics: tuple[Diagnostic, ...]

    @property
    def valid(self) -> bool:
        """Whether the document is a spec, whatever warnings there are."""
        return self.spec is not None


def inspect(
    spec: str,
    toplevel: str | None = None,
    *,
    schemasource: Any = None,
    schemaname: str = SCHEMA_NAME,
    parameters: LocatedParameters | None = None,
    state_names: Iterable[str] | None = None,
    offline: bool | None = None,
    trusted_sources: Sequence[str] = (),
) -> Report:
    """Read a spec and say everything there is to say about it; arguments as for :func:`load`.

    :param parameters: parameter document the spec is to be run with, to compare placeholders with.
    :param state_names: names of the state's directories, ``None`` when they are not known.
    :raises LoadError: a document cannot be fetched.
    :raises ConfigurationError: ``schemasource`` cannot be used.
    """
    from packtivity.errors import InvalidSpec
    from packtivity.spec.diagnostics import arrange
    from packtivity.spec.document import load_document
    from packtivity.spec.validate import accepts, check

    try:
        document = load_document(spec, toplevel, offline=offline, trusted_sources=trusted_sources)
    except InvalidSpec as error:
        return Report(None, None, tuple(arrange(error.diagnostics)))
    found = [*document.problems, *(parameters.problems if parameters else ())]
    mistakes = check(document, schemasource, schemaname, offline=offline)
    if mistakes:
        return Report(None, document, tuple(arrange([*found, *mistakes])))
    filled = _filled(document.data, schemasource, schemaname, offline)
    if accepts(document.data):
        found += _lint(document, filled, parameters, state_names)
    return Report(filled, document, tuple(arrange(found)))


def _lint(
    document: Document, filled: dict[str, Any], parameters: LocatedParameters | None, state_names: Iterable[str] | None
) -> list[Diagnostic]:
    from packtivity.spec import lint

    if parameters is None:
        return lint.lint_spec(document, filled)
    return [
        *lint.lint_spec(document, filled, lint.names_of(parameters.data)),
        *lint.lint_parameters(filled, parameters, state_names, document=document),
    ]


def editor_schema() -> dict[str, Any]:
    """Return one self-contained JSON Schema of a spec for editors (yaml-language-server)."""
    from packtivity.spec.branches import read_schema

    return read_schema("editor.json")
