"""Every option and argument of the commands, each written once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from packtivity.cli.command import remember_debug
from packtivity.cli.option_types import BackendString, Directory, Duration, File, Verbosity

if TYPE_CHECKING:
    from collections.abc import Callable

_FILE = File(nameless=True)  # what reads it has a message of its own
_NO_DIRECTORY = File(directory=False)
_DIRECTORY = Directory(nameless=True)

spec = click.argument("spec", type=_FILE)
parfiles = click.argument("parfiles", nargs=-1, type=_FILE)

parameter = click.option(
    "-p",
    "--parameter",
    multiple=True,
    metavar="NAME=YAML",
    help="Give one parameter; the value is read as YAML. Wins over parameter files. Repeatable.",
)
read = click.option(
    "-r",
    "--read",
    multiple=True,
    type=_DIRECTORY,
    help="Directory the task may read: {readdir0}, {readdir1} ... in parameters. Repeatable.",
)
write = click.option(
    "-w",
    "--write",
    multiple=True,
    default=["."],
    show_default=True,
    type=_DIRECTORY,
    help="Directory the task may write, made if missing: the first is {workdir}. Repeatable.",
)
state = click.option(
    "-s",
    "--state",
    default="",
    type=File(directory=False, nameless=True),
    help="YAML file with the lists readwrite and readonly; takes the place of --read and --write.",
)
toplevel = click.option(
    "-t",
    "--toplevel",
    default=None,
    help="Where SPEC and what it refers to are found: a directory (by default this one), an http(s) address, "
    "github:USER/REPO[@REF][:SUBPATH], gitlab-cern:GROUP/REPO[@REF][:SUBPATH] or from-github/PATH.",
)
schemasource = click.option(
    "-c", "--schemasource", default=None, help="Directory or address of other JSON Schemas to check SPEC against."
)
schemaname = click.option(
    "-n",
    "--schemaname",
    default="packtivity/packtivity-schema",
    show_default=True,
    help="Which schema of --schemasource SPEC must keep to.",
)
verbosity = click.option(
    "-v",
    "--verbosity",
    default="ERROR",
    show_default=True,
    type=Verbosity(),
    help="Print log lines of this level and above on standard error.",
)
validate = click.option(
    "--validate/--no-validate",
    default=True,
    show_default=True,
    help="Check SPEC before using it.",
)
backend = click.option(
    "-b",
    "--backend",
    default="defaultsync",
    show_default=True,
    type=BackendString(),
    help="Where the task runs: defaultsync (here), foregroundasync, multiproc:N|auto, local (outlives this command), "
    "externalasync:default, ipcluster, celery, fromenv, py:MODULE:CLASS or the name of a plug-in.",
)
asyncwait = click.option(
    "--asyncwait/--async",
    default=True,
    show_default=True,
    help="With a backend that runs elsewhere: wait for the result, or submit, print the proxy and end.",
)
proxyfile = click.option(
    "-x",
    "--proxyfile",
    default="proxy.json",
    show_default=True,
    type=_NO_DIRECTORY,
    help="File that --async writes the proxy to.",
)
outfile = click.option(
    "-o",
    "--outfile",
    default=None,
    type=_NO_DIRECTORY,
    help="Write the result to this file, as one line of JSON.",
)
strict = click.option(
    "--strict",
    is_flag=True,
    help="Treat warnings (unused parameters, missing outputs ...) as errors. [env: PACKTIVITY_STRICT]",
)
offline = click.option(
    "--offline",
    is_flag=True,
    help="Take remote documents from the local cache only. [env: PACKTIVITY_OFFLINE]",
)
trust_source = click.option(
    "--trust-source",
    multiple=True,
    help="Let documents use SOURCE (an address, gitlab-cern:GROUP/REPO ...) as if you had named it, with your token or "
    "login and in a private network. Repeatable. [env: PACKTIVITY_TRUSTED_SOURCES]",
)
timeout = click.option(
    "--timeout",
    type=Duration(),
    default=None,
    help="End the task after this time: seconds, or 90s, 5m, 2h, 1h30m.",
)
retries = click.option(
    "--retries",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Try again up to N times if the task fails for a reason that may pass: an exit code, a signal, an image.",
)
clean_env = click.option(
    "--clean-env",
    is_flag=True,
    help="Run without the caller's environment variables, except a few basic ones (PATH, HOME ...).",
)
pass_env = click.option(
    "--pass-env",
    multiple=True,
    metavar="NAME",
    help="With --clean-env, pass this variable on. Repeatable.",
)
runtime = click.option(
    "--runtime",
    default=None,
    metavar="TOOL",
    help="Container tool: docker, podman, podman-hpc, apptainer, singularity, udocker or shifter; by default the "
    "first that works. [env: PACKTIVITY_CONTAINER_RUNTIME]",
)
pull = click.option(
    "--pull",
    type=click.Choice(["missing", "always", "never"]),
    default=None,
    help="When to pull the container image: if it is missing (default), always, never. [env: PACKTIVITY_PULL]",
)
cpus = click.option(
    "--cpus",
    default=None,
    metavar="N",
    help="CPUs a container may use; spec: as the spec says for Kubernetes. [env: PACKTIVITY_CPUS]",
)
memory = click.option(
    "--memory",
    default=None,
    metavar="SIZE",
    help="Memory a container may use: 512M, 2G ... or spec. [env: PACKTIVITY_MEMORY]",
)
gpus = click.option(
    "--gpus", default=None, metavar="WHICH", help="GPUs for a container: all, a number, names. [env: PACKTIVITY_GPUS]"
)
network = click.option(
    "--network", metavar="NET", help="Network of a container: none, host, default. [env: PACKTIVITY_NETWORK]"
)
user = click.option(
    "--user",
    default=None,
    metavar="UID[:GID]",
    help="User inside a container, or 'image' for the image's own; by default the caller. "
    "[env: PACKTIVITY_CONTAINER_USER]",
)
image_dir = click.option(
    "--image-dir", multiple=True, type=Directory(), help="Let SPEC use images in here. [env: PACKTIVITY_IMAGE_DIRS]"
)
locked = click.option(
    "--locked",
    is_flag=True,
    help="Refuse container images that are not the ones in the lock file (see packtivity lock).",
)
lockfile = click.option(
    "--lockfile",
    default="packtivity.lock",
    show_default=True,
    type=_NO_DIRECTORY,
    help="File with the digest of each container image.",
)
print_command = click.option(
    "--print-command",
    is_flag=True,
    help="Print the exact command as one shell line, run nothing.",
)
dry_run = click.option(
    "--dry-run",
    is_flag=True,
    help="Check everything, print what would run and what would be published; run and write nothing.",
)
quiet = click.option(
    "-q",
    "--quiet",
    is_flag=True,
    help="Print no result and no progress; errors are still printed.",
)
debug = click.option(
    "--debug",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=remember_debug,
    help="Show where in the program an error comes from (a traceback).",
)
version = click.version_option(
    package_name="packtivity", message="packtivity %(version)s", help="Print the version and exit."
)
show = click.option(
    "--show/--no-show",
    default=False,
    show_default=True,
    help="Print SPEC as one line of JSON, references resolved and defaults filled.",
)
diagnostics_format = click.option(
    "--format",
    type=click.Choice(["text", "json", "sarif", "github"]),
    default="text",
    show_default=True,
    help="How mistakes are told: text goes to standard error, the other forms to standard output.",
)
document_format = click.option(
    "--format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Print for people or for programs.",
)


# --- options of one command only ---

over = click.option(
    "--over",
    type=_NO_DIRECTORY,
    default=None,
    help="File of parameter sets: JSON lines (.jsonl), or CSV with a line of names and values read as YAML.",
)
scan = click.option(
    "-p",
    "--parameter",
    multiple=True,
    metavar="NAME=YAML",
    help="Give one parameter; NAME=1..100 or NAME=0..1..0.1 (with a step) gives each value of a range in turn. "
    "Repeatable.",
)
mapwrite = click.option(
    "-w",
    "--write",
    default="map",
    show_default=True,
    type=Directory(nameless=True),
    help="Directory that has a work directory for each parameter set.",
)
mapbackend = click.option(
    "-b",
    "--backend",
    default="multiproc:auto",
    show_default=True,
    type=BackendString(),
    help="Where the tasks run; see packtivity-run.",
)
table = click.option(
    "--table",
    default=None,
    type=_NO_DIRECTORY,
    help="Write the table of results here: .csv or .json. By default it is results.csv in --write.",
)
wait = click.option("--wait", is_flag=True, help="Wait until every task is over.")
wait_timeout = click.option(
    "--timeout",
    type=Duration(),
    default=None,
    help="Wait no longer than this: seconds, or 90s, 5m, 2h, 1h30m. The tasks go on.",
)
logs = click.option("--logs", is_flag=True, help="Print what the task printed, too.")
follow = click.option("--follow", is_flag=True, help="Print what the task prints until it is over.")
cancel = click.option("--cancel", is_flag=True, help="End tasks that are not over.")

jsonfiles = click.argument(
    "jsonfiles", nargs=-1, required=True, metavar="JSONFILE...", type=click.Path(dir_okay=False, readable=False)
)
everything = click.option("-a", "--all", "everything", is_flag=True, help="List tasks that are over, too.")
example_output = click.option(
    "-o",
    "--output",
    default=None,
    type=_NO_DIRECTORY,
    help="Write to this file in place of standard output; one that exists is left alone.",
)
force = click.option("--force", is_flag=True, help="Overwrite the file of --output.")
task_document = click.argument("document", type=click.Path(dir_okay=False, allow_dash=True))
shell = click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))


def document(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add what says which spec is meant and how it is checked."""
    for add in (debug, offline, trust_source, schemasource, toplevel):
        function = add(function)
    return function


def container(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add what says how containers are run."""
    for add in (image_dir, user, network, gpus, memory, cpus, pull, runtime):
        function = add(function)
    return function


def task(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add what says which task is meant: spec, parameters, state."""
    for add in (parfiles, spec, verbosity, validate, strict, document, state, write, read, parameter):
        function = add(function)
    return function
