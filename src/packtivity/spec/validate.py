"""Whether a document is a packtivity spec, and its defaults.

The verdict is that of yadage-schemas 0.11.1. The type key is read first and only that one branch is checked; the
words for what is wrong are in :mod:`packtivity.spec.explain`, somebody else's schemas in
:mod:`packtivity.spec.foreign`. Neither is imported for a spec that keeps to the bundled schemas.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from packtivity.spec import SCHEMA_NAME
from packtivity.spec.branches import KINDS, Branch, branch, nullable, root_schema, type_key, type_names

if TYPE_CHECKING:
    from collections.abc import Iterator

    from packtivity.spec.document import Document
    from packtivity.types import JSON, Diagnostic, Path


def check(
    document: Document, schemasource: Any = None, schemaname: str = SCHEMA_NAME, *, offline: bool | None = None
) -> list[Diagnostic]:
    """Return every mistake that makes a document no spec; nothing for a valid one.

    :param schemasource: directory laid out as yadage-schemas is, or ``from-github``; ``None`` for the bundled schemas.
    :param schemaname: schema inside ``schemasource``, without ``.json``.
    :param offline: take ``from-github`` from the cache only; by default as the settings say.
    :raises LoadError: a schema file cannot be read.
    :raises ConfigurationError: a schema file is no JSON Schema, or the bundled set has no such schema.
    """
    if is_foreign(schemasource, schemaname):
        from packtivity.spec import foreign

        return foreign.check(document, schemasource, schemaname, offline=offline)
    if accepts(document.data):
        return []
    from packtivity.spec import diagnostics, explain

    return [diagnostics.locate(finding, document) for finding in explain.mistakes(document.data)]


def is_foreign(schemasource: Any, schemaname: str) -> bool:
    """Return whether the check is made with somebody else's schemas.

    :raises ConfigurationError: the bundled set is meant, but has no schema of that name.
    """
    if schemasource:
        return True
    if schemaname != SCHEMA_NAME:
        from packtivity.errors import ConfigurationError

        raise ConfigurationError(
            f"no bundled schema is called {schemaname!r}; the only one is {SCHEMA_NAME!r}",
            hint="Name the directory that has it with -c/--schemasource DIR.",
        )
    return False


# --- verdict ---------------------------------------------------------------------------------------------------


def accepts(data: JSON) -> bool:
    """Return whether the bundled schemas accept a document."""
    root = root_schema()
    return (
        isinstance(data, dict)
        and all(key in root["properties"] for key in data)
        and all(key in data for key in root["required"])
        and all(_accepts_part(kind, data[kind]) for kind in KINDS)
    )


def _accepts_part(kind: str, part: JSON) -> bool:
    if not isinstance(part, dict):
        return part is None and nullable(kind)
    form = stated_branch(kind, part)
    if form is None:
        return False
    told = {type_key(kind): form.name, **part}
    return _surely_keeps(told, form.schema) or next(violations(form, part), None) is None


_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "number": (int, float),
    "null": (type(None),),
}
_ANNOTATIONS = frozenset({"$schema", "default", "description", "examples", "title"})


def _surely_keeps(value: JSON, schema: dict[str, Any]) -> bool:
    """Return True for a value that keeps to a schema of the few keywords the bundled ones use.

    Importing a JSON Schema library takes longer than everything else there is to do for a valid spec. False says
    nothing: the library decides then.
    """
    return all(_surely_meets(value, keyword, wanted, schema) for keyword, wanted in schema.items())


def _surely_meets(value: JSON, keyword: str, wanted: Any, schema: dict[str, Any]) -> bool:
    match keyword:
        case "type":
            names = [wanted] if isinstance(wanted, str) else wanted
            return any(type(value) in _TYPES.get(name, ()) for name in names)
        case "enum":
            return isinstance(value, str) and value in wanted
        case "required":
            return isinstance(value, dict) and all(key in value for key in wanted)
        case "additionalProperties":
            known = schema.get("properties", {})
            return wanted is False and isinstance(value, dict) and all(key in known for key in value)
        case "properties":
            return isinstance(value, dict) and all(
                _surely_keeps(value[key], schema) for key, schema in wanted.items() if key in value
            )
        case "items":
            return isinstance(value, list) and all(_surely_keeps(item, wanted) for item in value)
    return keyword in _ANNOTATIONS


def stated_branch(kind: str, part: dict[str, Any]) -> Branch | None:
    """Return the branch that a part's type key names, or that may go without one."""
    name = part.get(type_key(kind), ...)
    if isinstance(name, str) and name in type_names(kind):
        return branch(kind, name)
    first = branch(kind, type_names(kind)[0])
    return first if name is ... and first.implied and first.takes(part) else None


def violations(form: Branch, part: dict[str, Any]) -> Iterator[tuple[str, Path]]:
    """Yield the schema keyword that is violated and where, for a part taken as one branch."""
    told = {type_key(form.kind): form.name, **part}
    for error in _validator(form.kind, form.name).iter_errors(_outline(told, form.schema)):
        yield str(error.schema_path[-1]), tuple(error.instance_path)


@cache
def _validator(kind: str, name: str) -> Any:
    import jsonschema_rs

    return jsonschema_rs.Draft4Validator(branch(kind, name).schema)


def _outline(value: JSON, schema: dict[str, Any]) -> JSON:
    """Return what the schema looks at, in values that jsonschema-rs reads as Python's jsonschema does.

    It takes NaN for null and refuses lone surrogates; and the size of a document should not matter to its check.
    """
    if isinstance(value, dict):
        known = schema.get("properties")
        return {} if not known else {_ascii(key): _outline(item, known.get(key, {})) for key, item in value.items()}
    if isinstance(value, list):
        known = schema.get("items")
        return [_outline(item, known) for item in value] if known else []
    if isinstance(value, str):
        return _ascii(value)
    if value is None or isinstance(value, bool):
        return value
    return 0 if isinstance(value, (int, float)) else None


def _ascii(text: str) -> str:
    return text if text.isascii() else ascii(text)


# --- defaults --------------------------------------------------------------------------------------------------


def fill_defaults(data: JSON) -> JSON:
    """Return a copy of a document with defaults filled as upstream 0.17.1 does; the document stays as it is.

    Given keys keep their order, defaults follow. A missing type is filled where a kind's first branch takes the rest.
    What is no spec is filled as far as its types tell.
    """
    filled = copy(data)
    if isinstance(filled, dict):
        for kind in KINDS:
            part = filled.get(kind)
            if isinstance(part, dict):
                _fill_part(kind, part)
    return filled


def _fill_part(kind: str, part: dict[str, Any]) -> None:
    form = stated_branch(kind, part)
    if form is None:
        return
    for key, schema in form.properties.items():
        if key not in part and "default" in schema:
            part[key] = copy(schema["default"])


def copy(data: JSON) -> JSON:
    """Return a copy of plain JSON data that shares no list or mapping with it, however it was shared inside."""
    if isinstance(data, dict):
        return {key: copy(value) for key, value in data.items()}
    return [copy(value) for value in data] if isinstance(data, list) else data
