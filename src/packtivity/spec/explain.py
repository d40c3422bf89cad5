"""Explains what is wrong with a document that is no spec: each mistake once, in terms of what was meant."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from packtivity import settings
from packtivity.registry import nearest
from packtivity.spec import advice
from packtivity.spec.diagnostics import Finding, article, dotted, expected_types, listed, quoted
from packtivity.spec.document import Document
from packtivity.spec.schemas import KINDS, Branch, branch, branches, nullable, type_key, type_names, violations
from packtivity.types import JSONValue, Path


def mistakes(data: JSONValue, document: Document | None = None) -> list[Finding]:
    """Return what makes ``data`` no spec, at least one finding if it is none.

    :param document: which it is; its name and the numbers as they are written stand in remedies.
    """
    if data is None:
        return [Finding("empty-document", "the document is empty", expected=listed(KINDS), hint=advice.WHOLE_SPEC)]
    if isinstance(data, dict):
        return list(_root_mistakes(data, document))
    message, expected = f"a spec is a mapping, but this is {article(data)}", f"a mapping with the keys {listed(KINDS)}"
    return [Finding("wrong-type", message, expected=expected, hint=_name_one(data, document) or advice.WHOLE_SPEC)]


def _root_mistakes(data: dict[str, Any], document: Document | None) -> Iterator[Finding]:
    missing = [key for key in KINDS if key not in data]
    if data and not any(key in KINDS or nearest(key, KINDS) or _parts_with(key) for key in data):
        workflow = next((key for key in data if key in advice.WORKFLOW_KEYS), None)
        hint = advice.of_root_key(workflow) if workflow else f"{advice.PARAMETERS}\n{advice.WHOLE_SPEC}"
        hint = _name_one(data, document) or hint
        message = "this is no spec: it has neither process nor environment nor publisher"
        yield Finding("missing-key", message, expected=listed(KINDS), hint=hint)
        return
    given = {kind: kind for kind in KINDS}
    for key, value in data.items():
        if key not in KINDS:
            near = _take_near(key, missing) or _take_short(key, value, missing)
            if near:
                given[near] = key
            hint = _did_you_mean(near) if near else advice.of_root_key(key, _parts_with(key))
            yield _finding_at_key("unknown-key", f"a spec has no key {key!r}", (key,), near or listed(KINDS), hint)
    for key in missing:
        nothing = f"\nWhere nothing is run, write {key}: null." if nullable(key) else ""
        yield Finding("missing-key", f"the spec has no {key!r}", expected=key, hint=advice.PARTS[key] + nothing)
    for kind, key in given.items():
        if key in data:
            yield from _part_mistakes(kind, data[key], (key,), document)


def _take_near(key: str, missing: list[str]) -> str | None:
    """Return the missing key that ``key`` was meant to be, and strike it off the list."""
    near = nearest(key, missing)
    if near:
        missing.remove(near)
    return near


def _take_short(key: str, value: JSONValue, missing: list[str]) -> str | None:
    """Do the same for a key that is short for a missing one, ``env`` say, and has what belongs there."""
    for kind in missing:
        if len(key) > 2 and kind.startswith(key) and (not isinstance(value, dict) or _names_part(kind, value)):
            missing.remove(kind)
            return kind
    return None


def _names_part(kind: str, value: dict[str, Any]) -> bool:
    return any(key in form.properties for form in branches(kind) for key in value)


def _specs_inside(data: JSONValue, path: str = "") -> Iterator[str]:
    """Yield the pointers of what looks like a spec in a document."""
    if isinstance(data, dict) and "publisher" in data and ("process" in data or "environment" in data):
        yield path
        return
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield from _specs_inside(value, f"{path}/{str(key).replace('~', '~0').replace('/', '~1')}")


def _name_one(data: JSONValue, document: Document | None) -> str:
    """Return which specs stand in a document that is none; nothing if there are none."""
    name = document.name if document else "FILE"
    name = f"/dev/stdin{name[1:]}" if name.startswith("-") else name  # which no command takes for an option
    found = [f"{name}{'' if '#' in name else '#'}{pointer}" for pointer in islice(_specs_inside(data), 9)]
    found[8:] = ["…"] * len(found[8:])
    return "\n".join(["There are specs in it; name one:", *found]) if found else ""


def _did_you_mean(name: str) -> str:
    return f"Did you mean {name!r}?"


def _parts_with(key: str) -> list[str]:
    return [kind for kind in KINDS if any(key in form.properties for form in branches(kind))]


def _finding_at_key(code: str, message: str, path: Path, expected: str, hint: str) -> Finding:
    return Finding(code, message, path, at_key=True, expected=expected, hint=hint)


# --- one part --------------------------------------------------------------------------------------------------


def _part_mistakes(kind: str, part: JSONValue, path: Path, document: Document | None) -> Iterator[Finding]:
    if part is None and nullable(kind):
        return
    if not isinstance(part, dict):
        message = f"{kind!r} is {article(part)}, but must be a mapping{' or null' if nullable(kind) else ''}"
        expected = f"a mapping with the key {type_key(kind)!r}"
        yield Finding("wrong-type", message, path, expected=expected, hint=advice.of_part(kind, part))
        return
    key, wrong_key = _find_type_key(kind, part, path)
    rest = {name: value for name, value in part.items() if name != key}
    if key is None:
        form = _guess(kind, rest)
        is_clear = form is not None and form.implied and form.takes(rest)
        wrong_type = None if is_clear else _missing_type(kind, form, path)
    else:
        form, wrong_type = _named_branch(kind, part[key], (*path, key))
    yield from filter(None, (wrong_key, wrong_type))
    if form is not None:
        yield from _branch_mistakes(form, rest, path, document)


def _find_type_key(kind: str, part: dict[str, Any], path: Path) -> tuple[str | None, Finding | None]:
    """Return the key that says the type, be it retired or misspelt, and what is wrong with the key itself."""
    right, old = type_key(kind), f"{kind}-type"
    if right in part:
        return right, None
    if old in part:
        message, hint = f"{old!r} is how old versions wrote {right!r}", f"Write {right}: {part[old]}"
        return old, _finding_at_key("retired-form", message, (*path, old), right, hint)
    known = {key for form in branches(kind) for key in form.properties}
    for key in part:
        if key not in known and nearest(key, [right, "type"]):
            message = f"{kind} has no key {key!r}"
            return key, _finding_at_key("unknown-key", message, (*path, key), right, _did_you_mean(right))
    return None, None


def _named_branch(kind: str, name: JSONValue, path: Path) -> tuple[Branch | None, Finding | None]:
    names = type_names(kind)
    if not isinstance(name, str):
        what = f"{dotted(path)} is {article(name)}, but must be a string"
        return None, Finding("wrong-type", what, path, expected=listed(names, last="or"))
    if name in names:
        return branch(kind, name), None
    if old := advice.RETIRED[kind].get(name.replace("_", "-")):
        message = f"{kind} type {name!r} {old.story}"
        return None, Finding("retired-form", message, path, hint=f"Write\n{old.snippet}")
    containing = [one for one in names if f"-{name.lower()}-" in f"-{one}-"]  # docker of docker-encapsulated
    near = nearest(name, names) or (containing[0] if len(containing) == 1 else None)
    hint = _did_you_mean(near) if near else f"There are: {listed(names)}."
    if not near or settings.current().plugins:
        hint += " One of a plug-in: run with --no-validate, or give a schema that has it (-c)."
    message = f"no {kind} has the type {name!r}"
    return None, Finding("unknown-type", message, path, expected=near or listed(names, last="or"), hint=hint)


def _guess(kind: str, rest: dict[str, Any]) -> Branch | None:
    """Return the branch that keys without a type must have been written for, if there is just one."""
    first = branches(kind)[0]
    if first.implied and first.takes(rest):
        return first
    return _only(form for form in branches(kind) if form.own_required and form.takes(rest))


def _only(forms: Iterable[Branch]) -> Branch | None:
    found = list(forms)
    return found[0] if len(found) == 1 else None


def _missing_type(kind: str, form: Branch | None, path: Path) -> Finding:
    key = type_key(kind)
    if form:
        expected, hint = f"{key}: {form.name}", f"Add {key}: {form.name}"
    else:
        expected, hint = f"{key}: one of {listed(type_names(kind), last='or')}", advice.PARTS[kind]
    return _finding_at_key("missing-type", f"{kind} has no {key!r}", path, expected, hint)


# --- one branch ------------------------------------------------------------------------------------------------


def _branch_mistakes(form: Branch, rest: dict[str, Any], path: Path, document: Document | None) -> Iterator[Finding]:
    yield from _key_mistakes(form, rest, path)
    for keyword, inner, value, schema in violations(form, rest):
        if keyword == "type":
            wanted, where = expected_types(schema["type"]), (*path, *inner)
            message = f"{dotted(where)} is {article(value)}, but must be {wanted}"
            written = document.written(where) if document else None
            hint = advice.of_wrong_type(form.kind, inner, value, schema["type"], written or str(value))
            yield Finding("wrong-type", message, where, expected=wanted, hint=hint)


def _key_mistakes(form: Branch, rest: dict[str, Any], path: Path) -> Iterator[Finding]:
    unknown = [key for key in rest if key not in form.properties]
    missing = [key for key in form.own_required if key not in rest]
    empty = next((key for key in form.own_required if rest.get(key, "") is None), "")
    other = _branch_of(form.kind, unknown) if missing else None
    if other:
        missing = []
    for key in unknown:
        near = _take_near(key, missing) or nearest(key, [name for name in form.properties if name not in rest])
        if empty and not near:
            expected, hint = empty, f"{empty!r} is empty: if {key!r} belongs to it, indent it deeper than {empty!r}."
        else:
            expected, hint = _instead_of(key, form, near, other)
        yield _finding_at_key("unknown-key", f"{form.name} has no key {key!r}", (*path, key), expected, hint)
    for key in missing:
        message, what = f"{form.kind} of type {form.name!r} has no {key!r}", form.properties[key].get("description", "")
        yield _finding_at_key("missing-key", message, path, key, f"Add {key}: {what}")


def _branch_of(kind: str, unknown: Iterable[str]) -> Branch | None:
    """Return the branch whose own keys the unknown ones are: then it is the type that is wrong."""
    return _only(form for form in branches(kind) if form.own_required and set(unknown).issuperset(form.own_required))


def _instead_of(key: str, form: Branch, near: str | None, other: Branch | None) -> tuple[str, str]:
    """Return what is expected in place of a key that a branch does not have, and what to do about it."""
    right = type_key(form.kind)
    if other and key in other.own_required:
        hint = f"{key!r} goes with {right}: {other.name}; {form.name} takes {quoted(form.own_required)}."
        return f"{right}: {other.name}", hint
    if near:
        return near, _did_you_mean(near)
    homes = [one.name for one in branches(form.kind) if key in one.properties]
    hint = f"{key!r} goes with {right}: {listed(homes, last='or')}." if homes else f"Remove {key!r}; nothing reads it."
    expected = listed([name for name in form.properties if name != right]) or "no other key"
    return expected, advice.STRAY.get((form.kind, key), hint)
