"""What a mistake is called, where it stands, and the wording that messages share.

:data:`CODES` is the table of every code; the reference page is made from it. How diagnostics are shown is in
:mod:`packtivity.spec.reporters`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import NamedTuple, Protocol

from packtivity.types import JSON, Diagnostic, JSONValue, Path, Position, Severity


class Code(NamedTuple):
    """What a code stands for: how grave it is, what it means in one line, and what to do about it."""

    severity: Severity
    meaning: str
    remedy: str


_ERRORS = {
    "missing-parameter": (
        "Parameters that the spec needs are not given.",
        "Give them; `packtivity example` writes a file to fill in.",
    ),
    "unreadable": (
        "A file or address cannot be read, or is no mapping of parameters.",
        "Correct its name, or the file.",
    ),
    "yaml-syntax": (
        "The file is not YAML.",
        "Mend the text at the place shown; the caret stands where reading stopped.",
    ),
    "not-utf-8": ("The file is not UTF-8 text.", "Save it as UTF-8."),
    "invalid-character": (
        "A character that no text has: a control character, or half of one.",
        "Remove it, or escape it.",
    ),
    "not-json": ("A value has no form in JSON (not-a-number and infinity are only warned of).", "Write another value."),
    "unknown-tag": ("A YAML tag such as `!python/object` that is not for data.", "Remove the tag."),
    "bad-merge": ("`<<` merges something that is no mapping.", "Merge an anchored mapping."),
    "circular-alias": ("A YAML alias stands inside the value that it repeats.", "Write the value out."),
    "too-deep": ("Lists and mappings are nested too deeply.", "Flatten the document."),
    "too-large": ("Aliases or references blow the document up beyond all use.", "Repeat less."),
    "unresolvable-reference": (
        "A `$ref` names a file or place that is not there.",
        "Correct it; it is relative to its own file.",
    ),
    "reference-not-allowed": (
        "A `$ref` in a remote document names a file of this machine.",
        "Refer to a remote document.",
    ),
    "circular-reference": ("A `$ref` leads back to itself.", "Break the circle."),
    "empty-document": ("The file has no content.", "Write a spec with its three keys."),
    "unknown-key": ("A key that has no meaning here.", "Correct its spelling, or remove it."),
    "missing-key": ("A key that must be there is not.", "Add it."),
    "wrong-type": ("A value is of the wrong kind, such as a number for text.", "Write what is expected."),
    "unknown-type": ("No process, environment or publisher has this type.", "Use one of the types that there are."),
    "missing-type": ("It is not said which type of process, environment or publisher is meant.", "Add the type key."),
    "retired-form": ("A form of old versions that is accepted no longer.", "Write today's form."),
    "schema-violation": (
        "The spec does not keep to the schema given with `--schemasource`.",
        "Write what that schema asks for.",
    ),
}

_WARNINGS = {
    "duplicate-key": ("A key stands twice in one mapping; the last one counts.", "Remove or rename one of them."),
    "not-as-written": (
        "A plain value that YAML 1.1 reads otherwise than it looks, such as `010`, `12:30`, `NO` or `1e-3`.",
        "Put text in quotes, or write the number as the message shows.",
    ),
    "date-as-string": ("A value looks like a date; it is taken as text.", "Put it in quotes."),
    "unknown-placeholder": (
        "A `{placeholder}` that no parameter gives.",
        "Give the parameter, or double braces meant literally.",
    ),
    "misspelt-parameter": (
        "A parameter that nothing uses, while one of nearly that name is asked for.",
        "Correct its spelling.",
    ),
    "unused-parameter": ("A parameter that nothing in the spec uses.", "Remove it, or use it."),
    "empty-parameter": ("A parameter without a value (null), which would be filled in as `None`.", "Give it a value."),
    "empty-parameter-file": ("A parameter file without content.", "Write a line for each parameter."),
    "unquoted-placeholder": (
        "A parameter `{workdir}` without quotes, which YAML reads as a mapping.",
        "Put it in quotes.",
    ),
    "unknown-parameter": ("The publisher names a parameter that is not given.", "Give the parameter, or name another."),
    "lone-brace": (
        "A brace without its partner: the text cannot be rendered.",
        "Write `{{` or `}}` for a literal brace.",
    ),
    "literal-braces": (
        "Braces that belong to a shell, awk, C or Python text and not to a placeholder.",
        "Double them.",
    ),
    "positional-placeholder": (
        "`{}` or `{0}`, which only a list of parameters fills, in a spec whose parameters have names.",
        "Name the parameter, or write `{{}}`.",
    ),
    "unfillable-placeholder": (
        "A placeholder that the given value cannot fill, such as `{x:d}` with a text.",
        "Change either.",
    ),
    "mapping-as-text": (
        "A mapping fills a placeholder, which makes Python's text of it.",
        "Name what is meant in it: `{name[key]}`.",
    ),
    "bare-parameter": (
        "An `interpolated-pub` publishes the name of a parameter as text, without braces.",
        "Write it in braces.",
    ),
    "forbidden-placeholder": ("A placeholder that reaches for Python internals.", "Use the parameter's own keys."),
    "image-with-tag": ("The image name carries a tag, beside that of `imagetag`.", "Move the tag to `imagetag`."),
    "impossible-image": ("No container image can have this name.", "Write REGISTRY/NAME, with a tag or digest."),
    "bad-variable-name": (
        "A name in `env` that no environment variable can have.",
        "Use letters, digits and underscores.",
    ),
    "incomplete-mount": ("An entry of `par_mounts` without `jqscript` or `mountpath`.", "Give both keys."),
    "unknown-resource": ("A resource that nothing understands.", "Correct its spelling."),
    "unreadable-resource": (
        "A resource whose value cannot be read; it has no effect.",
        "Write a value of the form shown.",
    ),
    "bad-jq": ("A jq program that does not compile.", "Correct the program."),
    "no-work-directory": (
        "The publisher looks for files, but no directory to write to is given.",
        "Give one with `--write`.",
    ),
    "missing-output": (
        "What is published as a path is not there after the run.",
        "Let the task write it, under that name.",
    ),
}

_ADVICE = {
    "image-without-tag": ("An image without tag or digest, which another one may take the place of.", "Name a tag."),
    "pattern-as-text": ("An `interpolated-pub` without `glob: true` publishes a pattern as it stands.", "Set `glob`."),
    "leaves-workdir": ("A script changes to a directory of the image.", "Write results by the path of `{workdir}`."),
}

CODES = {code: Code("error", *texts) for code, texts in _ERRORS.items()}
CODES |= {code: Code("warning", *texts) for code, texts in _WARNINGS.items()}
CODES |= {code: Code("advice", *texts) for code, texts in _ADVICE.items()}


@dataclass(frozen=True, slots=True)
class Finding:
    """A mistake before it is known in which file and line it stands.

    :ivar path: where in the document.
    :ivar at_key: whether the key is wrong, and not its value.
    :ivar offset: character in the string at ``path`` that is meant, ``None`` for the whole value.
    """

    code: str
    message: str
    path: Path = ()
    at_key: bool = False
    offset: int | None = None
    expected: str = ""
    hint: str = ""


class Located(Protocol):
    """Data that know where they are written: :class:`packtivity.spec.document.Document`, or parameters of several texts."""

    @property
    def source(self) -> str: ...  # noqa: D102
    @property
    def data(self) -> JSON: ...  # noqa: D102
    @property
    def problems(self) -> tuple[Diagnostic, ...]: ...  # noqa: D102
    def position(self, path: Path, *, key: bool = False) -> Position | None: ...  # noqa: D102
    def offset_position(self, path: Path, offset: int) -> Position | None: ...  # noqa: D102
    def excerpt(self, position: Position) -> str: ...  # noqa: D102


def locate(finding: Finding, document: Located | None) -> Diagnostic:
    """Return ``finding`` with its severity and its place: where it, or the nearest value around it, is written."""
    severity, path = CODES[finding.code].severity, finding.path
    found = Diagnostic(severity, finding.code, finding.message, path, expected=finding.expected, hint=finding.hint)
    if document is None:
        return found
    if finding.offset is not None:
        place = document.offset_position(path, finding.offset)
    else:
        place = document.position(path, key=finding.at_key and bool(path))
    while place is None and path:
        path = path[:-1]
        place = document.position(path)
    place = place or Position(document.source, 1, 1)
    return found._replace(position=place, excerpt=document.excerpt(place))


def arrange(diagnostics: Iterable[Diagnostic]) -> list[Diagnostic]:
    """Return diagnostics sorted by file and place, each once."""
    return sorted(dict.fromkeys(diagnostics), key=lambda one: (one.position or ("", 0, 0), one.code, one.message))


def one_line(diagnostic: Diagnostic) -> str:
    """Return ``file:line:col: error[code]: message``."""
    return f"{where(diagnostic)}: {diagnostic.severity}[{diagnostic.code}]: {diagnostic.message}"


def summary(diagnostics: Iterable[Diagnostic]) -> str:
    """Return ``2 errors, 1 warning``; empty when there is nothing to count."""
    found: Counter[str] = Counter(diagnostic.severity for diagnostic in diagnostics)
    words = {"error": "error{}", "warning": "warning{}", "advice": "piece{} of advice"}
    return ", ".join(
        f"{found[name]} {word.format('s' if found[name] > 1 else '')}" for name, word in words.items() if found[name]
    )


def where(diagnostic: Diagnostic) -> str:
    """Return ``file:line:column``, or the path in the document when no file is known."""
    return str(diagnostic.position) if diagnostic.position else dotted(diagnostic.path) or "document"


def dotted(path: Path) -> str:
    """Return a path as people write it: ``environment.par_mounts[0].jqscript``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


# --- wording ----------------------------------------------------------------------------------------------------

_TYPES = {
    "string": "a string",
    "object": "a mapping",
    "array": "a list",
    "boolean": "true or false",
    "number": "a number",
    "null": "null",
}


def json_type(value: JSONValue) -> str:
    """Return the JSON Schema name of a value's type; ``unknown`` for what has no form in JSON."""
    kinds: tuple[tuple[type | UnionType, str], ...]
    kinds = ((bool, "boolean"), (int | float, "number"), (str, "string"), (dict, "object"), (list, "array"))
    for kind, name in kinds:
        if isinstance(value, kind):
            return name
    return "null" if value is None else "unknown"


def article(value: JSONValue) -> str:
    """Return what a value is, as the sentence *x is …* wants it."""
    return "a boolean (true or false)" if isinstance(value, bool) else _TYPES.get(json_type(value), "no JSON value")


def expected_types(types: str | list[str]) -> str:
    """Return what a schema's ``type`` asks for."""
    return listed([_TYPES[name] for name in ([types] if isinstance(types, str) else types)], last="or")


def listed(names: Sequence[str], *, last: str = "and") -> str:
    """Return ``a, b and c``."""
    *most, final = names or [""]
    return f"{', '.join(most)} {last} {final}" if most else final


def quoted(names: Sequence[str]) -> str:
    """Return names in quotes, joined by *and*; ``nothing else`` for none."""
    return listed([repr(name) for name in names]) or "nothing else"
