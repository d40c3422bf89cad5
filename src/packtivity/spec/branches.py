"""The bundled schema files as tables: which kinds there are, which branches each has, what a branch takes.

A spec has three parts, its *kinds*; each kind has *branches*, told apart by its type key (``process_type`` …). The
files under ``schema/`` are the only place where keys, types and defaults are written down.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from json import loads
from os.path import dirname, join
from typing import Any

KINDS = ("process", "environment", "publisher")
SCHEMA_DIRECTORY = join(dirname(__file__), "schema")


@dataclass(frozen=True, slots=True, eq=False)
class Branch:
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
