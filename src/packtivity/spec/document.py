"""Documents: data together with where it is written.

:func:`load_document` finds a spec in any of its sources and resolves its references; :func:`parse_document` reads
a text at hand. Whether the data is a valid spec is the business of :mod:`packtivity.spec.schemas`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

from packtivity import errors
from packtivity.settings import Settings, current
from packtivity.spec.refs import Place, References, Unresolvable, has_references, is_reference
from packtivity.spec.source_text import BadText
from packtivity.spec.sources import LocalFile, Location, base, locate, read_local
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
    :ivar name: what the user called it.
    :ivar problems: warnings found while loading (``duplicate-key``, ``date-as-string``, ``not-json`` …).
    :ivar stage: parameters that a workflow's stage gives to its step, which the document is; ``None`` for others.
    """

    data: JSON
    source: str
    name: str
    problems: tuple[Diagnostic, ...]
    _files: Mapping[Location, Parsed]
    _links: Mapping[Path, Place]
    stage: Document | None = None

    def position(self, path: Path, *, key: bool = False) -> Position | None:
        """Return where a value is written, be it in another file or behind an alias.

        :param path: keys and list positions from the root of :attr:`data` as it was loaded.
        :param key: ask for the key of the value instead, where it has one.
        :return: ``None`` for what is written nowhere, such as a default that was filled in.
        """
        if key and path and (parent := self._place(path[:-1])):
            return self._files[parent.file].position((*parent.path, path[-1]), key=True)
        place = self._place(path)
        return self._files[place.file].position(place.path) if place else None

    def offset_position(self, path: Path, offset: int) -> Position | None:
        """Return where a character of a string is written.

        :param offset: which character, from 0.
        :return: exact for every character that is not blank, whatever the style of the string.
        """
        place = self._place(path)
        return self._files[place.file].offset_position(place.path, offset) if place else None

    def written(self, path: Path) -> str | None:
        """Return a value that is no mapping or list as it is written, without quotes."""
        place = self._place(path)
        return self._files[place.file].written(place.path) if place else None

    def excerpt(self, position: Position) -> str:
        """Return the line of the source a position is on, without its newline; empty when there is none."""
        files = self._files.values()
        return next((file.line(position.line) for file in files if file.source == position.file), "")

    def _place(self, path: Path) -> Place | None:
        """Return where a value is written: below the last reference on the way; ``None`` for what is nowhere."""
        for length in range(len(path), -1, -1):
            if link := self._links.get(path[:length]):
                return Place(link.file, (*link.path, *path[length:]), None)
        return None


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
        elsewhere = base(toplevel, chosen) if isinstance(file, LocalFile) else file
        return _resolved(References(read, elsewhere), file, fragment, spec)
    except BadText as error:
        raise _invalid(error) from None


def _resolved(references: References, file: Location, fragment: str, name: str) -> Document:
    parsed = references.open(file)
    try:
        root = references.links[()] = references.point(file, fragment)
    except Unresolvable as error:
        raise BadText([Diagnostic("error", error.code, error.message, expected=error.near, hint=error.hint)]) from None
    data = references.expand(root) if has_references(root.value) else root.value
    if references.problems:
        raise BadText(references.problems)
    problems = tuple(problem for one in references.files.values() for problem in one.problems)
    document = Document(data, parsed.source, name, problems, references.files, references.links)
    scheduler, _, step = fragment.rpartition("/")
    return replace(document, stage=_stage(references, file, scheduler)) if step == "step" else document


def _stage(references: References, file: Location, scheduler: str) -> Document | None:
    """Return the parameters that stand beside a step in its stage (yadage), a mapping or a list of ``key`` and ``value``."""
    try:
        place = references.point(file, f"{scheduler}/parameters")
    except Unresolvable:
        return None
    value: JSON = place.value
    links: dict[Path, Place] = {(): place}
    if isinstance(value, list) and all(isinstance(one, dict) and isinstance(one.get("key"), str) for one in value):
        links = {(one["key"],): Place(place.file, (*place.path, at), one) for at, one in enumerate(value)}
        value = {one["key"]: one.get("value") for one in value}
    source = references.files[place.file].source
    if not isinstance(value, dict) or is_reference(value):
        return None
    return Document(value, source, source, (), references.files, links)


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
    return Document(parsed.data, source, source, parsed.problems, {file: parsed}, {(): Place(file, (), parsed.data)})


def _invalid(error: BadText) -> errors.InvalidSpec:
    return errors.InvalidSpec(error.message, error.diagnostics, hint=error.hint)
