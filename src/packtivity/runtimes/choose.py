"""Chooses the container tool: the one asked for, or the first that works here.

Looking is cheap (files, one connection to a socket), because every run does it; :mod:`packtivity.runtimes.doctor`
looks closely.
"""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import socket
from typing import TYPE_CHECKING, Any

from packtivity import settings
from packtivity.errors import ConfigurationError, EnvironmentUnavailable
from packtivity.registry import nearest
from packtivity.runtimes.apptainer import Apptainer, Singularity
from packtivity.runtimes.base import Host, Runtime
from packtivity.runtimes.hpc import Shifter, Udocker
from packtivity.runtimes.oci import Docker, Podman, PodmanHPC

if TYPE_CHECKING:
    from collections.abc import Mapping

ORDER = ("docker", "podman", "podman-hpc", "apptainer", "singularity", "udocker")
"""In which order tools are tried when none is asked for."""

_GPUS = {"nvidia": "/dev/nvidiactl", "amd": "/dev/kfd"}
_INITS = {
    "docker": ("/usr/bin/docker-init", "/usr/libexec/docker/docker-init", "/usr/local/bin/docker-init"),
    "podman": ("/usr/libexec/podman/catatonit", "/usr/lib/podman/catatonit", "/usr/bin/catatonit"),
}


def classes() -> dict[str, type[Runtime]]:
    """Return every tool there is a class for, by name."""
    return {kind.name: kind for kind in (Docker, Podman, PodmanHPC, Apptainer, Singularity, Udocker, Shifter)}


def named(name: str, caller: Mapping[str, str] | None = None) -> Runtime:
    """Return a tool, whether or not it is here. A path whose last part is a tool's name is called as it is.

    :raises ConfigurationError: no tool has that name; the message has the nearest and what there is.
    """
    caller = settings.caller_environment() if caller is None else caller
    known = classes()
    base = os.path.basename(name)
    if base not in known:
        near = nearest(base, known)
        hint = f"Did you mean {near!r}? " if near else ""
        raise ConfigurationError(f"no container tool is called {name!r}", hint=f"{hint}There are: {', '.join(known)}.")
    return known[base](host(base, caller), name if "/" in name else None)


def choose(wanted: str | None, caller: Mapping[str, str] | None = None) -> Runtime:
    """Return the tool to use.

    :param wanted: its name, or ``None`` for the first that works.
    :raises ConfigurationError: no tool has that name.
    :raises EnvironmentUnavailable: it is not here, or none is; the message says what was tried and why it is no good.
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


def trouble(runtime: Runtime, caller: Mapping[str, str]) -> str:
    """Return why a tool cannot work here, as far as a glance shows; empty when nothing speaks against it."""
    if find_program(runtime.program, caller) is None:
        return "not installed"
    if runtime.name == "docker":
        return _docker_trouble(caller)
    if runtime.name in ("podman", "podman-hpc") and runtime.host.uid != 0:
        return _subordinate_ids_trouble(runtime.host)
    return ""


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
    uid, gid = os.getuid(), os.getgid()
    rootless = (tool.startswith("podman") and uid != 0) or (tool == "docker" and _is_rootless_docker(caller))
    inits = _INITS.get(tool.partition("-")[0], ())
    return Host(
        uid=uid,
        gid=gid,
        user=_login(uid),
        # A daemon on another machine or in a virtual one has its init program with it.
        init=any(map(os.path.exists, inits)) or (tool == "docker" and not docker_endpoint(caller).startswith("unix:")),
        rootless=rootless,
        selinux=os.path.exists("/sys/fs/selinux/enforce"),
        gpu=next((maker for maker, device in _GPUS.items() if os.path.exists(device)), ""),
    )


def _login(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


# --- docker ----------------------------------------------------------------------------------------------------

_SOCKET = "unix:///var/run/docker.sock"


def docker_endpoint(caller: Mapping[str, str]) -> str:
    """Return the address of Docker's daemon as its client would find it: variable, context, usual socket."""
    if caller.get("DOCKER_HOST"):
        return caller["DOCKER_HOST"]
    folder = caller.get("DOCKER_CONFIG") or os.path.join(caller.get("HOME", "/"), ".docker")
    context = caller.get("DOCKER_CONTEXT") or _read_json(f"{folder}/config.json").get("currentContext", "default")
    if context == "default":
        return _SOCKET
    meta = _read_json(f"{folder}/contexts/meta/{hashlib.sha256(context.encode()).hexdigest()}/meta.json")
    endpoint: str = meta.get("Endpoints", {}).get("docker", {}).get("Host", _SOCKET)
    return endpoint


def _read_json(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_rootless_docker(caller: Mapping[str, str]) -> bool:
    endpoint = docker_endpoint(caller)
    return endpoint.startswith("unix:") and f"/run/user/{os.getuid()}/" in endpoint and os.getuid() != 0


def _docker_trouble(caller: Mapping[str, str]) -> str:
    endpoint = docker_endpoint(caller)
    if not endpoint.startswith("unix://"):
        return ""
    path = endpoint.removeprefix("unix://")
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        try:
            connection.connect(path)
        except PermissionError:
            return f"you may not use {path}; ask to be in its group (docker)"
        except OSError as error:
            return f"its daemon does not answer at {path} ({error.strerror or error})"
    return ""


# --- podman ----------------------------------------------------------------------------------------------------


def _subordinate_ids_trouble(host: Host) -> str:
    try:
        with open("/etc/subuid", encoding="utf-8", errors="replace") as file:
            owners = {line.partition(":")[0] for line in file}
    except OSError:
        owners = set()
    if {host.user, str(host.uid)} & owners or _subid_elsewhere():
        return ""
    return f"no subordinate user ids for {host.user} in /etc/subuid"


def _subid_elsewhere() -> bool:
    try:
        with open("/etc/nsswitch.conf", encoding="utf-8", errors="replace") as file:
            return any(line.startswith("subid:") for line in file)
    except OSError:
        return False
