"""udocker and Shifter: tools of sites without the others. Held by tests of their arguments only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packtivity.runtimes.base import Launch, Runtime, refuse_unwritable, with_variables

if TYPE_CHECKING:
    from collections.abc import Iterator

    from packtivity.types import Execution


class Udocker(Runtime):
    """udocker: containers without any privilege; the task runs as the caller."""

    name = "udocker"
    install = "https://indigo-dc.github.io/udocker"
    tested = False
    networks = frozenset(("host",))

    def run_argv(self, execution: Execution, launch: Launch) -> tuple[str, ...]:
        """Return ``udocker run …``."""
        # With --env, udocker itself and the PRoot that it starts on the host have the variables, LD_PRELOAD for one.
        argv = with_variables(execution.env, execution.argv)
        return (self.program, "--quiet", "run", *self._options(execution), launch.image, *argv)

    def _options(self, execution: Execution) -> Iterator[str]:
        _refuse_isolation(self, execution)
        yield from ("--rm", "--nobanner", f"--user={self.host.user}")
        if execution.workdir is not None:
            yield f"--workdir={execution.workdir}"
        yield from execution.options
        for mount in execution.mounts:
            refuse_unwritable(mount.source, (":", "\n", "\0"))
            refuse_unwritable(mount.destination, (":", "\n", "\0"))
            yield f"--volume={mount.source}:{mount.destination}{':ro' if mount.readonly else ''}"

    def pull_argv(self, image: str, target: str) -> tuple[str, ...]:  # noqa: ARG002
        """Return ``udocker pull …``."""
        return (self.program, "pull", image)

    def inspect_argv(self, image: str) -> tuple[str, ...]:
        """Return ``udocker inspect …``."""
        return (self.program, "inspect", image)


class Shifter(Runtime):
    """Shifter, as at NERSC: images are pulled by a gateway, the task runs as the caller."""

    name = "shifter"
    install = "https://docs.nersc.gov/development/containers/shifter"
    tested = False
    networks = frozenset(("host",))

    def run_argv(self, execution: Execution, launch: Launch) -> tuple[str, ...]:
        """Return ``shifter …``."""
        argv = with_variables(execution.env, execution.argv)
        return (self.program, *self._options(execution, launch), "--", *argv)

    def _options(self, execution: Execution, launch: Launch) -> Iterator[str]:
        _refuse_isolation(self, execution)
        yield f"--image=docker:{launch.image}"
        if execution.workdir is not None:
            yield f"--workdir={execution.workdir}"
        yield from execution.options
        for mount in execution.mounts:
            refuse_unwritable(mount.source, (":", ";", "\n", "\0"))
            refuse_unwritable(mount.destination, (":", ";", "\n", "\0"))
            yield f"--volume={mount.source}:{mount.destination}{':ro' if mount.readonly else ''}"

    def pull_argv(self, image: str, target: str) -> tuple[str, ...]:  # noqa: ARG002
        """Return ``shifterimg pull …``."""
        return ("shifterimg", "pull", f"docker:{image}")

    def inspect_argv(self, image: str) -> tuple[str, ...]:
        """Return ``shifterimg lookup …``."""
        return ("shifterimg", "lookup", f"docker:{image}")


def _refuse_isolation(runtime: Runtime, execution: Execution) -> None:
    if execution.network not in (None, "default", "host"):
        raise runtime.refusal(f"give a container the network {execution.network!r}", "Use --network host.")
    if execution.limits.cpus is not None or execution.limits.memory is not None:
        raise runtime.refusal("limit CPUs or memory", "Leave --cpus and --memory away; the batch system limits them.")
    if any(mount.kind == "volume" for mount in execution.mounts):
        raise runtime.refusal("mount volumes", "Unset PACKTIVITY_CVMFS_SOURCE to bind /cvmfs instead.")
