"""The commands ``packtivity doctor``, ``packtivity lock`` and ``packtivity shell``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from packtivity.cli import options
from packtivity.cli.command import command
from packtivity.cli.printing import say, say_json

if TYPE_CHECKING:
    from packtivity.types import Execution


@command("doctor", options.document_format)
def doctor(**given: Any) -> None:
    """Say which container tools work here, and what to do about those that do not.

    The exit code is 10 if no tool works, or if not the one that PACKTIVITY_CONTAINER_RUNTIME asks for.
    """
    from dataclasses import asdict

    from packtivity.runtimes.doctor import examine

    found = examine()
    if given["format"] == "json":
        tables = {key: [asdict(finding) for finding in found[key]] for key in ("runtimes", "needs")}
        say_json({"default": found["default"], **tables}, indent=2)
    else:
        _print_findings(found)
    if found["default"] is None:
        raise click.exceptions.Exit(10)


def _print_findings(found: dict[str, Any]) -> None:
    marks = {"works": "ok", "warning": "!!", "broken": "NO", "missing": "--"}
    for finding in (*found["runtimes"], *found["needs"]):
        version = f" {finding.version}" if finding.version else ""
        say(f"{marks[finding.status]}  {finding.subject}{version}: {finding.detail}")
        if finding.advice:
            say(f"      {finding.advice}")
    until = (
        f"{found['asked']} does, which PACKTIVITY_CONTAINER_RUNTIME asks for" if found["asked"] else "one of these does"
    )
    say(f"Containers run with: {found['default'] or f'nothing that works, until {until}'}")


@command("lock", options.document, options.spec, options.runtime, options.pull, options.image_dir, options.lockfile)
def lock(**given: Any) -> None:
    """Write down the digest of the container image that SPEC uses.

    The image is pulled if need be. Run the task with --locked to be sure of the very same image.
    """
    from packtivity.cli.inputs import load_spec
    from packtivity.errors import UsageError
    from packtivity.runtimes import image_lock, supervise
    from packtivity.runtimes.choose import choose
    from packtivity.runtimes.containers import image_of
    from packtivity.spec.sources import without_secrets
    from packtivity.types import Execution

    spec = load_spec(given)
    image, unpacked = image_of(spec["environment"] or {})
    if image is None:
        raise UsageError(f"{without_secrets(given['spec'])} does not run in a container, so there is nothing to lock")
    config = _container_config(given)
    runtime = choose(config.runtime())
    watch = supervise.Supervision(lambda line: say(line, err=True), _no_log, policy=config.pull_policy())
    found = supervise.find_image(
        runtime, Execution((), image=image, unpacked=unpacked, image_dirs=config.image_dirs()), watch
    )
    if not found.is_fresh:
        from packtivity.runtimes.image_store import inspect

        found = inspect(runtime, image) or found
    digest = image_lock.digest_of(found, runtime)
    image_lock.write_lock(given["lockfile"], {image: digest})
    say(f"{image} {digest}")


def _container_config(given: dict[str, Any]) -> Any:
    from packtivity.handlers.config import container_config

    return container_config({key: given[key] for key in ("runtime", "pull", "image_dir") if given.get(key) is not None})


def _no_log() -> Any:
    from contextlib import nullcontext

    return nullcontext(None)


@command("shell", options.task, options.container)
def shell(**given: Any) -> None:
    """Open the task's own interpreter where and how the task would run.

    Everything is as in the run: image, directories, variables, user. The exit code is that of the interpreter, or 128 and
    the number of the signal that ended it.
    """
    from packtivity.cli.inputs import TaskOptions, start_logging
    from packtivity.errors import UsageError

    task = TaskOptions(given)
    start_logging(task.verbosity)
    state = task.load_state()
    execution, config = plan_shell(task, state, given)
    if execution is None:
        raise UsageError("this task runs nothing that a shell could be opened in")
    state.ensure()
    code = _open(execution, config)
    raise click.exceptions.Exit(code if code >= 0 else 128 - code)


def plan_shell(task: Any, state: Any, given: dict[str, Any]) -> tuple[Execution | None, Any]:
    """Plan the task's interpreter for a person, and return how it is to be run."""
    from packtivity.cli.running import container_choices
    from packtivity.handlers.config import ExecutionConfig, packconfig
    from packtivity.handlers.execution_handlers import plan
    from packtivity.task import build_env, finalize_inputs

    config = ExecutionConfig({"containers": container_choices(given)} if "runtime" in given else None)
    spec = task.load_spec()
    if not (spec["environment"] and spec["process"]):
        return None, config
    parameters, state = finalize_inputs(task.load_parameters(), state)
    environment = build_env(spec["environment"], parameters, state, packconfig())
    return plan(config, environment, state, {"interactive": spec["process"].get("interpreter", "sh")}), config


def _open(execution: Execution, config: Any) -> int:
    if execution.image is None:
        from packtivity.runtimes import process

        return process.attach(execution.argv, execution.workdir)
    from packtivity.runtimes import supervise
    from packtivity.runtimes.choose import choose

    containers = config.container_config
    watch = supervise.Supervision(
        lambda line: say(line, err=True), _no_log, policy=containers.pull_policy(), locked=containers.locked()
    )
    return supervise.attach_container(choose(containers.runtime()), execution, watch)
