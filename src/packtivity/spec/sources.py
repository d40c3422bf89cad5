"""Where documents come from: arithmetic on places, and reading of local files.

Places on the network are in :mod:`packtivity.spec.remote`, fetching from them is in :mod:`packtivity.spec.fetch`.
"""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from packtivity import settings
from packtivity.errors import LoadError
from packtivity.registry import nearest
from packtivity.settings import Settings
from packtivity.spec.refs import KINDS, File, NotAllowed, scheme_of, unquoted

if TYPE_CHECKING:
    from packtivity.spec.remote import GitLabFile, WebFile

Location: TypeAlias = "LocalFile | WebFile | GitLabFile"

LOCAL_LIMIT = 67_108_864
"""Bytes a local document may have."""

STDIN = "-"
"""Stands for standard input where a spec is expected; references in it are relative to the toplevel."""

_REPOSITORIES = ("github:", "gitlab-cern:")


@dataclass(frozen=True, repr=False)
class LocalFile(File):
    """A file of this machine; two of them are equal when their paths are.

    :ivar path: absolute, with ``..`` taken out; links are not followed.
    :ivar shown: the path as the user would write it.
    :ivar is_stdin: whether its content is standard input; the path then says what references are relative to.
    """

    path: str
    shown: str = field(compare=False)
    is_stdin: bool = field(default=False, compare=False)
    remote: ClassVar[bool] = False

    def join(self, reference: str) -> Location:
        """Return what a reference without its fragment names, seen from this file.

        :raises NotAllowed: the reference has an unknown scheme.
        """
        if not reference:
            return self
        scheme = scheme_of(reference)
        if scheme in {"http", "https"}:
            from packtivity.spec.remote import WebFile  # the door to addresses: a local run needs nothing behind it

            return WebFile(reference)
        if scheme not in {"", "file"}:
            raise NotAllowed(f"{reference!r}: addresses of kind {scheme!r} are not known", hint=KINDS)
        if scheme:
            reference = unquoted(reference[len("file://") :].removeprefix("localhost"))
        return self._beside(reference)

    def _beside(self, name: str) -> LocalFile:
        shown = os.path.normpath(os.path.join(os.path.dirname(self.shown), name))
        return LocalFile(os.path.normpath(os.path.join(os.path.dirname(self.path), name)), shown)

    def split(self, reference: str) -> tuple[Location, str]:
        """Return the place and the fragment of a reference; a file whose name has ``#`` or ``%`` in it counts first.

        :raises NotAllowed: as :meth:`join`.
        """
        if not scheme_of(reference) and ("#" in reference or "%" in reference):
            cuts = [at for at, character in enumerate(reference) if character == "#"]
            for cut in [*cuts, len(reference)]:
                for name in (reference[:cut], unquoted(reference[:cut])):
                    if name and os.path.isfile(self._beside(name).path):
                        return self._beside(name), reference[cut + 1 :]
        return super().split(reference)

    def name_of(self, reference: str, base: Location) -> str:
        """Return what to write here for the file that ``reference`` names seen from ``base``; empty if there is none."""
        if not isinstance(base, LocalFile) or scheme_of(reference) or os.path.isabs(reference):
            return ""
        there, fragment = base.split(reference)
        if not isinstance(there, LocalFile) or not os.path.isfile(there.path):
            return ""
        return os.path.relpath(there.path, os.path.dirname(self.path)) + (f"#{fragment}" if fragment else "")


def locate(spec: str, toplevel: str | None, chosen: Settings | None = None) -> tuple[Location, str]:
    """Return the place of a spec and the fragment (``/pointer``) inside it.

    :param spec: what the user calls it: a path below ``toplevel``, an absolute path or an address, with or without
        ``#/pointer``; or a whole ``github:`` or ``gitlab-cern:`` source whose subpath is the file.
    :param toplevel: directory or source, by default the current directory.
    :param chosen: settings, by default those of the environment.
    :raises LoadError: the source does not have one of the known forms.
    """
    if spec.startswith(_REPOSITORIES):
        source, _, spec = spec.rpartition(":")
        if source.count(":") != 1:
            raise LoadError(f"{source}:{spec}: which file?", hint="Write github:USER/REPOSITORY:PATH/TO/SPEC.yml.")
        toplevel = source
    name, _, fragment = spec.partition("#")
    if name == STDIN:
        place = None if toplevel is None or is_remote_source(toplevel) else base(toplevel, chosen)
        folder = os.path.dirname(place.path) if isinstance(place, LocalFile) else os.getcwd()
        return LocalFile(os.path.join(folder, STDIN), "<stdin>", is_stdin=True), fragment
    if not spec or spec[0] == "#":
        raise LoadError(f"{spec!r} names no file", hint="Name the spec file, then '#/pointer' for a place inside.")
    return base(toplevel, chosen).split(spec)


def is_remote_source(toplevel: str) -> bool:
    """Return whether the user names a source that is reached over the network."""
    if toplevel.startswith(_REPOSITORIES) or scheme_of(toplevel) in {"http", "https"}:
        return True
    return toplevel.startswith("from-github/") and not os.path.isdir(toplevel)


def base(toplevel: str | None, chosen: Settings | None) -> Location:
    """Return a place inside the toplevel, so that names are joined to it as to a neighbour.

    :raises LoadError: it does not have one of the known forms.
    """
    toplevel = toplevel or ""
    if is_remote_source(toplevel):
        from packtivity.spec.remote import remote_base  # the same door, for what the user names

        return remote_base(toplevel, chosen or settings.current())
    if scheme_of(toplevel) == "file":
        return base(unquoted(toplevel[len("file://") :]), chosen)
    if toplevel.startswith("from-cap") and not os.path.isdir(toplevel):
        message = f"{toplevel}: sources of the kind 'from-cap' are no longer served by anybody"
        raise LoadError(message, hint="Fetch the spec by other means and load it from a local directory.")
    return LocalFile(os.path.join(os.path.abspath(toplevel), "x"), os.path.join(toplevel, "x"))


def read_local(file: LocalFile) -> bytes:
    """Return the content of a local file.

    :raises LoadError: it is not there, cannot be read, is a directory, or is larger than :data:`LOCAL_LIMIT`.
    """
    if file.is_stdin and sys.stdin is None:
        raise LoadError("standard input is closed", hint="Name a file.")
    try:
        with nullcontext(sys.stdin.buffer) if file.is_stdin else open(file.path, "rb") as stream:
            content = stream.read(LOCAL_LIMIT + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _missing(file, error) from None
    except IsADirectoryError as error:
        here = _documents(file.path)
        hint = f"Name a file in it: {here}." if here else "Name a spec file; it has no YAML files."
        raise LoadError.of(error, f"{file.shown}: this is a directory", hint=hint) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise LoadError.of(
            error, f"{file.shown}: cannot be read: {reason}", hint="Check the path and its permissions."
        ) from None
    if len(content) > LOCAL_LIMIT:
        raise LoadError(f"{file.shown}: larger than {LOCAL_LIMIT:,} bytes", hint="Is this the right file?")
    return content


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


def _documents(directory: str) -> str:
    """Return the names of the first YAML and JSON files in a directory, empty if it has none."""
    here = [name for name in _names(directory) if name.endswith((".yml", ".yaml", ".json"))]
    return ", ".join(here[:8]) + (", …" if len(here) > 8 else "")


def _missing(file: LocalFile, error: OSError) -> LoadError:
    directory, name = there, _ = os.path.split(file.path)
    while not os.path.isdir(there):
        there = os.path.dirname(there)
    if there != directory:
        message = f"{file.shown}: no such file, because there is no directory {directory}"
        return LoadError.of(error, message, hint=f"{there} is there; check the path and -t/--toplevel.")
    near, here = nearest(name, _names(directory)), _documents(directory)
    hint = f"Did you mean {near!r}?" if near else f"There are: {here}." if here else "It has no YAML files."
    return LoadError.of(error, f"{file.shown}: no such file in {directory}", hint=hint)
