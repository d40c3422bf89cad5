"""What the parts of a spec ask for: where they have templates, which placeholders and which literal braces stand in them,
and what each kind of publisher means: known when, needs what, described how.

Who makes the result is :mod:`packtivity.handlers.publisher_handlers`. A kind of publisher that is not here comes from a
plug-in: nothing is known of it before the run, and nothing about it is checked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from packtivity.datamodel import iter_leaves
from packtivity.interpolate import Placeholder, readable_placeholders
from packtivity.spec.diagnostics import Finding
from packtivity.types import JSONValue, Part, Path

# --- publishers -----------------------------------------------------------------------------------------------


class PublisherKind(NamedTuple):
    """One kind of publisher.

    :ivar names: key below which strings are names of parameters.
    :ivar templates: key below which strings have placeholders for parameters and ``{workdir}``.
    :ivar outputs: key whose leaves are the outputs, so that their names are known before the run.
    :ivar program: key with a jq program.
    :ivar pattern: key with the pattern of the files whose paths it publishes.
    :ivar known: when the result is known: ``before`` the run, ``after`` it, or after it only if files are ``globbed``.
    :ivar looks: whether it looks for files in the work directory: always, never, or if files are ``globbed``.
    :ivar description: what is published, where the names of the outputs are only known after the run.
    """

    names: str = ""
    templates: str = ""
    outputs: str = ""
    program: str = ""
    pattern: str = ""
    known: Literal["before", "globbed", "after"] = "after"
    looks: Literal["always", "globbed", "never"] = "never"
    description: str = "known after the run"

    def is_known_before(self, publisher: Part) -> bool:
        """Return whether the result does not depend on what the task does."""
        return self.known == "before" or (self.known == "globbed" and not publisher.get("glob", False))

    def looks_for_files(self, publisher: Part) -> bool:
        """Return whether a work directory is needed to make the result."""
        return self.looks == "always" or (self.looks == "globbed" and bool(publisher.get("glob")))


PUBLISHERS = {
    "frompar-pub": PublisherKind(names="outputmap", outputs="outputmap", known="before"),
    "constant-pub": PublisherKind(outputs="publish", known="before"),
    "interpolated-pub": PublisherKind(templates="publish", outputs="publish", known="globbed", looks="globbed"),
    "fromparjq-pub": PublisherKind(
        program="script", known="globbed", description="what a jq program makes of the parameters"
    ),
    "fromglob-pub": PublisherKind(pattern="globexpression", looks="always"),
    "fromyaml-pub": PublisherKind(looks="always", description="whatever the task writes into its YAML file"),
    "manual-instructions-pub": PublisherKind(description="what a person types after the run"),
}

_UNKNOWN = PublisherKind()


def kind_of(publisher: Part) -> PublisherKind:
    """Return the kind of a publisher."""
    return PUBLISHERS.get(publisher.get("publisher_type", ""), _UNKNOWN)


# --- templates ------------------------------------------------------------------------------------------------

Source = Literal["process", "publisher", "state"]

WORKDIR = "workdir"
_TEXT_KEY = {"string-interpolated-cmd": "cmd", "interpolated-script-cmd": "script"}
_NAME = re.compile(r"[^\W\d][\w.-]*\Z")
# What may follow a name: a conversion, and a format spec that some JSON value takes (or one with placeholders in it).
_AFTER_NAME = re.compile(r"(![rsa])?(:(.?[<>=^])?[-+ ]?z?#?0?\d*[_,]?(\.\d+)?[bcdeEfFgGnosxX%]?|:.*\{.*)?\Z", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Template:
    """A text of a spec in which placeholders are replaced.

    :ivar source: where the values come from: parameters (``process``), parameters and the work directory
        (``publisher``), or the names of the state's directories (``state``).
    """

    path: Path
    text: str
    source: Source

    def finding(self, offset: int, code: str, message: str, hint: str = "", *, expected: str = "") -> Finding:
        """Return a finding about one character."""
        return Finding(code, message, self.path, offset=offset, expected=expected, hint=hint)

    def uses(self) -> list[Use]:
        """Return the placeholders that may be meant as such."""
        return [Use(self, one, one.name, self.text[one.start : one.end]) for one in braces(self.text).names]


class Use(NamedTuple):
    """A placeholder in its template; ``text`` is how it is written, braces included."""

    template: Template
    placeholder: Placeholder
    name: str
    text: str

    @property
    def is_positional(self) -> bool:
        """Whether it is ``{}`` or ``{0}``."""
        return self.name == "" or self.name.isdigit()

    @property
    def is_shell(self) -> bool:
        """Whether it is a shell variable: ``${NAME}``."""
        before = self.placeholder.start - 1
        return before >= 0 and self.template.text[before] == "$" and not self.name.islower()

    @property
    def is_workdir(self) -> bool:
        """Whether it is the work directory, which a publisher's templates know."""
        return self.template.source == "publisher" and self.name == WORKDIR

    def finding(self, code: str, message: str, hint: str = "", *, expected: str = "") -> Finding:
        """Return a finding about it."""
        return self.template.finding(self.placeholder.start, code, message, hint, expected=expected)


class Braces(NamedTuple):
    """The braces of one text.

    :ivar names: placeholders that may be meant as such.
    :ivar literal: starts and ends of what stands in braces and cannot be the name of a parameter.
    :ivar lone: offsets of braces without a partner.
    """

    names: tuple[Placeholder, ...]
    literal: tuple[tuple[int, int], ...]
    lone: tuple[int, ...]


def templates(spec: dict[str, Any]) -> Iterator[Template]:
    """Yield the templates of a valid spec in the order process, environment, publisher."""
    process = spec.get("process") or {}
    key = _TEXT_KEY.get(process.get("process_type", ""))
    if key:
        yield Template(("process", key), process[key], "process")
    workdir = (spec.get("environment") or {}).get("workdir")
    if isinstance(workdir, str):
        yield Template(("environment", "workdir"), workdir, "state")
    publisher, key = spec["publisher"], kind_of(spec["publisher"]).templates
    if key:
        for path, text in strings(publisher[key], ("publisher", key)):
            yield Template(path, text, "publisher")


def wildcard_at(text: str) -> int:
    """Return where a text has a wildcard of paths, -1 where it surely has none."""
    plain = re.sub(r"\{[^{}]*\}", lambda found: " " * len(found[0]), text)
    wildcard = re.search(r"\*" if "/" not in text else r"[*?\[]", plain)
    return wildcard.start() if wildcard else -1


def strings(data: JSONValue, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Yield every string of a document, keys left out, with its path, which begins with ``path``."""
    for inner, leaf in iter_leaves(data):
        if isinstance(leaf, str):
            yield (*path, *inner), leaf


def named_parameters(spec: dict[str, Any]) -> Iterator[tuple[Path, str]]:
    """Yield the parameters that a publisher names, as a ``frompar-pub`` does."""
    publisher, key = spec["publisher"], kind_of(spec["publisher"]).names
    if key:
        yield from strings(publisher[key], ("publisher", key))


def jq_programs(spec: dict[str, Any]) -> Iterator[tuple[Path, str]]:
    """Yield the jq programs of a spec; they may use any parameter."""
    mounts = (spec.get("environment") or {}).get("par_mounts", [])
    for index, mount in enumerate(mounts):
        if isinstance(mount.get("jqscript"), str):
            yield ("environment", "par_mounts", index, "jqscript"), mount["jqscript"]
    key = kind_of(spec["publisher"]).program
    if key:
        yield ("publisher", key), spec["publisher"][key]


def needs(spec: dict[str, Any]) -> dict[str, list[Path]]:
    """Return the parameters that a valid spec asks for by name, in order of appearance, with where each is used.

    Parameters that only a jq program uses are not known. Braces that cannot be a parameter's name are left out.
    """
    asked = [
        (use.name, template.path)
        for template in templates(spec)
        for use in template.uses()
        if not (template.source == "state" or use.is_positional or use.is_shell or use.is_workdir)
    ]
    asked += [(name, path) for path, name in named_parameters(spec)]
    found: dict[str, list[Path]] = {}
    for name, path in dict.fromkeys(asked):
        found.setdefault(name, []).append(path)
    return found


@lru_cache(maxsize=4)
def braces(text: str) -> Braces:
    """Sort out the braces of a text, of those that are in no placeholder the first 300; never raises."""
    pending: list[int] = []
    literal: list[tuple[int, int]] = []
    lone: list[int] = []
    names: list[Placeholder] = []
    found, others = readable_placeholders(text)
    for at in others:
        if text[at] == "}" and pending:
            literal.append((pending.pop(), at + 1))
        else:
            (pending if text[at] == "{" else lone).append(at)
    for one in found:
        if _plausible(one, text):
            names.append(one)
        else:
            literal.append((one.start, one.end))
    return Braces(tuple(names), tuple(sorted(literal)), tuple(sorted([*lone, *pending])))


def _plausible(placeholder: Placeholder, text: str) -> bool:
    rest = text[placeholder.start + 1 + len(placeholder.field) : placeholder.end - 1]
    if not _AFTER_NAME.match(rest):
        return False
    if placeholder.name == "" or placeholder.name.isdigit():
        return placeholder.field == placeholder.name or placeholder.field.startswith(f"{placeholder.name}[")
    return bool(_NAME.match(placeholder.name))
