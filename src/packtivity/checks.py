"""Checks of a publisher before and after a run, and whether a failure is worth a retry."""

from __future__ import annotations

from os.path import exists
from typing import TYPE_CHECKING

from packtivity import notes
from packtivity.datamodel import iter_leaves, plain
from packtivity.errors import EnvironmentUnavailable, MissingOutput, MissingParameter
from packtivity.handlers.endings import eaten, went_on
from packtivity.handlers.publisher_handlers import declared_paths
from packtivity.handlers.unquoted import unquoted_values
from packtivity.interpolate import placeholders
from packtivity.registry import nearest
from packtivity.spec.parts import kind_of, wildcard_at
from packtivity.types import Diagnostic

if TYPE_CHECKING:
    from collections.abc import Iterator
    from logging import Logger

    from packtivity.errors import PacktivityError
    from packtivity.handlers.config import ExecutionConfig, packconfig
    from packtivity.types import ParametersLike, Part, Path, State


def check_publishable(publisher: Part, parameters: ParametersLike, pack_config: packconfig) -> None:
    """Check before a long run, not after it, that the parameters that the publisher needs are given.

    :raises MissingParameter: one was not.
    """
    kind = publisher["publisher_type"]
    given = plain(parameters)
    if not isinstance(given, dict) or pack_config.get_impl("publisher", kind) != "default":
        return
    for path, name in _needed(publisher):
        if name not in given:
            near = nearest(name, given)
            meant = f"Did you mean {near!r}? " if near else ""
            raise MissingParameter(
                f"{'/'.join(map(str, path))}: {kind} publishes the parameter {name!r}, which was not given",
                hint=f"{meant}Given are: {', '.join(map(repr, given)) or 'none'}. Nothing has been run.",
            )


def _needed(publisher: Part) -> Iterator[tuple[Path, str]]:
    kind = kind_of(publisher)
    key = kind.names or kind.templates
    for path, text in iter_leaves(publisher[key]) if key else ():
        if isinstance(text, str):
            used = {text} if kind.names else set()
            if kind.templates and "{" in text:
                used = {one.name for one in placeholders(text)} - {"workdir", ""}
            yield from ((("publisher", key, *path), name) for name in sorted(used) if kind.names or not name.isdigit())


def check_outputs(
    publisher: Part,
    result: ParametersLike,
    state: State | None,
    exec_config: ExecutionConfig,
    log: Logger,
    ran: tuple[Part, ParametersLike] | None = None,
) -> None:
    """Check that published paths inside the state's directories exist.

    :param ran: process and parameters, to look for a likely cause in.
    :raises MissingOutput: one is not, under strict.
    """
    missing = {
        declared: Diagnostic(
            "warning",
            "missing-output",
            f"published path {declared!r} ({'/'.join(map(str, path)) or 'the whole result'}) is not there after the run",
            path,
            hint=_remedy(publisher, path, unquoted_values(*ran, state) if ran else ""),
        )
        for path, declared in declared_paths(publisher, result, state)
        if not exists(declared)
    }
    if not missing:
        return
    notes.current().missing = list(missing)
    for diagnostic in missing.values():
        log.warning("%s", diagnostic.message)
        if exec_config.warn is not None and not exec_config.strict:
            exec_config.warn(diagnostic)
    if exec_config.strict:
        raise MissingOutput(
            "\n".join(each.message for each in missing.values()), hint=next(iter(missing.values())).hint
        )


def _remedy(publisher: Part, path: Path, cause: str) -> str:
    key = kind_of(publisher).templates
    text = dict(iter_leaves(publisher[key])).get(path) if key and not publisher.get("glob") else None
    if isinstance(text, str) and wildcard_at(text) >= 0:
        return "It is a pattern, published as it stands: write glob: true to publish the list of files that match."
    execution = notes.current().execution
    likely = [cause or went_on(execution), eaten(execution)]
    return " ".join(filter(None, ["Does the command write it under that name, into that directory?", *likely]))


_NOT_THERE = (126, 127)
"""Exit codes of a shell that could not run or not find a program."""


def may_pass(error: PacktivityError) -> bool:
    """Return whether a retry of the same task may succeed.

    An exit code or signal may be the network's or the machine's fault, and an image may be available the next time. A
    mistake in spec or parameters, a time-out or a missing program will happen again.
    """
    if isinstance(error, EnvironmentUnavailable):
        return True
    return hasattr(error, "returncode") and error.returncode not in _NOT_THERE
