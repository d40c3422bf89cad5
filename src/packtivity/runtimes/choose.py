"""Chooses the container tool: the one requested, or the first that works here; and runs tools for what they print.

Looking is cheap (files, one connection to a socket), because every run does it; :mod:`packtivity.runtimes.doctor`
looks closely.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from packtivity import settings
from packtivity.errors import ConfigurationError, EnvironmentUnavailable
from packtivity.registry import nearest
from packtivity.runtimes import process
from packtivity.runtimes.apptainer import Apptainer, Singularity
from packtivity.runtimes.base import Host, Runtime
from packtivity.runtimes.hpc import Shifter, Udocker
from packtivity.runtimes.oci import Docker, Podman, PodmanHPC
from packtivity.types import Execution

if TYPE_CHECKING:
    from collections.abc import Mapping

TOOLS: dict[str, type[Runtime]] = {
    tool.name: tool for tool in (Docker, Podman, PodmanHPC, Apptainer, Singularity, Udocker, Shifter)
}
"""Every container tool there is a class for, by name."""

ORDER = ("docker", "podman", "podman-hpc", "apptainer", "singularity", "udocker")
"""The order in which tools are tried when none is requested."""

_GPUS = {"nvidia": "/dev/nvidiactl", "amd": "/dev/kfd"}


def named(name: str, caller: Mapping[str, str] | None = None) -> Runtime:
    """Return a tool, whether or not it is installed. A path that ends in a tool's name is called as it is.

    :raises ConfigurationError: no tool has that name; the message has the nearest and what there is.
    """
    caller = settings.caller_environment() if caller is None else caller
    base = os.path.basename(name)
    if base not in TOOLS:
        near = nearest(base, TOOLS)
        hint = f"Did you mean {near!r}? " if near else ""
        raise ConfigurationError(f"unknown container tool {name!r}", hint=f"{hint}There are: {', '.join(TOOLS)}.")
    if base == "docker" and _is_podman(find_program(name, caller)):
        return Podman(host("podman", caller), name)
    return TOOLS[base](host(base, caller), name if "/" in name else None)


def _is_podman(path: str | None) -> bool:
    """Return whether a program called ``docker`` is Podman: a link, or the script of the package ``podman-docker``."""
    if path is None or os.path.basename(os.path.realpath(path)).startswith("podman"):
        return path is not None
    with suppress(OSError), open(path, "rb") as file:
        head = file.read(4096)
        return head.startswith(b"#!") and re.search(rb"\bpodman\b", head) is not None
    return False


def choose(wanted: str | None, caller: Mapping[str, str] | None = None) -> Runtime:
    """Return the tool to use.

    :param wanted: its name, or ``None`` for the first that works. One that is named is tried, not judged: how it reaches
        its daemon is its own business.
    :raises ConfigurationError: no tool has that name.
    :raises EnvironmentUnavailable: it is not installed, or none can be used; the message says what was tried and why it
        failed.
    """
    caller = settings.caller_environment() if caller is None else caller
    if wanted:
        runtime = named(wanted, caller)
        if find_program(runtime.program, caller) is None:
            raise EnvironmentUnavailable(
                f"the container tool {wanted} cannot be used: not installed", hint=f"To install it: {runtime.install}"
            )
        return runtime
    tried = []
    for name in ORDER:
        runtime = named(name, caller)
        reason = trouble(runtime, caller)
        if not reason:
            return runtime
        tried.append(f"  {name}: {reason}")
    raise EnvironmentUnavailable(
        "this task runs in a container, and no container tool works here. Tried:\n" + "\n".join(tried),
        hint="Install podman (or docker, or apptainer), or look closer with: packtivity doctor",
    )


def explanation(runtime: Runtime) -> str:
    """Return why a tool may have failed, as a hint; empty when nothing speaks against it."""
    reason = trouble(runtime, settings.caller_environment())
    return reason and f"{runtime.name}: {reason}; packtivity doctor says what to do about it."


def shown(wanted: str | None) -> tuple[Runtime, bool]:
    """Return the tool that a command is shown for, which need not be here, and whether it is the one that would run it.

    :param wanted: its name, or ``None`` for the first that works; Docker where none does.
    :raises ConfigurationError: no tool has that name.
    """
    if wanted:
        return named(wanted), True
    try:
        return choose(None), True
    except EnvironmentUnavailable:
        return named("docker"), False


def trouble(runtime: Runtime, caller: Mapping[str, str]) -> str:
    """Return why a tool cannot work here, as far as a glance shows; empty when nothing speaks against it."""
    if find_program(runtime.program, caller) is None:
        return "not installed"
    return runtime.trouble(caller)


def find_program(program: str, caller: Mapping[str, str]) -> str | None:
    """Return where a program is, as the system would find it."""
    return shutil.which(program, path=caller.get("PATH", os.defpath))


class Reply(NamedTuple):
    """What a program printed.

    :ivar code: exit code; 127 when it does not exist, 124 when it took too long.
    :ivar text: the end of its standard output and error, decoded for reading.
    """

    code: int
    text: str


def probe(argv: tuple[str, ...], timeout: float = 60.0) -> Reply:
    """Run a tool for what it prints; a missing one or a time-out is a reply too.

    :param timeout: seconds.
    """
    try:
        done = process.run(Execution(argv, timeout=timeout), grace=1.0)
    except EnvironmentUnavailable as error:
        return Reply(127, error.message)
    if done.timed_out:
        return Reply(124, f"no answer within {timeout:g} s")
    return Reply(done.returncode, done.tail.decode("utf-8", "replace"))


def host(tool: str, caller: Mapping[str, str]) -> Host:
    """Look at who runs a tool, and on what."""
    uid = os.getuid()
    init, rootless = TOOLS[tool].look(uid, caller)
    return Host(
        uid=uid,
        gid=os.getgid(),
        user=_login(uid),
        init=init,
        rootless=rootless,
        selinux=os.path.exists("/sys/fs/selinux/enforce"),
        gpu=next((maker for maker, device in _GPUS.items() if os.path.exists(device)), ""),
    )


def _login(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
