"""One self-contained JSON Schema of a spec for editors, made from the branches.

Editors (yaml-language-server) say the more useful thing the earlier it is clear which branch is meant, so the type key
chooses with ``if``/``then``; that is draft 7. It accepts what the bundled schemas accept, which a test holds.
"""

from __future__ import annotations

import json
from os.path import join
from typing import Any

from packtivity.spec.branches import (
    KINDS,
    SCHEMA_DIRECTORY,
    Branch,
    branches,
    nullable,
    root_schema,
    type_key,
    type_names,
)

FILE = join(SCHEMA_DIRECTORY, "editor.json")


def build() -> dict[str, Any]:
    """Return the schema."""
    root = root_schema()
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": root["title"],
        "description": root["description"],
        "type": "object",
        "additionalProperties": False,
        "properties": {kind: _part(kind) for kind in KINDS},
        "required": root["required"],
        "definitions": {_name(form): _definition(form) for kind in KINDS for form in branches(kind)},
    }


def write() -> None:
    """Write the schema to the file that is shipped."""
    with open(FILE, "w", encoding="utf-8") as file:
        file.write(json.dumps(build(), indent=2, ensure_ascii=False) + "\n")


def _name(form: Branch) -> str:
    return f"{form.kind}.{form.name}"


def _reference(form: Branch) -> dict[str, str]:
    return {"$ref": f"#/definitions/{_name(form)}"}


def _definition(form: Branch) -> dict[str, Any]:
    """Return a branch's schema; that the type key is there is asked for by who refers to it."""
    kept = {key: value for key, value in form.schema.items() if key not in {"$schema", "required"}}
    return {**kept, "required": list(form.own_required)} if form.own_required else kept


def _part(kind: str) -> dict[str, Any]:
    told = root_schema()["properties"][kind]
    forms, key = branches(kind), type_key(kind)
    implied = next((form for form in forms if form.implied), None)
    return {
        "title": told["title"],
        "description": told["description"],
        "type": ["object", "null"] if nullable(kind) else "object",
        "defaultSnippets": [_snippet(form) for form in forms],
        "allOf": [
            {
                "if": {"type": "object", "required": [key]},
                "then": {"properties": {key: _type_schema(kind)}},
                "else": _unless_null(_reference(implied) if implied else {"required": [key]}),
            },
            *(_choice(form) for form in forms),
        ],
    }


def _unless_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {"if": {"type": "object"}, "then": schema}


def _type_schema(kind: str) -> dict[str, Any]:
    return {
        "title": "Type",
        "description": f"Which kind of {kind} this is.",
        "enum": list(type_names(kind)),
        "enumDescriptions": [form.schema["description"] for form in branches(kind)],
    }


def _choice(form: Branch) -> dict[str, Any]:
    key = type_key(form.kind)
    chosen = {"type": "object", "properties": {key: {"const": form.name}}, "required": [key]}
    return {"if": chosen, "then": _reference(form)}


def _snippet(form: Branch) -> dict[str, Any]:
    return {"label": form.name, "description": form.schema["title"], "body": form.schema["examples"][0]}
