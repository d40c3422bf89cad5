"""Validation with somebody else's schemas (``-c/--schemasource``), by the rules of Python's jsonschema.

The directory is laid out as yadage-schemas is: ``DIR/packtivity/packtivity-schema.json``, whose ``$ref`` are relative
to the file that holds them. All files are put into one schema first, so that any jsonschema from 3.2 on will do.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from json import loads
from typing import TYPE_CHECKING, Any

from packtivity.errors import ConfigurationError, LoadError
from packtivity.settings import current
from packtivity.spec.diagnostics import Finding, article, dotted, locate
from packtivity.spec.document import Document
from packtivity.spec.remote import remote_base
from packtivity.spec.schemas import copy
from packtivity.types import JSON, Diagnostic, JSONValue

if TYPE_CHECKING:
    from jsonschema import ValidationError
    from jsonschema.protocols import Validator

    Schema = dict[str, Any]


FROM_GITHUB = "from-github"
_REPOSITORY = "yadage/yadage-schemas"
_METASCHEMAS = "http://json-schema.org/"  # every jsonschema carries these


def check(document: Document, source: str | os.PathLike[str], name: str, offline: bool | None) -> list[Diagnostic]:
    """Return every mistake by the schema ``name`` in ``source``, where it stands.

    :raises LoadError: a schema file cannot be read.
    :raises ConfigurationError: a schema file is not a JSON Schema.
    """
    judge, filler = _validators(*_key(source, name, offline))
    # Upstream 0.17.1 fills the defaults first and validates what it got: a filled type key counts as given.
    errors = _errors(judge, _filled(document.data, filler))
    if errors:
        # What a branch filled in passing is no mistake of the author's.
        errors = _errors(judge, document.data) or errors
    return [locate(finding, document) for finding in _findings(errors)]


def fill_defaults(data: JSONValue, source: str | os.PathLike[str], name: str, offline: bool | None) -> JSON:
    """Return a copy of a document with the defaults of somebody else's schema; errors as for :func:`check`."""
    return _filled(data, _validators(*_key(source, name, offline))[1])


def _filled(data: JSONValue, filler: Validator) -> JSON:
    filled = copy(data)
    _errors(filler, filled)
    return copy(filled)


def _errors(validator: Validator, data: JSONValue) -> list[ValidationError]:
    try:
        return list(validator.iter_errors(data))
    except re.error as error:
        raise ConfigurationError(f"the schema has a bad regular expression {error.pattern!r}: {error}") from None
    except RecursionError:
        raise ConfigurationError("the schema refers to itself without end") from None


def _key(source: str | os.PathLike[str], name: str, offline: bool | None) -> tuple[str, str, bool | None]:
    text = os.fspath(source)
    return (text, name, offline) if text == FROM_GITHUB else (os.path.abspath(text), name, None)


@cache
def _validators(source: str, name: str, offline: bool | None) -> tuple[Validator, Validator]:
    """Return one that judges by a schema, and one that fills its defaults in passing."""
    import jsonschema

    schema, draft = bundle(source, name, offline=offline), jsonschema.Draft4Validator
    try:
        draft.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise ConfigurationError(f"{source}: {name} is not a JSON Schema: {error.message}") from None
    check_properties = draft.VALIDATORS["properties"]

    def fill(judge: Validator, properties: Schema, instance: JSONValue, whole: Schema) -> Iterator[ValidationError]:
        """Fill defaults where all properties are right, which is how upstream 0.17.1 finds the branch to fill."""
        errors = list(check_properties(judge, properties, instance, whole))
        yield from errors
        if not errors and isinstance(instance, dict):
            for key, subschema in properties.items():
                if "default" in subschema:
                    instance.setdefault(key, subschema["default"])

    extend: Callable[..., type[Validator]] = jsonschema.validators.extend
    return draft(schema), extend(draft, {"properties": fill})(schema)


# --- schema files ----------------------------------------------------------------------------------------------


def bundle(source: str, schemaname: str, *, offline: bool | None = None) -> Schema:
    """Return a schema and all the files it refers to as one schema without references to files.

    :param source: directory, or ``from-github`` for the yadage-schemas of the day.
    :param schemaname: schema inside it, without ``.json``.
    :param offline: take ``from-github`` from the cache only; by default as the settings say.
    :raises LoadError: a file cannot be read.
    :raises ConfigurationError: a file is not JSON.
    """
    names = {f"{schemaname}.json": "file0"}  # of the definition that stands for each file
    definitions: Schema = {}
    targets: dict[str, str] = {}

    def rewritten(schema: JSONValue, file: str) -> JSONValue:
        if isinstance(schema, list):
            return [rewritten(item, file) for item in schema]
        if not isinstance(schema, dict):
            return schema
        reference = schema.get("$ref")
        if not isinstance(reference, str) or reference.startswith(_METASCHEMAS):
            return {key: rewritten(value, file) for key, value in schema.items()}
        shown = f"{_shown(source, file)}: $ref {reference!r}"
        if "://" in reference:
            raise ConfigurationError(f"{shown} is no file of the schema directory")
        name, _, pointer = reference.partition("#")
        other = os.path.normpath(os.path.join(os.path.dirname(file), name)) if name else file
        target = f"/definitions/{names.setdefault(other, f'file{len(names)}')}{pointer}"
        targets[target] = shown
        return {"$ref": f"#{target}"}

    while waiting := [file for file in names if names[file] not in definitions]:
        schema = rewritten(_read(source, waiting[0], offline), waiting[0])
        if not isinstance(schema, dict):
            raise ConfigurationError(f"{_shown(source, waiting[0])} is not a JSON Schema: it is no object")
        # jsonschema chooses its class anew at each $schema, and would forget about filling defaults.
        definitions[names[waiting[0]]] = {key: value for key, value in schema.items() if key not in {"$schema", "id"}}
    _check_targets(definitions, targets)
    return {"$ref": "#/definitions/file0", "definitions": definitions}


def _check_targets(definitions: Schema, targets: dict[str, str]) -> None:
    """Follow every reference once, because jsonschema finds out about a bad one only in the middle of its work."""
    from jsonpointer import JsonPointerException, resolve_pointer

    for target, reference in targets.items():
        try:
            resolve_pointer({"definitions": definitions}, target)
        except JsonPointerException:
            raise ConfigurationError(f"{reference} does not resolve") from None


def _read(source: str, file: str, offline: bool | None) -> JSON:
    if source == FROM_GITHUB:
        from packtivity.spec import access, fetch  # which import requests

        place = remote_base(f"github:{_REPOSITORY}@main", current()).join(f"schemas/{file}")
        content = fetch.fetch(place, access.of_file(place, current()), offline=offline)
    else:
        try:
            with open(os.path.join(source, file), "rb") as opened:
                content = opened.read()
        except OSError as error:
            message = f"schema {os.path.join(source, file)} cannot be read: {error.strerror}"
            hint = "-c/--schemasource names a directory that has packtivity/packtivity-schema.json in it."
            raise LoadError.of(error, message, hint=hint) from None
    try:
        return loads(content)
    except ValueError as error:
        raise ConfigurationError(f"{_shown(source, file)} is not JSON: {error}") from None


def _shown(source: str, file: str) -> str:
    return f"{source}: {file}" if source == FROM_GITHUB else os.path.join(source, file)


# --- words -----------------------------------------------------------------------------------------------------


def _findings(errors: Iterable[ValidationError]) -> Iterator[Finding]:
    for error in errors:
        best = _best_branch(error)
        yield from _findings(best) if best else [_finding(error)]


def _best_branch(error: ValidationError) -> list[ValidationError]:
    """Return the errors of the one alternative that was meant: a mapping, whose type key, an ``enum``, is right."""
    by_branch: dict[object, list[ValidationError]] = {}
    for inner in error.context or ():
        by_branch.setdefault(inner.schema_path[0], []).append(inner)
    meant = [
        errors
        for errors in by_branch.values()
        if not any(one.validator == "enum" or (one.validator == "type" and not one.path) for one in errors)
    ]
    return meant[0] if len(meant) == 1 else []


_MANY = {"oneOf": "exactly one of the forms that the schema has", "anyOf": "one of the forms that the schema has"}


def _finding(error: ValidationError) -> Finding:
    path, keyword = tuple(error.absolute_path), error.validator
    instance: JSON = error.instance
    where = dotted(path) or "the document"
    message, expected = f"{where}: {_shortened(error.message)}", f"{keyword}: {_shortened(str(error.validator_value))}"
    if keyword in _MANY:
        message, expected = f"{where} is {article(instance)} of no known form", _MANY[keyword]
    at_key = keyword in {"required", "additionalProperties", *_MANY} and bool(path) and isinstance(path[-1], str)
    return Finding("schema-violation", message, path, at_key=at_key, expected=expected)


def _shortened(text: str, widest: int = 160) -> str:
    return text if len(text) <= widest else f"{text[: widest - 1]}…"
