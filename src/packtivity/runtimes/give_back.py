"""Gives what a task has made back to the caller; imports nothing of ours, so that it also runs as a program of its own.

Root of this machine calls :func:`give_back`. For anybody else it is run by root of a container that has the same
directories: ``python give_back.py``, with a :class:`Request` on standard input, which prints a report. With ``files`` and
``uid`` there it calls :func:`give_files`, for the copies of credentials that a task gets.
"""

from __future__ import annotations

import json
import os
import stat
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple, TypedDict

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator


class Survey(TypedDict):
    """What was there before the task, of others than the caller.

    :ivar others: inode, owner, group and time of last change (nanoseconds) of each file or directory that was not the
        caller's.
    :ivar closed: inodes of directories that could not be looked into.
    """

    others: list[list[int]]
    closed: list[int]


class Report(TypedDict):
    """What was done.

    :ivar given: how many entries were given back.
    :ivar removed: device nodes, which were removed: a task has no use for them, and an attacker has.
    :ivar left: paths of what may be somebody else's, or could not be given.
    """

    given: int
    removed: list[str]
    left: list[str]


class Request(TypedDict):
    """What to give back.

    :ivar tops: directories, by their paths where this runs.
    :ivar task: user id that the task had, as seen from outside of its container.
    :ivar uid: user to give it to.
    :ivar gid: that user's group.
    """

    tops: list[str]
    before: Survey
    task: int
    uid: int
    gid: int


class Entry(NamedTuple):
    """Something that is not the user's.

    :ivar path: its path.
    :ivar descriptor: of the directory that it is in; None for one of the directories that were asked for.
    :ivar above: status of that directory.
    """

    path: str
    descriptor: int | None
    above: os.stat_result
    status: os.stat_result

    @property
    def inode(self) -> tuple[int, int]:
        """Return its inode and owner."""
        return self.status.st_ino, self.status.st_uid


@contextmanager
def surveyed(tops: list[str], uid: int) -> Iterator[Survey]:
    """Survey some directories; for as long as the block lasts, no new file gets the inode of one that was there."""
    held: list[int] = []
    try:
        yield survey(tops, uid, held)
    finally:
        for descriptor in held:
            os.close(descriptor)


_HELD = 128
"""How many files are held at most: a process may open 1,024 as a rule."""


def survey(tops: list[str], uid: int, held: list[int] | None = None) -> Survey:
    """Note what in some directories does not belong to a user; links are not followed, nor are mounts entered.

    :param held: gets a descriptor of each, which keeps its inode from being used again when it is removed.
    """
    before: Survey = {"others": [], "closed": []}
    for entry in (entry for top in tops for entry in _theirs(top, uid)):
        before["others"].append([*entry.inode, entry.status.st_gid, entry.status.st_mtime_ns])
        if held is not None and len(held) < _HELD:
            with suppress(OSError):
                held.append(os.open(_name(entry), os.O_PATH | os.O_NOFOLLOW, dir_fd=entry.descriptor))
        is_inner = entry.descriptor is not None and stat.S_ISDIR(entry.status.st_mode)
        if is_inner and not os.access(entry.path, os.R_OK | os.X_OK):
            before["closed"].append(entry.status.st_ino)
    return before


def foreign(tops: list[str], before: Survey, uid: int) -> Iterator[tuple[Entry, bool, tuple[int, int] | None]]:
    """Yield what in some directories is new or has a new owner and is not the user's, a directory before what is in it.

    Beside each stands whether nobody but the task can have made it; and the owner and group that it had before, if it is
    a file of somebody else's that the task took (``chown -R``). An inode alone does not tell: those of removed files are
    used again.
    """
    others, made = {(inode, owner) for inode, owner, _, _ in before["others"]}, set()
    former = {(inode, changed): (owner, group) for inode, owner, group, changed in before["others"]}
    for entry in (entry for top in tops for entry in _theirs(top, uid, before["closed"])):
        above, found = entry.above, entry.status
        if entry.inode not in others:
            taken_from = former.get((found.st_ino, found.st_mtime_ns))
            in_made = (above.st_dev, above.st_ino) in made
            sure = entry.descriptor is None or in_made or (above.st_uid == uid and not above.st_mode & 0o022)
            if sure and taken_from is None and entry.descriptor is not None and stat.S_ISDIR(found.st_mode):
                made.add((found.st_dev, found.st_ino))
            yield entry, sure, taken_from


def _theirs(top: str, uid: int, closed: Collection[int] = ()) -> Iterator[Entry]:
    """Yield what in a directory is not a user's, itself included."""
    status = os.stat(top)
    if status.st_uid != uid:
        yield Entry(top, None, status, status)
    for folder, folders, files, descriptor in os.fwalk(top):
        here = os.fstat(descriptor)
        if here.st_dev != status.st_dev or here.st_ino in closed:
            folders.clear()
            continue
        for name in (*folders, *files):
            try:
                found = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            except OSError:
                continue
            if found.st_uid != uid:
                yield Entry(os.path.join(folder, name), descriptor, here, found)


def give_back(request: Request) -> Report:
    """Make a user the owner of what is new in some directories; only root can.

    Regular files, directories and links; never across a mount or through a link, and nothing that was there before
    and was not the user's: that goes back to whom it belonged, if the task took it. In a directory where others may write, only what belongs to root is known to be the task's.
    """
    report: Report = {"given": 0, "removed": [], "left": []}
    for entry, sure, taken_from in foreign(request["tops"], request["before"], request["uid"]):
        mode = entry.status.st_mode
        if taken_from is None and not sure and not entry.status.st_uid == request["task"] == 0:
            report["left"].append(entry.path)
            continue
        try:
            if taken_from is not None:
                os.chown(_name(entry), *taken_from, dir_fd=entry.descriptor, follow_symlinks=False)
                report["given"] += 1
            elif stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
                os.unlink(_name(entry), dir_fd=entry.descriptor)
                report["removed"].append(entry.path)
            else:
                _give(entry, request["uid"], request["gid"])
                report["given"] += 1
        except OSError:
            report["left"].append(entry.path)
    return report


def _name(entry: Entry) -> str:
    """Return what to call it in the directory that it is in."""
    return entry.path if entry.descriptor is None else os.path.basename(entry.path)


def _give(entry: Entry, uid: int, gid: int) -> None:
    if entry.descriptor is None:
        os.chown(entry.path, uid, -1, follow_symlinks=False)
        return
    # A directory with the set-group-id bit has given its own group to what was made in it.
    inherited = entry.above.st_mode & stat.S_ISGID
    os.chown(_name(entry), uid, -1 if inherited else gid, dir_fd=entry.descriptor, follow_symlinks=False)


def give_files(paths: list[str], uid: int) -> Report:
    """Make a user the owner of some files, which are not followed when they are links."""
    for path in paths:
        os.chown(path, uid, -1, follow_symlinks=False)
    return {"given": len(paths), "removed": [], "left": []}


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    json.dump(give_files(asked["files"], asked["uid"]) if "files" in asked else give_back(asked), sys.stdout)
