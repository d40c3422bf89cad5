"""Gives what a task has made back to the caller; imports nothing of ours, so that it also runs as a program of its own.

Root of this machine calls :func:`give_back`. For anybody else it is run by root of a container that has the same
directories: ``python give_back.py``, with a :class:`Request` on standard input, which prints a report.
"""

from __future__ import annotations

import json
import os
import stat
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from collections.abc import Iterator


class Survey(TypedDict):
    """What was there before the task, of others than the caller.

    :ivar others: inode and owner of each file or directory that was not the caller's.
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


@dataclass(frozen=True, slots=True)
class Entry:
    """Something new that is not the user's.

    :ivar folder: path of the directory that it is in.
    :ivar descriptor: of that directory; None for one of the directories that were asked for.
    :ivar sure: whether nobody but the task can have made it.
    """

    folder: str
    name: str
    descriptor: int | None
    status: os.stat_result
    sure: bool

    @property
    def path(self) -> str:
        """Return its path."""
        return os.path.join(self.folder, self.name)


def survey(tops: list[str], uid: int) -> Survey:
    """Note what in some directories does not belong to a user; links are not followed, nor are mounts entered."""
    before: Survey = {"others": [], "closed": []}
    for top in tops:
        status = os.stat(top)
        if status.st_uid != uid:
            before["others"].append([status.st_ino, status.st_uid])
        for folder, folders, files, descriptor in os.fwalk(top):
            if os.fstat(descriptor).st_dev != status.st_dev:
                folders.clear()
                continue
            for name in (*folders, *files):
                found = _stat(name, descriptor)
                if found is None or found.st_uid == uid:
                    continue
                before["others"].append([found.st_ino, found.st_uid])
                if stat.S_ISDIR(found.st_mode) and not os.access(os.path.join(folder, name), os.R_OK | os.X_OK):
                    before["closed"].append(found.st_ino)
    return before


def foreign(tops: list[str], before: Survey, uid: int) -> Iterator[Entry]:
    """Yield what is new in some directories and not the user's, a directory before what is in it."""
    others, closed = {(inode, owner) for inode, owner in before["others"]}, set(before["closed"])
    for top in tops:
        status, made = os.stat(top), set()
        if status.st_uid != uid and (status.st_ino, status.st_uid) not in others:
            yield Entry(top, "", None, status, sure=True)
        for folder, folders, files, descriptor in os.fwalk(top):
            here = os.fstat(descriptor)
            if here.st_dev != status.st_dev or here.st_ino in closed:
                folders.clear()
                continue
            sure = here.st_ino in made or (here.st_uid == uid and not here.st_mode & 0o022)
            for name in (*folders, *files):
                found = _stat(name, descriptor)
                if found is None or found.st_uid == uid or (found.st_ino, found.st_uid) in others:
                    continue
                if sure and stat.S_ISDIR(found.st_mode):
                    made.add(found.st_ino)
                yield Entry(folder, name, descriptor, found, sure)


def give_back(request: Request) -> Report:
    """Make a user the owner of what is new in some directories; only root can.

    Regular files, directories and links; never across a mount or through a link, and nothing that was there before
    and was not the user's. In a directory where others may write, only what belongs to root is known to be the task's.
    """
    report: Report = {"given": 0, "removed": [], "left": []}
    for entry in foreign(request["tops"], request["before"], request["uid"]):
        mode = entry.status.st_mode
        if not entry.sure and not entry.status.st_uid == request["task"] == 0:
            report["left"].append(entry.path)
            continue
        try:
            if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
                os.unlink(entry.name, dir_fd=entry.descriptor)
                report["removed"].append(entry.path)
            else:
                _give(entry, request["uid"], request["gid"])
                report["given"] += 1
        except OSError:
            report["left"].append(entry.path)
    return report


def _give(entry: Entry, uid: int, gid: int) -> None:
    if entry.descriptor is None:
        os.chown(entry.folder, uid, -1, follow_symlinks=False)
        return
    # A directory with the set-group-id bit has given its own group to what was made in it.
    inherited = os.fstat(entry.descriptor).st_mode & stat.S_ISGID
    os.chown(entry.name, uid, -1 if inherited else gid, dir_fd=entry.descriptor, follow_symlinks=False)


def _stat(name: str, descriptor: int) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=descriptor, follow_symlinks=False)
    except OSError:
        return None


if __name__ == "__main__":
    json.dump(give_back(json.load(sys.stdin)), sys.stdout)
