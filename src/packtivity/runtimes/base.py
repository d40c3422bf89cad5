"""What a container tool is to us: a few pure methods that turn a planned execution into argument lists.

A new tool is one subclass of :class:`Runtime`, and all that differs between tools is in these classes. Nothing in here,
or in the subclasses, starts a process. What is known of the machine is in :class:`Host`; methods that look at it for
themselves are given the caller's environment.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from packtivity.errors import EnvironmentUnavailable, ParameterError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from packtivity.types import Execution, Mount

CONTAINER_HOME = "/tmp"  # noqa: S108 - inside a container, where every user may write
"""HOME inside Docker's and Podman's containers."""


@dataclass(frozen=True, slots=True)
class Host:
    """Who runs containers, and on what.

    :ivar uid: user id of the caller.
    :ivar gid: group id of the caller.
    :ivar user: login name of the caller.
    :ivar init: whether the tool has an init program to give to containers (``--init``).
    :ivar rootless: whether root inside a container is the caller outside.
    :ivar selinux: whether SELinux guards files here.
    :ivar gpu: whose GPUs there are: ``nvidia``, ``amd``, or empty.
    """

    uid: int
    gid: int
    user: str
    init: bool = True
    rootless: bool = False
    selinux: bool = False
    gpu: str = "nvidia"


@dataclass(frozen=True, slots=True)
class Launch:
    """What is decided last, when the image is here.

    :ivar image: what the tool is given: reference, folder or SIF file.
    :ivar name: the container's name; ``None`` for a line that a person runs, which may pull the image itself.
    :ivar scratch: a private folder for this run, for tools that need one.
    :ivar workdir: the work directory that the image asks for, for tools that do not look.
    :ivar user: the image's own user, for tools that do not look: ``UID:GID`` for those that map the caller to it, ``None``
        for root; else its name or number.
    :ivar home: ``HOME`` as the image sets it, likewise.
    :ivar cidfile: file that is to have the container's identifier, for tools that write one.
    :ivar pidfile: file that is to have the id of the process that the tool leaves beside the container, likewise.
    """

    image: str
    name: str | None = None
    scratch: str | None = None
    workdir: str | None = None
    user: str | None = None
    home: str = ""
    cidfile: str | None = None
    pidfile: str | None = None


class Runtime:
    """One container tool.

    :param host: what is known of the machine.
    :param program: what to call; by default the tool's usual name.
    """

    name: ClassVar[str]
    install: ClassVar[str]
    """How to install it."""
    runs_folders: bool = False
    """Whether a folder can be an image."""
    has_store: ClassVar[bool] = True
    """Whether the tool keeps images itself; else they are SIF files, ours in our cache."""
    needs_scratch: ClassVar[bool] = False
    is_child: ClassVar[bool] = True
    """Whether a task is the caller's own process below the tool's.

    The system then counts what it takes as the tool's; else it may run as another user, to whom what it writes belongs.
    """
    refusals: ClassVar[Mapping[int, tuple[str, ...]]] = {}
    """Exit codes by which the tool says that it could not start a container, which a task may have as well; with what the
    line begins in which it, or the init program that it gives to containers, then says why."""

    inits: ClassVar[tuple[str, ...]] = ()
    """Where the init program that the tool gives to containers may be."""
    check_arguments: ClassVar[tuple[str, ...]] = ()
    """Arguments with which the tool says whether it works at all."""
    own_options: ClassVar[str] = ""
    """The setting with further arguments for it."""
    login: ClassVar[str] = "login REGISTRY"
    """Arguments with which a person logs in to a registry."""

    def __init__(self, host: Host, program: str | None = None) -> None:
        self.host = host
        self.program = program or self.name

    # --- the machine ---

    @classmethod
    def look(cls, uid: int, caller: Mapping[str, str]) -> tuple[bool, bool]:  # noqa: ARG003
        """Return whether there is an init program for containers, and whether root inside is the caller outside."""
        return any(map(os.path.exists, cls.inits)), False

    def trouble(self, caller: Mapping[str, str]) -> str:  # noqa: ARG002
        """Return why the tool cannot work here, as far as a glance shows; empty when nothing speaks against it."""
        return ""

    def closer_trouble(self) -> str:
        """Return the same after a closer look, without asking the tool."""
        return ""

    def doubt(self, caller: Mapping[str, str]) -> str:  # noqa: ARG002
        """Return what a person should know although the tool works."""
        return ""

    def store(self, caller: Mapping[str, str]) -> str:  # noqa: ARG002
        """Return what says, besides the program, which store images are in."""
        return ""

    def who(self) -> str:
        """Say who tasks are and what their home is, unless something else is asked for."""
        return "you, with a home of the tool's"

    def other_home(self, execution: Execution, caller: Mapping[str, str]) -> tuple[str, str] | None:  # noqa: ARG002
        """Return the task's home, and why it is not that of the image's user; ``None`` where it is, or is unknown."""
        return None

    # --- arguments ---

    def run_argv(self, execution: Execution, launch: Launch) -> tuple[str, ...]:
        """Return the arguments that run ``execution``.

        :raises EnvironmentUnavailable: the tool cannot do what is asked.
        :raises ParameterError: a path cannot be written in the tool's syntax; the message names it.
        """
        raise NotImplementedError

    def client_env(self, execution: Execution, caller: Mapping[str, str]) -> dict[str, str]:
        """Return variables to add to the tool's own environment, so that ``pass_env`` reaches the inside.

        They are the caller's, of names that no document chooses: a spec's ``env`` would steer the tool itself here
        (``LD_PRELOAD``, ``PATH``, ``DOCKER_HOST``), so tools never see it in :meth:`pass_on`.

        :raises ParameterError: the tool cannot pass a value on.
        """
        return self.pass_on({name: caller[name] for name in execution.pass_env if name in caller})

    def pass_on(self, values: Mapping[str, str]) -> dict[str, str]:  # noqa: ARG002
        """Return what the tool needs in its environment to pass these variables of the caller on.

        :raises ParameterError: it cannot pass one on.
        """
        return {}

    def names(self, image: str) -> tuple[str, ...]:
        """Return what the tool may have an image as, the name that it is pulled by first.

        Docker's short names mean ``docker.io`` to everybody: ``atlas/analysisbase`` is ``docker.io/atlas/analysisbase``.
        """
        return (image,)

    def pull_argv(self, image: str, target: str) -> tuple[str, ...]:
        """Return the arguments that fetch an image; ``target`` is the file for tools without a store."""
        raise NotImplementedError

    def inspect_argv(self, image: str) -> tuple[str, ...]:
        """Return the arguments that print ``ID [REPODIGEST, …]`` of an image that is here, and fail otherwise."""
        raise NotImplementedError

    def create_argv(self, image: str, name: str) -> tuple[str, ...]:
        """Return the arguments that make a container that is never started."""
        raise NotImplementedError

    def copy_argv(self, name: str, path: str, target: str) -> tuple[str, ...]:
        """Return the arguments that copy a file out of a container."""
        raise NotImplementedError

    def remove_argv(self, name: str) -> tuple[str, ...]:  # noqa: ARG002
        """Return the arguments that end and remove a container; empty when killing its processes is enough."""
        return ()

    def out_of_memory_argv(self, name: str, started: float, ended: float) -> tuple[str, ...]:  # noqa: ARG002
        """Return the arguments that print ``oom`` if a container was killed for memory; empty when the tool forgets.

        :param started, ended: when it ran, seconds since the epoch.
        """
        return ()

    def refusal(self, what: str, instead: str) -> EnvironmentUnavailable:
        """Say that the tool cannot do something."""
        return EnvironmentUnavailable(f"{self.name} cannot {what}", hint=instead)


def check_variables(variables: Mapping[str, str]) -> None:
    """Refuse variables that some container tool would lose, change, or take for something else.

    Names are those of a POSIX shell: Podman takes ``*`` for all of its own variables, a shell takes
    ``BASH_FUNC_x%%`` for a function.

    :raises ParameterError: a name or value cannot be used; the message names the variable.
    """
    for name, value in variables.items():
        if not (name.isascii() and name.isidentifier()):
            raise ParameterError(
                f"environment.env: {name!r} is not a valid name of a variable",
                hint="Use letters, digits and underscores (A-Z, a-z, 0-9, _), and no digit first.",
            )
        half = any("\ud800" <= character <= "\udfff" for character in value)
        if "\0" in value or half:
            what = "half of a surrogate pair" if half else "a NUL character"
            raise ParameterError(
                f"environment.env: the value of {name} has {what} in it", hint="Remove it: no variable can have it."
            )


def with_variables(
    variables: Mapping[str, str], argv: tuple[str, ...], folder: str | None = None, first: str = ""
) -> tuple[str, ...]:
    """Put variables in front of a program by way of a shell inside the container.

    For tools whose own way of setting variables changes values, lets a shell evaluate them, or has them in a process
    on the host.

    :param folder: where to start, if it can be entered.
    :param first: a line of shell to begin with.
    :raises ParameterError: a variable cannot be set.
    """
    check_variables(variables)
    if not variables and folder is None and not first:
        return argv
    words = [f'export {name}="${{{at}}}"' for at, name in enumerate(variables, 1)]
    words += [f"shift {len(variables)}", 'exec "$@"']
    if folder is not None:
        words.insert(0, 'cd "$0" 2>/dev/null')
    if first:
        words.insert(0, first)
    return ("sh", "-c", "; ".join(words), folder or "sh", *variables.values(), *argv)


def csv_field(text: str) -> str:
    """Quote one field of a ``--mount`` value as Go's CSV reader takes it (RFC 4180)."""
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in ',"\r\n') or text[:1] == " " else text


def mount_value(mount: Mount, *, readonly: str = "readonly", propagation: bool = True) -> str:
    """Return the value of ``--mount``.

    :raises ParameterError: a path has a carriage return before a line feed, which CSV readers swallow, or a NUL.
    """
    for path in (mount.source, mount.destination):
        refuse_unwritable(path, ("\r\n", "\0"))
    fields = [f"type={mount.kind}", f"source={mount.source}", f"destination={mount.destination}"]
    if mount.readonly:
        fields.append(readonly)
    if mount.propagation and propagation:
        fields.append(f"bind-propagation={mount.propagation}")
    return ",".join(map(csv_field, fields))


def refuse_unwritable(path: str, characters: tuple[str, ...]) -> None:
    """Refuse a path that the tool's syntax has no way to write.

    :raises ParameterError: it has one of ``characters`` in it.
    """
    for character in characters:
        if character in path:
            raise ParameterError(
                f"the path {path!r} has {character!r} in it, which this container tool cannot mount",
                hint="Rename the directory, or use another container tool (--runtime).",
            )
