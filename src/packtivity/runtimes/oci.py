"""Docker, Podman and podman-hpc: the tools with the command line of Docker."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from packtivity.runtimes.base import CONTAINER_HOME, Launch, Runtime, check_variables, mount_value, with_variables

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from packtivity.runtimes.base import Host
    from packtivity.types import Execution, Limits


class Docker(Runtime):
    """Docker, and what has its command line."""

    name = "docker"
    install = "https://docs.docker.com/engine/install"
    security: ClassVar[str] = "label=disable"
    is_child: ClassVar[bool] = False
    # "docker" may also be a script that calls Podman.
    refusals: ClassVar[Mapping[int, tuple[str, ...]]] = {
        125: ("docker: ", "Error: "),
        126: ("docker: ",),
        127: ("docker: ",),
    }

    def run_argv(self, execution: Execution, launch: Launch) -> tuple[str, ...]:
        """Return ``docker run …``."""
        check_variables(execution.env)
        lost = {name: value for name, value in execution.env.items() if not _carries(value)}
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
        yield from self._identity(execution)
        yield from self._environment(execution)
        if execution.workdir is not None:
            yield from ("--workdir", execution.workdir)
        if execution.network not in (None, "default"):
            yield f"--network={execution.network}"
        yield from self._limits(execution.limits)
        if self._unlabelled(execution):
            yield from ("--security-opt", self.security)
        yield from execution.options
        for mount in execution.mounts:
            yield from ("--mount", mount_value(mount))

    def _watched(self, launch: Launch) -> Iterator[str]:
        if launch.cidfile:
            yield from ("--cidfile", launch.cidfile)

    def _unlabelled(self, execution: Execution) -> bool:
        return self.host.selinux or any(mount.kind == "volume" for mount in execution.mounts)

    def _image(self, launch: Launch) -> tuple[str, ...]:
        return (launch.image,)

    def _identity(self, execution: Execution) -> Iterator[str]:
        """Yield who the task is: by default the caller, so that what it writes belongs to the caller."""
        if execution.user == "image":
            return
        if execution.user is not None:
            yield from ("--user", with_group(execution.user, self.host.gid))
        elif self.host.rootless:
            yield from ("--user", "0:0")
        else:
            yield from ("--user", f"{self.host.uid}:{self.host.gid}")

    def _environment(self, execution: Execution) -> Iterator[str]:
        if execution.user != "image":
            for name, value in (("HOME", CONTAINER_HOME), ("USER", self.host.user)):
                if name not in execution.env:
                    yield from ("--env", f"{name}={value}")
        for name, value in execution.env.items():
            if _carries(value):
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
        # A list of names is one field of a CSV line for Docker: the quotes are part of the value.
        yield "--gpus=" + (gpus if gpus == "all" or gpus.isdigit() else f'"device={gpus}"')

    def pull_argv(self, image: str, target: str) -> tuple[str, ...]:  # noqa: ARG002
        """Return ``docker pull …``."""
        return (self.program, "pull", image)

    def inspect_argv(self, image: str) -> tuple[str, ...]:
        """Return ``docker image inspect …``."""
        return (self.program, "image", "inspect", "--format", "{{.Id}} {{json .RepoDigests}}", image)

    def remove_argv(self, name: str) -> tuple[str, ...]:
        """Return ``docker rm -f …``."""
        return (self.program, "rm", "-f", "-v", name)


class Podman(Docker):
    """Podman, by root or rootless."""

    name = "podman"
    install = "https://podman.io/docs/installation"
    refusals: ClassVar[Mapping[int, tuple[str, ...]]] = dict.fromkeys((125, 126, 127), ("Error: ",))

    def __init__(self, host: Host, program: str | None = None) -> None:
        super().__init__(host, program)
        # Files have to be made in the folder, which rootless Podman may not do in somebody else's.
        self.runs_folders = not host.rootless

    def _watched(self, launch: Launch) -> Iterator[str]:
        yield from super()._watched(launch)
        if launch.pidfile and self.host.rootless:  # without a cgroup, perhaps
            yield from ("--conmon-pidfile", launch.pidfile)

    def _image(self, launch: Launch) -> tuple[str, ...]:
        return ("--rootfs", f"{launch.image}:O") if launch.image.startswith("/") else (launch.image,)

    def _identity(self, execution: Execution) -> Iterator[str]:
        if not self.host.rootless:
            yield from super()._identity(execution)
        elif execution.user is None:
            yield "--userns=keep-id"
        elif execution.user != "image":
            # The caller appears inside as the user asked for, so that files still belong to the caller outside.
            uid, _, gid = execution.user.partition(":")
            yield from (f"--userns=keep-id:uid={uid},gid={gid or uid}", f"--user={uid}:{gid or uid}")

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
    tested = False

    def _gpus(self, gpus: str) -> Iterator[str]:  # noqa: ARG002
        yield "--gpu"


def _carries(value: str) -> bool:
    """Return whether ``--env`` brings a value inside as it is: Podman, which "docker" may be, loses ``\\r`` in ``\\r\\n``."""
    return "\r" not in value


def with_group(user: str, group: int) -> str:
    """Complete ``UID`` to ``UID:GID``."""
    return user if ":" in user else f"{user}:{group}"
