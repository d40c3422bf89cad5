"""What is checked about a publisher before a task runs and after it has run, and whether a failure is worth another try."""

from __future__ import annotations

from os.path import exists
from typing import TYPE_CHECKING, Any

from packtivity import notes
from packtivity.datamodel import iter_leaves
from packtivity.errors import EnvironmentUnavailable, MissingOutput, MissingParameter
from packtivity.handlers.publisher_handlers import declared_paths
from packtivity.interpolate import placeholders
from packtivity.registry import nearest
from packtivity.types import Diagnostic

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from packtivity.errors import PacktivityError
    from packtivity.handlers.config import ExecutionConfig, packconfig


def check_publishable(publisher: Mapping[str, Any], parameters: Any, pack_config: packconfig) -> None:
    """Find out before a long run, not after it, that a parameter the publisher needs was not given."""
    kind = publisher["publisher_type"]
    if kind not in {"frompar-pub", "interpolated-pub"} or pack_config.get_impl("publisher", kind) != "default":
        return
    given = parameters.json()
    if not isinstance(given, dict):
        return
    for where, name in _needed(publisher, kind):
        if name not in given:
            raise _missing(kind, where, name, given)


def _needed(publisher: Mapping[str, Any], kind: str) -> Iterator[tuple[tuple[str | int, ...], str]]:
    root = "outputmap" if kind == "frompar-pub" else "publish"
    for path, leaf in iter_leaves(publisher[root]):
        if not isinstance(leaf, str):
            continue
        if kind == "frompar-pub":
            yield (root, *path), leaf
        elif "{" in leaf:
            names = {found.name for found in placeholders(leaf)} - {"workdir", ""}
            yield from (((root, *path), name) for name in sorted(names) if not name.isdigit())


def _missing(kind: str, where: tuple[str | int, ...], name: str, given: Mapping[str, Any]) -> MissingParameter:
    near = nearest(name, given)
    said = f"Did you mean {near!r}? " if near else ""
    place = "/".join(map(str, ("publisher", *where)))
    return MissingParameter(
        f"{place}: {kind} publishes the parameter {name!r}, which was not given",
        hint=f"{said}Given are: {', '.join(map(repr, given)) or 'none'}. Nothing has been run.",
    )


def check_outputs(
    publisher: Mapping[str, Any], result: Any, state: Any, exec_config: ExecutionConfig, log: Any
) -> None:
    """Look whether published paths inside the state's directories are there.

    :raises MissingOutput: one is not, under strict.
    """
    missing = dict(_missing_outputs(publisher, result, state))
    if missing:
        notes.current().missing = list(missing)
    found = list(missing.values())
    for diagnostic in found:
        log.warning("%s", diagnostic.message)
        if exec_config.warn is not None and not exec_config.strict:
            exec_config.warn(diagnostic)
    if found and exec_config.strict:
        raise MissingOutput("\n".join(each.message for each in found), hint=found[0].hint)


def _missing_outputs(publisher: Mapping[str, Any], result: Any, state: Any) -> Iterator[tuple[str, Diagnostic]]:
    for path, declared in declared_paths(publisher, result, state):
        if not exists(declared):
            where = "/".join(map(str, path))
            yield (
                declared,
                Diagnostic(
                    "warning",
                    "missing-output",
                    f"published path {declared!r} ({where or 'the whole result'}) is not there after the run",
                    path,
                    hint="Does the command write it under that name, into that directory?",
                ),
            )


_NOT_THERE = (126, 127)
"""Exit codes by which a shell says that it could not run a program or not find it."""


def may_pass(error: PacktivityError) -> bool:
    """Return whether a failure may not come again when the same task is run again.

    An exit code or signal may be the network's or the machine's fault, and an image may be there the next time. A
    mistake in spec or parameters, a time-out or a missing program comes again.
    """
    if isinstance(error, EnvironmentUnavailable):
        return True
    return hasattr(error, "returncode") and error.returncode not in _NOT_THERE
