"""What to do about mistakes that people really make, with text to paste; and the forms that old versions had.

Names of retired forms come from the first releases, from handlers that upstream 0.17.1 still carries although its
schemas admit none of them, and from forks whose specs are found in public repositories.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from packtivity.spec.diagnostics import json_type, listed
from packtivity.types import JSONValue, Path

PARTS = {
    "process": "Write, for example\nprocess:\n  process_type: string-interpolated-cmd\n  cmd: echo {name}",
    "environment": (
        "Write, for example\nenvironment:\n  environment_type: docker-encapsulated\n  image: docker.io/library/python"
    ),
    "publisher": (
        "Write, for example\npublisher:\n  publisher_type: interpolated-pub\n"
        '  publish:\n    output: "{workdir}/output.root"'
    ),
}

WHOLE_SPEC = """Write, for example
process:
  process_type: string-interpolated-cmd
  cmd: echo hello {name} > {outputfile}
environment:
  environment_type: localproc-env
publisher:
  publisher_type: frompar-pub
  outputmap:
    greeting: outputfile"""

PARAMETERS = "If these are parameters, give the spec first and this file after it."

WORKFLOW_KEYS = ("stages", "steps", "workflow", "scheduler")


def of_root_key(key: str, parts: Sequence[str] = ()) -> str:
    """Return what to do about a key that a spec does not have.

    :param parts: the parts that may have it.
    """
    if key in WORKFLOW_KEYS:
        return "This looks like a workflow; name one step of it with FILE#/POINTER, such as steps.yml#/fit."
    kind = key[: -len("_type")]
    if kind in PARTS and key[len(kind) :] in {"_type", "-type"}:
        return f"It belongs inside {kind!r}:\n{kind}:\n  {kind}_type: …"
    if parts:
        return f"It belongs inside {listed(parts, last='or')}: indent it as the other keys there are."
    return "Remove it; to keep helper keys beside a spec, put the spec under a key of its own and name FILE#/KEY."


def of_part(kind: str, part: JSONValue) -> str:
    """Return what to do about a part that is no mapping."""
    if isinstance(part, str) and kind == "environment":
        return f"If {part!r} is an image, write\nenvironment:\n  environment_type: docker-encapsulated\n  image: {part}"
    if isinstance(part, str) and kind == "process":
        return "If it is a command, write\nprocess:\n  process_type: string-interpolated-cmd\n  cmd: …"
    return PARTS[kind]


STRAY = {
    ("environment", "command"): "The command stands in process: cmd.",
    ("environment", "cmd"): "The command stands in process: cmd.",
    ("environment", "tag"): "The tag is called 'imagetag'.",
    ("environment", "volumes"): "Mounts follow from the state; files made from parameters go under 'par_mounts'.",
    ("environment", "mounts"): "Mounts follow from the state; files made from parameters go under 'par_mounts'.",
    ("environment", "environment"): "Variables go under 'env'.",
    ("process", "image"): "The image stands in environment: image.",
    ("process", "env"): "Variables stand in environment: env.",
    ("process", "command"): "The command line is called 'cmd'.",
    ("process", "args"): "Arguments stand in the command line itself.",
}
"""Where a key belongs that people put in the wrong part."""


_WRONG_TYPE = {
    ("imagetag", "number"): 'Put it in quotes, as it is meant: imagetag: "{written}"',
    ("resources", "object"): "Write a list of one-key mappings: resources: [{kerberos: true}]",
    ("resources", "string"): "Write a list: resources: [CVMFS]",
    ("par_mounts", "object"): "Write a list: par_mounts: [{mountpath: /data.json, jqscript: .}]",
    ("env", "array"): "Write a mapping: env: {NAME: value}",
    ("env", "string"): "Write a mapping: env: {NAME: value}",
    ("cmd", "array"): "Write one line of text; several lines go under process_type: interpolated-script-cmd.",
    ("script", "array"): "Write one text of several lines, after 'script: |'.",
    ("outputmap", "array"): "Write a mapping: outputmap: {published_name: parameter_name}",
    ("outputmap", "string"): "Write a mapping: outputmap: {published_name: parameter_name}",
}


def of_wrong_type(kind: str, path: Path, value: JSONValue, wanted: str | list[str], written: str) -> str:
    """Return what to do about a value of the wrong type at ``path`` inside a part; ``written`` is how it stands there."""
    got = json_type(value)
    known = _WRONG_TYPE.get((str(path[-1]), got))
    if known:
        return known.replace("{written}", written)
    if wanted == "string" and got in {"number", "boolean"}:
        return "Put the value in quotes."
    if wanted == "boolean" and isinstance(value, str):
        return "Write true or false, without quotes."
    if got == "null":
        return f"Give a value, or remove {path[-1]!r} if it is not needed."
    if got in {"object", "array"} and wanted == "string":
        return "Text with braces, brackets or colons must be in quotes."
    return f"See the reference of {kind} for examples."


# --- retired forms ----------------------------------------------------------------------------------------------


class Retired(NamedTuple):
    """What became of a form: in words, and as text to paste."""

    story: str
    snippet: str


_CONTAINER = """environment:
  environment_type: docker-encapsulated
  image: docker.io/library/debian
  imagetag: stable-slim"""

_FROMPAR = """publisher:
  publisher_type: frompar-pub
  outputmap:
    published_name: parameter_name"""

_MANUAL = """{kind}:
  {kind}_type: manual-instructions-{short}
  instructions: …"""

_FORK = "was a fork's; today software comes in a container image"
_NOOP = "environment:\n  environment_type: noop-env"
_CONSTANT = "publisher:\n  publisher_type: constant-pub\n  publish:\n    name: value"

RETIRED: dict[str, dict[str, Retired]] = {
    "process": {
        "test-process": Retired(
            "was for packtivity's own tests; a spec without anything to run has no process", "process: null"
        ),
    },
    "environment": {
        "manual-env": Retired("is now manual-instructions-env", _MANUAL.format(kind="environment", short="env")),
        "test-env": Retired("was for packtivity's own tests; noop-env runs nothing, too", _NOOP),
        "umbrella": Retired(_FORK, _CONTAINER),
        "tarball": Retired(_FORK, _CONTAINER),
    },
    "publisher": {
        "process-attr-pub": Retired("is now frompar-pub, which takes the same outputmap", _FROMPAR),
        "fromattr-pub": Retired("is now frompar-pub, which takes the same outputmap", _FROMPAR),
        "dummy-pub": Retired("is now constant-pub", _CONSTANT),
        "manual-publishing": Retired("is now manual-instructions-pub", _MANUAL.format(kind="publisher", short="pub")),
    },
}
"""What became of a kind's types, by their names with ``-`` (``_`` counts as one)."""
