"""Makes and checks the directories for state, caches and private files: no other user may change what is in them."""

from __future__ import annotations

import errno
import grp
import logging
import os
import pwd
from contextlib import suppress
from functools import cache
from stat import S_IMODE, S_ISVTX, S_IWGRP, S_IWOTH
from typing import TYPE_CHECKING

from packtivity import settings
from packtivity.errors import StateError, UnsafeDirectory

if TYPE_CHECKING:
    from collections.abc import Iterator

_PRIVATE = 0o700

_warned: set[str] = set()


def state(*parts: str, make: bool = True, what: str = "records") -> str:
    """Return the directory for what is known of this user's tasks, or one below it, and check who may write to it.

    One that its group may write to, or that is somebody else's, is used with a warning: services run with a user id of
    the moment on volumes that belong to a group.

    :param make: make it when it is missing, for this user only.
    :param what: is kept there, for messages.
    :raises UnsafeDirectory: every user of the machine may write to it, or another one has put it there.
    :raises StateError: it cannot be made.
    """
    return _kept(settings.state_dir(), parts, "PACKTIVITY_STATE_DIR", _PRIVATE if make else None, what)


def cached(chosen: str | None, *parts: str, make: bool = True) -> str:
    """Return the directory for what can be fetched again, or one below it; see :func:`state`. Others may read it.

    :param chosen: the setting ``PACKTIVITY_CACHE_DIR``; a group may share that.
    """
    root = os.path.abspath(chosen or settings.default_cache_dir())
    mode = 0o775 if chosen else 0o755
    return _kept(root, parts, "PACKTIVITY_CACHE_DIR", mode if make else None, "copies")


def _kept(root: str, parts: tuple[str, ...], variable: str, mode: int | None, what: str) -> str:
    path, how = root, f"Set {variable} to another directory, or let nobody else write to this one: chmod go-w"
    try:
        check(root, f"{how} {root}")
        for part in parts:
            path = os.path.join(path, part)
            with suppress(OSError):  # it is not there, or cannot be used
                _refuse_writable(path, os.stat(path), f"{how} {path}")
        if mode is not None:
            make_private(root, mode)
            make_private(path, mode)
    except OSError as error:
        raise StateError.of(
            error,
            f"{error.filename or path}, where {what} are kept, cannot be made: {error.strerror}",
            hint=f"Set {variable} to a directory that you may write to.",
        ) from error
    return path


def check(path: str, hint: str) -> None:
    """Check a directory, or where it will be made; warn once if others can change what is in it.

    :raises UnsafeDirectory: every user of the machine may write to it, or it or one above it was put there by another.
    """
    open_to_all, loose = look_above(path, hint)
    try:
        found = os.stat(path)
    except OSError:
        return  # it is not there, or cannot be used
    theirs = found.st_uid not in (os.getuid(), 0)
    _refuse_writable(path, found, hint)
    if theirs and open_to_all:
        raise _put_there(path, hint)
    if theirs or loose:
        _warn_once(path, "belongs to another user" if theirs else loose, hint)
    elif found.st_mode & S_IWGRP and not _is_own_group(found.st_gid):
        _warn_once(path, "is writable by its group", hint)


def check_file(path: str, hint: str) -> None:
    """Check that no other user of the machine can have written a file; see :func:`check` for its directory.

    :raises UnsafeDirectory: every user of the machine may write to it or its directory, or another one made the directory.
    :raises OSError: it is not there.
    """
    check(os.path.dirname(path), hint)
    _refuse_writable(path, os.stat(path), hint)


def _refuse_writable(path: str, found: os.stat_result, hint: str) -> None:
    if found.st_mode & S_IWOTH:
        raise UnsafeDirectory(f"every user of this machine may write to {path}", hint=hint)


@cache
def look_above(path: str, hint: str) -> tuple[bool, str]:
    """Look at the directories above one.

    :returns: whether every user may create files in the last of them, as in ``/tmp``; and, if everybody may also delete
        or replace what others have created in one of them, words that say so.
    :raises UnsafeDirectory: another user has created one of them, or a link that leads there, in such a place.
    """
    for link in _links(path):
        if os.stat(os.path.dirname(link)).st_mode & S_IWOTH and os.lstat(link).st_uid not in (os.getuid(), 0):
            raise _put_there(link, hint)
    open_to_all, loose, above = False, "", "/"
    for name in os.path.realpath(path).split("/")[1:]:
        try:
            found = os.stat(above)
        except OSError:
            return False, loose  # what is not there will be made by us
        if open_to_all and found.st_uid not in (os.getuid(), 0):
            raise _put_there(above, hint)
        open_to_all = bool(found.st_mode & S_IWOTH)
        if open_to_all and not found.st_mode & S_ISVTX:
            loose = f"can be replaced by every user of this machine, because {above} has no sticky bit"
        above = os.path.join(above, name)
    return open_to_all, loose


def _links(path: str) -> Iterator[str]:
    """Yield the links that are followed on the way to a path."""
    waiting, seen = [path if os.path.isabs(path) else os.path.join(os.getcwd(), path)], set()
    while waiting:
        here = "/"
        for name in waiting.pop().split("/"):
            here = os.path.join(here, name)
            if here not in seen and os.path.islink(here):
                seen.add(here)
                yield here
                waiting.append(os.path.join(os.path.dirname(here), os.readlink(here)))


def _put_there(path: str, hint: str) -> UnsafeDirectory:
    return UnsafeDirectory(f"{path} was put there by another user, in a directory that is open to all", hint=hint)


@cache
def _is_own_group(gid: int) -> bool:
    """Return whether nobody else is in a group; many systems give each user one of his own."""
    try:
        user, group = pwd.getpwuid(os.getuid()), grp.getgrgid(gid)
    except KeyError:
        return False
    return gid == user.pw_gid and group.gr_name == user.pw_name and set(group.gr_mem) <= {user.pw_name}


def _warn_once(path: str, what: str, hint: str) -> None:
    if path in _warned:
        return
    _warned.add(path)
    logger = logging.getLogger("packtivity.folders")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.WARNING)  # the commands' --verbosity ERROR is about the lines of tasks
    logger.warning("%s %s; others can change what is kept there. %s", path, what, hint)


def make_own(path: str) -> int:
    """Make a private directory that must not be there, and return a descriptor of it: its name may lead elsewhere later.

    :raises UnsafeDirectory: another user has put the one that it is to be in there.
    :raises OSError: it cannot be made, or somebody has put something else in its place.
    """
    parent, hint = os.path.dirname(path), "Set TMPDIR to another directory."
    _, loose = look_above(path, hint)
    if loose:
        _warn_once(parent, loose, hint)
    os.mkdir(path, _PRIVATE)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    if not is_private(os.fstat(descriptor)):
        os.close(descriptor)
        raise PermissionError(errno.EPERM, "another user has put another directory in its place", path)
    return descriptor


def is_private(found: os.stat_result) -> bool:
    """Return whether a directory is this user's, and no other user can use it.

    Root takes everybody's: NFS may give what root makes to the user ``nobody``.
    """
    return os.getuid() in (found.st_uid, 0) and not S_IMODE(found.st_mode) & 0o77


def make_private(path: str, mode: int = _PRIVATE) -> None:
    """Make a directory, and those above it, for this user only; one that exists is fine.

    :param mode: for others as well.
    :raises OSError: it cannot be made, or something else is in its place.
    """
    if os.path.isdir(path):
        return
    try:
        os.mkdir(path, mode)
    except FileNotFoundError:
        above = os.path.dirname(path)
        if above in ("", path):
            raise
        make_private(above, mode)
        make_private(path, mode)  # another process may have been faster
    except FileExistsError:
        if not os.path.isdir(path):
            raise
