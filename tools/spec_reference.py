"""What is made from the schema files: the reference page of the spec language, and the schema for editors.

python tools/spec_reference.py    writes both anew
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from os.path import join
from typing import Any

import yaml

from packtivity.spec.advice import RETIRED
from packtivity.spec.diagnostics import expected_types
from packtivity.spec.resources import FORMS, RESOURCES
from packtivity.spec.schemas import (
    KINDS,
    SCHEMA_DIRECTORY,
    Branch,
    branches,
    nullable,
    root_schema,
    type_key,
    type_names,
)
from packtivity.types import JSONValue

_MADE = "% Made by tools/spec_reference.py; do not edit.\n"


def write(page: str) -> None:
    """Write the page to the file ``page``, and the editor's schema to where it is shipped."""
    with open(page, "w", encoding="utf-8") as file:
        file.write(spec_page())
    write_editor_schema()


def spec_page() -> str:
    """Return the reference of the spec language."""
    return "\n".join([_MADE, "# The spec language", "", *_introduction(), *_kinds(), *_rules(), *_retired()]) + "\n"


def _introduction() -> Iterator[str]:
    root = root_schema()
    yield root["description"]
    yield "\nA spec is written in YAML 1.1 or JSON and has exactly these keys:\n"
    yield "| key | value | |\n|---|---|---|"
    for kind in KINDS:
        value = "mapping or `null`" if nullable(kind) else "mapping"
        yield f"| [`{kind}`](#{kind}) | {value} | {root['properties'][kind]['description']} |"
    yield "\n" + _yaml(root["examples"][0])


def _kinds() -> Iterator[str]:
    for kind in KINDS:
        yield f"({kind})=\n## {kind.capitalize()}\n"
        yield f"`{type_key(kind)}` says which of these it is; no key but the ones listed may stand beside it."
        implied = [form.name for form in branches(kind) if form.implied]
        if implied:
            yield f"Without it, `{implied[0]}` is meant, if the other keys are that one's."
        yield ""
        for form in branches(kind):
            yield from _branch(form)


def _branch(form: Branch) -> Iterator[str]:
    yield f"### `{form.name}`: {form.schema['title']}\n"
    yield form.schema["description"] + "\n"
    rows = [_row(form, key, schema) for key, schema in form.properties.items() if key != type_key(form.kind)]
    if rows:
        yield "| key | type | default | |\n|---|---|---|---|"
        yield from rows
        yield ""
    yield _yaml({form.kind: form.schema["examples"][0]})


def _row(form: Branch, key: str, schema: dict[str, Any]) -> str:
    default = "*required*" if key in form.required else f"`{json.dumps(schema['default'])}`"
    text = schema["description"]
    inner = schema.get("items", {}).get("properties", {})
    text += "".join(f" `{name}`: {one['description']}" for name, one in inner.items())
    return f"| `{key}` | {expected_types(schema['type'])} | {default} | {_cell(text)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _rules() -> Iterator[str]:
    yield "## Templates\n"
    yield "`cmd`, `script` and the texts of an `interpolated-pub` are templates in the language of Python's `str.format`:"
    yield "`{name}` is replaced by the parameter `name`, `{name[key]}` by a value inside it, `{mass:.2f}` is formatted."
    yield "In `cmd` and `script` a list is joined by spaces. Parameters that are a list fill `{}` and `{0}`, a single"
    yield "value fills `{value}`. A brace that is meant literally is doubled: `awk '{{print $1}}'`, `${{HOME}}`.\n"
    yield "## Resources\n"
    yield "Entries of `resources` are words, as in packtivity 0.17.1, or one-key mappings, as in REANA. What is not in this"
    yield "table, or has another value, has no effect: `packtivity-validate` and the run say so in a warning.\n"
    yield "| resource | value | |\n|---|---|---|"
    for name, (form, meaning) in RESOURCES.items():
        yield f"| `{name}` | {FORMS[form]} | {meaning} |"
    yield ""
    yield "A quantity is written as for Kubernetes: `m` is a thousandth; `k`, `M`, `G`, `T` are powers of 1000, `Ki`, `Mi`,"
    yield "`Gi`, `Ti` powers of 1024. So `512m` of memory would be half a byte, and `8GB` is none.\n"
    yield "## References\n"
    yield "`{$ref: file.yml#/pointer}` is replaced by what it names, relative to the file it stands in; other keys beside"
    yield "`$ref` count for nothing. A whole spec may be named as `file.yml#/pointer` too.\n"


def _retired() -> Iterator[str]:
    yield "## Retired forms\n"
    yield "These are no longer accepted; the message for each shows what to write. `process-type` and its like with a"
    yield "hyphen are written with an underscore.\n"
    yield "| form | |\n|---|---|"
    for kind in KINDS:
        for name, old in RETIRED[kind].items():
            yield f"| `{type_key(kind)}: {name}` | {old.story} |"


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks."""


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)


def _yaml(data: JSONValue) -> str:
    """Return an example as a YAML code block."""
    text = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000)
    return f"```yaml\n{text}```\n"


# --- the schema for editors -------------------------------------------------------------------------------------

EDITOR_SCHEMA = join(SCHEMA_DIRECTORY, "editor.json")


def build_editor_schema() -> dict[str, Any]:
    """Return one self-contained JSON Schema of a spec for editors, made from the branches.

    Editors (yaml-language-server) say the more useful thing the earlier it is clear which branch is meant, so the type
    key chooses with ``if``/``then``; that is draft 7. It accepts what the bundled schemas accept, which a test holds.
    """
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


def write_editor_schema() -> None:
    """Write the schema to the file that is shipped."""
    with open(EDITOR_SCHEMA, "w", encoding="utf-8") as file:
        file.write(json.dumps(build_editor_schema(), indent=2, ensure_ascii=False) + "\n")


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


if __name__ == "__main__":
    write(os.path.join(os.path.dirname(__file__), "..", "docs", "reference", "spec.md"))
