"""The command ``packtivity-run``: prepare, look at what may be wrong, run or submit, print."""

from __future__ import annotations

import json
import os
import sys
from io import TextIOWrapper
from stat import S_IFREG, S_ISFIFO, S_ISREG
from threading import Event
from typing import TYPE_CHECKING, Any

from packtivity import datamodel, errors
from packtivity.cli import start
from packtivity.cli.errors import CannotWrite, render_diagnostics, warn
from packtivity.cli.inputs import (
    Target,
    Task,
    container_choices,
    load_task,
    start_logging,
    telling_what_is_missing,
    warn_of_container_options,
)
from packtivity.cli.terminal import LiveLine, can_steer, is_terminal, plain, say, show, show_error, table, wants_colour
from packtivity.files import put, replacing
from packtivity.printable import printable
from packtivity.runtimes.cancellation import note_end
from packtivity.task import ASYNC_NAME
from packtivity.tasklog import log_path

if TYPE_CHECKING:
    from packtivity.cli.declarations import RunOptions
    from packtivity.types import Backend, Diagnostic, State

_POLL = (0.005, 0.5)
"""Seconds between questions to an asynchronous backend: at first, and at most."""


def run(options: RunOptions) -> None:
    """Carry out ``packtivity-run``.

    :raises PacktivityError: whatever went wrong.
    """
    if options.pass_env and not options.clean_env:
        raise errors.UsageError("--pass-env has no meaning without --clean-env")
    previews = ("print_command", "print_script", "dry_run")
    preview = [f"--{name.replace('_', '-')}" for name in previews if getattr(options, name)]
    if len(preview) > 1:
        raise errors.UsageError(f"{' and '.join(preview)} cannot be used together")
    result = OutputFile(options.outfile) if options.outfile else None
    submitted = None if options.asyncwait else OutputFile(options.proxyfile)
    if result and submitted:
        warn("--outfile has no effect with --async; packtivity-checkproxy tells the result")
    containers = container_choices(options)
    start_logging(options.verbosity)
    task = load_task(options)
    warn_of_container_options(task.spec, options)
    target = Target.named(options.backend)
    names = ("timeout", "retries", "clean_env", "pass_env", "strict")
    how = {name: value for name in names if (value := getattr(options, name))}
    # What goes wrong is printed by the command itself, once; the step log need not repeat it on standard error.
    level = "CRITICAL" if options.verbosity == "ERROR" else options.verbosity
    if not target.configure({"logging_level": level}, containers, warn=show_warning, **how):
        for name in (*how, *containers):
            if name != "strict":  # which commands obey themselves
                warn(f"--{name.replace('_', '-')} has no effect on the backend {options.backend!r}")
    if target.synchronous and submitted:
        warn(f"--async has no effect on the backend {options.backend!r}, which runs the task here and now")
        submitted = None
    with telling_what_is_missing(task, options):
        if preview:
            from packtivity.cli.dry_run import show_plan  # with what names container tools

            show_plan(task, target, options)
            return
        start.allow_interrupts()
        with start.like_interrupts():
            _run(task, target, options, result, submitted)


def show_warning(diagnostic: Diagnostic) -> None:
    """Print a warning that came up while the task ran."""
    show_error(render_diagnostics([diagnostic]))


def _run(
    task: Task, target: Target, options: RunOptions, outfile: OutputFile | None, proxyfile: OutputFile | None
) -> None:
    """Run or submit the task, and print and write what came of it.

    :param proxyfile: for the proxy of a task that is not waited for.
    """
    if isinstance(sys.stdout, TextIOWrapper) and sys.stdout.errors == "strict":
        # A result must not be lost because the terminal cannot show one of its characters.
        sys.stdout.reconfigure(errors="backslashreplace")
    task.state.ensure()
    backend = target.backend
    known = backend.prepublish(task.spec, task.parameters, task.state)
    prepublished = known is not None and plain(known) not in ({}, [], "")  # as in upstream 0.17.1
    if prepublished and not (options.quiet or is_terminal(sys.stdout)):  # a person waits for the final one
        say(f"{known} (prepublished)")
    parameters = datamodel.create(task.parameters, task.state.datamodel)
    live = None if options.quiet else _live_line(target)
    try:
        if target.synchronous:
            result = backend.run(task.spec, parameters, task.state)
        else:
            proxy = backend.submit(task.spec, parameters, task.state, metadata={"name": ASYNC_NAME})
            if proxyfile:
                _hand_out(proxy, backend, proxyfile, quiet=options.quiet)
                return
            result = _wait(proxy, target, task.state, live)
    finally:
        if live is not None:
            live.clear()
    try:
        if not options.quiet:
            _print_result(result, task.state, suffix=prepublished)
    finally:  # also when nobody reads what is printed
        if outfile:
            outfile.write(plain(result))


def _print_result(result: object, state: State, *, suffix: bool) -> None:
    """Print a table for a person; for programs, the line of upstream 0.17.1 word for word.

    :param suffix: whether it was prepublished, too.
    """
    if not is_terminal(sys.stdout):
        say(f"{result} (post-run)" if suffix else str(result))
        return
    lines = table(plain(result), colour=wants_colour(sys.stdout))
    logs = [f"logs: {printable(state.metadir)}"] if state.metadir else []
    show("\n".join(["published:", *lines, *logs]))


def _live_line(target: Target) -> LiveLine | None:
    """Put a live line on the terminal, if a person is there to see it."""
    stream = next((stream for stream in (sys.stderr, sys.stdout) if can_steer(stream)), None)
    if stream is None:
        return None
    live = LiveLine(stream, "running")
    config = getattr(target.backend, "exec_config", None)
    if config is not None:
        config.reporter = live
        config.warn = live.around(config.warn)
    live.guard_logging()
    return live


def _wait(proxy: Any, target: Target, state: State, live: LiveLine | None) -> Any:
    """Return the result of a submitted task.

    :raises KeyboardInterrupt: its notes say what becomes of the task.
    """
    from packtivity.api import wait_for  # which no synchronous run needs

    first, longest = _POLL
    backend = target.backend
    try:
        return wait_for(backend, proxy, first, None, longest=longest, tick=None if live is None else live.tick)
    except KeyboardInterrupt as interrupt:
        if target.cancel_all():
            while not backend.ready(proxy):
                Event().wait(first)
            note_end(interrupt, log_path({"name": ASYNC_NAME}, state, "run"))
        else:
            document = json.dumps(proxy.json(), default=str)
            interrupt.add_note(
                f"The task goes on where it was submitted. For packtivity-checkproxy, in a file: {document}"
            )
        raise


def _hand_out(proxy: Any, backend: Backend, proxyfile: OutputFile, *, quiet: bool) -> None:
    """Print and write the proxy of a task that is not waited for."""
    document = proxy.json()
    try:
        if not quiet:
            say(f"proxy-json {json.dumps(document)}")
    finally:  # without it the task would be lost
        proxyfile.write(document)
    if document.get("proxyname") == "ForegroundProxy" and not backend.successful(proxy):
        _, message = backend.fail_info(proxy)
        warn(f"the task has run and failed: {message}")


class OutputFile:
    """A JSON file to write when the work is done; what could not be written is refused before.

    :raises CannotWrite: it is a directory, or it may not be written, or be made where it is.
    """

    def __init__(self, name: str) -> None:
        check_writable(name)
        self.name = name
        # A pipe, or what the system has in /dev: written to as it is. A task could put a pipe in the place of a file.
        path = os.path.abspath(name)
        of_system = path.startswith(("/dev/", "/proc/")) and not path.startswith("/dev/shm/")  # noqa: S108 - not used
        mode = os.lstat(path).st_mode if os.path.lexists(path) else S_IFREG
        self._is_stream = S_ISFIFO(mode) or (of_system and not S_ISREG(mode))

    def write(self, document: object) -> None:
        """Write the file, which a task may have had its hands on: a link in its place is replaced, not followed."""
        text = json.dumps(document)  # before what the file had is gone
        folder, base = os.path.split(self.name)
        try:
            if self._is_stream:
                with open(self.name, "w", encoding="utf-8") as file:
                    file.write(text)
            else:  # whoever reads the file finds all of it or nothing
                with replacing(os.path.join(os.path.realpath(folder), base)) as temporary:
                    put(temporary, text.encode())
        except OSError as error:
            raise CannotWrite.of(error, f"{self.name} cannot be written: {error.strerror}") from None


def check_writable(name: str) -> None:
    """Refuse a file that could not be written when the work is done.

    :raises CannotWrite: it is a directory, or it may not be written, or be made where it is.
    """
    directory = os.path.dirname(name) or "."
    try:
        os.stat(name)
    except FileNotFoundError as error:
        if not (os.path.isdir(directory) and os.access(directory, os.W_OK)):
            hint = f"Is {directory} a directory that you may write to?"
            raise CannotWrite.of(error, f"{name} cannot be written", hint=hint) from None
    except OSError as error:
        raise CannotWrite.of(error, f"{name} cannot be written: {error.strerror}") from None
    else:
        if os.path.isdir(name) or not os.access(name, os.W_OK):
            raise CannotWrite(f"{name} cannot be written", hint="Is it a file that you may write to?")
