"""Parameters as they are given to commands: YAML files and ``NAME=YAML``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from packtivity.errors import ParameterError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from packtivity.cli.merged import Merged

STDIN = "-"
"""Stands for standard input where a parameter file is expected."""


def getinit_data(initfiles: Iterable[str], parameters: Iterable[str]) -> dict[str, Any]:
    """Read parameters (upstream 0.17.1 has this name).

    :param initfiles: YAML or JSON files, each a mapping; later ones win. ``-`` is standard input.
    :param parameters: ``NAME=YAML``, split at the first ``=``; they win over files, later ones over earlier.
    :returns: parameter name → value.
    :raises ParameterError: a file cannot be read or is not a mapping, a value is not YAML, a ``=`` is missing.
    """
    data: dict[str, Any] = {}
    for name in initfiles:
        data.update(_from_file(name))
    for text in parameters:
        key, value = assignment(text)
        data[key] = value
    return data


def assignment(text: str) -> tuple[str, Any]:
    """Read one ``NAME=YAML``."""
    name, value = _split(text)
    return name, _yaml(value, f"-p {name}")


def _split(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator:
        raise ParameterError(
            f"parameter {text!r} has no '='",
            hint=f"Write -p NAME=VALUE. If {text!r} is a parameter file, give it after the spec without -p.",
        )
    if not name.strip():
        raise ParameterError(f"parameter {text!r} has no name before the '='", hint="Write -p NAME=VALUE.")
    return name, value


def read_text(name: str) -> str:
    """Read a parameter file.

    :raises ParameterError: it is not there, cannot be read, or is not UTF-8 text.
    """
    try:
        if name == STDIN:
            if sys.stdin is None:
                raise ParameterError("parameter file -: standard input is closed", hint="Give parameters with -p.")
            return sys.stdin.read()
        with open(name, encoding="utf-8-sig") as file:
            return file.read()
    except OSError as error:
        hint = f"If this is a parameter, write -p {name}." if "=" in name else _near(name)
        raise ParameterError(f"parameter file {name}: {error.strerror}", hint=hint) from None
    except UnicodeDecodeError as error:
        raise ParameterError(
            f"parameter file {name}: not UTF-8 text (byte {error.start})", hint="Save the file as UTF-8."
        ) from None


def _near(name: str) -> str:
    """Return a hint at the file that was meant, empty if there is none of nearly this name."""
    import os

    from packtivity.registry import nearest

    directory, file = os.path.split(name)
    try:
        there = os.listdir(directory or ".")
    except OSError:
        return ""
    near = nearest(file, there) if file not in there else None
    return f"Did you mean {os.path.join(directory, near)!r}?" if near else ""


def _from_file(name: str) -> dict[str, Any]:
    return _mapping(_yaml(read_text(name), name), f"parameter file {name}")


def _mapping(found: Any, where: str) -> dict[str, Any]:
    if found is None:
        return {}
    if not isinstance(found, dict):
        kind = "a list" if isinstance(found, list) else "a single value"
        raise ParameterError(f"{where}: is {kind}, but must be a mapping", hint="Write lines of the form NAME: VALUE.")
    return found


def _yaml(text: str, source: str) -> Any:
    from packtivity.spec.yamltext import load_yaml

    return load_yaml(text, source)


def parameter_document(initfiles: Iterable[str], parameters: Iterable[str]) -> Merged:
    """Return the same parameters as :func:`getinit_data`, with the place each one comes from.

    :raises ParameterError: as there.
    """
    from packtivity.cli.merged import Merged

    merged = Merged()
    for name in initfiles:
        _mapping(merged.add(read_text(name), name), f"parameter file {name}")
    for text in parameters:
        key, value = _split(text)
        merged.add_one(key, value, f"-p {key}")
    return merged
