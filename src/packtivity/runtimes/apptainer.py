"""Apptainer and Singularity: no daemon, the task is a child of ours and runs as the caller."""

from __future__ import annotations

import os
import pwd
import shlex
from typing import TYPE_CHECKING, ClassVar

from packtivity.errors import ParameterError
from packtivity.runtimes.base import Launch, Runtime, mount_value, with_variables
from packtivity.runtimes.cgroup import text
from packtivity.runtimes.images import is_loopback, parse

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from packtivity.types import Execution, Limits


class Apptainer(Runtime):
    """Apptainer. Images are SIF files in our cache, or folders."""

    name = "apptainer"
    install = "https://apptainer.org/docs/admin/main/installation.html"
    runs_folders = True
    has_store = False
    own_options = "PACKTIVITY_APPTAINER_CMD_MOD"
    needs_scratch = True
    refusals: ClassVar[Mapping[int, tuple[str, ...]]] = {255: ("FATAL: ",)}
    login = "registry login docker://REGISTRY"

    def closer_trouble(self) -> str:
        """Say whether this kernel lets ordinary users make containers (or a setuid helper does)."""
        if self.host.uid == 0 or any(os.path.exists(f"/usr/libexec/{tool}/bin/starter-suid") for tool in _SUID_TOOLS):
            return ""
        switches = (
            f"user namespaces are disabled ({path} is {off})" for path, off in _SWITCHES if text(path).strip() == off
        )
        return next(switches, "")

    def who(self) -> str:
        """Say who tasks are and what their home is, unless something else is asked for."""
        return "you, with the home of the image's user where you may read it; --user image makes you root inside"

    def other_home(self, execution: Execution, caller: Mapping[str, str]) -> tuple[str, str] | None:
        """Return the caller's home, which a task has where that of the image's user is closed."""
        if execution.user == "image" or "HOME" in execution.env or (execution.as_image_says and self.host.uid == 0):
            return None
        closed = f"{self.name} runs tasks as you, who may not read the home of the image's user"
        try:
            home = pwd.getpwuid(self.host.uid).pw_dir  # where Apptainer mounts it, whatever HOME says
        except KeyError:
            home = caller.get("HOME", "")
        return home, closed if execution.as_image_says else "the task runs as you, with an empty home"

    def run_argv(self, execution: Execution, launch: Launch) -> tuple[str, ...]:
        """Return ``apptainer exec …``."""
        # The image's own work directory need not exist: it is entered if that is possible; there is no other way to know.
        folder = launch.workdir if execution.workdir is None else None
        first = _home(launch) if execution.as_image_says and "HOME" not in execution.env else ""
        argv = with_variables(self.variables(execution), execution.argv, folder, first)
        return (self.program, "--quiet", "exec", *self._options(execution, launch), launch.image, *argv)

    def variables(self, execution: Execution) -> dict[str, str]:
        """Return the variables to set inside, by a shell there.

        Apptainer's own ways (``--env``, ``APPTAINERENV_``) let a shell evaluate ``$(…)`` in values.
        """
        gpus = execution.limits.gpus
        chosen = gpus is not None and gpus != "all" and self.host.gpu == "nvidia"
        named = ",".join(map(str, range(int(gpus)))) if gpus is not None and gpus.isdigit() else str(gpus)
        which = {"CUDA_VISIBLE_DEVICES": named} if chosen else {}  # a number means the first so many
        return {"USER": self.host.user, **which, **execution.env}

    def pass_on(self, values: Mapping[str, str]) -> dict[str, str]:
        """Return ``APPTAINERENV_NAME`` for each variable.

        :raises ParameterError: a value has characters that Apptainer would let a shell evaluate.
        """
        for name, value in values.items():
            if any(character in value for character in '$`\\"\n'):
                raise ParameterError(f"{self.name} cannot pass {name} on: its value has characters special to a shell")
        return {f"{self.name.upper()}ENV_{name}": value for name, value in values.items()}

    def _options(self, execution: Execution, launch: Launch) -> Iterator[str]:
        # Own namespaces for processes: when the first process is killed, all are. Own /tmp and HOME, on disk.
        yield "--containall"
        is_root = self.host.uid == 0 and execution.user is None and launch.user in ("", "0", "root")
        if is_root or execution.user == "image":  # root inside is the caller, and may write in the image's directories
            yield from (() if self.host.uid == 0 else ("--fakeroot",))
            yield from ("--writable-tmpfs", "--no-home")
        if launch.scratch:
            yield from ("--workdir", launch.scratch)
        yield from ("--pwd", execution.workdir or "/")
        if execution.network == "none":
            yield from ("--net", "--network", "none")
        elif execution.network not in (None, "default", "host"):
            raise self.refusal(f"join the network {execution.network!r}", "Use --network none, host or default.")
        yield from self._limits(execution.limits)
        yield from execution.options
        for mount in execution.mounts:
            if mount.kind == "volume":
                raise self.refusal(
                    f"mount the volume {mount.source!r}", "Unset PACKTIVITY_CVMFS_SOURCE to bind /cvmfs instead."
                )
            # Propagation is Docker's notion; here mounts always follow those of the host.
            yield from ("--mount", mount_value(mount, readonly="ro", propagation=False))

    def _limits(self, limits: Limits) -> Iterator[str]:
        if limits.cpus is not None:
            yield from ("--cpus", f"{limits.cpus:g}")
        if limits.memory is not None:
            yield from ("--memory", str(limits.memory), "--memory-swap", str(limits.memory))
        if limits.gpus is not None:
            # Without a GPU the tool takes these options, warns at most, and runs the task.
            option = {"nvidia": "--nv", "amd": "--rocm"}.get(self.host.gpu)
            if option is None:
                raise self.refusal("give the task a GPU: there is none here", "Leave --gpus away, or run it elsewhere.")
            yield option

    def pull_argv(self, image: str, target: str) -> tuple[str, ...]:
        """Return ``apptainer pull FILE IMAGE``."""
        plain = ("--no-https",) if is_loopback(parse(image).registry) else ()
        return (self.program, "pull", "--force", *plain, target, image if "://" in image else f"docker://{image}")


_SUID_TOOLS = ("apptainer", "singularity")
_SWITCHES = (
    ("/proc/sys/user/max_user_namespaces", "0"),
    ("/proc/sys/kernel/unprivileged_userns_clone", "0"),
    ("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1"),
)


def _home(launch: Launch) -> str:
    """Return shell that makes the home of the image's own user the task's, where the caller can read something in it."""
    if launch.user is None:
        return ""
    user = shlex.quote(launch.user.partition(":")[0] or "0")
    look = (
        f'h=; while IFS=: read -r n _ u _ _ d _; do if [ "$n" = {user} ] || [ "$u" = {user} ]; then h=$d; break; fi; '
        "done 2>/dev/null </etc/passwd"
    )
    find = f"h={shlex.quote(launch.home)}" if launch.home else look
    take = 'for f in "$h"/* "$h"/.[!.]*; do if [ -e "$f" ]; then export HOME="$h"; break; fi; done'
    return f'{find}; if [ -n "$h" ]; then {take}; fi; unset h n u d f'


class Singularity(Apptainer):
    """SingularityCE and Apptainer's other name."""

    name = "singularity"
    install = "https://docs.sylabs.io"
