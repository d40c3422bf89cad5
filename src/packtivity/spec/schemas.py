"""The bundled schemas as tables, whether a document keeps to them, and its defaults.

A spec has three parts, its *kinds*; each kind has *branches*, told apart by its type key (``process_type`` …). The
files under ``schema/`` are the only place where keys, types and defaults are written down.

The verdict is that of yadage-schemas 0.11.1: the type key is read first and only that one branch is checked. What is
wrong is explained in :mod:`packtivity.spec.explain`; other people's schemas are in :mod:`packtivity.spec.custom_schemas`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from json import loads
from os import PathLike
from os.path import dirname, join
from typing import Any, NamedTuple, TypeAlias

from packtivity.types import JSON, Diagnostic, JSONValue, Path

SchemaSource: TypeAlias = str | PathLike[str] | None
"""A directory of schemas, or ``from-github``; ``None`` for the bundled ones."""

SCHEMA_NAME = "packtivity/packtivity-schema"
KINDS = ("process", "environment", "publisher")
SCHEMA_DIRECTORY = join(dirname(__file__), "schema")


class Branch(NamedTuple):
    """One form that a part of a spec may have.

    :ivar kind: ``process``, ``environment`` or ``publisher``.
    :ivar name: value of the type key, such as ``frompar-pub``.
    :ivar schema: JSON Schema, draft 4, without references.
    :ivar properties: schema of each key, in the order of the file.
    :ivar required: keys that must be there, the type key among them.
    """

    kind: str
    name: str
    schema: dict[str, Any]
    properties: dict[str, dict[str, Any]]
    required: tuple[str, ...]

    @property
    def own_required(self) -> tuple[str, ...]:
        """Required keys besides the type key."""
        return tuple(key for key in self.required if key != type_key(self.kind))

    @property
    def implied(self) -> bool:
        """Whether the type key may be left out: upstream 0.17.1 fills it from a kind's first branch only."""
        return type_names(self.kind)[0] == self.name and "default" in self.properties[type_key(self.kind)]

    def takes(self, part: dict[str, Any]) -> bool:
        """Return whether ``part`` has no key but this branch's, and every required one besides the type key."""
        return all(key in self.properties for key in part) and all(key in part for key in self.own_required)


def type_key(kind: str) -> str:
    """Return the name of the key that tells a kind's branches apart."""
    return f"{kind}_type"


@cache
def read_schema(name: str) -> dict[str, Any]:
    """Return one bundled schema file; ``name`` is relative to the schema directory."""
    with open(join(SCHEMA_DIRECTORY, name), encoding="utf-8") as file:
        schema: dict[str, Any] = loads(file.read())
    return schema


def root_schema() -> dict[str, Any]:
    """Return the schema of a whole spec; its branches are references to files."""
    return read_schema("packtivity-schema.json")


@cache
def type_names(kind: str) -> tuple[str, ...]:
    """Return the names of a kind's branches, in the order of the schema."""
    choices = root_schema()["properties"][kind]["oneOf"]
    return tuple(
        reference.rpartition("/")[2].removesuffix(".json") for choice in choices if (reference := choice.get("$ref"))
    )


@cache
def nullable(kind: str) -> bool:
    """Return whether the whole part may be null."""
    return {"type": "null"} in root_schema()["properties"][kind]["oneOf"]


@cache
def branch(kind: str, name: str) -> Branch:
    """Return a branch; only its own file is read."""
    schema = read_schema(f"{kind}/{name}.json")
    return Branch(kind, name, schema, schema["properties"], tuple(schema["required"]))


def branches(kind: str) -> tuple[Branch, ...]:
    """Return every branch of a kind, in the order of the schema."""
    return tuple(branch(kind, name) for name in type_names(kind))


# --- verdict ---------------------------------------------------------------------------------------------------


def accepts(data: JSONValue) -> bool:
    """Return whether the bundled schemas accept a document."""
    if not isinstance(data, dict) or data.keys() != set(KINDS):
        return False
    return all(_accepts_part(kind, data[kind]) for kind in KINDS)


def _accepts_part(kind: str, part: JSONValue) -> bool:
    if not isinstance(part, dict):
        return part is None and nullable(kind)
    form = stated_branch(kind, part)
    return form is not None and next(violations(form, part), None) is None


def stated_branch(kind: str, part: dict[str, Any]) -> Branch | None:
    """Return the branch that a part's type key names, or that may go without one."""
    name = part.get(type_key(kind), ...)
    if isinstance(name, str) and name in type_names(kind):
        return branch(kind, name)
    first = branch(kind, type_names(kind)[0])
    return first if name is ... and first.implied and first.takes(part) else None


_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "number": (int, float),
    "null": (type(None),),
}


class Violation(NamedTuple):
    """A value that does not keep to its schema: by which keyword, and where in its part."""

    keyword: str
    path: Path
    value: JSONValue
    schema: dict[str, Any]


def violations(form: Branch, part: dict[str, Any]) -> Iterator[Violation]:
    """Yield what is wrong with a part taken as one branch."""
    return _violations({type_key(form.kind): form.name, **part}, form.schema, ())


def _violations(value: JSONValue, schema: dict[str, Any], path: Path) -> Iterator[Violation]:
    """Judge by the few keywords that the bundled schemas use; a JSON Schema library alone takes longer to import
    than everything else there is to do for a spec.
    """
    types, broken = schema.get("type", []), []
    if types and not any(type(value) in _TYPES[name] for name in ([types] if isinstance(types, str) else types)):
        broken.append("type")
    if "enum" in schema and value not in schema["enum"]:
        broken.append("enum")
    inner: list[tuple[str | int, JSONValue, dict[str, Any]]] = []
    if isinstance(value, dict):
        known = schema.get("properties", {})
        if not all(key in value for key in schema.get("required", ())):
            broken.append("required")
        if schema.get("additionalProperties") is False and not all(key in known for key in value):
            broken.append("additionalProperties")
        inner += [(key, value[key], known[key]) for key in known if key in value]
    elif isinstance(value, list) and "items" in schema:
        inner += [(index, item, schema["items"]) for index, item in enumerate(value)]
    yield from (Violation(keyword, path, value, schema) for keyword in broken)
    for step, one, its_schema in inner:
        yield from _violations(one, its_schema, (*path, step))


@cache
def _truths() -> frozenset[str]:
    """Return the keys whose value is true or false, which ``yes`` and ``off`` are good words for."""
    keyed = (item for kind in KINDS for form in branches(kind) for item in form.properties.items())
    return frozenset(key for key, schema in keyed if schema.get("type") == "boolean")


def doubtful(problems: Iterable[Diagnostic]) -> list[Diagnostic]:
    """Return the warnings about how a spec is written, without those of ``glob: yes`` and its like."""
    return [one for one in problems if one.code != "not-as-written" or not one.path or one.path[-1] not in _truths()]


# --- defaults --------------------------------------------------------------------------------------------------


def fill_defaults(data: JSONValue) -> JSON:
    """Return a copy of a document with defaults filled as upstream 0.17.1 does; the document stays as it is.

    Given keys keep their order, defaults follow. A missing type is filled where a kind's first branch takes the rest.
    What is no spec is filled as far as its types tell.
    """
    filled = copy(data)
    for kind in KINDS if isinstance(filled, dict) else ():
        part = filled.get(kind)
        form = stated_branch(kind, part) if isinstance(part, dict) else None
        for key, schema in form.properties.items() if form else ():
            if key not in part and "default" in schema:
                part[key] = copy(schema["default"])
    return filled


def copy(data: JSONValue) -> JSON:
    """Return a copy of plain JSON data that shares no list or mapping with it, however it was shared inside."""
    if isinstance(data, dict):
        return {key: copy(value) for key, value in data.items()}
    return [copy(value) for value in data] if isinstance(data, list) else data
