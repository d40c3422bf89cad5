"""Lets a task run as another user than the caller, and makes the caller the owner of its files afterwards.

Only where a daemon or root runs containers. Rootless Podman maps the caller to the requested user, and Apptainer's
tasks run as the caller: there is nothing to do there.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from dataclasses import replace
from stat import S_IFMT, S_IMODE, S_ISDIR, S_IXUSR
from typing import TYPE_CHECKING

from packtivity import settings
from packtivity.runtimes.containers import inside
from packtivity.statecontexts.posixfs_context import METADIR
from packtivity.types import Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from packtivity.runtimes.base import Host, Runtime
    from packtivity.types import Execution

_RECLAIM = 'find "$@" ! -user "$0" -exec chown -h "$0" {} +'


def is_foreign(runtime: Runtime, execution: Execution) -> bool:
    """Return whether what the task writes would not belong to the caller."""
    user, host = execution.user, runtime.host
    if user is None or host.rootless or not runtime.changes_user:
        return False
    return user == "image" or int(user.partition(":")[0]) != host.uid


@contextmanager
def lent(runtime: Runtime, execution: Execution) -> Iterator[None]:
    """Let the task's user write in the read-write directories, and on what is in them, for as long as the block lasts.

    What the caller keeps from everybody else, and the logs and records of tasks, stay closed.
    """
    before: list[tuple[str, os.stat_result, int]] = []
    try:
        if is_foreign(runtime, execution):
            for top in _writable(execution):
                bits = _bits(execution, runtime.host, top)
                for path in _contents(top, runtime.host):
                    _lend(path, bits, before)
        yield
    finally:
        for path, was, lent_mode in reversed(before):
            with suppress(OSError):
                status = os.lstat(path)  # the task may have put a link to another file there
                is_as_lent = status.st_uid == runtime.host.uid and S_IMODE(status.st_mode) == lent_mode
                # A file system may give the number of what is gone to the next that is made.
                if is_as_lent and os.path.samestat(status, was) and S_IFMT(status.st_mode) == S_IFMT(was.st_mode):
                    os.chmod(path, S_IMODE(was.st_mode))


def _lend(path: str, bits: int, before: list[tuple[str, os.stat_result, int]]) -> None:
    """Open a file or directory, and note how it was."""
    with suppress(OSError):  # another user's directory, whose owner has to allow it; or it has just been removed
        was = os.stat(path)
        mode = was.st_mode
        lent_mode = S_IMODE(mode) | (bits if S_ISDIR(mode) or mode & S_IXUSR else bits & ~0o111)
        if lent_mode != S_IMODE(mode):  # else there is nothing to take back later, from another task perhaps
            os.chmod(path, lent_mode)
            before.append((path, was, lent_mode))


def _contents(top: str, host: Host) -> Iterator[str]:
    """Give a directory, and what the caller has in it and has not closed to everybody else."""
    yield top
    waiting = [top]
    while waiting:
        with suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                kept = status.st_uid != host.uid or not status.st_mode & 0o077 or entry.name == METADIR
                if kept or not (entry.is_dir(follow_symlinks=False) or entry.is_file(follow_symlinks=False)):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                yield entry.path


def _bits(execution: Execution, host: Host, path: str) -> int:
    """Open a directory to its group where the task is in it, which it is unless another group is requested."""
    gid = (execution.user or "").partition(":")[2] or str(host.gid)
    return 0o070 if execution.user != "image" and os.stat(path).st_gid == int(gid) else 0o077


def _writable(execution: Execution) -> list[str]:
    """Return the read-write directories, as they are called in here and in the task."""
    location = settings.current().workdir_location
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
