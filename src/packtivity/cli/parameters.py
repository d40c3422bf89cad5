"""Parameters as they are given to commands: YAML files and ``NAME=YAML``."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from packtivity import errors
from packtivity.errors import ParameterError
from packtivity.registry import nearest
from packtivity.spec.yamltext import BadText, load_yaml

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from packtivity.spec.document import Document
    from packtivity.types import Diagnostic, Path, Position

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
    return name, load_yaml(value, f"-p {name}")


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
    directory, file = os.path.split(name)
    try:
        there = os.listdir(directory or ".")
    except OSError:
        return ""
    near = nearest(file, there) if file not in there else None
    return f"Did you mean {os.path.join(directory, near)!r}?" if near else ""


def _from_file(name: str) -> dict[str, Any]:
    return _mapping(load_yaml(read_text(name), name), f"parameter file {name}")


def _mapping(found: object, where: str) -> dict[str, Any]:
    if found is None:
        return {}
    if not isinstance(found, dict):
        kind = "a list" if isinstance(found, list) else "a single value"
        raise ParameterError(f"{where}: is {kind}, but must be a mapping", hint="Write lines of the form NAME: VALUE.")
    return found


def parameter_document(initfiles: Sequence[str], parameters: Sequence[str]) -> Merged | None:
    """Return the same parameters as :func:`getinit_data`, with the place each one comes from; None if none are given.

    :raises ParameterError: as there.
    """
    if not (initfiles or parameters):
        return None
    merged = Merged()
    for name in initfiles:
        _mapping(merged.add(read_text(name), name), f"parameter file {name}")
    for text in parameters:
        key, value = _split(text)
        merged.add_one(key, value, f"-p {key}")
    return merged


class Merged:
    """What :class:`packtivity.spec.document.Document` offers, for a mapping put together from several texts."""

    source = "parameters"

    def __init__(self) -> None:
        self.data: dict[str, Any] = {}
        self.problems: tuple[Diagnostic, ...] = ()
        self._origin: dict[str, tuple[Document, Path]] = {}
        self._documents: list[Document] = []

    def add(self, text: str, source: str) -> Any:
        """Take the keys of a mapping; later ones win. What is not YAML is a ``BadText``, as everywhere.

        :returns: what the text says, for the caller to refuse if it is no mapping.
        """
        document = self._read(text, source)
        if isinstance(document.data, dict):
            self.data.update(document.data)
            self._origin.update({name: (document, (name,)) for name in document.data})
        return document.data

    def add_one(self, name: str, text: str, source: str) -> None:
        """Take one value."""
        document = self._read(text, source)
        self.data[name] = document.data
        self._origin[name] = (document, ())

    def _read(self, text: str, source: str) -> Document:
        from packtivity.spec.document import parse_document  # which only validation needs

        try:
            document = parse_document(text, source)
        except errors.InvalidSpec as error:
            raise BadText(error.diagnostics) from None
        self._documents.append(document)
        self.problems += document.problems
        return document

    def position(self, path: Path, *, key: bool = False) -> Position | None:
        """Return where the value (or its key) stands."""
        found = self._find(path)
        return found and found[0].position(found[1], key=key)

    def offset_position(self, path: Path, offset: int) -> Position | None:
        """Return where a character of the string at ``path`` stands."""
        found = self._find(path)
        return found and found[0].offset_position(found[1], offset)

    def excerpt(self, position: Position) -> str:
        """Return the line of text that a position is in."""
        for document in self._documents:
            if document.source == position.file:
                return document.excerpt(position)
        return ""

    def _find(self, path: Path) -> tuple[Document, Path] | None:
        if not path or path[0] not in self._origin:
            return None
        document, start = self._origin[str(path[0])]
        return document, (*start, *path[1:])
