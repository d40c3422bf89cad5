"""Documents: data together with where it is written.

:func:`load_document` finds a spec in any of its sources and resolves its references; :func:`parse_document` reads
a text at hand. Whether the data is a valid spec is the business of :mod:`packtivity.spec.schemas`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from packtivity import errors
from packtivity.settings import Settings, current
from packtivity.spec.refs import Expansion, Place, References, Unresolvable, has_references
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
    problems: tuple[Diagnostic, ...] = ()
    _references: References | None = None
    _root: Place | None = None

    def position(self, path: Path, *, key: bool = False) -> Position | None:
        """Return where a value is written, be it in another file or behind an alias.

        :param path: keys and list positions from the root of :attr:`data` as it was loaded.
        :param key: ask for the key of the value instead, where it has one.
        :return: ``None`` for what is written nowhere, such as a default that was filled in.
        """
        place = self._place(path[:-1] if key else path)
        if place is None or self._references is None:
            return None
        at = (*place.path, *path[-1:]) if key else place.path
        return self._references.open(place.file).position(at, key=key)

    def offset_position(self, path: Path, offset: int) -> Position | None:
        """Return where a character of a string is written.

        :param offset: which character, from 0.
        :return: exact for every character that is not blank, whatever the style of the string.
        """
        place = self._place(path)
        if place is None or self._references is None:
            return None
        return self._references.open(place.file).offset_position(place.path, offset)

    def excerpt(self, position: Position) -> str:
        """Return the line of the source a position is on, without its newline; empty when there is none."""
        files = self._references.files.values() if self._references else ()
        return next((file.text.line(position.line) for file in files if file.text.source == position.file), "")

    def _place(self, path: Path) -> Place | None:
        """Return where a value really stands, all references on the way followed."""
        if self._root is None or self._references is None:
            return None
        place = self._references.follow(self._root)
        for part in path:
            try:
                value = place.value[part]
            except (LookupError, TypeError):
                return None
            place = self._references.follow(Place(place.file, (*place.path, part), value))
        return place


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
    try:
        reader = _Reader(file, spec, toplevel, trusted_sources, settings or current(), offline)
        return _resolved(References(reader), file, fragment)
    except BadText as error:
        raise _invalid(error) from None


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
    references = _Plain(lambda _: parsed)
    return Document(parsed.data, source, parsed.problems, references, Place(file, (), references.open(file).data))


class _Plain(References):
    """The one file of a text at hand, in which nothing is a reference."""

    def follow(self, place: Place) -> Place:
        return place


@dataclass(eq=False, repr=False)
class _Reader:
    """Reads the documents of one load: the spec at ``file``, as the user named it, and what it refers to."""

    file: Location
    spec: str
    toplevel: str | None
    trusted_sources: Sequence[str]
    settings: Settings
    offline: bool | None
    access: Access | None = None

    def __call__(self, file: Location) -> Parsed:
        if isinstance(file, LocalFile):
            return parse(read_local(file), file.shown)
        from packtivity.spec import access, fetch  # these import requests

        if self.access is None:
            self.access = access.of_load(self.file, self.spec, self.toplevel, self.settings, self.trusted_sources)
        return parse(fetch.fetch(file, self.settings, self.access, offline=self.offline), file.shown)


def _resolved(references: References, file: Location, fragment: str) -> Document:
    parsed = references.open(file)
    try:
        root = references.point(file, fragment)
    except Unresolvable as error:
        raise BadText([Diagnostic("error", error.code, error.message, expected=error.near, hint=error.hint)]) from None
    data = root.value
    if has_references(data):
        expansion = Expansion(references)
        data = expansion.expand(root)
        if expansion.problems:
            raise BadText(expansion.problems)
    problems = tuple(problem for one in references.files.values() for problem in one.problems)
    return Document(data, parsed.text.source, problems, references, root)


def _invalid(error: BadText) -> errors.InvalidSpec:
    return errors.InvalidSpec(error.message, error.diagnostics, hint=error.hint)
