"""udocker and Shifter: tools of sites without the others. Held by tests of their arguments only."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from packtivity.runtimes.base import Launch, Runtime, refuse_unwritable, with_variables

if TYPE_CHECKING:
    from collections.abc import Iterator

    from packtivity.types import Execution


class _Unprivileged(Runtime):
    """A tool that isolates nothing but files; the task runs as the caller."""

    separators: ClassVar[tuple[str, ...]]
    """What cannot be in the path of a volume."""

    def _options(self, execution: Execution) -> Iterator[str]:
        if execution.network not in (None, "default", "host"):
            raise self.refusal(f"give a container the network {execution.network!r}", "Use --network host.")
        if execution.limits.cpus is not None or execution.limits.memory is not None:
            raise self.refusal("limit CPUs or memory", "Leave --cpus and --memory away; the batch system limits them.")
        if execution.workdir is not None:
            yield f"--workdir={execution.workdir}"
        yield from execution.options
        for mount in execution.mounts:
            if mount.kind == "volume":
                raise self.refusal("mount volumes", "Unset PACKTIVITY_CVMFS_SOURCE to bind /cvmfs instead.")
            refuse_unwritable(mount.source, self.separators)
            refuse_unwritable(mount.destination, self.separators)
            yield f"--volume={mount.source}:{mount.destination}{':ro' if mount.readonly else ''}"


class Udocker(_Unprivileged):
    """udocker: containers without any privilege."""

    name = "udocker"
    install = "https://indigo-dc.github.io/udocker"
    separators = (":", "\n", "\0")

    def run_argv(self, execution: Execution, launch: Launch) -> tuple[str, ...]:
        """Return ``udocker run …``."""
        # With --env, udocker itself and the PRoot that it starts on the host have the variables, LD_PRELOAD for one.
        argv = with_variables(execution.env, execution.argv)
        own = ("--rm", "--nobanner", f"--user={self.host.user}")
        return (self.program, "--quiet", "run", *own, *self._options(execution), launch.image, *argv)

    def pull_argv(self, image: str, target: str) -> tuple[str, ...]:  # noqa: ARG002
        """Return ``udocker pull …``."""
        return (self.program, "pull", image)

    def inspect_argv(self, image: str) -> tuple[str, ...]:
        """Return ``udocker inspect …``."""
        return (self.program, "inspect", image)


class Shifter(_Unprivileged):
    """Shifter, as at NERSC: images are pulled by a gateway."""

    name = "shifter"
    install = "https://docs.nersc.gov/development/containers/shifter"
    separators = (":", ";", "\n", "\0")

    def run_argv(self, execution: Execution, launch: Launch) -> tuple[str, ...]:
        """Return ``shifter …``."""
        argv = with_variables(execution.env, execution.argv)
        return (self.program, f"--image=docker:{launch.image}", *self._options(execution), "--", *argv)

    def pull_argv(self, image: str, target: str) -> tuple[str, ...]:  # noqa: ARG002
        """Return ``shifterimg pull …``."""
        return ("shifterimg", "pull", f"docker:{image}")

    def inspect_argv(self, image: str) -> tuple[str, ...]:
        """Return ``shifterimg lookup …``."""
        return ("shifterimg", "lookup", f"docker:{image}")
