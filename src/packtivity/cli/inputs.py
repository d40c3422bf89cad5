"""What the options say about a task, made into spec, parameters and state."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from packtivity import errors, settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from packtivity.spec.yamltext import BadText
    from packtivity.types import Diagnostic


def load_spec(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the spec that the options of a command name, defaults filled.

    :raises LoadError: it cannot be fetched.
    :raises InvalidSpec: it is not valid.
    """
    from packtivity.spec import load

    return load(
        given["spec"],
        given["toplevel"],
        schemasource=given["schemasource"],
        validate=given.get("validate", True),
        offline=given["offline"] or None,
        trusted_sources=given["trust_source"],
    )


class TaskOptions:
    """The values of the options that every command on a task has; see :mod:`packtivity.cli.options`."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._given = given
        self.parfiles: tuple[str, ...] = given["parfiles"]
        self.parameter: tuple[str, ...] = given["parameter"]
        self.read: tuple[str, ...] = given["read"]
        self.write: tuple[str, ...] = given["write"]
        self.state: str = given["state"]
        self.strict: bool = given["strict"]
        self.verbosity: str = given["verbosity"]

    def load_spec(self) -> dict[str, Any]:
        """Return the spec, defaults filled.

        :raises LoadError: it cannot be fetched.
        :raises InvalidSpec: it is not valid.
        """
        return load_spec(self._given)

    def load_parameters(self) -> dict[str, Any]:
        """Return the parameters, ``-p`` over files.

        :raises ParameterError: they cannot be read.
        """
        from packtivity.cli.parameters import getinit_data

        return getinit_data(self.parfiles, self.parameter)

    def load_state(self) -> Any:
        """Return the state; nothing is created.

        :raises StateError: the state file cannot be used.
        """
        from packtivity.statecontexts.posixfs_context import LocalFSState

        described = _read_state(self.state) if self.state else {}
        if not described:
            return LocalFSState([os.path.realpath(p) for p in self.write], [os.path.realpath(p) for p in self.read])
        if "state_type" in described:
            from packtivity.statecontexts import load_state

            return load_state(described)
        return LocalFSState(described.get("readwrite") or [], described.get("readonly") or [])


def _read_state(name: str) -> dict[str, Any]:
    from packtivity.spec.yamltext import BadText, load_yaml

    where = f"state file {name}"
    hint = "Write the lists readwrite and readonly, of paths or of {path, name}."
    try:
        with open(name, "rb") as file:
            found = load_yaml(file.read(), name)
    except OSError as error:
        raise errors.StateError(f"{where}: {error.strerror}") from None
    except BadText as error:
        raise UnreadableState(error) from None
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise errors.StateError(f"{where}: not a mapping", hint=hint)
    if "state_type" in found:
        return found
    for key, value in found.items():
        if key in ("readwrite", "readonly"):
            _check_directories(where, key, value, hint)
    if not {"readwrite", "readonly"} & found.keys():
        raise errors.StateError(f"{where}: has neither readwrite nor readonly", hint=hint)
    return found


class UnreadableState(errors.StateError):
    """A state file is not YAML, or says something that JSON cannot."""

    def __init__(self, cause: BadText) -> None:
        super().__init__(cause.message, hint=cause.hint)
        self.diagnostics = cause.diagnostics


def _check_directories(where: str, key: str, value: Any, hint: str) -> None:
    if value is None:
        return
    if not isinstance(value, list):
        raise errors.StateError(f"{where}: {key} is not a list", hint=hint)
    for number, entry in enumerate(value):
        path = entry.get("path") if isinstance(entry, dict) else entry
        if not isinstance(path, str) or not path:
            raise errors.StateError(f"{where}: {key}[{number}] is not a path: {entry!r}", hint=hint)


_TOLD_BY_THE_RUN = frozenset({"unknown-placeholder", "unknown-parameter"})
"""Warnings about what will be an error as soon as the task is rendered."""


def checked(task: TaskOptions) -> tuple[dict[str, Any], dict[str, Any], Any]:
    """Return spec, parameters and state of a task, and say what is doubtful about them.

    :raises PacktivityError: one cannot be used, or under strict, something is doubtful.
    """
    spec, parameters, state = task.load_spec(), task.load_parameters(), task.load_state()
    strict = is_strict(task.strict)
    tell_doubts(spec, parameters, state, strict=strict)
    return spec, parameters, state


def tell_doubts(spec: dict[str, Any], parameters: dict[str, Any], state: Any, *, strict: bool) -> None:
    """Say what is doubtful about parameters.

    :raises DoubtfulTask: something is, under strict.
    :raises StateError: a directory to read is not there, under strict.
    """
    _check_directories_to_read(state, strict=strict)
    found = [] if not strict and _all_used(spec, parameters) else _lint(spec, parameters, state)
    if strict and found:
        raise DoubtfulTask(promoted(found))
    found = [diagnostic for diagnostic in found if diagnostic.code not in _TOLD_BY_THE_RUN]
    if found:
        from packtivity.cli.errors import told
        from packtivity.cli.printing import show_error

        show_error(told(found))


class DoubtfulTask(errors.ParameterError):
    """A warning about parameters or placeholders came up under ``--strict``; nothing has been run."""

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        super().__init__("not run, because warnings are errors under --strict")
        self.diagnostics = tuple(diagnostics)


def is_strict(option: bool) -> bool:
    """Return whether warnings are errors: by the option ``--strict``, or by the setting."""
    return option or bool(settings.current().strict)


def promoted(diagnostics: Iterable[Diagnostic]) -> tuple[Diagnostic, ...]:
    """Return the diagnostics as errors, which they are under ``--strict``."""
    from dataclasses import replace

    return tuple(replace(diagnostic, severity="error") for diagnostic in diagnostics)


def _all_used(spec: dict[str, Any], parameters: dict[str, Any]) -> bool:
    """Return True when every parameter has a value and is plainly used, as a placeholder or in an output map.

    Then none is superfluous or misspelt, and the rules that say how it was meant need not be imported.
    """
    from packtivity.datamodel import iter_leaves

    if any(value is None or (type(value) is dict and None in value.values()) for value in parameters.values()):
        return False
    texts = [leaf for _, leaf in iter_leaves(spec) if isinstance(leaf, str)]
    joined = "\n".join(texts)
    return all(name in texts or any(f"{{{name}{end}" in joined for end in "}[.!:") for name in parameters)


def _lint(spec: dict[str, Any], parameters: dict[str, Any], state: Any) -> list[Diagnostic]:
    from packtivity.spec.lint import lint_parameters

    return lint_parameters(spec, parameters, getattr(state, "dirnames", None))


def _check_directories_to_read(state: Any, *, strict: bool) -> None:
    for path in state.readonly:
        if os.path.isdir(path):
            continue
        problem = f"directory to read {path} {'is not a directory' if os.path.exists(path) else 'does not exist'}"
        if strict:
            raise errors.StateError(problem, hint="Correct --read, or readonly in the state file.")
        from packtivity.cli.errors import warn

        warn(problem)


_OWN_BACKENDS = frozenset({"defaultsync", "foregroundasync"})


def find_backend(name: str) -> tuple[bool, Any]:
    """Return whether a backend is synchronous, and the backend, plug-ins considered.

    :raises BackendError: there is none of that name, or it cannot be started.
    """
    from packtivity.backends.registry import backend_from_string

    if name not in _OWN_BACKENDS or settings.current().plugins:
        from packtivity.cli import start
        from packtivity.plugins import enable_plugins
        from packtivity.registry import note_foreign_code

        start.hand_over()
        note_foreign_code(name)
        enable_plugins()
    synchronous, backend = backend_from_string(name)
    for method in ("prepublish", *(("run",) if synchronous else ("submit", "ready", "result"))):
        if not callable(getattr(backend, method, None)):
            raise errors.BackendError(
                f"what the backend {name!r} names is no backend: {type(backend).__name__} has no method {method!r}"
            )
    return synchronous, backend


def start_logging(level: str) -> None:
    """Print log lines of ``level`` and above on standard error (upstream 0.17.1's ``--verbosity``).

    Our own code writes none but those of the step log, so this waits until code of others runs.
    """

    def start() -> None:
        import logging

        from packtivity.tasklog import ShownFormatter

        there = logging.getLogger().handlers[:]
        logging.basicConfig(level=getattr(logging, level))
        for handler in logging.getLogger().handlers:
            if handler not in there:
                handler.setFormatter(ShownFormatter(logging.BASIC_FORMAT))

    if "logging" in sys.modules:
        start()
    else:
        from packtivity.registry import before_foreign_code

        before_foreign_code.append(start)
