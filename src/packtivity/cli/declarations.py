"""Every command as click sees it: its help, its options, and the function that carries it out, imported on call.

So help and completion import click and nothing that running a task needs.
"""

from __future__ import annotations

import click

from packtivity.cli import options
from packtivity.cli.command import Duration, Group, Options
from packtivity.cli.options import BackendOptions, ContainerOptions, SpecOptions, TaskOptions, argument, flag, option

main = Group(
    "packtivity",
    """Run scientific tasks that must stay runnable for decades.

    A task is described by a spec (YAML): what to run, the environment it runs in, and what it publishes as JSON.
    """,
)


class _ExecutionOptions(BackendOptions):
    asyncwait: bool = option(
        "--asyncwait/--async",
        "With a backend that runs elsewhere: wait for the result, or submit, print the proxy and end.",
        default=True,
    )
    proxyfile: str = option(
        "-x --proxyfile", "File that --async writes the proxy to.", default="proxy.json", type=options.NO_DIRECTORY
    )
    outfile: str | None = option(
        "-o --outfile", "Write the result to this file, as one line of JSON.", type=options.NO_DIRECTORY
    )
    timeout: float | None = options.TIMEOUT
    retries: int = options.RETRIES
    clean_env: bool = flag(
        "--clean-env", "Run without the caller's environment variables, except a few basic ones (PATH, HOME ...)."
    )
    pass_env: tuple[str, ...] = option(
        "--pass-env", "With --clean-env, pass this variable on. Repeatable.", multiple=True, metavar="NAME"
    )


class RunOptions(TaskOptions, _ExecutionOptions, ContainerOptions):
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

    locked: bool = flag(
        "--locked", "Refuse container images that are not the ones in the lock file (see packtivity lock)."
    )
    lockfile: str = options.LOCKFILE
    print_command: bool = flag("--print-command", "Print the exact command as one shell line, run nothing.")
    print_script: bool = flag(
        "--print-script", "Print the script or command alone, its placeholders filled; run nothing."
    )
    dry_run: bool = flag(
        "--dry-run", "Check everything, print what would run and what would be published; run and write nothing."
    )
    quiet: bool = options.QUIET


runcli = main.add("packtivity-run", "run:run", RunOptions, "Run a task and print what it publishes.")


class _SweepOptions(Options):
    parameter: tuple[str, ...] = option(
        "-p --parameter",
        "Give one parameter; NAME=1..100 or NAME=0..1..0.1 (with a step) gives each value of a range in turn. "
        "Repeatable.",
        multiple=True,
        metavar="NAME=YAML",
    )
    over: str | None = option(
        "--over",
        "File of parameter sets: JSON lines (.jsonl), or CSV with a line of names and values read as YAML.",
        type=options.NO_DIRECTORY,
    )
    read: tuple[str, ...] = options.READ
    write: str = option(
        "-w --write",
        "Directory that has a work directory for each parameter set.",
        default="map",
        type=options.DIRECTORY,
    )
    backend: str = option(
        "-b --backend", "Where the tasks run; see packtivity-run.", default="multiproc:auto", type=options.BACKEND
    )
    table: str | None = option(
        "--table",
        "Write the table of results here: .csv or .json. By default it is results.csv in --write.",
        type=options.NO_DIRECTORY,
    )
    timeout: float | None = options.TIMEOUT
    retries: int = options.RETRIES


class MapOptions(_SweepOptions, SpecOptions):
    """Run the task that SPEC describes once for each parameter set.

    Sets come from --over, from ranges given with -p, or from both: each with each. Each runs in a directory of its
    own in --write, numbered in order. Run the same command again and it goes on where it stopped: what has succeeded
    with the same spec and parameters is not run again, what an engine still runs is waited for.

    The exit code is 6 if a task has failed; the table says which and why.
    """

    strict: bool = options.STRICT
    validate: bool = options.VALIDATE
    verbosity: str = options.VERBOSITY
    quiet: bool = options.QUIET
    parfiles: tuple[str, ...] = options.PARFILES


map_ = main.add("packtivity-map", "map:run_map", MapOptions, "Run a task for many parameter sets.")


class _ParameterOptions(Options):
    parameter: tuple[str, ...] = options.PARAMETER


class ValidateOptions(_ParameterOptions, SpecOptions):
    """Check SPEC, and with PARFILES or -p the parameters it is to be run with.

    Every mistake is told once, with its place and how to mend it. A valid SPEC gives the line "packtivity definition
    is valid" and exit code 0; an invalid one gives exit code 1, parameters that do not fit give 4. Warnings change
    the exit code only with --strict.
    """

    schemaname: str = option(
        "-n --schemaname", "Which schema of --schemasource SPEC must keep to.", default="packtivity/packtivity-schema"
    )
    show: bool = option(
        "--show/--no-show",
        "Print SPEC as one line of JSON, references resolved and defaults filled.",
        default=False,
        show_default=True,
    )
    strict: bool = options.STRICT
    format: str = option(
        "--format",
        "How mistakes are told: text goes to standard error, the other forms to standard output.",
        type=click.Choice(["text", "json", "sarif", "github"]),
        default="text",
    )
    parfiles: tuple[str, ...] = options.PARFILES


validatecli = main.add(
    "packtivity-validate", "validate:validate", ValidateOptions, "Check a spec, and parameters for it."
)


class DescribeOptions(SpecOptions):
    """Print what the task of SPEC needs and what it publishes.

    Its parameters with the places where each is used, the image and resources, and the outputs.
    """

    format: str = options.FORMAT


describe = main.add(
    "describe", "describe:describe_spec", DescribeOptions, "Print what a task needs and what it publishes."
)


class ExampleOptions(SpecOptions):
    """Write a parameter file for SPEC to fill in (YAML), with comments that say where each parameter is used."""

    output: str | None = option(
        "-o --output",
        "Write to this file in place of standard output; one that exists is left alone.",
        type=options.NO_DIRECTORY,
    )
    force: bool = flag("--force", "Overwrite the file of --output.")


example = main.add("example", "describe:write_example", ExampleOptions, "Write a parameter file to fill in.")


class ShellOptions(TaskOptions, ContainerOptions):
    """Open the task's own interpreter where and how the task would run.

    Everything is as in the run: image, directories, variables, user. The exit code is that of the interpreter, or 128 and
    the number of the signal that ended it.
    """


shell = main.add("shell", "shell:open_shell", ShellOptions, "Open a shell where and how a task would run.")


class LockOptions(SpecOptions):
    """Write down the digest of the container image that SPEC uses.

    The image is pulled if need be. Run the task with --locked to be sure of the very same image.
    """

    locked: bool = False
    runtime: str | None = options.RUNTIME
    pull: str | None = options.PULL
    image_dir: tuple[str, ...] = options.IMAGE_DIR
    lockfile: str = options.LOCKFILE


lock = main.add("lock", "lock:lock_image", LockOptions, "Write down the digest of a task's container image.")


class DoctorOptions(Options):
    """Say which container tools work here, and what to do about those that do not.

    The exit code is 10 if no tool works, or if not the one that PACKTIVITY_CONTAINER_RUNTIME asks for.
    """

    format: str = options.FORMAT


doctor = main.add("doctor", "doctor:report", DoctorOptions, "Say which container tools work here.")


class CheckOptions(Options):
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

    jsonfiles: tuple[str, ...] = argument(
        "jsonfiles", nargs=-1, required=True, metavar="JSONFILE...", type=click.Path(dir_okay=False, readable=False)
    )
    wait: bool = flag("--wait", "Wait until every task is over.")
    timeout: float | None = option(
        "--timeout", "Wait no longer than this: seconds, or 90s, 5m, 2h, 1h30m. The tasks go on.", type=Duration()
    )
    logs: bool = flag("--logs", "Print what the task printed, too.")
    follow: bool = flag("--follow", "Print what the task prints until it is over.")
    cancel: bool = flag("--cancel", "End tasks that are not over.")
    format: str = options.FORMAT
    debug: bool = options.DEBUG


checkproxy = main.add("packtivity-checkproxy", "proxy_files:check", CheckOptions, "Ask how submitted tasks went.")


class PsOptions(Options):
    """List the tasks that the backend local runs for you on this machine, and those that wait."""

    everything: bool = flag("-a --all everything", "List tasks that are over, too.")
    format: str = options.FORMAT
    debug: bool = options.DEBUG


ps = main.add("packtivity-ps", "ps:list_tasks", PsOptions, "List your detached tasks on this machine.")


class WorkerOptions(Options):
    """Run the task in DOCUMENT, a JSON file (- is standard input), and print its result as one line of JSON.

    DOCUMENT is a task document, or the envelope that an engine has carried here, with the task in it.

    The record is written to _packtivity/NAME.outcome.json in the task's work directory. A task with an id whose
    record is there already is not run again. The exit code is that of packtivity-run; 75 for a task of an engine that
    was ended because this command was, and is to be run again.
    """

    document: str = argument("document", type=click.Path(dir_okay=False, allow_dash=True))
    verbosity: str = options.VERBOSITY
    debug: bool = options.DEBUG


worker = main.add("packtivity-worker", "worker:work", WorkerOptions, "Run a task that comes as one JSON document.")

utilcli = Group(
    "packtivity-util",
    "Try out parts of a task without running it.",
    short_help="Try out parts of a task: pubtest, shell.",
)
main.add_command(utilcli, "util")


class PubtestOptions(TaskOptions, BackendOptions):
    """Print what the task would publish, as far as that is known before running it.

    Printed is the same line as by packtivity-run, or "None" if it is not known.
    """


pubtest = utilcli.add(
    "pubtest", "dry_run:show_published", PubtestOptions, "Print what a task would publish, without running it."
)


class ShellLineOptions(TaskOptions, BackendOptions, ContainerOptions):
    """Print one line that opens the task's interpreter where and how the task would run.

    Run it with: eval "$(packtivity-util shell SPEC)"
    """


util_shell = utilcli.add(
    "shell", "shell:show_shell_line", ShellLineOptions, "Print the shell line that opens a task's environment."
)


class CompletionOptions(Options):
    """Print the completion script for a shell.

    To use it now and in future shells, put into the shell's start-up file:

    \b
      bash   eval "$(packtivity completion bash)"
      zsh    eval "$(packtivity completion zsh)"      (after compinit)
      fish   packtivity completion fish | source
    """

    shell: str = argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
    debug: bool = options.DEBUG


completion = main.add(
    "completion", "completion:show_script", CompletionOptions, "Print the completion script for bash, zsh or fish."
)
