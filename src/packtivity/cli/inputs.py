"""What the options say about a task, made into spec, parameters, state and backend.

Values of options are neither compared nor printed: an address may have a password in it.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from packtivity import errors, settings, statecontexts
from packtivity.backends.registry import backend_from_string
from packtivity.cli import start
from packtivity.cli.errors import complain, render_diagnostics, warn
from packtivity.cli.parameters import Parameters
from packtivity.cli.terminal import show_error
from packtivity.datamodel import iter_leaves
from packtivity.handlers.config import ExecutionConfig
from packtivity.plugins import enable_plugins
from packtivity.registry import nearest, note_foreign_code
from packtivity.spec import load
from packtivity.spec.yamltext import BadText, load_yaml
from packtivity.statecontexts.posixfs_context import LocalFSState
from packtivity.tasklog import ShownFormatter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from packtivity.cli.declarations import LockOptions
    from packtivity.cli.options import ContainerOptions, SpecOptions, TaskOptions
    from packtivity.types import Diagnostic, State


def load_spec(options: SpecOptions) -> dict[str, Any]:
    """Return the spec, defaults filled.

    :raises LoadError: it cannot be fetched.
    :raises InvalidSpec: it is not valid; under strict, how it is written is doubtful.
    """
    prepare_loading(options)
    doubts: list[Diagnostic] = []
    spec = load(
        options.spec,
        options.toplevel,
        schemasource=options.schemasource,
        validate=options.validate,
        offline=options.offline or None,
        trusted_sources=options.trust_source,
        warn=doubts.append,
    )
    if doubts and is_strict(getattr(options, "strict", False)):
        raise errors.InvalidSpec(_STRICT, as_errors(doubts))
    if doubts:
        show_error(render_diagnostics(doubts))
    return spec


def prepare_loading(options: SpecOptions) -> None:
    """Have servers named on standard error that keep the command waiting, whatever the level of the log.

    :raises UsageError: standard input is to be two things.
    """
    if options.spec.partition("#")[0] == "-" and "-" in getattr(options, "parfiles", ()):
        raise errors.UsageError("standard input cannot be the spec and a parameter file", hint="Name a file for one.")
    log = logging.getLogger("packtivity.spec.fetch")
    if not log.handlers:
        log.addHandler(_OnStandardError())
        log.setLevel(logging.WARNING)
        log.propagate = False


class _OnStandardError(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        complain(record.getMessage())


def command_line(options: SpecOptions, *words: str) -> str:
    """Return a line to type that says of the same spec something else; passwords are left out."""
    from packtivity.spec.remote import without_secrets  # imports urllib

    line = [*words, *(["-t", options.toplevel] if options.toplevel else []), options.spec]
    return shlex.join(without_secrets(word) for word in line)


def how_to_give(names: Iterable[str], options: SpecOptions) -> str:
    """Return how to give parameters to a command, those that are the names of directories among them."""
    given = {name: f"'\"{{{name}}}\"'" if re.fullmatch(r"workdir|readdir\d+", name) else "VALUE" for name in names}
    line = " ".join(f"-p {shlex.quote(name)}={value}" for name, value in given.items())
    return f"Pass {line}, or fill in the file that `{command_line(options, 'packtivity', 'example')}` prints."


@contextmanager
def telling_what_is_missing(task: Task, options: SpecOptions) -> Iterator[None]:
    """Add to the error for a missing parameter how to give all that are missing to a command."""
    try:
        yield
    except errors.MissingParameter as error:
        from packtivity.spec.parts import needs  # for what is wrong

        missing = [name for name in needs(task.spec) if name not in task.parameters]
        if missing:
            error.hint = f"{error.hint}\n  {how_to_give(missing, options)}".lstrip()
        raise


_CHOICES = ("runtime", "pull", "cpus", "memory", "gpus", "network", "user")


def container_choices(options: ContainerOptions | LockOptions) -> dict[str, Any]:
    """Return what :class:`~packtivity.handlers.config.container_config` takes; what is not chosen is for the settings."""
    chosen = {name: value for name in _CHOICES if (value := getattr(options, name, None)) is not None}
    if options.image_dir:
        chosen["image_dir"] = [os.path.abspath(path) for path in options.image_dir]
    if options.locked:
        from packtivity.runtimes.images import read_lock  # containers only

        chosen["locked"] = read_lock(options.lockfile)
    return chosen


def warn_of_container_options(spec: dict[str, Any], options: ContainerOptions) -> None:
    """Warn of options for containers that a task which runs in none does not need."""
    environment = (spec["environment"] or {}).get("environment_type") if spec["process"] else None
    if environment not in (None, "localproc-env", "noop-env", "manual-instructions-env"):
        return
    given = [f"--{name.replace('_', '-')}" for name in (*_CHOICES, "image_dir", "locked") if name in options.chosen]
    if given:
        warn(f"{', '.join(given)}: no effect, because this task does not run in a container")


def load_state(options: TaskOptions) -> State:
    """Return the state; nothing is created.

    :raises StateError: the state file cannot be used.
    """
    described = _read_state(options.state) if options.state else {}
    if not described:
        if options.state:
            warn(f"state file {options.state} is empty; --write and --read hold")
        return LocalFSState(directories(options.write, "--write"), directories(options.read, "--read"))
    for name in sorted({"write", "read"} & options.chosen):
        warn(f"--{name} has no effect, because --state takes its place")
    if "state_type" in described:
        return statecontexts.load_state(described)
    return LocalFSState(described.get("readwrite") or [], described.get("readonly") or [])


_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def directories(given: Iterable[str], where: str) -> list[str]:
    """Return real paths of directories that the user has named.

    :param where: what errors begin with.
    :raises StateError: one is an address, and no directory is called so.
    """
    for path in given:
        if _ADDRESS.match(path) and not os.path.exists(path):
            from packtivity.spec.remote import without_secrets  # imports urllib

            raise errors.StateError(
                f"{where}: {without_secrets(path)} is an address, not a directory",
                hint="A task reads and writes directories of this machine: copy the data into one, and give that.",
            )
    return [os.path.realpath(path) for path in given]


class Task(NamedTuple):
    """A task as it is given to a backend."""

    spec: dict[str, Any]
    parameters: dict[str, Any]
    state: State


def load_task(options: TaskOptions) -> Task:
    """Return spec, parameters and state, and warn about what is doubtful.

    :raises PacktivityError: one cannot be used, or under strict, something is doubtful.
    """
    spec, parameters = load_spec(options), Parameters(options.parfiles, options.parameter)
    task = Task(spec, parameters.data, load_state(options))
    warn_of_doubts(task, parameters.problems, strict=is_strict(options.strict))
    return task


def _read_state(name: str) -> dict[str, Any]:
    where = f"state file {name}"
    hint = "Write the lists readwrite and readonly, of paths or of {path, name}."
    try:
        with open(name, "rb") as file:
            found = load_yaml(file.read(), name)
    except OSError as error:
        raise errors.StateError.of(error, f"{where}: {error.strerror}") from None
    except BadText as error:
        raise UnreadableState(error) from None
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise errors.StateError(f"{where}: not a mapping", hint=hint)
    if found.get("state_type", "localfs") != "localfs" or ("state_type" in found and settings.current().state_provider):
        return found
    if not {"readwrite", "readonly", "state_type"} & found.keys():
        raise errors.StateError(f"{where}: has neither readwrite nor readonly", hint=hint)
    _warn_of_unknown(found, ("readwrite", "readonly", "state_type", "identifier"), where)
    for key in ("readwrite", "readonly"):
        if not isinstance(found.get(key) or [], list):
            raise errors.StateError(f"{where}: {key} is not a list", hint=hint)
        for number, entry in enumerate(found.get(key) or []):
            place, path = f"{where}: {key}[{number}]", entry
            if isinstance(entry, dict):
                path = entry.get("path")
                _warn_of_unknown(entry, ("path", "name"), place)
            if not isinstance(path, str) or not path or "\0" in path:
                raise errors.StateError(f"{place} is not a path: {entry!r}", hint=hint)
            directories([path], place)
    return found


def _warn_of_unknown(mapping: Iterable[str], known: Sequence[str], where: str) -> None:
    for key in mapping:
        if key not in known:
            near = nearest(key, known)
            warn(f"{where}: the key {key!r} means nothing" + (f"; did you mean {near!r}?" if near else ""))


class UnreadableState(errors.StateError):
    """A state file is not YAML, or says something that JSON cannot."""

    def __init__(self, cause: BadText) -> None:
        super().__init__(cause.message, hint=cause.hint)
        self.diagnostics = cause.diagnostics


_TOLD_BY_THE_RUN = frozenset({"unknown-placeholder", "unknown-parameter"})
"""Warnings about what will be an error as soon as the task is rendered."""


def warn_of_doubts(task: Task, problems: Sequence[Diagnostic] = (), *, strict: bool) -> None:
    """Warn about doubtful parameters.

    :param problems: what came up as they were read.
    :raises DoubtfulTask: there are some, under strict.
    :raises StateError: a directory to read is not there, under strict.
    """
    _check_directories_to_read(task.state, strict=strict)
    diagnostics = list(problems)
    if strict or not (task.state.readwrite and _all_used(task.spec, task.parameters)):
        from packtivity.spec.lint import lint_parameters  # a tenth of a short run

        diagnostics += lint_parameters(task.spec, task.parameters, getattr(task.state, "dirnames", None))
    if strict and any(diagnostic.severity != "advice" for diagnostic in diagnostics):
        raise DoubtfulTask(as_errors(diagnostics))
    diagnostics = [diagnostic for diagnostic in diagnostics if diagnostic.code not in _TOLD_BY_THE_RUN]
    if diagnostics:
        show_error(render_diagnostics(diagnostics))


_STRICT = "not run, because warnings are errors under --strict"


class DoubtfulTask(errors.ParameterError):
    """A warning about parameters or placeholders came up under ``--strict``; nothing has been run."""

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        super().__init__(_STRICT)
        self.diagnostics = tuple(diagnostics)


def is_strict(option: bool) -> bool:
    """Return whether warnings are errors: by the option ``--strict``, or by the setting."""
    return option or bool(settings.current().strict)


def as_errors(diagnostics: Iterable[Diagnostic]) -> tuple[Diagnostic, ...]:
    """Return the diagnostics with their warnings as errors, which they are under ``--strict``."""
    return tuple(one._replace(severity="error") if one.severity == "warning" else one for one in diagnostics)


def _all_used(spec: dict[str, Any], parameters: dict[str, Any]) -> bool:
    """Return True when every parameter has a plain value and is plainly used, as a placeholder or in an output map.

    Then none is superfluous or misspelt, and the rules need not be imported.
    """
    values = [one for value in parameters.values() for one in (value if isinstance(value, list) else [value])]
    if None in parameters.values() or any(isinstance(value, dict) for value in values):
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
