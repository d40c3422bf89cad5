"""References: what ``$ref`` means, as jsonref 1.1 has it (which upstream 0.17.1 uses).

An object whose ``$ref`` is a string stands for what it names: a file beside the one it stands in, a place in it
(``file.yml#/a/b``), or a place in its own file (``#/a/b``). Keys beside ``$ref`` are dropped, unless a reference
points inside itself. Any other ``$ref`` is plain data. Only what the document really uses is resolved.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

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


class File:
    """A document as a place: what references in it are relative to.

    :cvar remote: whether it is on the network.
    """

    __slots__ = ()
    remote: ClassVar[bool] = True

    def join(self, reference: str) -> Location:
        """Return what a reference without its fragment names, seen from this document."""
        raise NotImplementedError

    def split(self, reference: str) -> tuple[Location, str]:
        """Return the place and the fragment of a reference.

        :raises NotAllowed: as :meth:`join`.
        """
        name, _, fragment = reference.partition("#")
        return self.join(name), fragment

    def name_of(self, reference: str, base: Location) -> str:  # noqa: ARG002 (of a local file)
        """Return what to write here for the file that ``reference`` names seen from ``base``; empty if there is none."""
        return ""


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
    """All files of one document, and the way from its references to what they stand for.

    :param read: gives the text of a place, read; raises ``LoadError`` or ``BadText``.
    :param base: a place in the toplevel, which people take references to be relative to.
    :ivar links: paths in the whole document → where the values at and below them are written; ``()`` is its root.
    :ivar problems: what could not be resolved; the data has ``None`` there.
    """

    def __init__(self, read: Callable[[Location], Parsed], base: Location) -> None:
        self.files: dict[Location, Parsed] = {}
        self.links: dict[Path, Place] = {}
        self.problems: list[Diagnostic] = []
        self._read = read
        self._base = base
        self._hopping: dict[int, Place] = {}
        self._inside: dict[int, Place] = {}
        self._room = _EXPANSION

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

    # --- pointers ---

    def point(self, file: Location, fragment: str, origin: JSONValue = None) -> Place:
        """Return what a fragment names in a file.

        :param origin: the reference that is being followed; it may point inside itself.
        :raises Unresolvable: there is nothing.
        :raises LoadError, BadText: the file cannot be read.
        """
        place = Place(file, (), self.open(file).data)
        for part in pointer_parts(fragment):
            passed: set[int] = set()
            while is_reference(place.value) and place.value is not origin:
                if id(place.value) in passed:
                    raise _circle([place])
                passed.add(id(place.value))
                place = self._hop(place)
            place = _step(place, part, fragment)
        return place

    def _hop(self, place: Place) -> Place:
        """Return what one reference names, which may be a reference again; errors as for :meth:`point`."""
        key = id(place.value)
        if key in self._hopping or len(self._hopping) >= _CHAIN:
            raise _circle([*self._hopping.values(), place])
        self._hopping[key] = place
        try:
            file, fragment = place.file.split(place.value["$ref"])
            return self.point(file, fragment, place.value)
        finally:
            del self._hopping[key]

    # --- data ---

    def expand(self, place: Place, path: Path = ()) -> JSON:
        """Return the value with every reference in it replaced by what it stands for.

        :param path: where the value goes in the whole document.
        :raises LoadError: a remote document cannot be fetched.
        :raises BadText: it is made too large or too deep, or nearly nothing can be resolved.
        """
        value = place.value
        self._room -= 16 + (len(value) if isinstance(value, str) else 0)
        if is_reference(value):
            return self._resolved(place, path)
        if not isinstance(value, (dict, list)):
            return value
        self._check_size(place, path)
        file, at = place.file, place.path
        if isinstance(value, dict):
            return {k: self.expand(Place(file, (*at, k), v), (*path, k)) for k, v in value.items()}
        return [self.expand(Place(file, (*at, i), v), (*path, i)) for i, v in enumerate(value)]

    def _check_size(self, place: Place, path: Path) -> None:
        if self._room <= 0:
            message, code = f"references make more than {_EXPANSION:,} characters of this document", "too-large"
        elif len(path) >= MAX_DEPTH:
            message, code = f"references make lists and mappings more than {MAX_DEPTH} deep", "too-deep"
        else:
            return
        found = self._diagnostic(place, path, Unresolvable(message, "Write it flatter.", code=code))
        raise BadText([*self.problems, found])

    def _resolved(self, place: Place, path: Path) -> JSON:
        key = id(place.value)
        try:
            if key in self._inside or len(self._inside) >= _CHAIN:
                circle = list(self._inside.values())
                start = next((at for at, one in enumerate(circle) if one.value is place.value), 0)
                raise _circle([*circle[start:], place])
            target = self._hop(place)
        except BadText as error:
            return self._tell(*error.diagnostics)
        except Unresolvable as error:
            return self._tell(self._diagnostic(place, path, error))
        except LoadError as error:
            code = "reference-not-allowed" if isinstance(error, NotAllowed) else "unresolvable-reference"
            hint = error.hint
            if elsewhere := place.file.name_of(place.value["$ref"], self._base):
                hint = f"It is relative to the file it stands in, and not to the toplevel: write {elsewhere!r} here."
            found = self._diagnostic(place, path, Unresolvable(error.message, hint, code=code))
            if not isinstance(error, NotAllowed) and place.file.split(place.value["$ref"])[0].remote:
                where = f"{error.message} (named at {found.position or place.file.shown})"
                raise LoadError(where, hint=error.hint) from error
            return self._tell(found)
        self._inside[key] = place
        self.links[path] = target
        try:
            return self.expand(target, path)
        finally:
            del self._inside[key]

    def _tell(self, *found: Diagnostic) -> None:
        self.problems.extend(found)
        if len(self.problems) >= MOST_MISTAKES:
            raise BadText(self.problems)

    def _diagnostic(self, place: Place, path: Path, error: Unresolvable) -> Diagnostic:
        parsed = self.files[place.file]
        position = parsed.position((*place.path, "$ref") if is_reference(place.value) else place.path)
        excerpt = parsed.line(position.line) if position else ""
        return Diagnostic("error", error.code, error.message, path, position, excerpt, error.near, error.hint)


def _circle(places: list[Place]) -> Unresolvable:
    refs = [place.value["$ref"] for place in places]
    if all(place.value is places[0].value for place in places):
        message, hint = f"the reference {refs[0]!r} leads back to itself", "Let it name a place outside of itself."
    else:
        shown = " → ".join(repr(ref) for ref in [*refs[:6], *(["…"] if len(refs) > 6 else [])])
        message, hint = f"references lead in a circle: {shown}", "Let one of them name a place outside of the circle."
    return Unresolvable(message, hint, code="circular-reference")


def _step(place: Place, part: str, fragment: str) -> Place:
    value = place.value
    if isinstance(value, dict) and part in value:
        return Place(place.file, (*place.path, part), value[part])
    if isinstance(value, list) and part.removeprefix("-").isdecimal() and -len(value) <= int(part) < len(value):
        index = int(part) % len(value)
        return Place(place.file, (*place.path, index), value[index])
    at = "".join(f"/{step}" for step in place.path) or "its top"
    message = f"'#{fragment}' names nothing in {place.file.shown}: "
    if isinstance(value, dict):
        near = nearest(part, value)
        there = ", ".join(list(value)[:8]) + (", …" if len(value) > 8 else "")
        hint = f"Did you mean {near!r}?" if near else f"There are: {there or 'no keys at all'}."
        raise Unresolvable(f"{message}there is no key {part!r} at {at}", hint, near=near or "")
    if isinstance(value, list):
        raise Unresolvable(f"{message}the list at {at} has {len(value)} items and no item {part!r}")
    raise Unresolvable(f"{message}{at} is neither a mapping nor a list")
