"""The command ``packtivity-worker``: runs a task that comes as one JSON document."""

from __future__ import annotations

import sys
from typing import Any

import click

from packtivity.cli import options, start
from packtivity.cli.command import command

_DOCUMENT = click.argument("document", type=click.Path(dir_okay=False, allow_dash=True))


@command("packtivity-worker", _DOCUMENT, options.verbosity, options.debug, options.version, prepares=True)
def worker(document: str, verbosity: str) -> None:
    """Run the task in DOCUMENT, a JSON file (- is standard input), and print its result as one line of JSON.

    DOCUMENT is a task document, or the envelope that an engine has carried here, with the task in it. What ends the
    process by SIGTERM is the engine in that case: the task is ended without a record, to be delivered again.

    The record is written to _packtivity/NAME.outcome.json in the task's work directory. A task with an id whose
    record is there already is not run again. The exit code is that of packtivity-run.
    """
    import signal

    from packtivity.cli.errors import STILL_RUNNING, complain
    from packtivity.cli.inputs import start_logging
    from packtivity.cli.printing import say_json
    from packtivity.cli.signals import like_interrupts
    from packtivity.plugins import enable_plugins
    from packtivity.worker import answer, run_envelope

    start_logging(verbosity)
    start.hand_over()
    enable_plugins()
    found = _read(document)
    if isinstance(found.get("task"), dict) and "spec" not in found:
        leaves_on = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
        said = run_envelope({**found, "task": _heard(found["task"], verbosity)}, leaves_on=leaves_on)
    else:
        with like_interrupts():
            said = answer(_heard(found, verbosity))
    if said["status"] == "waiting":
        complain("the task was ended, and is to be delivered again")
        raise click.exceptions.Exit(STILL_RUNNING)
    if said["status"] == "succeeded":
        say_json(said["result"])
        return
    complain(f"error: {said['error']['message']}")
    raise click.exceptions.Exit(_exit_code(said))


def _heard(document: dict[str, Any], verbosity: str) -> dict[str, Any]:
    """Return the document with the level that was asked for: what goes wrong is printed by the command itself, once."""
    config = document.get("config", {})
    execution = config.get("exec") or {} if isinstance(config, dict) else None
    if not isinstance(execution, dict):
        return document  # whoever runs it refuses it
    told = (
        {"logging_level": "CRITICAL", **execution}
        if verbosity == "ERROR"
        else {**execution, "logging_level": verbosity}
    )
    return {**document, "config": {**config, "exec": told}}


def _exit_code(said: dict[str, Any]) -> int:
    from packtivity import errors

    error = getattr(errors, str(said["error"]["type"]), None)
    code: int = getattr(error, "exit_code", errors.TaskCancelled.exit_code if said["status"] == "cancelled" else 70)
    return code


def _read(name: str) -> Any:
    import json

    from packtivity.errors import ConfigurationError

    try:
        if name == "-":
            found = json.load(sys.stdin)
        else:
            with open(name, encoding="utf-8") as file:
                found = json.load(file)
    except OSError as error:
        raise ConfigurationError(f"task document {name}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"task document {name}: not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ConfigurationError(f"task document {name}: not a mapping")
    return found
