"""Lets a task run as another user than the caller, and gives its files back to the caller afterwards.

Only where a daemon or root runs containers. Rootless Podman maps the caller to the user asked for, and Apptainer's
tasks are the caller: there is nothing to do there.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from packtivity import settings
from packtivity.runtimes.containers import inside
from packtivity.types import Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from packtivity.runtimes.base import Host, Runtime
    from packtivity.types import Execution

_RECLAIM = 'find "$@" ! -user "$0" -exec chown -h "$0" {} +'


def is_foreign(runtime: Runtime, execution: Execution) -> bool:
    """Return whether what the task writes would not belong to the caller."""
    user, host = execution.user, runtime.host
    if user is None or host.rootless or runtime.name not in ("docker", "podman"):
        return False
    return user == "image" or int(user.partition(":")[0]) != host.uid


@contextmanager
def lent(runtime: Runtime, execution: Execution) -> Iterator[None]:
    """Let the task's user write in the read-write directories for as long as the block lasts."""
    before = []
    if is_foreign(runtime, execution):
        for path in _writable(execution):
            mode = os.stat(path).st_mode & 0o7777
            lent_mode = mode | _bits(execution, runtime.host, path)
            if lent_mode == mode:
                continue  # nothing to take back later, from another task that has opened it perhaps
            with suppress(PermissionError):  # somebody else's directory: its owner has to allow it
                os.chmod(path, lent_mode)
                before.append((path, mode))
    try:
        yield
    finally:
        for path, mode in before:
            with suppress(OSError):
                os.chmod(path, mode)


def _bits(execution: Execution, host: Host, path: str) -> int:
    """Open a directory to its group where the task is in it, which it is unless another group is asked for."""
    gid = (execution.user or "").partition(":")[2] or str(host.gid)
    return 0o070 if execution.user != "image" and os.stat(path).st_gid == int(gid) else 0o077


def _writable(execution: Execution) -> list[str]:
    """Return the read-write directories, as they are called in here and in the task."""
    location = settings.value("workdir_location")
    return [
        mount.destination
        for mount in execution.mounts
        if mount.kind == "bind" and not mount.readonly and inside(mount.source, location) == mount.destination
    ]


def reclaim(
    runtime: Runtime, execution: Execution, run: Callable[[Execution], int], say: Callable[[str], None]
) -> None:
    """Make the caller the owner of what the task wrote.

    :param run: runs an execution in the task's image and returns its exit code; needed by ordinary users only.
    """
    if not is_foreign(runtime, execution):
        return
    owner = f"{runtime.host.uid}:{runtime.host.gid}"
    if runtime.host.uid == 0:
        for path in _writable(execution):
            _reclaim_tree(path, runtime.host)
        return
    helper = replace(
        execution,
        argv=("sh", "-c", _RECLAIM, str(runtime.host.uid), *_writable(execution)),
        stdin=None,
        user="0:0",
        workdir="/",
        network="none",
        limits=Limits(),
        timeout=300.0,
    )
    if run(helper):
        say(f"what the task wrote could not be given back to {owner}: it belongs to user {execution.user}")


def _reclaim_tree(top: str, host: Host) -> None:
    for folder, _, files in os.walk(top):
        for path in (folder, *(os.path.join(folder, name) for name in files)):
            with suppress(FileNotFoundError):
                if os.lstat(path).st_uid != host.uid:
                    os.lchown(path, host.uid, host.gid)
