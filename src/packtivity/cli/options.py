"""The options that several commands have, each written once, and what they are called in code."""

from __future__ import annotations

from typing import Any

import click

from packtivity.cli.command import Duration, File, Level, Options, Word


def option(names: str, help: str, **attributes: Any) -> Any:
    """Declare an option; a default is shown in its help."""
    return click.Option(names.split(), help=help, **{"show_default": bool(attributes.get("default")), **attributes})


def flag(names: str, help: str) -> Any:
    """Declare an option without a value."""
    return click.Option(names.split(), help=help, is_flag=True)


def argument(name: str, **attributes: Any) -> Any:
    """Declare an argument."""
    return click.Argument([name], **attributes)


_FILE = File(nameless=True)  # what reads it has a message of its own
NO_DIRECTORY = File(directory=False)
DIRECTORY = File("dir", nameless=True)

PARFILES = argument("parfiles", nargs=-1, type=_FILE)
PARAMETER = option(
    "-p --parameter",
    "Give one parameter; the value is read as YAML. Wins over parameter files. Repeatable.",
    multiple=True,
    metavar="NAME=YAML",
)
READ = option(
    "-r --read",
    "Directory the task may read: {readdir0}, {readdir1} ... in parameters. Repeatable.",
    multiple=True,
    type=DIRECTORY,
)
STRICT = flag("--strict", "Treat warnings (unused parameters, missing outputs ...) as errors. [env: PACKTIVITY_STRICT]")
VALIDATE = option("--validate/--no-validate", "Check SPEC before using it.", default=True)
VERBOSITY = option(
    "-v --verbosity",
    "Print log lines of this level and above on standard error.",
    default="ERROR",
    type=Level("level", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"),
    metavar="[DEBUG|INFO|WARNING|ERROR|CRITICAL]",
)
BACKEND = Word(
    *("backend", "defaultsync", "foregroundasync", "multiproc:auto", "local", "externalasync:default"),
    *("ipcluster", "celery", "kubernetes", "slurm", "fromenv"),
)
TIMEOUT = option("--timeout", "End the task after this time: seconds, or 90s, 5m, 2h, 1h30m.", type=Duration())
RETRIES = option(
    "--retries",
    "Try again up to N times if the task fails for a reason that may pass: an exit code, a signal, an image.",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
)
RUNTIME = option(
    "--runtime",
    "Container tool: docker, podman, podman-hpc, apptainer, singularity, udocker or shifter; by default the "
    "first that works. [env: PACKTIVITY_CONTAINER_RUNTIME]",
    metavar="TOOL",
)
PULL = option(
    "--pull",
    "When to pull the container image: if it is missing (default), always, never. [env: PACKTIVITY_PULL]",
    type=click.Choice(["missing", "always", "never"]),
)
IMAGE_DIR = option(
    "--image-dir", "Let SPEC use images in here. [env: PACKTIVITY_IMAGE_DIRS]", multiple=True, type=File("dir")
)
LOCKFILE = option(
    "--lockfile", "File with the digest of each container image.", default="packtivity.lock", type=NO_DIRECTORY
)
QUIET = flag("-q --quiet", "Print no result and no progress; errors are still printed.")
DEBUG = flag("--debug", "Show where in the program an error comes from (a traceback).")
FORMAT = option("--format", "Print for people or for programs.", type=click.Choice(["text", "json"]), default="text")


class SpecOptions(Options):
    """The options that say which spec is meant and how it is checked."""

    validate: bool = True
    toplevel: str | None = option(
        "-t --toplevel",
        "Where SPEC and what it refers to are found: a directory (by default this one), an http(s) address, "
        "github:USER/REPO[@REF][:SUBPATH], gitlab-cern:GROUP/REPO[@REF][:SUBPATH] or from-github/PATH.",
    )
    schemasource: str | None = option(
        "-c --schemasource", "Directory of other JSON Schemas to check SPEC against, or from-github."
    )
    trust_source: tuple[str, ...] = option(
        "--trust-source",
        "Let documents use SOURCE (an address, gitlab-cern:GROUP/REPO ...) as if you had named it, with your token or "
        "login and in a private network. Repeatable. [env: PACKTIVITY_TRUSTED_SOURCES]",
        multiple=True,
    )
    offline: bool = flag("--offline", "Take remote documents from the local cache only. [env: PACKTIVITY_OFFLINE]")
    debug: bool = DEBUG
    spec: str = argument("spec", type=_FILE)


class _StateOptions(Options):
    parameter: tuple[str, ...] = PARAMETER
    read: tuple[str, ...] = READ
    write: tuple[str, ...] = option(
        "-w --write",
        "Directory the task may write, made if missing: the first is {workdir}. Repeatable.",
        multiple=True,
        default=["."],
        type=DIRECTORY,
    )
    state: str = option(
        "-s --state",
        "YAML file with the lists readwrite and readonly; takes the place of --read and --write.",
        default="",
        type=File(directory=False, nameless=True),
    )


class TaskOptions(_StateOptions, SpecOptions):
    """The options of every command on a task."""

    strict: bool = STRICT
    validate: bool = VALIDATE
    verbosity: str = VERBOSITY
    parfiles: tuple[str, ...] = PARFILES


class BackendOptions(Options):
    """The option that says where the task runs."""

    backend: str = option(
        "-b --backend",
        "Where the task runs: defaultsync (here), foregroundasync, multiproc:N|auto, local (outlives this command), "
        "externalasync:default, ipcluster, celery, kubernetes, slurm, fromenv, py:MODULE:CLASS or the name of a plug-in.",
        default="defaultsync",
        type=BACKEND,
    )


class ContainerOptions(Options):
    """The options that say how containers are run; None is for the settings to say."""

    locked: bool = False
    lockfile: str = ""
    runtime: str | None = RUNTIME
    pull: str | None = PULL
    cpus: str | None = option(
        "--cpus", "CPUs a container may use; spec: as the spec says for Kubernetes. [env: PACKTIVITY_CPUS]", metavar="N"
    )
    memory: str | None = option(
        "--memory", "Memory a container may use: 512M, 2G ... or spec. [env: PACKTIVITY_MEMORY]", metavar="SIZE"
    )
    gpus: str | None = option(
        "--gpus", "GPUs for a container: all, a number, names. [env: PACKTIVITY_GPUS]", metavar="WHICH"
    )
    network: str | None = option(
        "--network", "Network of a container: none, host, default. [env: PACKTIVITY_NETWORK]", metavar="NET"
    )
    user: str | None = option(
        "--user",
        "User inside a container: image (its own user, the default), caller, or UID[:GID]. "
        "[env: PACKTIVITY_CONTAINER_USER]",
        metavar="USER",
    )
    image_dir: tuple[str, ...] = IMAGE_DIR
