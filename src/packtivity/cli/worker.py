"""The command ``packtivity-worker``: runs a task that comes as one JSON document."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

from packtivity import errors
from packtivity.cli import start
from packtivity.cli.errors import INTERNAL, STILL_RUNNING, complain
from packtivity.cli.inputs import read_json, start_logging
from packtivity.cli.terminal import say_json
from packtivity.plugins import enable_plugins
from packtivity.worker import answer, run_envelope

if TYPE_CHECKING:
    from packtivity.cli.declarations import WorkerOptions

_LEAVES_ON = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGXCPU)
"""Signals with which an engine ends the process of a task."""


def work(options: WorkerOptions) -> int:
    """Carry out ``packtivity-worker`` and return its exit code.

    :raises ConfigurationError: it cannot be read, or a plug-in cannot be imported.
    """
    verbosity = options.verbosity
    start_logging(verbosity)
    start.allow_interrupts()
    enable_plugins()
    task = read_document(options.document)
    if isinstance(task.get("task"), dict) and "spec" not in task:
        ending = run_envelope({**task, "task": _with_level(task["task"], verbosity)}, leaves_on=_LEAVES_ON)
    else:
        with start.like_interrupts():
            ending = answer(_with_level(task, verbosity))
    if ending["status"] == "succeeded":
        say_json(ending["result"])
        return 0
    if ending["status"] == "waiting":
        complain("error: the task was ended before it was over, because this program was; it is to be run again")
        return STILL_RUNNING
    complain(f"error: {ending['error']['message']}")
    return exit_code(ending)


def _with_level(document: dict[str, Any], verbosity: str) -> dict[str, Any]:
    """Return the document with a level for the step log: what goes wrong is printed by the command itself, once."""
    config = document.get("config", {})
    execution = config.get("exec") or {} if isinstance(config, dict) else None
    if not isinstance(execution, dict):
        return document  # whoever runs it refuses it
    level = execution.get("logging_level", "CRITICAL") if verbosity == "ERROR" else verbosity
    return {**document, "config": {**config, "exec": {**execution, "logging_level": level}}}


def exit_code(ending: dict[str, Any]) -> int:
    """Return the exit code of the error that a task has ended with."""
    error = getattr(errors, str(ending["error"]["type"]), None)
    unknown = errors.TaskCancelled.exit_code if ending["status"] == "cancelled" else INTERNAL
    code: int = getattr(error, "exit_code", unknown)
    return code


def read_document(name: str) -> dict[str, Any]:
    """Return a JSON mapping.

    :raises ConfigurationError: there is none.
    """

    def fail(what: str) -> errors.ConfigurationError:
        return errors.ConfigurationError(f"task document {name}: {what}")

    document = read_json(name, fail, stdin="-")
    if not isinstance(document, dict):
        raise fail("not a mapping")
    return document
