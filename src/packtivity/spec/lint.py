"""What is allowed and yet surely not meant: misspelt parameters, shell braces in templates, doubled image tags.

Everything here is a warning, because upstream 0.17.1 accepts such a spec; most of it fails when the task is run.
Only what is certain is reported: what depends on parameters only when they are given. The rules for a spec alone are
in :mod:`packtivity.spec.rules`.
"""

from __future__ import annotations

import re
from bisect import bisect
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from packtivity.errors import MissingParameter, ParameterError
from packtivity.interpolate import interpolate
from packtivity.registry import nearest
from packtivity.spec.diagnostics import Finding, Located, arrange, listed, locate
from packtivity.spec.document import Document
from packtivity.spec.parts import (
    WORKDIR,
    Template,
    Use,
    braces,
    jq_programs,
    kind_of,
    named_parameters,
    needs,
    strings,
    templates,
)
from packtivity.spec.rules import advice_findings, environment_findings, jq_findings
from packtivity.types import Diagnostic, JSONValue, Path

__all__ = ["lint_parameters", "lint_spec", "needs"]

_COMPARED = 100_000
"""With how many names others are compared to find the nearest."""

_LEFT = 20
"""How many placeholders inside braces are looked at for a remedy."""
_SHOWN = 50
_DOUBLED = re.compile(r"\{\{\s*([^{}\s](?:[^{}]*[^{}\s])?)\s*\}\}")
_READDIR = re.compile(r"readdir\d+\Z")
_LINKS = frozenset({"step", "steps", "stage", "stages"})
"""Keys of which a workflow's link has one, beside ``output`` (yadage)."""
_SCALAR_NAME = "value"  # upstream 0.17.1 calls a parameter document that is one scalar so


def lint_spec(document: Located | None, spec: dict[str, Any], given: Iterable[str] | None = None) -> list[Diagnostic]:
    """Return warnings about a spec alone.

    :param document: where it was read from, for places.
    :param spec: valid, with defaults filled.
    :param given: names of the parameters, when they are known; braces around them are placeholders.
    """
    names = None if given is None else frozenset(given)
    found = [*template_findings(spec, names), *environment_findings(spec), *jq_findings(spec)]
    return arrange(locate(finding, document) for finding in found)


def lint_parameters(
    spec: dict[str, Any],
    parameters: JSONValue,
    state_names: Iterable[str] | None = None,
    *,
    document: Located | None = None,
    places: Located | None = None,
) -> list[Diagnostic]:
    """Return warnings about a spec compared with its parameters; those of :func:`lint_spec` are not repeated.

    :param spec: valid, with defaults filled.
    :param state_names: names of the state's directories (``workdir``, ``readdir0`` …), empty without a state,
        ``None`` when they are not known.
    :param document: where the spec was read from, for places.
    :param places: where the parameters were read from.
    """
    check = ParameterCheck(spec, parameters, None if state_names is None else frozenset(state_names))
    of_spec = [locate(finding, document) for finding in check.of_spec()]
    return arrange([*of_spec, *(locate(finding, places) for finding in check.of_parameters())])


def advise(document: Located) -> list[Diagnostic]:
    """Return advice on a valid spec as it is written: what works, and may be meant otherwise."""
    return [locate(finding, document) for finding in advice_findings(document.data)]


def lint_stage(spec: dict[str, Any], document: Document) -> list[Diagnostic]:
    """Return warnings about a step of a workflow compared with the names of the parameters that its stage gives.

    Their values are links mostly, so nothing is said about those.
    """
    if document.stage is None:
        return []
    names: dict[str, JSONValue] = dict.fromkeys(document.stage.data, "")
    found = lint_parameters(spec, names, document=document, places=document.stage)
    return [_of_stage(one) for one in found if one.code in _ABOUT_NAMES]


_ABOUT_NAMES = frozenset({"unknown-placeholder", "unknown-parameter", "misspelt-parameter", "unused-parameter"})


def _of_stage(found: Diagnostic) -> Diagnostic:
    """Speak of the stage's parameters where options are spoken of."""
    hint = re.sub(r"Give it with -p ([^=]*)=…", r"Give it under the stage's 'parameters'", found.hint)
    return found._replace(hint=hint)


def names_of(data: JSONValue) -> tuple[str, ...]:
    """Return the names of parameters: none for a list or a scalar."""
    return tuple(data) if isinstance(data, dict) else ()


class ParameterCheck:
    """What a spec asks for beside what its parameters give.

    :ivar names: names of the given parameters; empty when they are a list.
    """

    def __init__(self, spec: dict[str, Any], parameters: JSONValue, state_names: frozenset[str] | None) -> None:
        self.spec = spec
        self.parameters = parameters
        self.state_names = state_names
        self.values = _by_name(parameters)
        self.names = frozenset(self.values)
        self._uses = [use for template in templates(spec) if template.source != "state" for use in template.uses()]
        self._named = list(named_parameters(spec))
        self._compared = 0
        self._known = _some(sorted(self.names))
        self._unused = self._find_unused()
        self._meant = {meant for meant in self._unused.values() if meant}

    def of_spec(self) -> Iterator[Finding]:
        """Yield what is wrong in the spec."""
        reported = set(self._meant)
        numbers: Counter[Template] = Counter()
        for use in self._uses:
            if use.is_positional:
                yield from self._position(use, numbers[use.template])
                numbers[use.template] += 1
            elif use.name in self.names:
                yield from self._unfillable(use)
            elif not (use.is_workdir or use.is_shell or use.name in reported):
                reported.add(use.name)
                yield self._unknown(use)
        for path, name in self._named:
            if name not in self.names and name not in self._meant:
                yield self._unknown_named(name, path)
        publisher = self.spec["publisher"]
        looks = kind_of(publisher).looks_for_files(publisher)
        if looks and self.state_names is not None and WORKDIR not in self.state_names:
            message = f"{publisher['publisher_type']} looks for files, but there is no directory to write to"
            path = ("publisher", "publisher_type")
            yield Finding("no-work-directory", message, path, hint="Give a work directory with -w/--write DIR.")

    def of_parameters(self) -> Iterator[Finding]:
        """Yield what is wrong in the parameter document."""
        yield from self._unused_findings()
        yield from self._empty_findings()
        yield from self._mapping_findings()
        for path, text in strings(self.parameters):
            template = Template(path, text, "state")
            yield from brace_findings(template)
            if self.state_names is not None:
                yield from _directory_findings(template, sorted(self.state_names))

    # --- the spec ----------------------------------------------------------------------------------------------

    def _nearest(self, name: str, known: Collection[str]) -> str | None:
        """Return the name that was meant; None when that would take long, because of all the names there are."""
        self._compared += len(known)
        return nearest(name, known) if self._compared <= _COMPARED else None

    def _unknown(self, use: Use) -> Finding:
        near = self._nearest(use.name, self.names)
        hint = f"Did you mean {near!r}? " if near else ""
        hint += f"Give it with -p {use.name}=…, or write {{{use.text}}} if the braces are meant as they are."
        expected = near or self._known or "no placeholder"
        message = f"{use.text} stands for a parameter that is not given"
        return use.finding("unknown-placeholder", message, hint, expected=expected)

    def _unfillable(self, use: Use) -> Iterator[Finding]:
        field = use.placeholder.field
        is_empty = self.values[use.name] is None and field == use.name  # reported by itself
        if is_empty or "._" in field or use.text == f"{{{use.name}}}":
            return
        try:
            interpolate(use.text, (), {WORKDIR: "", **self.values})
        except MissingParameter:
            message = f"{use.text}: the parameter {use.name!r} has no such key"
            yield use.finding("unknown-placeholder", message)
        except ParameterError as error:
            message = f"{use.text} cannot be filled with the value given: {error.message}"
            yield use.finding("unfillable-placeholder", message, error.hint)

    def _position(self, use: Use, number: int) -> Iterator[Finding]:
        if not isinstance(self.parameters, list):
            yield positional_finding(use)
        elif int(use.name or number) >= len(self.parameters):
            message = f"{{{use.placeholder.field}}} asks for more than the {len(self.parameters)} parameters given"
            yield use.finding("unknown-placeholder", message)

    def _unknown_named(self, name: str, path: Path) -> Finding:
        near = self._nearest(name, self.names)
        hint = f"Did you mean {near!r}?" if near else f"Give it with -p {name}=…"
        if "{" in name:
            hint = "Texts of an outputmap are names; for templates use publisher_type: interpolated-pub."
        message = f"the publisher takes the parameter {name!r}, which is not given"
        return Finding("unknown-parameter", message, path, expected=near or "", hint=hint)

    # --- the parameters ----------------------------------------------------------------------------------------

    def _find_unused(self) -> dict[str, str | None]:
        """Return each parameter that nothing uses, with the name that was meant: asked for, not given, meant by no other."""
        process = (self.spec["process"] or {}).get("process_type")
        anything_is_used = process == "manual-instructions-proc" or any(jq_programs(self.spec))
        if anything_is_used or not isinstance(self.parameters, dict):
            return {}
        asked = [use.name for use in self._uses if not use.is_positional] + [name for _, name in self._named]
        wanted = dict.fromkeys(name for name in asked if name not in self.names and name != WORKDIR)
        found: dict[str, str | None] = {}
        bare = (template.text for template in templates(self.spec) if template.source == "publisher")  # told there
        used = {*asked, *bare}
        for name in self.parameters:
            if name not in used:
                found[name] = meant = self._nearest(name, wanted)
                wanted.pop(meant or "", None)
        return found

    def _unused_findings(self) -> Iterator[Finding]:
        escaped = {name for template in templates(self.spec) for name in _DOUBLED.findall(template.text)}
        for name, meant in self._unused.items():
            if meant:
                message = f"nothing uses the parameter {name!r}, but the spec asks for {meant!r}"
                hint = f"Did you mean {meant!r}?"
                yield Finding("misspelt-parameter", message, (name,), at_key=True, expected=meant, hint=hint)
                continue
            hint = "Remove it, or use it."
            if name in escaped:
                hint = f"Doubled braces are for braces that are meant as they are; for the parameter write {{{name}}}."
            message = f"nothing in the spec uses the parameter {name!r}"
            yield Finding("unused-parameter", message, (name,), at_key=True, hint=hint)

    def _empty_findings(self) -> Iterator[Finding]:
        shown = {use.name for use in self._uses if use.placeholder.field == use.name}
        for path in _nulls(self.parameters):
            last = str(path[-1])
            if len(path) > 1 and self._is_directory(last):
                message = f"the value is a mapping with the key {path[-1]!r}, because {{{last}}} is not in quotes"
                hint = f"""Write '{{{last}}}'; with -p, -p {path[0]}='"{{{last}}}"'."""
                yield Finding("unquoted-placeholder", message, path[:-1], hint=hint)
            elif len(path) == 1 and path[0] in shown:
                message = f"the parameter {path[0]!r} has no value (null)"
                yield Finding("empty-parameter", message, path, hint="Give it a value; '' is the empty text.")

    def _is_directory(self, name: str) -> bool:
        return name == WORKDIR or name in (self.state_names or ()) or _READDIR.match(name) is not None

    def _mapping_findings(self) -> Iterator[Finding]:
        whole = {use.name for use in self._uses if use.placeholder.field == use.name}
        for name, value in self.parameters.items() if isinstance(self.parameters, dict) else ():
            items = value if isinstance(value, list) else [value]
            mapping = next((one for one in items if isinstance(one, dict)), None)
            if name not in whole or mapping is None:
                continue
            if any(inner is None and self._is_directory(str(key)) for key, inner in mapping.items()):
                continue  # told as a placeholder without quotes
            what = "a mapping" if mapping is value else "a list with a mapping in it"
            message = (
                f"the parameter {name!r} is {what}, so {{{name}}} becomes Python's text for it: {_short(str(mapping))}"
            )
            hint = f"Name what is meant in it, such as {{{name}[{next(iter(mapping), 'key')}]}}."
            if "output" in mapping and mapping.keys() & _LINKS:
                hint = "It is a link of a workflow, which yadage follows; here, give the value that it leads to."
            elif mapping is not value:
                hint = "Give a list of texts; they are joined by blanks."
            yield Finding("mapping-as-text", message, (name,), hint=hint)


def _some(names: Sequence[str]) -> str:
    """Return names for a person, of many the first."""
    return listed(names, last="or") if len(names) <= _SHOWN else f"{', '.join(names[:_SHOWN])} … ({len(names)} names)"


def _directory_findings(template: Template, known: list[str]) -> Iterator[Finding]:
    for use in template.uses():
        if not use.is_positional and use.name not in known:
            message = f"{use.text} in a parameter stands for a directory of the state, and there is none of that name"
            near = nearest(use.name, known)
            hint = f"Did you mean {near!r}? " if near else ""
            hint += f"Write {{{use.text}}} if the braces are meant as they are."
            expected = listed(known, last="or") or "no placeholder, as there is no state"
            yield use.finding("unknown-placeholder", message, hint, expected=expected)


def _nulls(data: JSONValue, path: Path = ()) -> Iterator[Path]:
    """Yield where a document has null inside it."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        if value is None:
            yield (*path, key)
        else:
            yield from _nulls(value, (*path, key))


def _by_name(parameters: JSONValue) -> dict[str, Any]:
    """Return the values placeholders are filled with; a list is joined by spaces, as upstream 0.17.1 does."""
    if isinstance(parameters, dict):
        joined = {name: " ".join(map(str, value)) for name, value in parameters.items() if isinstance(value, list)}
        return parameters | joined
    return {} if isinstance(parameters, list) else {_SCALAR_NAME: parameters}


# --- templates -------------------------------------------------------------------------------------------------


def template_findings(spec: dict[str, Any], given: frozenset[str] | None = None) -> Iterator[Finding]:
    """Yield findings about a spec's templates.

    :param given: names of the parameters; ``None`` when they are not known, and then ``{}`` beside names is a mistake.
    """
    asked = frozenset(needs(spec))
    all_have_names = given is None and bool(asked)
    for template in templates(spec):
        yield from brace_findings(template, given or frozenset())
        if template.source == "publisher" and template.text in asked | (given or frozenset()):
            message = f"the text {template.text!r} is published as it stands, and not the parameter of that name"
            hint = f"""For the parameter, write "{{{template.text}}}"."""
            yield template.finding(0, "bare-parameter", message, hint)
        for use in template.uses():
            if use.is_positional:
                if all_have_names and template.source != "state":
                    yield positional_finding(use)
            elif use.name not in (given or ()):
                yield from _odd_name(use)


def brace_findings(template: Template, given: frozenset[str] = frozenset()) -> Iterator[Finding]:
    """Yield findings about braces that no parameter can fill."""
    text, found = template.text, braces(template.text)
    uses = [use for use in template.uses() if not (use.is_shell or use.is_positional)]
    meant = [use for use in uses if not given or use.name in given]
    starts = [use.placeholder.start for use in meant]
    for start, end in found.literal:
        inner = text[start + 1 : end - 1]
        if inner not in given:
            message = f"{_short(text[start:end])!r} is taken for a placeholder, but no parameter has such a name"
            first = bisect(starts, start)
            inside = [use for use in meant[first : first + _LEFT] if use.placeholder.start < end]
            yield template.finding(start, "literal-braces", message, _remedy(inner, start + 1, inside))
    for offset in found.lone:
        hint = f"Write {text[offset] * 2} for a brace that is meant as it is."
        yield template.finding(offset, "lone-brace", f"lone {text[offset]!r}: the text cannot be rendered", hint)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 40 else f"{line[:18]} … {line[-18:]}"


def _remedy(inner: str, start: int, meant: Sequence[Use]) -> str:
    """Return what to write for braces around ``inner``, which begins at ``start``; those of ``meant`` stay single."""
    names = list(dict.fromkeys(use.text for use in meant))
    if "\n" in inner or len(inner) > 58:
        doubled = "{{ for { and }} for } that belong to the script itself."
        doubled += f" Leave {listed(names)} as {'they are' if names[1:] else 'it is'}." if names else ""
    else:
        kept = {at - start for use in meant for at in (use.placeholder.start, use.placeholder.end - 1)}
        characters = enumerate(inner)
        doubled = "".join(one * 2 if one in "{}" and at not in kept else one for at, one in characters)
        doubled = f"{{{{{doubled}}}}}"
    name = inner.strip()
    if name.isidentifier():
        return f"Write {{{name}}}, without blanks, for the parameter {name!r}; write {doubled} for braces."
    return f"Write {doubled}"


def positional_finding(use: Use) -> Finding:
    """Return the finding for ``{}`` where parameters have names."""
    shown = f"{{{use.placeholder.field}}}"
    message = f"{shown} is filled from a list of parameters, but this task's parameters have names"
    hint = f"Write {{{shown}}} if the braces are meant as they are, else name the parameter."
    return use.finding("positional-placeholder", message, hint)


def _odd_name(use: Use) -> Iterator[Finding]:
    if use.is_shell:
        message = f"${use.text} looks like a shell variable, but is taken for a placeholder"
        hint = f"Write ${{{use.text}}} for the variable; ${use.name} does without braces."
        yield use.template.finding(use.placeholder.start - 1, "literal-braces", message, hint)
    elif "._" in use.placeholder.field:
        message = f"{use.text} reaches for Python internals, which is an error when the task is run"
        yield use.finding("forbidden-placeholder", message, "Use the parameter's own keys, such as {name[key]}.")
