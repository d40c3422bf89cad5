"""What ``packtivity-run`` does: prepare, look at what may be wrong, run or submit, print."""

from __future__ import annotations

import os
import sys
from stat import S_ISFIFO, S_ISREG
from typing import TYPE_CHECKING, Any

from packtivity import errors
from packtivity.cli import start
from packtivity.cli.inputs import TaskOptions, checked, find_backend, start_logging

if TYPE_CHECKING:
    from collections.abc import Mapping

    from packtivity.cli.terminal import LiveLine
    from packtivity.types import Diagnostic

_POLL = (0.005, 0.5)
"""Seconds between questions to an asynchronous backend: at first, and at most."""


class RunOptions:
    """The values of the options that only ``packtivity-run`` has; see :mod:`packtivity.cli.run`.

    Not a dataclass, because making one takes longer than parsing the command line.
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.backend: str = given["backend"]
        self.asyncwait: bool = given["asyncwait"]
        self.proxyfile: str = given["proxyfile"]
        self.outfile: str | None = given["outfile"]
        self.timeout: float | None = given["timeout"]
        self.retries: int = given["retries"]
        self.clean_env: bool = given["clean_env"]
        self.pass_env: tuple[str, ...] = given["pass_env"]
        self.print_command: bool = given["print_command"]
        self.dry_run: bool = given["dry_run"]
        self.quiet: bool = given["quiet"]
        # Looked at before the task runs, which could put a pipe in their place.
        self.streams = frozenset(name for name in (self.outfile, self.proxyfile) if name and is_stream(name))
        self.containers = container_choices(given)


def container_choices(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the options say about containers, as :class:`~packtivity.handlers.config.container_config` takes it.

    :raises LoadError: ``--locked`` was given and the lock file cannot be read.
    """
    names = ("runtime", "pull", "cpus", "memory", "gpus", "network", "user")
    chosen = {name: given[name] for name in names if given[name] is not None}
    if given["image_dir"]:
        chosen["image_dir"] = [os.path.abspath(path) for path in given["image_dir"]]
    if given.get("locked"):
        from packtivity.runtimes.image_lock import read_lock

        chosen["locked"] = read_lock(given["lockfile"])
    return chosen


def run(given: Mapping[str, Any]) -> None:
    """Carry out ``packtivity-run``.

    :param given: the values of all its options.
    :raises PacktivityError: whatever went wrong.
    """
    task = TaskOptions(given)
    options = RunOptions(given)
    _check(options)
    start_logging(task.verbosity)
    spec, parameters, state = checked(task)
    synchronous, backend = find_backend(options.backend)
    _configure(backend, task, options)
    if synchronous and not options.asyncwait:
        _warn(f"--async has no effect on the backend {options.backend!r}, which runs the task here and now")
    if options.print_command or options.dry_run:
        from packtivity.cli.planning import show_plan

        show_plan(spec, parameters, state, backend, brief=options.print_command)
        return
    from packtivity.cli.signals import like_interrupts

    start.hand_over()
    with like_interrupts():
        _run(spec, parameters, state, synchronous, backend, options)


def _check(options: RunOptions) -> None:
    """Refuse before the run what would only fail after it."""
    if options.pass_env and not options.clean_env:
        raise errors.UsageError("--pass-env has no meaning without --clean-env")
    if options.print_command and options.dry_run:
        raise errors.UsageError("--print-command and --dry-run cannot be used together")
    for name in (options.outfile, None if options.asyncwait else options.proxyfile):
        if name:
            check_writable(name)
    if options.outfile and not options.asyncwait:
        _warn("--outfile has no effect with --async; packtivity-checkproxy tells the result")


def _warn(text: str) -> None:
    from packtivity.cli.errors import warn  # which few runs need

    warn(text)


def _unwritable(message: str, hint: str = "") -> errors.PacktivityError:
    from packtivity.cli.errors import CannotWrite

    return CannotWrite(message, hint=hint)


def check_writable(name: str) -> None:
    """Refuse a file that could not be written when the work is done.

    :raises CannotWrite: it is a directory, or it may not be written, or be made where it is.
    """
    try:
        os.stat(name)
    except FileNotFoundError:
        directory = os.path.dirname(name) or "."
        if not (os.path.isdir(directory) and os.access(directory, os.W_OK)):
            hint = f"Is {directory} a directory that you may write to?"
            raise _unwritable(f"{name} cannot be written", hint=hint) from None
    except OSError as error:
        raise _unwritable(f"{name} cannot be written: {error.strerror}") from None
    else:
        if os.path.isdir(name) or not os.access(name, os.W_OK):
            raise _unwritable(f"{name} cannot be written", hint="Is it a file that you may write to?")


def _configure(backend: Any, task: TaskOptions, options: RunOptions) -> None:
    """Hand over what the options say about how the task is run."""
    from packtivity.handlers.config import ExecutionConfig

    backend = configurable(backend)
    config = getattr(backend, "exec_config", None)
    if not isinstance(config, ExecutionConfig):
        _warn_unused(options)
        return
    wanted: dict[str, Any] = {"timeout": options.timeout, "strict": task.strict, "clean_env": options.clean_env}
    wanted["retries"] = options.retries
    changes = {name: value for name, value in wanted.items() if value}
    # What goes wrong is printed by the command itself, once; the step log need not repeat it on standard error.
    level = "CRITICAL" if task.verbosity == "ERROR" else task.verbosity
    settled = {"logging_level": level, **config.config}
    if options.containers:
        settled["containers"] = {**(config.config.get("containers") or {}), **options.containers}
    made = ExecutionConfig(settled, warn=show_warning, **changes)
    backend.exec_config = made.replace(pass_env=options.pass_env) if options.pass_env else made


def configurable(backend: Any) -> Any:
    """Return what is to be told how tasks are run: the backend, or the engine that it gives jobs to."""
    return backend if hasattr(backend, "exec_config") else getattr(backend, "job_backend", backend)


def _warn_unused(options: RunOptions) -> None:
    given = [name for name in ("timeout", "retries", "clean_env") if getattr(options, name)]
    for name in (*given, *options.containers):
        _warn(f"--{name.replace('_', '-')} has no effect on the backend {options.backend!r}")


def show_warning(diagnostic: Diagnostic) -> None:
    """Print a warning that came up while the task ran."""
    from packtivity.cli.errors import told
    from packtivity.cli.printing import show_error

    show_error(told([diagnostic]))


# --- running and printing --------------------------------------------------------------------------------------


def _run(spec: Any, parameters: Any, state: Any, synchronous: bool, backend: Any, options: RunOptions) -> None:
    from packtivity import datamodel
    from packtivity.cli.output import Output, plain
    from packtivity.task import ASYNC_NAME

    state.ensure()
    output = Output(sys.stdout, quiet=options.quiet)
    known = backend.prepublish(spec, parameters, state)
    told = known is not None and plain(known) not in ({}, [], "")  # an empty one counts as none in upstream 0.17.1
    if told:
        output.prepublished(known)
    document = datamodel.create(parameters, state.datamodel)
    live = _watch(backend, options)
    try:
        if synchronous:
            result = backend.run(spec, document, state)
        else:
            proxy = backend.submit(spec, document, state, metadata={"name": ASYNC_NAME})
            if not options.asyncwait:
                _submitted(proxy, backend, output, options)
                return
            result = _waited_for(proxy, backend, state, live)
    finally:
        if live is not None:
            live.clear()
    try:
        output.result(result, state, suffix=told)
    finally:  # also when nobody reads what is printed
        if options.outfile:
            _write_json(options.outfile, plain(result), options.streams)


def _watch(backend: Any, options: RunOptions) -> LiveLine | None:
    """Put a live line on the terminal, if a person is there to see it."""
    if options.quiet or not any(stream is not None and stream.isatty() for stream in (sys.stderr, sys.stdout)):
        return None
    from packtivity.cli.terminal import LiveLine, can_steer

    stream = next((stream for stream in (sys.stderr, sys.stdout) if can_steer(stream)), None)
    if stream is None:
        return None
    live = LiveLine(stream, "running")
    config = getattr(backend, "exec_config", None)
    if config is not None:
        config.reporter = live
        config.warn = live.around(config.warn)
    live.guard_logging()
    return live


def _waited_for(proxy: Any, backend: Any, state: Any, live: LiveLine | None) -> Any:
    """Return the result of a submitted task.

    :raises KeyboardInterrupt: its notes say what becomes of the task.
    """
    import json
    from threading import Event

    from packtivity.api import wait_for
    from packtivity.logfiles import log_path
    from packtivity.runtimes.cancellation import note_end
    from packtivity.task import ASYNC_NAME

    first, longest = _POLL
    try:
        return wait_for(backend, proxy, first, None, longest=longest, tick=None if live is None else live.tick)
    except KeyboardInterrupt as interrupt:
        if ended_here(backend):
            while not backend.ready(proxy):
                Event().wait(first)
            note_end(interrupt, log_path({"name": ASYNC_NAME}, state, "run"))
        else:
            told = json.dumps(proxy.json(), default=str)
            interrupt.add_note(f"The task goes on where it was submitted. For packtivity-checkproxy, in a file: {told}")
        raise


def ended_here(backend: Any) -> bool:
    """End the tasks of a backend whose workers end with this program; false when there is no such way."""
    engine = configurable(backend)
    if not hasattr(engine, "cancel_all"):
        return False
    engine.cancel_all()
    return True


def _submitted(proxy: Any, backend: Any, output: Any, options: RunOptions) -> None:
    document = proxy.json()
    try:
        output.proxy(document)
    finally:  # without it the task would be lost
        _write_json(options.proxyfile, document, options.streams)
    if document.get("proxyname") == "ForegroundProxy" and not backend.successful(proxy):
        _, message = backend.fail_info(proxy)
        _warn(f"the task has run and failed: {message}")


def _write_json(name: str, document: Any, streams: frozenset[str] = frozenset()) -> None:
    """Write a file that a task may have had its hands on: a link in its place is replaced, not followed.

    :param streams: names that stand for a pipe or terminal, which cannot be replaced.
    """
    import json

    from packtivity.files import put, replacing

    text = json.dumps(document)  # before what the file had is gone
    folder, base = os.path.split(name)
    try:
        if name in streams:
            with open(name, "w", encoding="utf-8") as file:
                file.write(text)
        else:  # whoever reads the file finds all of it or nothing
            with replacing(os.path.join(os.path.realpath(folder), base)) as temporary:
                put(temporary, text.encode())
    except OSError as error:
        raise _unwritable(f"{name} cannot be written: {error.strerror}") from None


def is_stream(name: str) -> bool:
    """Return whether something has that name that is written to as it is: a pipe, or what the system has in ``/dev``."""
    path = os.path.abspath(name)
    try:
        mode = os.lstat(path).st_mode
        of_system = path.startswith(("/dev/", "/proc/")) and not path.startswith("/dev/shm/")  # noqa: S108 - not used
        return S_ISFIFO(mode) or (of_system and not S_ISREG(mode))
    except OSError:
        return False
