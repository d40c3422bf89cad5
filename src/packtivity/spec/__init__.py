"""Specs: load, validate, explain what is wrong.

:func:`load` is the straight path; :func:`inspect` collects everything there is to say about a spec, for people and
editors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from packtivity import errors
from packtivity.spec import schemas
from packtivity.spec.document import Document, load_document
from packtivity.spec.schemas import SCHEMA_NAME, SchemaSource
from packtivity.types import JSON, Diagnostic, JSONValue

if TYPE_CHECKING:
    from packtivity.spec.diagnostics import Located

__all__ = ["Report", "check", "editor_schema", "inspect", "load"]


def load(
    spec: str,
    toplevel: str | None = None,
    *,
    schemasource: SchemaSource = None,
    schemaname: str = SCHEMA_NAME,
    validate: bool = True,
    offline: bool | None = None,
    trusted_sources: Sequence[str] = (),
    warn: Callable[[Diagnostic], None] | None = None,
) -> dict[str, Any]:
    """Return a spec as plain data with its defaults filled.

    :param spec: file name, address or ``file.yml#/pointer``, relative to ``toplevel``.
    :param toplevel: directory or remote source; the current directory by default.
    :param schemasource: directory of schemas to use in place of the bundled ones.
    :param schemaname: schema inside ``schemasource``, without ``.json``.
    :param validate: whether a document that is no spec is an error; defaults are filled either way.
    :param offline: take remote documents from the cache only; by default as the settings say.
    :param trusted_sources: sources that documents may refer to as if they were named here (logins, private networks).
    :param warn: called with each warning about how a valid spec is written, a repeated key say.
    :raises LoadError: a document cannot be fetched.
    :raises InvalidSpec: a document cannot be read, or is no spec; every mistake is in its ``diagnostics``.
    """
    document = load_document(spec, toplevel, offline=offline, trusted_sources=trusted_sources)
    if validate and (found := check(document, schemasource, schemaname, offline=offline)):
        from packtivity.spec.diagnostics import arrange, one_line  # for what is wrong

        arranged = arrange(found)
        raise errors.InvalidSpec("\n".join(map(one_line, arranged)), arranged)
    if warn:
        for problem in schemas.doubtful(document.problems):
            warn(problem)
    filled: dict[str, Any] = _filled(document.data, schemasource, schemaname, offline)
    return filled


def check(
    document: Document, schemasource: SchemaSource = None, schemaname: str = SCHEMA_NAME, *, offline: bool | None = None
) -> list[Diagnostic]:
    """Return every mistake that makes a document no spec; nothing for a valid one.

    :param schemasource: directory laid out as yadage-schemas is, or ``from-github``; ``None`` for the bundled schemas.
    :param schemaname: schema inside ``schemasource``, without ``.json``.
    :param offline: take ``from-github`` from the cache only; by default as the settings say.
    :raises LoadError: a schema file cannot be read.
    :raises ConfigurationError: a schema file is not a JSON Schema, or the bundled set has no such schema.
    """
    if schemasource:
        from packtivity.spec import custom_schemas  # few have schemas of their own

        return custom_schemas.check(document, schemasource, schemaname, offline)
    if schemaname != SCHEMA_NAME:
        message = f"unknown bundled schema {schemaname!r}; the only one is {SCHEMA_NAME!r}"
        raise errors.ConfigurationError(message, hint="Name the directory that has it with -c/--schemasource DIR.")
    if schemas.accepts(document.data):
        return []
    from packtivity.spec.diagnostics import locate  # the door to all that explains: something is wrong
    from packtivity.spec.explain import mistakes

    return [locate(finding, document) for finding in mistakes(document.data, document)]


def _filled(data: JSONValue, schemasource: SchemaSource, schemaname: str, offline: bool | None) -> JSON:
    if schemasource:
        from packtivity.spec import custom_schemas

        return custom_schemas.fill_defaults(data, schemasource, schemaname, offline)
    return schemas.fill_defaults(data)


class Report(NamedTuple):
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
    schemasource: SchemaSource = None,
    schemaname: str = SCHEMA_NAME,
    parameters: Located | None = None,
    state_names: Iterable[str] | None = None,
    offline: bool | None = None,
    trusted_sources: Sequence[str] = (),
) -> Report:
    """Read a spec and return everything there is to say about it; arguments as for :func:`load`.

    :param parameters: parameter document the spec is to be run with, to compare placeholders with.
    :param state_names: names of the state's directories, ``None`` when they are not known.
    :raises LoadError: a document cannot be fetched.
    :raises ConfigurationError: ``schemasource`` cannot be used.
    """
    from packtivity.spec import lint  # what is said beyond an error, to people and editors
    from packtivity.spec.diagnostics import arrange

    try:
        document = load_document(spec, toplevel, offline=offline, trusted_sources=trusted_sources)
    except errors.InvalidSpec as error:
        return Report(None, None, tuple(arrange(error.diagnostics)))
    found = [*schemas.doubtful(document.problems), *(parameters.problems if parameters else ())]
    if wrong := check(document, schemasource, schemaname, offline=offline):
        places = {one.position for one in wrong}  # a value of the wrong kind is told once
        found = [one for one in found if one.code != "not-as-written" or one.position not in places]
        return Report(None, document, tuple(arrange([*found, *wrong])))
    filled = _filled(document.data, schemasource, schemaname, offline)
    if schemas.accepts(document.data):
        found += lint.advise(document)
        found += lint.lint_spec(document, filled, lint.names_of(parameters.data) if parameters else None)
        if parameters is None:
            found += lint.lint_stage(filled, document)
        else:
            found += lint.lint_parameters(filled, parameters.data, state_names, document=document, places=parameters)
    return Report(filled, document, tuple(arrange(found)))


def editor_schema() -> dict[str, Any]:
    """Return one self-contained JSON Schema of a spec for editors (yaml-language-server)."""
    return schemas.read_schema("editor.json")
