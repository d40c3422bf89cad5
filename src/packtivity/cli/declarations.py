"""Every command as click sees it: name, options and help. What it does is in the module of its name, imported on call.

So help and completion import click and nothing that running a task needs.
"""

from __future__ import annotations

from typing import Any

from packtivity.cli import options
from packtivity.cli.command import command, group


@group("packtivity", options.version)
def main() -> None:
    """Run scientific tasks that must stay runnable for decades.

    A task is described by a spec (YAML): what to run, the environment it runs in, and what it publishes as JSON.
    """


@command(
    main,
    "packtivity-run",
    options.task,
    options.execution,
    options.container,
    options.lock,
    options.print_command,
    options.dry_run,
    options.quiet,
    options.version,
    prepares=True,
    short_help="Run a task and print what it publishes.",
)
def runcli(**given: Any) -> None:
    """Run the task that SPEC describes and print what it publishes.

    Parameters come from PARFILES (YAML or JSON mappings, later ones win; - is standard input) and from -p.
    The task's output goes to _packtivity/packtivity_syncbackend.run.log in the work directory.

    \b
    Printed on standard output when it is not a terminal:
      <TypedLeafs: {...}> (prepublished)  if the result is known before running
      <TypedLeafs: {...}> (post-run)      the result then
      <TypedLeafs: {...}>                 the result otherwise
      proxy-json {...}                    with --async, in place of the result

    With --async the exit code says whether the task was submitted, not how it goes; packtivity-checkproxy does.
    """
    from packtivity.cli.run import RunOptions, run

    run(RunOptions(**given))


@command(
    main,
    "packtivity-map",
    options.sets,
    options.document,
    options.strict,
    options.validate,
    options.verbosity,
    options.quiet,
    options.spec,
    options.parfiles,
    options.version,
    prepares=True,
    short_help="Run a task for many parameter sets.",
)
def map_(**given: Any) -> int:
    """Run the task that SPEC describes once for each parameter set.

    Sets come from --over, from ranges given with -p, or from both: each with each. Each runs in a directory of its
    own in --write, numbered in order. Run the same command again and it goes on where it stopped: what has succeeded
    with the same spec and parameters is not run again, what an engine still runs is waited for.

    The exit code is 6 if a task has failed; the table says which and why.
    """
    from packtivity.cli.map import MapOptions, run_map

    return run_map(MapOptions(**given))


@command(
    main,
    "packtivity-validate",
    options.spec,
    options.parfiles,
    options.parameter,
    options.document,
    options.schemaname,
    options.show,
    options.strict,
    options.diagnostics_format,
    options.version,
    prepares=True,
    short_help="Check a spec, and parameters for it.",
)
def validatecli(**given: Any) -> None:
    """Check SPEC, and with PARFILES or -p the parameters it is to be run with.

    Every mistake is told once, with its place and how to mend it. A valid SPEC gives the line "packtivity definition
    is valid" and exit code 0; an invalid one gives exit code 1, parameters that do not fit give 4. Warnings change
    the exit code only with --strict.
    """
    from packtivity.cli.validate import ValidateOptions, validate

    validate(ValidateOptions(**given))


@command(
    main,
    "describe",
    options.spec,
    options.document,
    options.document_format,
    short_help="Print what a task needs and what it publishes.",
)
def describe(format: str, **given: Any) -> None:
    """Print what the task of SPEC needs and what it publishes.

    Its parameters with the places where each is used, the image and resources, and the outputs.
    """
    from packtivity.cli.describe import describe_spec
    from packtivity.cli.inputs import SpecOptions

    describe_spec(SpecOptions(**given), as_json=format == "json")


@command(
    main,
    "example",
    options.spec,
    options.document,
    options.example_output,
    options.force,
    short_help="Write a parameter file to fill in.",
)
def example(output: str | None, force: bool, **given: Any) -> None:
    """Write a parameter file for SPEC to fill in (YAML), with comments that say where each parameter is used."""
    from packtivity.cli.describe import write_example
    from packtivity.cli.inputs import SpecOptions

    write_example(SpecOptions(**given), output, force=force)


@command(main, "shell", options.task, options.container, short_help="Open a shell where and how a task would run.")
def shell(**given: Any) -> int:
    """Open the task's own interpreter where and how the task would run.

    Everything is as in the run: image, directories, variables, user. The exit code is that of the interpreter, or 128 and
    the number of the signal that ended it.
    """
    from packtivity.cli.shell import ShellOptions, open_shell

    return open_shell(ShellOptions(**given))


@command(
    main,
    "lock",
    options.document,
    options.spec,
    options.runtime,
    options.pull,
    options.image_dir,
    options.lockfile,
    short_help="Write down the digest of a task's container image.",
)
def lock(**given: Any) -> None:
    """Write down the digest of the container image that SPEC uses.

    The image is pulled if need be. Run the task with --locked to be sure of the very same image.
    """
    from packtivity.cli.lock import LockOptions, lock_image

    lock_image(LockOptions(**given))


@command(main, "doctor", options.document_format, short_help="Say which container tools work here.")
def doctor(format: str) -> int:
    """Say which container tools work here, and what to do about those that do not.

    The exit code is 10 if no tool works, or if not the one that PACKTIVITY_CONTAINER_RUNTIME asks for.
    """
    from packtivity.cli.doctor import report

    return report(as_json=format == "json")


@command(
    main,
    "packtivity-checkproxy",
    options.proxies,
    options.debug,
    options.version,
    prepares=True,
    short_help="Ask how submitted tasks went.",
)
def checkproxy(**given: Any) -> int:
    """Ask how submitted tasks went, from any process and as often as you like.

    JSONFILE is what packtivity-run --async wrote (proxy.json). Printed are the lines "ready: True|False", when it is
    ready "successful: True|False", and when it was successful "result: JSON". Why a task failed is told on standard
    error. With --format json, what --follow prints goes there, too.

    \b
    Exit codes:
       0  every task has succeeded
       6  a task has failed or was cancelled
      75  a task is not over yet, and none has failed
      12  a task is not known, or a file is no proxy
    """
    from packtivity.cli.proxy_files import CheckOptions, check

    return check(CheckOptions(**given))


@command(
    main,
    "packtivity-ps",
    options.everything,
    options.document_format,
    options.debug,
    options.version,
    short_help="List your detached tasks on this machine.",
)
def ps(everything: bool, format: str) -> None:
    """List the tasks that the backend local runs for you on this machine, and those that wait."""
    from packtivity.cli.ps import list_tasks

    list_tasks(everything=everything, as_json=format == "json")


@command(
    main,
    "packtivity-worker",
    options.task_document,
    options.verbosity,
    options.debug,
    options.version,
    prepares=True,
    short_help="Run a task that comes as one JSON document.",
)
def worker(document: str, verbosity: str) -> int:
    """Run the task in DOCUMENT, a JSON file (- is standard input), and print its result as one line of JSON.

    DOCUMENT is a task document, or the envelope that an engine has carried here, with the task in it.

    The record is written to _packtivity/NAME.outcome.json in the task's work directory. A task with an id whose
    record is there already is not run again. The exit code is that of packtivity-run; 75 for a task of an engine that
    was ended because this command was, and is to be run again.
    """
    from packtivity.cli.worker import work

    return work(document, verbosity)


@group("packtivity-util", options.version, short_help="Try out parts of a task: pubtest, shell.")
def util() -> None:
    """Try out parts of a task without running it."""


main.add_command(util, "util")


@command(
    util, "pubtest", options.task, options.backend, short_help="Print what a task would publish, without running it."
)
def pubtest(backend: str, **given: Any) -> None:
    """Print what the task would publish, as far as that is known before running it.

    Printed is the same line as by packtivity-run, or "None" if it is not known.
    """
    from packtivity.cli.dry_run import show_published
    from packtivity.cli.inputs import TaskOptions

    show_published(TaskOptions(**given), backend)


@command(
    util,
    "shell",
    options.task,
    options.backend,
    options.container,
    short_help="Print the shell line that opens a task's environment.",
)
def util_shell(backend: str, **given: Any) -> None:  # noqa: ARG001 - upstream 0.17.1 takes it, too
    """Print one line that opens the task's interpreter where and how the task would run.

    Run it with: eval "$(packtivity-util shell SPEC)"
    """
    from packtivity.cli.shell import ShellOptions, show_shell_line

    show_shell_line(ShellOptions(**given))


@command(
    main, "completion", options.shell, options.debug, short_help="Print the completion script for bash, zsh or fish."
)
def completion(shell: str) -> None:
    """Print the completion script for a shell.

    To use it now and in future shells, put into the shell's start-up file:

    \b
      bash   eval "$(packtivity completion bash)"
      zsh    eval "$(packtivity completion zsh)"      (after compinit)
      fish   packtivity completion fish | source
    """
    from packtivity.cli.completion import show_script

    show_script(shell)
