"""Forms that old versions had, and what to write in their place.

Names come from the first releases, from handlers that upstream 0.17.1 still carries although its
schemas admit none of them, and from forks whose specs are found in public repositories.
"""

from __future__ import annotations

from typing import NamedTuple


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

_NOOP = """environment:
  environment_type: noop-env"""

_TYPES: dict[str, dict[str, Retired]] = {
    "process": {
        "test-process": Retired(
            "was for packtivity's own tests; a spec without anything to run has no process", "process: null"
        ),
    },
    "environment": {
        "manual-env": Retired("is now manual-instructions-env", _MANUAL.format(kind="environment", short="env")),
        "test-env": Retired("was for packtivity's own tests; noop-env runs nothing, too", _NOOP),
        "umbrella": Retired("was a fork's; today software comes in a container image", _CONTAINER),
        "tarball": Retired("was a fork's; today software comes in a container image", _CONTAINER),
    },
    "publisher": {
        "process-attr-pub": Retired("is now frompar-pub, which takes the same outputmap", _FROMPAR),
        "fromattr-pub": Retired("is now frompar-pub, which takes the same outputmap", _FROMPAR),
        "dummy-pub": Retired(
            "is now constant-pub", "publisher:\n  publisher_type: constant-pub\n  publish:\n    name: value"
        ),
        "manual-publishing": Retired("is now manual-instructions-pub", _MANUAL.format(kind="publisher", short="pub")),
    },
}


def retired_type(kind: str, name: str) -> Retired | None:
    """Return what became of a type, ``None`` if there never was such a type; ``_`` and ``-`` count as one."""
    return _TYPES[kind].get(name.replace("_", "-"))


def retired_types(kind: str) -> tuple[str, ...]:
    """Return the names of a kind's retired types."""
    return tuple(_TYPES[kind])


def retired_type_key(kind: str) -> str:
    """Return how old versions wrote a kind's type key."""
    return f"{kind}-type"
