"""Every option and argument of the commands, each written once."""

from __future__ import annotations

from typing import Any

import click

from packtivity.cli.command import print_version, remember_debug
from packtivity.cli.option_types import BackendString, Directory, Duration, File, Verbosity


def _option(names: str, help: str, **attributes: Any) -> click.Option:
    """Declare an option; a default is shown in its help."""
    return click.Option(names.split(), help=help, **{"show_default": bool(attributes.get("default")), **attributes})


def _flag(names: str, help: str, **attributes: Any) -> click.Option:
    return click.Option(names.split(), help=help, is_flag=True, **attributes)


def _argument(name: str, **attributes: Any) -> click.Argument:
    return click.Argument([name], **attributes)


_FILE = File(nameless=True)  # what reads it has a message of its own
_NO_DIRECTORY = File(directory=False)
_DIRECTORY = Directory(nameless=True)

spec = _argument("spec", type=_FILE)
parfiles = _argument("parfiles", nargs=-1, type=_FILE)

parameter = _option(
    "-p --parameter",
    "Give one parameter; the value is read as YAML. Wins over parameter files. Repeatable.",
    multiple=True,
    metavar="NAME=YAML",
)
read = _option(
    "-r --read",
    "Directory the task may read: {readdir0}, {readdir1} ... in parameters. Repeatable.",
    multiple=True,
    type=_DIRECTORY,
)
write = _option(
    "-w --write",
    "Directory the task may write, made if missing: the first is {workdir}. Repeatable.",
    multiple=True,
    default=["."],
    type=_DIRECTORY,
)
state = _option(
    "-s --state",
    "YAML file with the lists readwrite and readonly; takes the place of --read and --write.",
    default="",
    type=File(directory=False, nameless=True),
)
toplevel = _option(
    "-t --toplevel",
    "Where SPEC and what it refers to are found: a directory (by default this one), an http(s) address, "
    "github:USER/REPO[@REF][:SUBPATH], gitlab-cern:GROUP/REPO[@REF][:SUBPATH] or from-github/PATH.",
)
schemasource = _option("-c --schemasource", "Directory or address of other JSON Schemas to check SPEC against.")
schemaname = _option(
    "-n --schemaname", "Which schema of --schemasource SPEC must keep to.", default="packtivity/packtivity-schema"
)
verbosity = _option(
    "-v --verbosity", "Print log lines of this level and above on standard error.", default="ERROR", type=Verbosity()
)
validate = _option("--validate/--no-validate", "Check SPEC before using it.", default=True)
backend = _option(
    "-b --backend",
    "Where the task runs: defaultsync (here), foregroundasync, multiproc:N|auto, local (outlives this command), "
    "externalasync:default, ipcluster, celery, fromenv, py:MODULE:CLASS or the name of a plug-in.",
    default="defaultsync",
    type=BackendString(),
)
asyncwait = _option(
    "--asyncwait/--async",
    "With a backend that runs elsewhere: wait for the result, or submit, print the proxy and end.",
    default=True,
)
proxyfile = _option(
    "-x --proxyfile", "File that --async writes the proxy to.", default="proxy.json", type=_NO_DIRECTORY
)
outfile = _option("-o --outfile", "Write the result to this file, as one line of JSON.", type=_NO_DIRECTORY)
strict = _flag(
    "--strict", "Treat warnings (unused parameters, missing outputs ...) as errors. [env: PACKTIVITY_STRICT]"
)
offline = _flag("--offline", "Take remote documents from the local cache only. [env: PACKTIVITY_OFFLINE]")
trust_source = _option(
    "--trust-source",
    "Let documents use SOURCE (an address, gitlab-cern:GROUP/REPO ...) as if you had named it, with your token or "
    "login and in a private network. Repeatable. [env: PACKTIVITY_TRUSTED_SOURCES]",
    multiple=True,
)
timeout = _option("--timeout", "End the task after this time: seconds, or 90s, 5m, 2h, 1h30m.", type=Duration())
retries = _option(
    "--retries",
    "Try again up to N times if the task fails for a reason that may pass: an exit code, a signal, an image.",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
)
clean_env = _flag(
    "--clean-env", "Run without the caller's environment variables, except a few basic ones (PATH, HOME ...)."
)
pass_env = _option("--pass-env", "With --clean-env, pass this variable on. Repeatable.", multiple=True, metavar="NAME")
runtime = _option(
    "--runtime",
    "Container tool: docker, podman, podman-hpc, apptainer, singularity, udocker or shifter; by default the "
    "first that works. [env: PACKTIVITY_CONTAINER_RUNTIME]",
    metavar="TOOL",
)
pull = _option(
    "--pull",
    "When to pull the container image: if it is missing (default), always, never. [env: PACKTIVITY_PULL]",
    type=click.Choice(["missing", "always", "never"]),
)
cpus = _option(
    "--cpus", "CPUs a container may use; spec: as the spec says for Kubernetes. [env: PACKTIVITY_CPUS]", metavar="N"
)
memory = _option(
    "--memory", "Memory a container may use: 512M, 2G ... or spec. [env: PACKTIVITY_MEMORY]", metavar="SIZE"
)
gpus = _option("--gpus", "GPUs for a container: all, a number, names. [env: PACKTIVITY_GPUS]", metavar="WHICH")
network = _option("--network", "Network of a container: none, host, default. [env: PACKTIVITY_NETWORK]", metavar="NET")
user = _option(
    "--user",
    "User inside a container: image (its own user, the default), caller, or UID[:GID]. "
    "[env: PACKTIVITY_CONTAINER_USER]",
    metavar="USER",
)
image_dir = _option(
    "--image-dir", "Let SPEC use images in here. [env: PACKTIVITY_IMAGE_DIRS]", multiple=True, type=Directory()
)
locked = _flag("--locked", "Refuse container images that are not the ones in the lock file (see packtivity lock).")
lockfile = _option(
    "--lockfile", "File with the digest of each container image.", default="packtivity.lock", type=_NO_DIRECTORY
)
print_command = _flag("--print-command", "Print the exact command as one shell line, run nothing.")
dry_run = _flag(
    "--dry-run", "Check everything, print what would run and what would be published; run and write nothing."
)
quiet = _flag("-q --quiet", "Print no result and no progress; errors are still printed.")
debug = _flag(
    "--debug",
    "Show where in the program an error comes from (a traceback).",
    is_eager=True,
    expose_value=False,
    callback=remember_debug,
)
version = _flag(
    "--version",
    "Print the version and exit.",
    is_eager=True,
    expose_value=False,
    callback=print_version,
)
show = _option(
    "--show/--no-show",
    "Print SPEC as one line of JSON, references resolved and defaults filled.",
    default=False,
    show_default=True,
)
diagnostics_format = _option(
    "--format",
    "How mistakes are told: text goes to standard error, the other forms to standard output.",
    type=click.Choice(["text", "json", "sarif", "github"]),
    default="text",
)
document_format = _option(
    "--format", "Print for people or for programs.", type=click.Choice(["text", "json"]), default="text"
)


# --- options of one command only ---

over = _option(
    "--over",
    "File of parameter sets: JSON lines (.jsonl), or CSV with a line of names and values read as YAML.",
    type=_NO_DIRECTORY,
)
scan = _option(
    "-p --parameter",
    "Give one parameter; NAME=1..100 or NAME=0..1..0.1 (with a step) gives each value of a range in turn. Repeatable.",
    multiple=True,
    metavar="NAME=YAML",
)
mapwrite = _option(
    "-w --write",
    "Directory that has a work directory for each parameter set.",
    default="map",
    type=Directory(nameless=True),
)
mapbackend = _option(
    "-b --backend", "Where the tasks run; see packtivity-run.", default="multiproc:auto", type=BackendString()
)
table = _option(
    "--table",
    "Write the table of results here: .csv or .json. By default it is results.csv in --write.",
    type=_NO_DIRECTORY,
)
wait = _flag("--wait", "Wait until every task is over.")
wait_timeout = _option(
    "--timeout", "Wait no longer than this: seconds, or 90s, 5m, 2h, 1h30m. The tasks go on.", type=Duration()
)
logs = _flag("--logs", "Print what the task printed, too.")
follow = _flag("--follow", "Print what the task prints until it is over.")
cancel = _flag("--cancel", "End tasks that are not over.")

jsonfiles = _argument(
    "jsonfiles", nargs=-1, required=True, metavar="JSONFILE...", type=click.Path(dir_okay=False, readable=False)
)
everything = _flag("-a --all everything", "List tasks that are over, too.")
example_output = _option(
    "-o --output", "Write to this file in place of standard output; one that exists is left alone.", type=_NO_DIRECTORY
)
force = _flag("--force", "Overwrite the file of --output.")
task_document = _argument("document", type=click.Path(dir_okay=False, allow_dash=True))
shell = _argument("shell", type=click.Choice(["bash", "zsh", "fish"]))

# --- groups of options, in the order the help shows them ---

document = (toplevel, schemasource, trust_source, offline, debug)
task = (parameter, read, write, state, *document, strict, validate, verbosity, spec, parfiles)
container = (runtime, pull, cpus, memory, gpus, network, user, image_dir)
execution = (backend, asyncwait, proxyfile, outfile, timeout, retries, clean_env, pass_env)
lock = (locked, lockfile)
sets = (scan, over, read, mapwrite, mapbackend, table, timeout, retries)
proxies = (jsonfiles, wait, wait_timeout, logs, follow, cancel, document_format)
