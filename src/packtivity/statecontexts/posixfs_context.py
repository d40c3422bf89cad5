"""States on a file system: directories to read and write, and the names they have in ``{placeholders}``."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from packtivity.claims import end_orphans_in
from packtivity.errors import ParameterError, StateError
from packtivity.interpolate import ESCAPE_HINT, MissingName, TemplateError, interpolate
from packtivity.types import JSON, Parameters, State

WORKDIR = "workdir"
METADIR = "_packtivity"


class InvalidState(StateError, TypeError):
    """A state is described in a form that cannot be used (also a ``TypeError``, as in upstream 0.17.1)."""


class LocalFSState:
    """Directories of a file system that this process sees.

    The *work directory* is the first read-write directory given, everywhere: ``{workdir}``, :attr:`readwrite`,
    :attr:`metadir`. Read-only directories are called ``readdir0``, ``readdir1`` … in the order given, unless they
    have names.

    :param readwrite: paths, or mappings with ``path`` and maybe ``name``. A mapping named ``workdir`` is the work
        directory wherever it stands, so that a state read back from its JSON is the same.
    :param readonly: likewise.
    :param dependencies: states whose read-write directories (or, without any, read-only ones) are to be read. They
        are numbered by their paths: yadage takes them out of a set, in an order that is another in each run, and its
        cache would never know such a task again.
    :param identifier: any text that names this state.
    :raises InvalidState: an argument has another form.
    """

    def __init__(
        self,
        readwrite: Sequence[Any] | None = None,
        readonly: Sequence[Any] | None = None,
        dependencies: Iterable[Any] | None = None,
        identifier: str = "unidentified_state",
    ) -> None:
        self._identifier = identifier
        writable = [_directory(given) for given in _sequence(readwrite, "readwrite")]
        to_read = [
            *_sequence(readonly, "readonly"),
            *(path for paths in sorted(map(_to_read, dependencies or ())) for path in paths),
        ]
        readable = [_directory(given, f"readdir{number}") for number, given in enumerate(to_read)]
        if writable and not any(entry.get("name") == WORKDIR for entry in writable):
            writable[0]["name"] = WORKDIR
        # Sorted by path, as upstream has them in the JSON that caches are keyed by.
        self._readwrite = sorted(writable, key=itemgetter("path"))
        self._readonly = sorted(readable, key=itemgetter("path"))
        # First the work directory, then the others by path.
        self._writable = [entry["path"] for entry in sorted(self._readwrite, key=lambda e: e.get("name") != WORKDIR)]
        self.dirnames = {entry["name"]: entry["path"] for entry in self._named_directories()}
        self.datamodel: Mapping[str, Any] | None = None

    def _named_directories(self) -> list[dict[str, Any]]:
        """List the directories that have names; where two share one, the later counts, and the workdir is last."""
        workdir = [entry for entry in self._readwrite if entry.get("name") == WORKDIR]
        return [entry for entry in (*self._readwrite, *self._readonly, *workdir) if "name" in entry]

    def __repr__(self) -> str:
        return f"<LocalFSState rw: {self.readwrite}, ro: {self.readonly}>"

    # --- directories ---

    @property
    def readwrite(self) -> list[str]:
        """Real paths of the read-write directories: first the work directory, then the others by path."""
        return list(self._writable)

    @property
    def readonly(self) -> list[str]:
        """Real paths of the read-only directories, by path."""
        return [entry["path"] for entry in self._readonly]

    @property
    def metadir(self) -> str | None:
        """Directory for logs and records, ``None`` without a work directory."""
        return f"{self._writable[0]}/{METADIR}" if self._writable else None

    def identifier(self) -> str:
        """Return the text that names this state."""
        return self._identifier

    def ensure(self) -> None:
        """Make the read-write directories and the one for logs; nothing to do without any.

        :raises StateError: one cannot be made.
        """
        metadir = self.metadir
        for path in (*self.readwrite, *([metadir] if metadir else [])):
            try:
                os.makedirs(path, exist_ok=True)
            except FileExistsError as error:
                raise StateError.of(
                    error, f"read-write directory {path} is not a directory", hint="Give the directory that is meant."
                ) from None
            except OSError as error:
                raise StateError.of(
                    error,
                    f"read-write directory {path} cannot be made: {error.strerror}",
                    hint="Give a directory that you may write to.",
                ) from None

    def reset(self) -> None:
        """Empty the read-write directories, except for read-only directories inside them; make those that are missing.

        Links are removed, not followed. What is left of a task of this state whose runner was killed is ended first; the
        state file of one that still runs stays, so that the next run waits for it.

        :raises StateError: a directory is the root of the file system or a home directory, has become a link since,
            or cannot be emptied.
        """
        from packtivity.statecontexts.trees import empty_directory  # which no run needs; shutil is dear to import

        held = end_orphans_in(self.metadir) if self.metadir else []
        for path in self.readwrite:
            empty_directory(path, keep=[*self.readonly, *held])
        self.ensure()

    def state_hash(self) -> str:
        """Return the SHA-1 of all directories that are there, contents included, as 40 hexadecimal digits.

        :raises StateError: something in them cannot be read.
        """
        from packtivity.statecontexts.trees import sha1, tree_hash

        hashes: list[list[str]] = []
        for paths in (self.readonly, [entry["path"] for entry in self._readwrite]):
            hashes.append([])
            for path in filter(os.path.isdir, paths):
                try:
                    hashes[-1].append(tree_hash(path))
                except OSError as error:
                    raise StateError.of(
                        error,
                        f"directory {path} of the state cannot be hashed: {error.strerror}: {error.filename}",
                        hint="Make everything in it readable.",
                    ) from None
        return sha1(json.dumps(hashes))

    # --- parameters ---

    def contextualize_value(self, value: object) -> Any:
        """Fill ``{workdir}`` and the other directories' names into a string; anything else stays as it is.

        A string with ``{}``, ``{0}`` or an attribute that a path has not stays as it is, too (upstream 0.17.1).

        :raises MissingName: a placeholder that names no directory.
        :raises TemplateError: a lone brace, or another mistake in a placeholder.
        """
        if not isinstance(value, str):
            return value
        try:
            return interpolate(value, (), self.dirnames)
        except (IndexError, AttributeError):
            return value

    def model(self, data: Parameters) -> Any:
        """Return a copy of a parameter document, each leaf contextualised; ``data`` stays as it is.

        :raises MissingName: a leaf has a placeholder that names no directory; the message names the leaf.
        :raises TemplateError: a leaf has a lone brace; likewise.
        """
        try:
            if hasattr(data, "map"):
                return data.map(self.contextualize_value)
            data = data.copy()  # of somebody else's class
            for pointer, value in data.leafs():
                data.replace(pointer, self.contextualize_value(value))
        except (MissingName, TemplateError) as error:
            raise self._located(error, data) from None
        return data

    def _located(self, error: MissingName | TemplateError, data: Parameters) -> ParameterError:
        """Name the parameter in an error about its value."""
        path = next((pointer.path for pointer, value in data.leafs() if value == error.template), "")
        error.message = f"parameter {path.lstrip('/') or 'document'}: {error.template[:200]!r}: {error.message}"
        error.args = (error.message,)
        if isinstance(error, MissingName):
            known = ", ".join(f"{{{name}}}" for name in self.dirnames)
            error.hint = f"{_remedy(error)} This state has: {known or 'no directories'}."
        else:
            error.hint = error.hint or ESCAPE_HINT
        return error

    # --- JSON ---

    def json(self) -> JSON:
        """Return the state as JSON, directories sorted by path."""
        return {
            "state_type": "localfs",
            "identifier": self.identifier(),
            "readwrite": [dict(entry) for entry in self._readwrite],
            "readonly": [dict(entry) for entry in self._readonly],
        }

    @classmethod
    def fromJSON(cls, jsondata: Mapping[str, Any]) -> LocalFSState:
        """Make a state from its JSON.

        :raises InvalidState: the JSON has another form.
        """
        try:
            identifier, readwrite, readonly = (jsondata[key] for key in ("identifier", "readwrite", "readonly"))
        except (KeyError, TypeError):
            raise InvalidState(
                f"state document {str(jsondata)[:200]} lacks one of identifier, readwrite, readonly",
                hint="Write what LocalFSState.json() gives.",
            ) from None
        return cls(identifier=identifier, readwrite=readwrite, readonly=readonly)


def _remedy(error: MissingName) -> str:
    """Say how a directory gets the name that a parameter uses."""
    name = error.name
    if name.startswith("readdir") and name[len("readdir") :].isdigit():
        return f"{{{name}}} is a directory to read: give one more with -r/--read (readonly= in Python)."
    if name == "workdir":
        return "{workdir} is the directory to write in: give one with -w/--write (workdir= or readwrite= in Python)."
    return error.hint


def _sequence(given: Sequence[Any] | None, what: str) -> Sequence[Any]:
    if given is None:
        return ()
    if not isinstance(given, (list, tuple)):
        raise InvalidState(
            f"{what} of a state is a list of directories, not {type(given).__name__}: {str(given)[:200]!r}",
            hint=f"Write [{given!r}]." if isinstance(given, str) else "",
        )
    return given


def _directory(given: str | os.PathLike[str] | dict[str, Any], name: str | None = None) -> dict[str, Any]:
    """Return a directory as a mapping of its own with a real path; ``name`` is for one given as a path."""
    try:
        if isinstance(given, dict):
            hash(given.get("name"))  # raises for a list or mapping, which cannot be anybody's name
            return {**given, "path": os.path.realpath(given["path"])}
        path = os.path.realpath(os.fspath(given))
    except (KeyError, TypeError, ValueError):
        raise InvalidState(
            f"a directory of a state is a path or {{path, name}}, not {str(given)[:200]!r}",
            hint="Give an absolute path, and a name that is text.",
        ) from None
    return {"path": path, "name": name} if name else {"path": path}


def _to_read(state: State) -> list[str]:
    """Return what there is to read of a state; sorted for ours, because upstream numbers them in that order."""
    found = list(state.readwrite or state.readonly)
    return sorted(found) if isinstance(state, LocalFSState) else found
