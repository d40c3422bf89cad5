"""Explains what is wrong with a document that is no spec: each mistake once, in terms of what was meant."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from packtivity.registry import nearest
from packtivity.spec import advice
from packtivity.spec.diagnostics import Finding, article, dotted, expected_types, json_type, listed, quoted
from packtivity.spec.schemas import (
    KINDS,
    Branch,
    branch,
    branches,
    nullable,
    root_schema,
    type_key,
    type_names,
    violations,
)
from packtivity.types import JSON, JSONValue, Path


def mistakes(data: JSONValue) -> list[Finding]:
    """Return what makes ``data`` no spec, at least one finding if it is none."""
    if data is None:
        return [Finding("empty-document", "the document is empty", expected=listed(KINDS), hint=advice.WHOLE_SPEC)]
    if not isinstance(data, dict):
        return [
            Finding(
                "wrong-type",
                f"a spec is a mapping, but this is {article(json_type(data))}",
                expected=f"a mapping with the keys {listed(KINDS)}",
                hint=advice.WHOLE_SPEC,
            )
        ]
    return list(_root_mistakes(data))


def _root_mistakes(data: dict[str, Any]) -> Iterator[Finding]:
    root = root_schema()
    missing = [key for key in root["required"] if key not in data]
    if data and not any(key in root["properties"] or nearest(key, KINDS) or _parts_with(key) for key in data):
        yield _no_spec(data)
        return
    meant: dict[str, str] = {}
    for key in data:
        if key not in root["properties"]:
            near = _take_near(key, missing)
            if near:
                meant[near] = key
            yield _unknown_root_key(key, near)
    for key in missing:
        yield Finding(
            "missing-key", f"the spec has no {key!r}", expected=key, hint=advice.of_missing_part(key, nullable(key))
        )
    for kind in KINDS:
        given = meant.get(kind, kind)
        if given in data:
            yield from _part_mistakes(kind, data[given], (given,))


def _no_spec(data: dict[str, Any]) -> Finding:
    workflow = next((key for key in data if key in advice.WORKFLOW_KEYS), None)
    hint = advice.of_root_key(workflow) if workflow else f"{advice.PARAMETERS}\n{advice.WHOLE_SPEC}"
    message = "this is no spec: it has neither process nor environment nor publisher"
    return Finding("missing-key", message, expected=listed(KINDS), hint=hint)


def _take_near(key: str, missing: list[str]) -> str | None:
    """Return the missing key that ``key`` was meant to be, and strike it off the list."""
    near = nearest(key, missing)
    if near:
        missing.remove(near)
    return near


def _unknown_root_key(key: str, near: str | None) -> Finding:
    return Finding(
        "unknown-key",
        f"a spec has no key {key!r}",
        (key,),
        at_key=True,
        expected=near or listed(KINDS),
        hint=f"Did you mean {near!r}?" if near else advice.of_root_key(key, _parts_with(key)),
    )


def _parts_with(key: str) -> list[str]:
    return [kind for kind in KINDS if any(key in form.properties for form in branches(kind))]


# --- one part --------------------------------------------------------------------------------------------------


def _part_mistakes(kind: str, part: JSONValue, path: Path) -> Iterator[Finding]:
    if part is None and nullable(kind):
        return
    if not isinstance(part, dict):
        yield Finding(
            "wrong-type",
            f"{kind!r} is {article(json_type(part))}, but must be a mapping{' or null' if nullable(kind) else ''}",
            path,
            expected=f"a mapping with the key {type_key(kind)!r}",
            hint=advice.of_part(kind, part),
        )
        return
    key, findings = _find_type_key(kind, part, path)
    yield from findings
    rest = {name: value for name, value in part.items() if name != key}
    if key is None:
        form = _guess(kind, rest)
        if form is None or not form.implied or not form.takes(rest):
            yield _missing_type(kind, form, path)
    else:
        form, wrong = _named_branch(kind, part[key], (*path, key))
        yield from wrong
    if form is not None:
        yield from _branch_mistakes(form, rest, path)


def _find_type_key(kind: str, part: dict[str, Any], path: Path) -> tuple[str | None, list[Finding]]:
    """Return the key that says the type, be it retired or misspelt, and what is wrong with the key itself."""
    right = type_key(kind)
    if right in part:
        return right, []
    old = advice.retired_type_key(kind)
    if old in part:
        message = f"{old!r} is how old versions wrote {right!r}"
        return old, [_finding_at_key("retired-form", message, (*path, old), right, f"Write {right}: {part[old]}")]
    known = {key for form in branches(kind) for key in form.properties}
    for key in part:
        if key not in known and nearest(key, [right, "type"]):
            hint = f"Did you mean {right!r}?"
            return key, [_finding_at_key("unknown-key", f"{kind} has no key {key!r}", (*path, key), right, hint)]
    return None, []


def _finding_at_key(code: str, message: str, path: Path, expected: str, hint: str) -> Finding:
    return Finding(code, message, path, at_key=True, expected=expected, hint=hint)


def _named_branch(kind: str, name: JSONValue, path: Path) -> tuple[Branch | None, list[Finding]]:
    names = type_names(kind)
    if not isinstance(name, str):
        what = f"{dotted(path)} is {article(json_type(name))}, but must be a string"
        return None, [Finding("wrong-type", what, path, expected=listed(names, last="or"))]
    if name in names:
        return branch(kind, name), []
    old = advice.retired_type(kind, name)
    if old:
        message = f"{kind} type {name!r} {old.story}"
        return None, [Finding("retired-form", message, path, hint=f"Write\n{old.snippet}")]
    near = nearest(name, names) or _short_for(name, names)
    hint = f"Did you mean {near!r}?" if near else f"There are: {listed(names)}."
    message = f"no {kind} has the type {name!r}"
    return None, [Finding("unknown-type", message, path, expected=near or listed(names, last="or"), hint=hint)]


def _short_for(name: str, names: tuple[str, ...]) -> str | None:
    """Return the one type that ``name`` is a part of: ``docker`` of ``docker-encapsulated``."""
    found = [one for one in names if f"-{name.lower()}-" in f"-{one}-"]
    return found[0] if len(found) == 1 else None


def _guess(kind: str, rest: dict[str, Any]) -> Branch | None:
    """Return the branch that keys without a type must have been written for, if there is just one."""
    forms = branches(kind)
    if forms[0].implied and forms[0].takes(rest):
        return forms[0]
    fitting = [form for form in forms if form.own_required and form.takes(rest)]
    return fitting[0] if len(fitting) == 1 else None


def _missing_type(kind: str, form: Branch | None, path: Path) -> Finding:
    key, names = type_key(kind), type_names(kind)
    if form:
        expected, hint = f"{key}: {form.name}", f"Add {key}: {form.name}"
    else:
        expected, hint = f"{key}: one of {listed(names, last='or')}", advice.PARTS[kind]
    return Finding("missing-type", f"{kind} has no {key!r}", path, at_key=True, expected=expected, hint=hint)


# --- one branch ------------------------------------------------------------------------------------------------


def _branch_mistakes(form: Branch, rest: dict[str, Any], path: Path) -> Iterator[Finding]:
    yield from _key_mistakes(form, rest, path)
    for keyword, inner in violations(form, rest):
        if keyword == "type":
            yield _wrong_type(form, rest, path, inner)


def _key_mistakes(form: Branch, rest: dict[str, Any], path: Path) -> Iterator[Finding]:
    unknown = [key for key in rest if key not in form.properties]
    missing = [key for key in form.own_required if key not in rest]
    empty = next((key for key in form.own_required if rest.get(key, "") is None), "")
    other = _branch_of(form.kind, unknown) if missing else None
    if other:
        missing = []
    for key in unknown:
        near = _take_near(key, missing) or nearest(key, [name for name in form.properties if name not in rest])
        yield (
            _unknown_key(form, key, near, other, path)
            if near or not empty
            else _not_deep_enough(form, key, empty, path)
        )
    for key in missing:
        what = form.properties[key].get("description", "")
        message = f"{form.kind} of type {form.name!r} has no {key!r}"
        yield Finding("missing-key", message, path, at_key=True, expected=key, hint=f"Add {key}: {what}")


def _branch_of(kind: str, unknown: Iterable[str]) -> Branch | None:
    """Return the branch whose own keys the unknown ones are: then it is the type that is wrong."""
    keys = set(unknown)
    fitting = [form for form in branches(kind) if form.own_required and keys.issuperset(form.own_required)]
    return fitting[0] if len(fitting) == 1 else None


def _unknown_key(form: Branch, key: str, near: str | None, other: Branch | None, path: Path) -> Finding:
    right = type_key(form.kind)
    if other and key in other.own_required:
        expected = f"{right}: {other.name}"
        hint = f"{key!r} goes with {right}: {other.name}; {form.name} takes {quoted(form.own_required)}."
    elif near:
        expected, hint = near, f"Did you mean {near!r}?"
    else:
        expected = listed([name for name in form.properties if name != right]) or "no other key"
        hint = advice.of_stray_key(form.kind, key) or _home_of(form, key)
    return _finding_at_key("unknown-key", f"{form.name} has no key {key!r}", (*path, key), expected, hint)


def _not_deep_enough(form: Branch, key: str, empty: str, path: Path) -> Finding:
    """Return the finding for an unknown key while a key that must have a value is empty."""
    hint = f"{empty!r} is empty: if {key!r} belongs to it, indent it deeper than {empty!r}."
    return _finding_at_key("unknown-key", f"{form.name} has no key {key!r}", (*path, key), empty, hint)


def _home_of(form: Branch, key: str) -> str:
    homes = [other.name for other in branches(form.kind) if key in other.properties]
    if homes:
        return f"{key!r} goes with {type_key(form.kind)}: {listed(homes, last='or')}."
    return f"Remove {key!r}; nothing reads it."


def _wrong_type(form: Branch, rest: dict[str, Any], path: Path, inner: Path) -> Finding:
    value: JSON = rest
    schema: dict[str, Any] = form.schema
    for step in inner:
        value = value[step]
        schema = schema["items"] if isinstance(step, int) else schema["properties"][step]
    wanted = expected_types(schema["type"])
    where = dotted((*path, *inner))
    message = f"{where} is {article(json_type(value))}, but must be {wanted}"
    hint = advice.of_wrong_type(form.kind, inner, value, schema["type"])
    return Finding("wrong-type", message, (*path, *inner), expected=wanted, hint=hint)
