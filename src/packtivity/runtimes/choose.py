"""Chooses the container tool: the one requested, or the first that works here.

Looking is cheap (files, one connection to a socket), because every run does it; :mod:`packtivity.runtimes.doctor`
looks closely.
"""

from __future__ import annotations

import os
import pwd
from typing import TYPE_CHECKING

from packtivity import settings
from packtivity.errors import ConfigurationError, EnvironmentUnavailable
from packtivity.registry import nearest
from packtivity.runtimes.apptainer import Apptainer, Singularity
from packtivity.runtimes.base import Host, Runtime
from packtivity.runtimes.hpc import Shifter, Udocker
from packtivity.runtimes.oci import Docker, Podman, PodmanHPC

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
    return TOOLS[base](host(base, caller), name if "/" in name else None)


def choose(wanted: str | None, caller: Mapping[str, str] | None = None) -> Runtime:
    """Return the tool to use.

    :param wanted: its name, or ``None`` for the first that works.
    :raises ConfigurationError: no tool has that name.
    :raises EnvironmentUnavailable: it cannot be used, or none can; the message says what was tried and why it failed.
    """
    caller = settings.caller_environment() if caller is None else caller
    if wanted:
        runtime = named(wanted, caller)
        reason = trouble(runtime, caller)
        if reason:
            absent = find_program(runtime.program, caller) is None
            hint = f"To install it: {runtime.install}" if absent else "packtivity doctor says what to do about it."
            raise EnvironmentUnavailable(f"the container tool {wanted} cannot be used: {reason}", hint=hint)
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
    folders = [""] if "/" in program else caller.get("PATH", os.defpath).split(os.pathsep)
    for folder in folders:
        path = os.path.join(folder, program)
        if os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    return None


def host(tool: str, caller: Mapping[str, str]) -> Host:
    """Look at who runs a tool, and on what."""
    uid = os.getuid()
    return Host(
        uid=uid,
        gid=os.getgid(),
        user=_login(uid),
        init=TOOLS[tool].has_init(caller),
        rootless=TOOLS[tool].is_rootless(uid, caller),
        selinux=os.path.exists("/sys/fs/selinux/enforce"),
        gpu=next((maker for maker, device in _GPUS.items() if os.path.exists(device)), ""),
    )


def _login(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
