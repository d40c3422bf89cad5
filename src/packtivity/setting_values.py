"""How the values of settings are read from text; each function raises ``ValueError`` for what it cannot read."""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_CVMFS_REPOS = ("atlas.cern.ch", "atlas-condb.cern.ch", "sft.cern.ch")
_TRUE = frozenset({"1", "true", "yes", "on", "y", "t"})
_FALSE = frozenset({"", "0", "false", "no", "off", "n", "f", "null", "~", "none"})


def text(value: str) -> str:
    """Take any text."""
    return value


def boolean(value: str) -> bool:
    """Read a switch.

    :raises ValueError: it is neither true nor false.
    """
    lowered = value.strip().lower()
    if lowered in _TRUE:
        return True
    if lowered in _FALSE:
        return False
    raise ValueError("expected true or false")


def present(value: str) -> bool:
    """Read a switch that upstream 0.17.1 turned on by its mere presence, yet let ``false`` and ``0`` mean off."""
    return value == "" or value.strip().lower() not in _FALSE


def whole(value: str) -> int:
    """Read a whole number that is not negative."""
    number = int(value)
    if number < 0:
        raise ValueError("expected a number that is not negative")
    return number


def count(value: str) -> int:
    """Read a whole number above 0."""
    number = whole(value)
    if not number:
        raise ValueError("expected a number above 0")
    return number


def seconds(value: str) -> float:
    """Read a number of seconds above 0."""
    number = float(value)
    if not number > 0:
        raise ValueError("expected a number of seconds above 0")
    return number


def names(value: str) -> tuple[str, ...]:
    """Read names separated by commas."""
    return tuple(name for part in value.split(",") if (name := part.strip()))


def paths(value: str) -> tuple[str, ...]:
    """Read paths as ``PATH`` has them."""
    return tuple(path for path in value.split(os.pathsep) if path)


def repositories(value: str) -> tuple[str, ...]:
    """Read a YAML list, as upstream 0.17.1 does; a plain comma list is welcome too."""
    import yaml

    found = yaml.safe_load(value)
    if isinstance(found, str):
        return names(found)
    if found is None:
        return DEFAULT_CVMFS_REPOS
    if isinstance(found, list) and all(isinstance(name, str) for name in found):
        return tuple(found) or DEFAULT_CVMFS_REPOS
    raise ValueError("expected a list of repository names")


def with_given_locale(variables: Mapping[str, str]) -> dict[str, str]:
    """Return a copy of this process's environment without what Python has set as it started.

    In the locale C that is ``LC_CTYPE`` (PEP 538), which its caller has not.
    """
    copy = dict(variables)
    if copy.get("LC_CTYPE") in ("C.UTF-8", "C.utf8", "UTF-8"):
        copy |= _given("LC_CTYPE", copy.pop("LC_CTYPE"))
    return copy


@cache
def _given(name: str, now: str) -> dict[str, str]:
    """Return a variable as this process was given it, nothing where it was not; as it is ``now`` where the system does not tell."""
    try:
        with open("/proc/self/environ", "rb") as file:
            variables = file.read().split(b"\0")
    except OSError:
        return {name: now}
    given = dict(one.split(b"=", 1) for one in variables if b"=" in one).get(name.encode())
    return {} if given is None else {name: os.fsdecode(given)}
