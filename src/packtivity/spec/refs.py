"""References: what ``$ref`` means, as jsonref 1.1 has it (which upstream 0.17.1 uses).

An object whose ``$ref`` is a string stands for what it names: a file beside the one it stands in, a place in it
(``file.yml#/a/b``), or a place in its own file (``#/a/b``). Keys beside ``$ref`` are dropped, unless a reference
points inside itself. Any other ``$ref`` is plain data. Only what the document really uses is resolved.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from packtivity.errors import LoadError
from packtivity.registry import nearest
from packtivity.spec.source_text import MAX_DEPTH, MOST_MISTAKES, BadText
from packtivity.spec.yamltext import Parsed
from packtivity.types import JSON, Diagnostic, JSONValue, Path

if TYPE_CHECKING:
    from packtivity.spec.sources import Location

KINDS = "A reference names a file beside this one, '#/a/place' in it, or an http or https address."
_CHAIN = 50
"""How many references may stand behind each other."""
_FILES = 200
"""How many files one document may be made of."""
_EXPANSION = 20_000_000
"""Characters, and 16 for each value, that references may make."""


@dataclass(slots=True, eq=False, repr=False)
class Place:
    """A value, and where it is written: which file, and the path to it there. Made for each value of a document."""

    file: Location
    path: Path
    value: JSON


class NotAllowed(LoadError):
    """A document refers to something it may not reach: a remote one to local files, or an unknown kind of address."""


class Unresolvable(Exception):
    """A reference names nothing; never leaves this module's callers."""

    def __init__(self, message: str, hint: str = "", *, code: str = "unresolvable-reference", near: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code
        self.near = near


def is_reference(value: JSONValue) -> bool:
    """Return whether a value stands for another one."""
    return isinstance(value, dict) and isinstance(value.get("$ref"), str)


def has_references(value: JSONValue) -> bool:
    """Return whether anything in a document may stand for another value."""
    if isinstance(value, dict):
        return "$ref" in value or any(map(has_references, value.values()))
    return isinstance(value, list) and any(map(has_references, value))


def pointer_parts(fragment: str) -> list[str]:
    """Split the part after ``#``, as jsonref does: percent escapes first, then ``/``, then ``~1`` and ``~0``."""
    if not fragment:
        return []
    return [part.replace("~1", "/").replace("~0", "~") for part in unquoted(fragment.lstrip("/")).split("/")]


def unquoted(text: str) -> str:
    """Return a text with its percent escapes resolved."""
    if "%" not in text:
        return text
    from urllib.parse import unquote  # which takes longer to import than a local spec to read

    return unquote(text)


def scheme_of(reference: str) -> str:
    """Return ``http`` for ``HTTP://…``, and nothing for what is no address but a name."""
    scheme, found, _ = reference.partition("://")
    plain = scheme.replace("+", "").replace("-", "").replace(".", "")
    return scheme.lower() if found and plain.isascii() and plain.isalnum() and scheme[0].isalpha() else ""


class References:
    """All files of one document, and the way from a reference to what it stands for.

    :param read: gives the text of a place, read; raises ``LoadError`` or ``BadText``.
    """

    def __init__(self, read: Callable[[Location], Parsed]) -> None:
        self.files: dict[Location, Parsed] = {}
        self._read = read
        self._hopping: dict[int, Place] = {}

    def open(self, file: Location) -> Parsed:
        """Return a file, read once.

        :raises LoadError, BadText: as reading does.
        """
        found = self.files.get(file)
        if found is None:
            if len(self.files) >= _FILES:
                raise LoadError(f"{file.shown}: this document is made of more than {_FILES} files", hint="Join some.")
            found = self.files[file] = self._read(file)
        return found

    def point(self, file: Location, fragment: str, origin: JSONValue = None) -> Place:
        """Return what a fragment names in a file.

        :param origin: the reference that is being followed; it may point inside itself.
        :raises Unresolvable: there is nothing.
        :raises LoadError, BadText: the file cannot be read.
        """
        place = Place(file, (), self.open(file).data)
        for part in pointer_parts(fragment):
            if is_reference(place.value) and place.value is not origin:
                place = self.follow(place)
            place = _step(place, part, fragment)
        return place

    def follow(self, place: Place) -> Place:
        """Return what a value stands for, through any number of references; a value that is none stands for itself.

        :raises Unresolvable: a reference names nothing, or itself.
        :raises LoadError, BadText: a file cannot be read.
        """
        passed: set[int] = set()
        while is_reference(place.value):
            if id(place.value) in passed:
                raise Unresolvable(*_circle([place]), code="circular-reference")
            passed.add(id(place.value))
            place = self.hop(place)
        return place

    def hop(self, place: Place) -> Place:
        """Return what one reference names, which may be a reference again.

        :raises Unresolvable: it names nothing, or can be found only by way of itself.
        :raises LoadError, BadText: the file cannot be read.
        """
        key = id(place.value)
        if key in self._hopping or len(self._hopping) >= _CHAIN:
            raise Unresolvable(*_circle([*self._hopping.values(), place]), code="circular-reference")
        self._hopping[key] = place
        try:
            file, fragment = place.file.split(place.value["$ref"])
            return self.point(file, fragment, place.value)
        finally:
            del self._hopping[key]


def _circle(places: list[Place]) -> tuple[str, str]:
    refs = [place.value["$ref"] for place in places]
    if all(place.value is places[0].value for place in places):
        return f"the reference {refs[0]!r} leads back to itself", "Let it name a place outside of itself."
    shown = " → ".join(repr(ref) for ref in [*refs[:6], *(["…"] if len(refs) > 6 else [])])
    return f"references lead in a circle: {shown}", "Let one of them name a place outside of the circle."


def _step(place: Place, part: str, fragment: str) -> Place:
    value = place.value
    if isinstance(value, dict):
        if part in value:
            return Place(place.file, (*place.path, part), value[part])
    elif isinstance(value, list) and part.removeprefix("-").isdecimal() and -len(value) <= int(part) < len(value):
        index = int(part) % len(value)
        return Place(place.file, (*place.path, index), value[index])
    raise _nothing(place, part, fragment)


def _nothing(place: Place, part: str, fragment: str) -> Unresolvable:
    at = "".join(f"/{step}" for step in place.path) or "its top"
    message = f"'#{fragment}' names nothing in {place.file.shown}: "
    if isinstance(place.value, dict):
        near = nearest(part, place.value)
        there = ", ".join(list(place.value)[:8]) + (", …" if len(place.value) > 8 else "")
        hint = f"Did you mean {near!r}?" if near else f"There are: {there or 'no keys at all'}."
        return Unresolvable(f"{message}there is no key {part!r} at {at}", hint, near=near or "")
    if isinstance(place.value, list):
        return Unresolvable(f"{message}the list at {at} has {len(place.value)} items and no item {part!r}")
    return Unresolvable(f"{message}{at} is neither a mapping nor a list")


class Expansion:
    """Puts in the place of each reference what it stands for.

    :ivar problems: what could not be resolved; the data has ``None`` there.
    """

    def __init__(self, references: References) -> None:
        self.problems: list[Diagnostic] = []
        self._references = references
        self._inside: dict[int, Place] = {}
        self._room = _EXPANSION

    def expand(self, place: Place, path: Path = ()) -> JSON:
        """Return the value with every reference in it resolved.

        :param path: where the value goes in the whole document.
        :raises LoadError: a remote document cannot be fetched.
        """
        value = place.value
        self._room -= 16 + (len(value) if isinstance(value, str) else 0)
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                return self._reference(place, path)
            self._check_size(place, path)
            file, at = place.file, place.path
            return {k: self.expand(Place(file, (*at, k), v), (*path, k)) for k, v in value.items()}
        if isinstance(value, list):
            self._check_size(place, path)
            file, at = place.file, place.path
            return [self.expand(Place(file, (*at, i), v), (*path, i)) for i, v in enumerate(value)]
        return value

    def _check_size(self, place: Place, path: Path) -> None:
        if len(path) < MAX_DEPTH and self._room > 0:
            return
        message = f"references make lists and mappings more than {MAX_DEPTH} deep"
        if self._room <= 0:
            message = f"references make more than {_EXPANSION:,} characters of this document"
        code = "too-large" if self._room <= 0 else "too-deep"
        raise BadText(
            [*self.problems, self._diagnostic(place, path, Unresolvable(message, "Write it flatter.", code=code))]
        )

    def _reference(self, place: Place, path: Path) -> JSON:
        key = id(place.value)
        try:
            if key in self._inside or len(self._inside) >= _CHAIN:
                circle = list(self._inside.values())
                start = next((at for at, one in enumerate(circle) if one.value is place.value), 0)
                raise Unresolvable(*_circle([*circle[start:], place]), code="circular-reference")
            target = self._references.hop(place)
        except Unresolvable as error:
            return self._tell(self._diagnostic(place, path, error))
        except BadText as error:
            return self._tell(*error.diagnostics)
        except LoadError as error:
            return self._not_loaded(place, path, error)
        self._inside[key] = place
        try:
            return self.expand(target, path)
        finally:
            del self._inside[key]

    def _not_loaded(self, place: Place, path: Path, error: LoadError) -> None:
        found = self._diagnostic(place, path, Unresolvable(error.message, error.hint))
        if isinstance(error, NotAllowed):
            found = self._diagnostic(place, path, Unresolvable(error.message, error.hint, code="reference-not-allowed"))
        elif place.file.split(place.value["$ref"])[0].remote:
            raise LoadError(
                f"{error.message} (named at {found.position or place.file.shown})", hint=error.hint
            ) from error
        self._tell(found)

    def _tell(self, *found: Diagnostic) -> None:
        self.problems.extend(found)
        if len(self.problems) >= MOST_MISTAKES:
            raise BadText(self.problems)

    def _diagnostic(self, place: Place, path: Path, error: Unresolvable) -> Diagnostic:
        parsed = self._references.files[place.file]
        at = (*place.path, "$ref") if is_reference(place.value) else place.path
        position = parsed.position(at)
        excerpt = parsed.text.line(position.line) if position else ""
        return Diagnostic("error", error.code, error.message, path, position, excerpt, error.near, error.hint)
