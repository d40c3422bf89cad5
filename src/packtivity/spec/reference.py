"""The reference page of the spec language, made from what the program itself reads: the schema files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from packtivity.spec import editor
from packtivity.spec.branches import KINDS, Branch, branches, nullable, root_schema, type_key
from packtivity.spec.retired import retired_type, retired_types
from packtivity.spec.rules_environment import RESOURCE_KEYS, RESOURCES
from packtivity.spec.words import expected_types

if TYPE_CHECKING:
    from collections.abc import Iterator

_MADE = "% Made by packtivity.spec.reference; do not edit.\n"


def write(page: str) -> None:
    """Write the page to the file ``page``, and the editor's schema to where it is shipped."""
    with open(page, "w", encoding="utf-8") as file:
        file.write(spec_page())
    editor.write()


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
    yield f"Words: {_coded(RESOURCES)}.\n\nOne-key mappings, most of which only batch systems read: {_coded(RESOURCE_KEYS)}.\n"
    yield "## References\n"
    yield "`{$ref: file.yml#/pointer}` is replaced by what it names, relative to the file it stands in; other keys beside"
    yield "`$ref` count for nothing. A whole spec may be named as `file.yml#/pointer` too.\n"


def _coded(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _retired() -> Iterator[str]:
    yield "## Retired forms\n"
    yield "These are no longer accepted; the message for each shows what to write. `process-type` and its like with a"
    yield "hyphen are written with an underscore.\n"
    yield "| form | |\n|---|---|"
    for kind in KINDS:
        for name in retired_types(kind):
            old = retired_type(kind, name)
            yield f"| `{type_key(kind)}: {name}` | {old.story if old else ''} |"


def _yaml(data: Any) -> str:
    """Return an example as a YAML code block."""
    import yaml

    text = yaml.dump(data, Dumper=_dumper(), sort_keys=False, allow_unicode=True, width=1000)
    return f"```yaml\n{text}```\n"


def _dumper() -> Any:
    import yaml

    class Dumper(yaml.SafeDumper):
        """Writes texts of several lines as blocks."""

    def text(dumper: Any, value: str) -> Any:
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)

    Dumper.add_representer(str, text)
    return Dumper
