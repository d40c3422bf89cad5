"""Publishers: describe the result as JSON (upstream 0.17.1's rules).

A handler is ``(publisher, parameters, state) → JSON``, in which typed leaves may stand as objects. ``state`` is
``None`` for tasks that only publish. What is given is never changed.
"""

from __future__ import annotations

import os
import stat
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from packtivity.datamodel import document, iter_leaves, map_leaves, plain, typed
from packtivity.datamodel.query import JqError
from packtivity.errors import MissingParameter, ParameterError, PublishError
from packtivity.globs import glob as find_files
from packtivity.handlers.process_handlers import Values, fill, values_of
from packtivity.registry import Registry, nearest
from packtivity.spec.parts import kind_of
from packtivity.spec.yamltext import load_yaml
from packtivity.statecontexts import LocalFSState

if TYPE_CHECKING:
    from collections.abc import Callable

    from packtivity.types import JSON, ParametersLike, Part, Path, State

    Handler = Callable[[Part, ParametersLike, State | None], Any]

publisher: Registry[Handler] = Registry("publisher", "packtivity.publishers")
handlers = publisher.table


def can_prepublish(publisher: Part, state: State | None) -> bool:
    """Tell whether a result can be made before the task has run.

    Where :data:`~packtivity.spec.parts.PUBLISHERS` says so; what depends on globbing needs no state, or a local one
    (``LocalFSState`` itself) that has nothing to write in or where nothing is globbed. Of a publisher from elsewhere
    nothing is known.
    """
    kind = kind_of(publisher)
    if kind.known != "globbed" or not state:
        return kind.known != "after"
    return type(state) is LocalFSState and (kind.is_known_before(publisher) or not state.readwrite)


# --- from parameters -------------------------------------------------------------------------------------------


@publisher("frompar-pub")
def frompar(publisher: Part, parameters: ParametersLike, state: State | None) -> JSON:
    """Put parameters into ``outputmap``: each leaf of it names one; ``null`` and ``false`` stay.

    :raises MissingParameter: a leaf names no parameter.
    """
    values, outputmap = typed(parameters, state), publisher["outputmap"]
    try:
        return map_leaves(outputmap, lambda name: values[name])
    except (LookupError, TypeError):
        path, name = next((path, name) for path, name in iter_leaves(outputmap) if not _gives(values, name))
    from packtivity.spec.diagnostics import dotted  # which nothing that succeeds needs

    near = nearest(name, values) if isinstance(name, str) and isinstance(values, dict) else None
    hint = f"Did you mean {near!r}? " if near else ""
    raise MissingParameter(
        f"{dotted(('publisher', 'outputmap', *path))}: no parameter is called {name!r}",
        hint=f"{hint}An outputmap names parameters; for text with placeholders there is interpolated-pub.",
    )


def _gives(values: Any, name: Any) -> bool:
    try:
        values[name]
    except (LookupError, TypeError):
        return False
    return True


@publisher("constant-pub")
def constant(publisher: Part, parameters: ParametersLike, state: State | None) -> JSON:  # noqa: ARG001 (a handler)
    """Publish what is written in the spec."""
    return deepcopy(publisher["publish"])


@publisher("interpolated-pub")
def interpolated(publisher: Part, parameters: ParametersLike, state: State | None) -> JSON:
    """Fill the strings of ``publish`` with the parameters and ``{workdir}``; a parameter of that name wins.

    With ``relative_paths``, a text that is no absolute path is one in the work directory. With ``glob``, the text
    becomes the list of paths that match it, or stays as filled where none does. Directories of the state are no patterns.

    :raises MissingParameter: a placeholder has no parameter.
    :raises PublishError: ``relative_paths`` without a work directory.
    """
    workdir = _workdir(state)
    values = values_of(typed(parameters, state))
    if workdir is not None:
        values = Values(values.args, {"workdir": workdir, **values.names})
    relative, glob = publisher.get("relative_paths", False), publisher.get("glob", False)
    template = publisher["publish"]

    def filled(leaf: Any) -> Any:
        if not isinstance(leaf, str):
            return leaf
        text = path = fill(leaf, values, "publisher.publish")
        if relative:
            directory = _needed(workdir, "relative_paths")
            if text[:1] != directory[0]:  # upstream 0.17.1 compares the *strings*: absolute paths have a common start
                path = os.path.join(directory, text)
        return _globbed(path, state) or text if glob else path

    return map_leaves(template, filled)


@publisher("fromparjq-pub")
def fromparjq(publisher: Part, parameters: ParametersLike, state: State | None) -> JSON:
    """Publish what a jq program makes of the parameters, its strings looked up in the state's directory.

    That is the work directory, or the read-only directory where there is one alone. With ``relative_paths`` a string
    is looked up there, otherwise as it is; what exists is published (``tryExact``), or what matches (``glob``).

    :raises PublishError: the program cannot be compiled, fails, or gives nothing.
    """
    try:
        result = document(parameters, state).jq(publisher.get("script", "."))
    except JqError as error:
        raise PublishError(
            f"publisher.script: {error.message}", hint="Try it on the parameter document with the jq command."
        ) from None
    directory = _workdir(state)
    if directory is None and state and len(state.readonly) == 1:
        directory = str(state.readonly[0])
    return result if directory is None else _looked_up(publisher, result, state, directory)


def _looked_up(publisher: Part, result: Any, state: State | None, directory: str) -> Any:
    relative, glob = publisher.get("relative_paths", False), publisher.get("glob", False)
    exact = publisher.get("tryExact", True)

    def looked_up(leaf: Any) -> Any:
        if not isinstance(leaf, str):
            return leaf
        path = os.path.join(directory, leaf) if relative else leaf
        if exact and os.path.exists(path):
            return path
        return (_globbed(path, state) or leaf) if glob else leaf

    # Documents with objects in them are mapped as they are, plain ones in the order that the program gave.
    return result.map(looked_up) if getattr(result, "leafmodel", None) else map_leaves(result.json(), looked_up)


# --- from files ------------------------------------------------------------------------------------------------


def _workdir(state: State | None) -> str | None:
    """Return the directory that is called ``{workdir}``: the first that may be written in."""
    return str(state.readwrite[0]) if state and state.readwrite else None


def _needed(workdir: str | None, why: str) -> str:
    if workdir is None:
        raise PublishError(
            f"publisher: {why} needs a work directory, and this task has no read-write directory",
            hint="Give one with -w DIR.",
        )
    return workdir


@publisher("fromglob-pub")
def fromglob(publisher: Part, parameters: ParametersLike, state: State | None) -> JSON:  # noqa: ARG001 (a handler)
    """List the paths in the work directory that match ``globexpression``, sorted.

    :raises PublishError: there is no work directory.
    """
    workdir = _needed(_workdir(state), "fromglob-pub")
    return {publisher["outputkey"]: find_files(publisher["globexpression"], workdir)}


def _globbed(text: str, state: State | None) -> list[str]:
    """Return the paths that match; a directory of the state that the text begins with is no pattern."""
    directories = (*state.readwrite, *state.readonly) if state else ()
    for directory in sorted(map(str, directories), key=len, reverse=True):
        if text == directory:
            return [text] if os.path.lexists(text) else []
        start = f"{directory.rstrip('/')}/"
        if text.startswith(start):
            return find_files(text[len(start) :], directory)
    return find_files(text)


@publisher("fromyaml-pub")
def fromyaml(publisher: Part, parameters: ParametersLike, state: State | None) -> JSON:  # noqa: ARG001 (a handler)
    """Publish what ``yamlfile``, written by the task into its work directory, says. Dates stay strings.

    :raises PublishError: no such file, unreadable, not YAML, or not JSON data; with the position.
    """
    file = f"{_needed(_workdir(state), 'fromyaml-pub')}/{publisher['yamlfile']}"
    try:
        mode = os.stat(file).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # a pipe or a device could be read for ever
            raise ValueError("not a regular file")
        with open(file, "rb") as stream:
            content = stream.read()
    except (OSError, ValueError) as error:
        raise _unreadable(file, error) from None
    try:
        return load_yaml(content, file)
    except ParameterError as error:
        raise PublishError(f"publisher.yamlfile: {error.message}", hint=error.hint) from None


def _unreadable(file: str, error: OSError | ValueError) -> PublishError:
    reason = error.strerror if isinstance(error, OSError) else str(error)
    directory, name = os.path.split(file)
    try:
        near = nearest(name, os.listdir(directory))
    except (OSError, ValueError):
        near = None
    hint = f"Did the task mean to write {name!r}, not {near!r}?" if near and near != name else "Look at the run log."
    return PublishError.of(error, f"publisher.yamlfile: {file!r} cannot be read: {reason}", hint=hint)


# --- from a person ---------------------------------------------------------------------------------------------


@publisher("manual-instructions-pub")
@publisher("manual-publishing")
def manual_instructions(publisher: Part, parameters: ParametersLike, state: State | None) -> JSON:  # noqa: ARG001 (a handler)
    """Publish the JSON document that a person types; upstream 0.17.1 has this as ``manual-publishing``.

    :raises EnvironmentUnavailable: there is nobody to ask.
    """
    from packtivity.handlers.manual import ask_for_json  # the door to a person

    return ask_for_json(publisher["instructions"])


# --- what should be there --------------------------------------------------------------------------------------

_NOT_ONE_PATH = frozenset("\n\0:;|")
"""Characters of a text that is several paths, or a path with more behind it, such as ``file.root:tree``."""


def declared_paths(publisher: Part, result: ParametersLike, state: State | None) -> list[tuple[Path, str]]:
    """Return the strings of a published result that name a file or directory which should exist after the run.

    Those are the absolute paths inside the state's directories; a text that may be anything else is left out, because
    a false alarm is worse than none.

    :return: where in the result, and the path.
    """
    if not state or kind_of(publisher).pattern:
        return []
    directories = tuple(f"{directory.rstrip('/')}/" for directory in (*state.readwrite, *state.readonly))
    return [
        (path, leaf)
        for path, leaf in iter_leaves(plain(result, state))
        if isinstance(leaf, str) and leaf.startswith(directories) and _is_one_path(leaf, directories)
    ]


def _is_one_path(text: str, directories: tuple[str, ...]) -> bool:
    inside = next(text[len(directory) :] for directory in directories if text.startswith(directory))
    return _NOT_ONE_PATH.isdisjoint(inside) and not any(directory in inside for directory in directories)
