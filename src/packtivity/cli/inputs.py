"""What the options say about a task, made into spec, parameters, state and backend.

Values of options are neither compared nor printed: an address may have a password in it.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from packtivity import errors, settings, statecontexts
from packtivity.backends.registry import backend_from_string
from packtivity.cli import start
from packtivity.cli.errors import render_diagnostics, warn
from packtivity.cli.parameters import getinit_data
from packtivity.cli.terminal import show_error
from packtivity.datamodel import iter_leaves
from packtivity.handlers.config import ExecutionConfig
from packtivity.plugins import enable_plugins
from packtivity.registry import note_foreign_code
from packtivity.spec import load
from packtivity.spec.yamltext import BadText, load_yaml
from packtivity.statecontexts.posixfs_context import LocalFSState
from packtivity.tasklog import ShownFormatter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from packtivity.cli.declarations import LockOptions
    from packtivity.cli.options import ContainerOptions, SpecOptions, TaskOptions
    from packtivity.types import Diagnostic, State


def load_spec(options: SpecOptions) -> dict[str, Any]:
    """Return the spec, defaults filled.

    :raises LoadError: it cannot be fetched.
    :raises InvalidSpec: it is not valid.
    """
    return load(
        options.spec,
        options.toplevel,
        schemasource=options.schemasource,
        validate=options.validate,
        offline=options.offline or None,
        trusted_sources=options.trust_source,
    )


def container_choices(options: ContainerOptions | LockOptions) -> dict[str, Any]:
    """Return what :class:`~packtivity.handlers.config.container_config` takes; what is not chosen is for the settings."""
    names = ("runtime", "pull", "cpus", "memory", "gpus", "network", "user")
    chosen = {name: value for name in names if (value := getattr(options, name, None)) is not None}
    if options.image_dir:
        chosen["image_dir"] = [os.path.abspath(path) for path in options.image_dir]
    return chosen


def load_state(options: TaskOptions) -> State:
    """Return the state; nothing is created.

    :raises StateError: the state file cannot be used.
    """
    described = _read_state(options.state) if options.state else {}
    if not described:
        return LocalFSState([*map(os.path.realpath, options.write)], [*map(os.path.realpath, options.read)])
    if "state_type" in described:
        return statecontexts.load_state(described)
    return LocalFSState(described.get("readwrite") or [], described.get("readonly") or [])


class Task(NamedTuple):
    """A task as it is given to a backend."""

    spec: dict[str, Any]
    parameters: dict[str, Any]
    state: State


def load_task(options: TaskOptions) -> Task:
    """Return spec, parameters and state, and warn about what is doubtful.

    :raises PacktivityError: one cannot be used, or under strict, something is doubtful.
    """
    task = Task(load_spec(options), getinit_data(options.parfiles, options.parameter), load_state(options))
    warn_of_doubts(task, strict=is_strict(options.strict))
    return task


def _read_state(name: str) -> dict[str, Any]:
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
    for key in ("readwrite", "readonly"):
        directories = found.get(key) or []
        if not isinstance(directories, list):
            raise errors.StateError(f"{where}: {key} is not a list", hint=hint)
        for number, entry in enumerate(directories):
            path = entry.get("path") if isinstance(entry, dict) else entry
            if not isinstance(path, str) or not path:
                raise errors.StateError(f"{where}: {key}[{number}] is not a path: {entry!r}", hint=hint)
    if not {"readwrite", "readonly"} & found.keys():
        raise errors.StateError(f"{where}: has neither readwrite nor readonly", hint=hint)
    return found


class UnreadableState(errors.StateError):
    """A state file is not YAML, or says something that JSON cannot."""

    def __init__(self, cause: BadText) -> None:
        super().__init__(cause.message, hint=cause.hint)
        self.diagnostics = cause.diagnostics


_TOLD_BY_THE_RUN = frozenset({"unknown-placeholder", "unknown-parameter"})
"""Warnings about what will be an error as soon as the task is rendered."""


def warn_of_doubts(task: Task, *, strict: bool) -> None:
    """Warn about doubtful parameters.

    :raises DoubtfulTask: there are some, under strict.
    :raises StateError: a directory to read is not there, under strict.
    """
    _check_directories_to_read(task.state, strict=strict)
    if not strict and _all_used(task.spec, task.parameters):
        return
    from packtivity.spec.lint import lint_parameters  # a tenth of a short run

    diagnostics = lint_parameters(task.spec, task.parameters, getattr(task.state, "dirnames", None))
    if strict and diagnostics:
        raise DoubtfulTask(as_errors(diagnostics))
    diagnostics = [diagnostic for diagnostic in diagnostics if diagnostic.code not in _TOLD_BY_THE_RUN]
    if diagnostics:
        show_error(render_diagnostics(diagnostics))


class DoubtfulTask(errors.ParameterError):
    """A warning about parameters or placeholders came up under ``--strict``; nothing has been run."""

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        super().__init__("not run, because warnings are errors under --strict")
        self.diagnostics = tuple(diagnostics)


def is_strict(option: bool) -> bool:
    """Return whether warnings are errors: by the option ``--strict``, or by the setting."""
    return option or bool(settings.current().strict)


def as_errors(diagnostics: Iterable[Diagnostic]) -> tuple[Diagnostic, ...]:
    """Return the diagnostics as errors, which they are under ``--strict``."""
    return tuple(diagnostic._replace(severity="error") for diagnostic in diagnostics)


def _all_used(spec: dict[str, Any], parameters: dict[str, Any]) -> bool:
    """Return True when every parameter has a value and is plainly used, as a placeholder or in an output map.

    Then none is superfluous or misspelt, and the rules need not be imported.
    """
    if any(value is None or (type(value) is dict and None in value.values()) for value in parameters.values()):
        return False
    texts = [leaf for _, leaf in iter_leaves(spec) if isinstance(leaf, str)]
    joined = "\n".join(texts)
    return all(name in texts or any(f"{{{name}{end}" in joined for end in "}[.!:") for name in parameters)


def _check_directories_to_read(state: State, *, strict: bool) -> None:
    for path in state.readonly:
        if os.path.isdir(path):
            continue
        problem = f"directory to read {path} {'is not a directory' if os.path.exists(path) else 'does not exist'}"
        if strict:
            raise errors.StateError(problem, hint="Correct --read, or readonly in the state file.")
        warn(problem)


_OWN_BACKENDS = frozenset({"defaultsync", "foregroundasync"})


class Target(NamedTuple):
    """Where tasks run: the backend that an option names.

    :ivar synchronous: whether it runs tasks here and now.
    """

    synchronous: bool
    backend: Any

    @classmethod
    def named(cls, name: str) -> Target:
        """Find a backend, plug-ins included.

        :raises BackendError: there is none of that name, or it cannot be started.
        """
        if name not in _OWN_BACKENDS or settings.current().plugins:
            start.allow_interrupts()
            note_foreign_code(name)
            enable_plugins()
        synchronous, backend = backend_from_string(name)
        for method in ("prepublish", *(("run",) if synchronous else ("submit", "ready", "result"))):
            if not callable(getattr(backend, method, None)):
                raise errors.BackendError(
                    f"what the backend {name!r} names is no backend: {type(backend).__name__} has no method {method!r}"
                )
        return cls(synchronous, backend)

    @property
    def _engine(self) -> Any:
        """The backend, or what it gives its jobs to."""
        backend = self.backend
        return backend if hasattr(backend, "exec_config") else getattr(backend, "job_backend", backend)

    def configure(self, config: Mapping[str, Any], containers: Mapping[str, Any] | None = None, **how: Any) -> bool:
        """Set how it runs tasks; false for a backend of others that has no such configuration.

        :param config: what holds where the backend itself chooses nothing.
        :param containers: how containers are run, whatever the backend chooses.
        :param how: for :class:`~packtivity.handlers.config.ExecutionConfig`.
        """
        own = getattr(self._engine, "exec_config", None)
        if not isinstance(own, ExecutionConfig):
            return False
        chosen = {**config, **own.config}
        if containers:
            chosen["containers"] = {**(own.config.get("containers") or {}), **containers}
        self._engine.exec_config = ExecutionConfig(chosen, **how)
        return True

    def cancel_all(self) -> bool:
        """End the tasks of a backend whose workers end with this program; false when there is no such way."""
        if not hasattr(self._engine, "cancel_all"):
            return False
        self._engine.cancel_all()
        return True


def read_json(name: str, fail: Callable[[str], errors.PacktivityError], stdin: str | None = None) -> object:
    """Return the document in a JSON file that the user has named.

    :param fail: makes the error for what is wrong with it.
    :param stdin: the name that stands for standard input.
    """
    try:
        if name == stdin:
            return json.load(sys.stdin)
        with open(name, encoding="utf-8") as file:
            return json.load(file)
    except OSError as error:
        raise fail(str(error.strerror)) from None
    except (ValueError, RecursionError) as error:
        raise fail(f"not JSON: {error}") from None


def start_logging(level: str) -> None:
    """Print log lines of ``level`` and above on standard error (upstream 0.17.1's ``--verbosity``)."""
    known = logging.getLogger().handlers[:]
    logging.basicConfig(level=getattr(logging, level))
    for handler in logging.getLogger().handlers:
        if handler not in known:
            handler.setFormatter(ShownFormatter(logging.BASIC_FORMAT))
