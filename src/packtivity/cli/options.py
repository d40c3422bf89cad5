"""Every option and argument that commands share, each written once, and the types of their values."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from packtivity.cli.command import print_version, remember_debug

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.shell_completion import CompletionItem

    ParamType = click.ParamType[Any]
else:
    ParamType = click.ParamType  # generic only from click 8.4 on

_UNITS = {"": 1.0, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(text: str) -> float:
    """Read a duration: ``90``, ``90s``, ``5m``, ``2h``, ``1d``, ``1h30m``, ``0.5h``.

    :returns: seconds, above 0 and finite.
    :raises ValueError: the text is none of these.
    """
    total, number, unit = 0.0, "", ""
    for character in text.strip().lower() + "\0":
        if character == "\0" or (unit and not character.isalpha()):
            if number.strip("0123456789. "):
                raise ValueError(text)
            total += float(number) * _UNITS[unit]
            number, unit = "", ""
        if character.isalpha():
            unit += character
        else:
            number += character
    if not 0 < total < float("inf"):
        raise ValueError(text)
    return total


class Duration(ParamType):
    """A duration in seconds, or with a unit."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return seconds."""
        if isinstance(value, (int, float)):
            return float(value)
        try:
            return seconds(value)
        except (ValueError, KeyError):
            self.fail(f"{value!r} is not a duration; write seconds (90) or 90s, 5m, 2h, 1h30m.", param, ctx)


class Verbosity(ParamType):
    """A level of the ``logging`` module, in any case, as upstream 0.17.1 takes it."""

    name = "level"
    shown = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
    understood = (*shown, "WARN", "FATAL", "NOTSET")

    def get_metavar(self, *_: Any, **__: Any) -> str:
        """Return what stands for the value in the help."""
        return f"[{'|'.join(self.shown)}]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the level's name in capitals."""
        level = str(value).upper()
        if level not in self.understood:
            self.fail(f"{value!r} is not one of {', '.join(self.shown)}.", param, ctx)
        return level

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002
        """Complete the names of levels."""
        from click.shell_completion import CompletionItem

        return [CompletionItem(level) for level in self.shown if level.startswith(incomplete.upper())]


class BackendString(ParamType):
    """A backend string; any text is passed on, as plug-ins may add backends."""

    name = "backend"
    known = ("defaultsync", "foregroundasync", "multiproc:auto", "ipcluster", "celery", "fromenv")

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002
        """Complete the backends that are always there."""
        from click.shell_completion import CompletionItem

        return [CompletionItem(name) for name in self.known if name.startswith(incomplete)]


class File(ParamType):
    """A file to read or write, which need not exist: a spec may be an address, and a missing file has a better message.

    :class:`click.Path` asks for translations of its name as soon as it is made, which takes longer than parsing.

    :param directory: whether a directory, too, is taken.
    :param nameless: whether no name at all is taken, for no file; elsewhere it is a slip, such as an unset variable.
    """

    name, completes = "path", "file"

    def __init__(self, *, directory: bool = True, nameless: bool = False) -> None:
        self.directory = directory
        self.nameless = nameless

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path as it is given."""
        if not (value or self.nameless):
            self.fail("'' names no file; leave the option out, or write a name.", param, ctx)
        if not self.directory and os.path.isdir(value):
            self.fail(f"File {os.fsdecode(value)!r} is a directory.", param, ctx)
        return value

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002
        """Let the shell complete names."""
        from click.shell_completion import CompletionItem

        return [CompletionItem(incomplete, type=self.completes)]


class Directory(File):
    """A directory, which need not exist; whether what is there will do is for the state to say."""

    name, completes = "directory", "dir"


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
version = click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=print_version,
    help="Print the version and exit.",
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
