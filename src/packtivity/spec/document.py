"""Documents: data together with where it is written.

:func:`load_document` finds a spec in any of its sources and resolves its references; :func:`parse_document` reads
a text at hand. Whether the data is a valid spec is the business of :mod:`packtivity.spec.schemas`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from packtivity import errors
from packtivity.settings import Settings, current
from packtivity.spec.refs import Place, References, Unresolvable, has_references
from packtivity.spec.source_text import BadText
from packtivity.spec.sources import LocalFile, Location, locate, read_local
from packtivity.spec.yamltext import Parsed, load_yaml, parse
from packtivity.types import JSON, Diagnostic, Path, Position

if TYPE_CHECKING:
    from packtivity.spec.access import Access


__all__ = ["Document", "load_document", "load_yaml", "parse_document"]


@dataclass(frozen=True, eq=False, repr=False)
class Document:
    """A document, its references resolved.

    :ivar data: plain JSON data with string keys; it belongs to the caller, who may change it.
    :ivar source: path or address of the file it begins in, for people.
    :ivar problems: warnings found while loading (``duplicate-key``, ``date-as-string``, ``not-json``).
    """

    data: JSON
    source: str
    problems: tuple[Diagnostic, ...]
    _files: Mapping[Location, Parsed]
    _links: Mapping[Path, Place]

    def position(self, path: Path, *, key: bool = False) -> Position | None:
        """Return where a value is written, be it in another file or behind an alias.

        :param path: keys and list positions from the root of :attr:`data` as it was loaded.
        :param key: ask for the key of the value instead, where it has one.
        :return: ``None`` for what is written nowhere, such as a default that was filled in.
        """
        parsed, at = self._written(path[:-1] if key else path)
        return parsed.position((*at, *path[-1:]) if key else at, key=key)

    def offset_position(self, path: Path, offset: int) -> Position | None:
        """Return where a character of a string is written.

        :param offset: which character, from 0.
        :return: exact for every character that is not blank, whatever the style of the string.
        """
        parsed, at = self._written(path)
        return parsed.offset_position(at, offset)

    def excerpt(self, position: Position) -> str:
        """Return the line of the source a position is on, without its newline; empty when there is none."""
        files = self._files.values()
        return next((file.line(position.line) for file in files if file.source == position.file), "")

    def _written(self, path: Path) -> tuple[Parsed, Path]:
        """Return the file a value is written in and the path to it there: below the last reference on the way."""
        start = next(length for length in range(len(path), -1, -1) if path[:length] in self._links)
        place = self._links[path[:start]]
        return self._files[place.file], (*place.path, *path[start:])


def load_document(
    spec: str,
    toplevel: str | None = None,
    *,
    offline: bool | None = None,
    settings: Settings | None = None,
    trusted_sources: Sequence[str] = (),
) -> Document:
    """Load a spec and everything it refers to.

    :param spec: path below ``toplevel``, absolute path or address, with ``#/pointer`` for a place inside.
    :param toplevel: directory or source (``https://…``, ``github:…``, ``gitlab-cern:…``, ``from-github/…``); by
        default the current directory.
    :param offline: take remote documents from the cache only; by default as the settings say.
    :param settings: by default those of the environment.
    :param trusted_sources: sources that documents may refer to as if they were named here.
    :raises LoadError: the spec, or a remote document it refers to, cannot be fetched.
    :raises InvalidSpec: it cannot be read, or refers to what is not there; with every mistake found.
    """
    file, fragment = locate(spec, toplevel, settings)
    chosen = settings or current()

    @cache
    def reachable() -> Access:
        from packtivity.spec import access

        return access.of_load(file, spec, toplevel, chosen, trusted_sources)

    def read(place: Location) -> Parsed:
        if isinstance(place, LocalFile):
            return parse(read_local(place), place.shown)
        from packtivity.spec import fetch  # which imports requests

        return parse(fetch.fetch(place, reachable(), offline=offline), place.shown)

    try:
        return _resolved(References(read), file, fragment)
    except BadText as error:
        raise _invalid(error) from None


def _resolved(references: References, file: Location, fragment: str) -> Document:
    parsed = references.open(file)
    try:
        root = references.links[()] = references.point(file, fragment)
    except Unresolvable as error:
        raise BadText([Diagnostic("error", error.code, error.message, expected=error.near, hint=error.hint)]) from None
    data = references.expand(root) if has_references(root.value) else root.value
    if references.problems:
        raise BadText(references.problems)
    problems = tuple(problem for one in references.files.values() for problem in one.problems)
    return Document(data, parsed.source, problems, references.files, references.links)


def parse_document(text: str | bytes, source: str) -> Document:
    """Read a text at hand, a parameter file say. A key ``$ref`` means nothing here.

    :param source: its name in positions.
    :raises InvalidSpec: it cannot be read; with every mistake found.
    """
    try:
        parsed = parse(text, source)
    except BadText as error:
        raise _invalid(error) from None
    file = LocalFile(source, source)
    return Document(parsed.data, source, parsed.problems, {file: parsed}, {(): Place(file, (), parsed.data)})


def _invalid(error: BadText) -> errors.InvalidSpec:
    return errors.InvalidSpec(error.message, error.diagnostics, hint=error.hint)
