"""Docker, Podman and podman-hpc: the tools with the command line of Docker."""

from __future__ import annotations

import hashlib
import os
import socket
from typing import TYPE_CHECKING, Any, ClassVar

from packtivity.files import parsed
from packtivity.runtimes.base import CONTAINER_HOME, Launch, Runtime, check_variables, mount_value, with_variables
from packtivity.runtimes.cgroup import text
from packtivity.runtimes.images import parse
from packtivity.spec.image_names import is_path, is_uri

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from packtivity.runtimes.base import Host
    from packtivity.types import Execution, Limits


class _OCI(Runtime):
    """What Docker and Podman share: their command line."""

    is_child: ClassVar[bool] = False
    own_options: ClassVar[str] = "PACKTIVITY_DOCKER_CMD_MOD"

    def who(self) -> str:
        """Say who tasks are and what their home is, unless something else is asked for."""
        return "the image's user, with that user's home"

    def other_home(self, execution: Execution, caller: Mapping[str, str]) -> tuple[str, str] | None:  # noqa: ARG002
        """Return the home of a task that is not the image's user."""
        if execution.as_image_says or "HOME" in execution.env:
            return None
        user = "you" if execution.user == "caller" else f"user {execution.user}"
        return CONTAINER_HOME, f"the task runs as {user}, with {CONTAINER_HOME} for a home"

    def run_argv(self, execution: Execution, launch: Launch) -> tuple[str, ...]:
        """Return ``docker run …``."""
        check_variables(execution.env)
        # Podman, which "docker" may be, loses the \r of \r\n.
        lost = {name: value for name, value in execution.env.items() if "\r" in value}
        argv = with_variables(lost, execution.argv)
        return (self.program, "run", *self._options(execution, launch), *self._image(launch), *argv)

    def _options(self, execution: Execution, launch: Launch) -> Iterator[str]:
        yield "--rm"
        if execution.stdin or execution.tty:
            yield "-i"
        if execution.tty:
            yield "-t"
        yield from self._watched(launch)
        if launch.name:
            yield from ("--name", launch.name, "--pull", "never")
        if self.host.init:
            yield "--init"
        yield from self._identity(execution, launch)
        yield from self._environment(execution)
        if execution.workdir is not None:
            yield from ("--workdir", execution.workdir)
        if execution.network not in (None, "default"):
            yield f"--network={execution.network}"
        yield from self._limits(execution.limits)
        if self.host.selinux or any(mount.kind == "volume" for mount in execution.mounts):
            yield from ("--security-opt", "label=disable")
        yield from execution.options
        for mount in execution.mounts:
            yield from ("--mount", mount_value(mount))

    def _watched(self, launch: Launch) -> Iterator[str]:
        if launch.cidfile:
            yield from ("--cidfile", launch.cidfile)

    def _image(self, launch: Launch) -> tuple[str, ...]:
        return (launch.image,)

    def _identity(self, execution: Execution, launch: Launch) -> Iterator[str]:  # noqa: ARG002 - for Podman
        """Yield the user to run as: by default the image's own, as upstream."""
        if execution.as_image_says and not self.host.rootless:
            if execution.group is not None:
                yield from ("--group-add", str(execution.group))
        elif not execution.as_image_says and execution.user != "caller":
            group = "" if ":" in str(execution.user) else f":{self.host.gid}"
            yield from ("--user", f"{execution.user}{group}")
        elif self.host.rootless:
            yield from ("--user", "0:0")
        else:
            yield from ("--user", f"{self.host.uid}:{self.host.gid}")

    def _environment(self, execution: Execution) -> Iterator[str]:
        if not execution.as_image_says:
            for name, value in (("HOME", CONTAINER_HOME), ("USER", self.host.user)):
                if name not in execution.env:
                    yield from ("--env", f"{name}={value}")
        for name, value in execution.env.items():
            if "\r" not in value:
                yield from ("--env", f"{name}={value}")
        for name in execution.pass_env:  # chosen by packtivity; the value is in the tool's environment, not in ``ps``
            yield from ("--env", name)

    def _limits(self, limits: Limits) -> Iterator[str]:
        if limits.cpus is not None:
            yield f"--cpus={limits.cpus:g}"
        if limits.memory is not None:
            yield from (f"--memory={limits.memory}", f"--memory-swap={limits.memory}")
        if limits.gpus is not None:
            yield from self._gpus(limits.gpus)

    def _gpus(self, gpus: str) -> Iterator[str]:
        raise NotImplementedError

    def pull_argv(self, image: str, target: str) -> tuple[str, ...]:  # noqa: ARG002
        """Return ``docker pull …``."""
        return (self.program, "pull", image)

    def inspect_argv(self, image: str) -> tuple[str, ...]:
        """Return ``docker image inspect …``."""
        wanted = "{{.Id}} {{json .RepoDigests}} {{json .Config.User}}"
        return (self.program, "image", "inspect", "--format", wanted, image)

    def create_argv(self, image: str, name: str) -> tuple[str, ...]:
        """Return ``docker create …``."""
        return (self.program, "create", "--pull", "never", "--name", name, image, "true")

    def copy_argv(self, name: str, path: str, target: str) -> tuple[str, ...]:
        """Return ``docker cp …``."""
        return (self.program, "cp", f"{name}:{path}", target)

    def remove_argv(self, name: str) -> tuple[str, ...]:
        """Return ``docker rm -f …``."""
        return (self.program, "rm", "-f", "-v", name)


class Docker(_OCI):
    """Docker, whose daemon may be somewhere else."""

    name = "docker"
    install = "https://docs.docker.com/engine/install"
    inits: ClassVar[tuple[str, ...]] = (
        "/usr/bin/docker-init",
        "/usr/libexec/docker/docker-init",
        "/usr/local/bin/docker-init",
    )
    check_arguments: ClassVar[tuple[str, ...]] = ("version", "--format", "{{.Server.Version}}")
    # "docker" may also be a script that calls Podman.
    refusals: ClassVar[Mapping[int, tuple[str, ...]]] = {
        125: ("docker: ", "Error: "),
        126: ("docker: ", "[FATAL tini "),
        127: ("docker: ", "[FATAL tini "),
    }

    @classmethod
    def look(cls, uid: int, caller: Mapping[str, str]) -> tuple[bool, bool]:
        """Return it for the daemon: one on another machine or in a virtual one has its own init, one may be the user's."""
        endpoint = docker_endpoint(caller)
        has_init, _ = super().look(uid, caller)
        is_here = endpoint.startswith("unix:")
        return has_init or not is_here, is_here and uid != 0 and f"/run/user/{uid}/" in endpoint

    def who(self) -> str:
        """Say who tasks are and what their home is; a rootless daemon makes root of everybody."""
        return "root of the image, which is you outside, with root's home" if self.host.rootless else super().who()

    def trouble(self, caller: Mapping[str, str]) -> str:
        """Return why the daemon cannot be reached."""
        endpoint = docker_endpoint(caller)
        path = endpoint.removeprefix("unix://")
        if path == endpoint:
            return ""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            try:
                connection.connect(path)
            except PermissionError:
                return f"you may not use {path}; ask to be in its group (docker)"
            except OSError as error:
                return f"its daemon does not answer at {path} ({error.strerror or error})"
        return ""

    def store(self, caller: Mapping[str, str]) -> str:
        """Return the daemon that was chosen."""
        return caller.get("DOCKER_HOST", "")

    def out_of_memory_argv(self, name: str, started: float, ended: float) -> tuple[str, ...]:
        """Return ``docker events …``."""
        span = ("--since", f"{int(started) - 1}", "--until", f"{int(ended) + 1}")
        which = ("--filter", f"container={name}", "--filter", "event=oom", "--format", "{{.Action}}")
        return (self.program, "events", *span, *which)

    def _gpus(self, gpus: str) -> Iterator[str]:
        # A list of names is one field of a CSV line for Docker: the quotes are part of the value.
        yield "--gpus=" + (gpus if gpus == "all" or gpus.isdigit() else f'"device={gpus}"')


class Podman(_OCI):
    """Podman, by root or rootless."""

    name = "podman"
    install = "https://podman.io/docs/installation"
    refusals: ClassVar[Mapping[int, tuple[str, ...]]] = {
        **dict.fromkeys((125, 126, 127), ("Error: ",)),
        1: ("ERROR (catatonit:",),
    }
    inits: ClassVar[tuple[str, ...]] = (
        "/usr/libexec/podman/catatonit",
        "/usr/lib/podman/catatonit",
        "/usr/bin/catatonit",
    )
    check_arguments: ClassVar[tuple[str, ...]] = ("info", "--format", "{{.Host.OCIRuntime.Name}}")

    def __init__(self, host: Host, program: str | None = None) -> None:
        super().__init__(host, program)
        # Podman creates files in the folder, which a rootless one may not do in another user's.
        self.runs_folders = not host.rootless

    @classmethod
    def look(cls, uid: int, caller: Mapping[str, str]) -> tuple[bool, bool]:
        """Return whether there is an init program on this machine, and whether the caller is an ordinary user."""
        has_init, _ = super().look(uid, caller)
        return has_init, uid != 0

    def names(self, image: str) -> tuple[str, ...]:
        """Return a short name in full, and that of an image which was built here.

        Left to itself, Podman asks or goes through the registries of ``registries.conf``.
        """
        host, slash, _ = image.partition("/")
        if is_path(image) or is_uri(image) or (slash and (host == "localhost" or "." in host or ":" in host)):
            return (image,)
        return str(parse(image)), f"localhost/{image}"

    def trouble(self, caller: Mapping[str, str]) -> str:  # noqa: ARG002
        """Return whether an ordinary user has no ids to map."""
        owners = {line.partition(":")[0] for line in text("/etc/subuid").splitlines()}
        elsewhere = any(line.startswith("subid:") for line in text("/etc/nsswitch.conf").splitlines())
        if self.host.uid == 0 or elsewhere or owners & {self.host.user, str(self.host.uid)}:
            return ""
        return f"no subordinate user ids for {self.host.user} in /etc/subuid"

    def doubt(self, caller: Mapping[str, str]) -> str:
        """Return whether its folder has too long a name."""
        runroot = os.path.join(caller.get("XDG_RUNTIME_DIR", ""), "containers")
        if self.host.uid == 0 or len(runroot) <= _LONGEST_RUNROOT:
            return ""
        return (
            f"{runroot} is too long for Podman 4, whose runs then end 20 s late: set XDG_RUNTIME_DIR to a shorter path."
        )

    def _watched(self, launch: Launch) -> Iterator[str]:
        yield from super()._watched(launch)
        if launch.pidfile and self.host.rootless:  # without a cgroup, perhaps
            yield from ("--conmon-pidfile", launch.pidfile)

    def _image(self, launch: Launch) -> tuple[str, ...]:
        return ("--rootfs", f"{launch.image}:O") if launch.image.startswith("/") else (launch.image,)

    def _identity(self, execution: Execution, launch: Launch) -> Iterator[str]:
        user = launch.user if execution.as_image_says else execution.user
        if not self.host.rootless:
            yield from super()._identity(execution, launch)
        elif user == "caller":
            yield "--userns=keep-id"
        elif user is not None:  # else root inside is the caller outside
            # The caller appears inside as that user, so that files still belong to the caller outside.
            uid, _, gid = user.partition(":")
            mapped = gid if gid not in ("", "0") else uid  # group 0 cannot be mapped to the caller's
            yield from (f"--userns=keep-id:uid={uid},gid={mapped}", f"--user={uid}:{gid or uid}")

    def _gpus(self, gpus: str) -> Iterator[str]:
        # Podman takes --gpus and does nothing: CDI names are what works.
        names = range(int(gpus)) if gpus.isdigit() else gpus.split(",")
        for name in names:
            yield f"--device=nvidia.com/gpu={name}"

    def remove_argv(self, name: str) -> tuple[str, ...]:
        """Return ``podman rm -f …``, without ten seconds of grace."""
        return (self.program, "rm", "-f", "-v", "-t", "0", name)


class PodmanHPC(Podman):
    """podman-hpc, as at NERSC: Podman with a read-only store of squashed images on the shared file system."""

    name = "podman-hpc"
    install = "https://podman-hpc.readthedocs.io"
    check_arguments: ClassVar[tuple[str, ...]] = ("info",)

    def _gpus(self, gpus: str) -> Iterator[str]:  # noqa: ARG002
        yield "--gpu"


# --- the machine -----------------------------------------------------------------------------------------------

_SOCKET = "unix:///var/run/docker.sock"


def docker_endpoint(caller: Mapping[str, str]) -> str:
    """Return the address of Docker's daemon as its client would find it: variable, context, usual socket."""
    if caller.get("DOCKER_HOST"):
        return caller["DOCKER_HOST"]
    folder = caller.get("DOCKER_CONFIG") or os.path.join(caller.get("HOME", "/"), ".docker")
    context = caller.get("DOCKER_CONTEXT") or read_config(f"{folder}/config.json").get("currentContext", "default")
    if context == "default":
        return _SOCKET
    meta = read_config(f"{folder}/contexts/meta/{hashlib.sha256(context.encode()).hexdigest()}/meta.json")
    endpoint: str = meta.get("Endpoints", {}).get("docker", {}).get("Host", _SOCKET)
    return endpoint


def read_config(path: str) -> dict[str, Any]:
    """Return what a tool's configuration in JSON says; nothing when there is none, or it cannot be read."""
    document = parsed(text(path).encode())
    return document if isinstance(document, dict) else {}


_LONGEST_RUNROOT = 50
"""Characters that Podman 4 allows for its runroot, ``$XDG_RUNTIME_DIR/containers``."""
