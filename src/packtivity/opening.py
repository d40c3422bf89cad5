"""Opens and reads files and directories without following links, and nothing else that has their names."""

from __future__ import annotations

import errno
import json
import os
from functools import cache
from stat import S_ISCHR, S_ISLNK, S_ISREG
from typing import TYPE_CHECKING

from packtivity.errors import StateError

if TYPE_CHECKING:
    from packtivity.types import JSON

HOLD = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC


class NotAFile(OSError):
    """A link, pipe, device or directory in place of a file."""


def open_folder(path: str, *, make: bool = True) -> int:
    """Return a descriptor by which to work in a directory, whatever its name leads to later; a link is not followed.

    :param make: make it when it is missing, and those above it.
    :raises OSError: it is not there, cannot be made, or is something else.
    """
    try:
        try:
            return os.open(path, HOLD | os.O_NOFOLLOW)
        except FileNotFoundError:
            if not make:
                raise
            os.makedirs(path, exist_ok=True)
            return os.open(path, HOLD | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP, errno.EEXIST):
            raise
        what = "a link to another place" if os.path.islink(path) else "not a directory"
        raise NotADirectoryError(errno.ENOTDIR, f"{path} is {what}", path) from error


def open_file(name: str, flags: int, folder: int | None = None) -> int:
    """Open a file that is there. Nothing else is opened, not even for a moment: that alone can do harm to a device.

    :param folder: descriptor of the directory that ``name`` is relative to.
    :raises NotAFile: something else has that name.
    :raises OSError: it cannot be opened.
    """
    if not has_descriptor_names():
        return _open_after_a_look(name, flags, folder)
    with closing_fd(os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)) as place:
        _check_is_file(os.fstat(place))
        return os.open(f"/proc/self/fd/{place}", flags | os.O_CLOEXEC)


def open_sink(path: str, flags: int) -> int:
    """Open a device, such as ``/dev/null``, and nothing that has taken its place.

    :raises OSError: it cannot be opened, or is none.
    """
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not S_ISCHR(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotAFile(errno.EINVAL, "it is not a device")
    os.set_blocking(descriptor, True)
    return descriptor


def _open_after_a_look(name: str, flags: int, folder: int | None) -> int:
    """Do the same where the system cannot: what takes the file's place after the look is closed again."""
    _check_is_file(os.stat(name, dir_fd=folder, follow_symlinks=False))
    descriptor = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    try:
        _check_is_file(os.fstat(descriptor))
    except NotAFile:
        os.close(descriptor)
        raise
    return descriptor


def _check_is_file(status: os.stat_result) -> None:
    if not S_ISREG(status.st_mode):
        what = "a link to another file" if S_ISLNK(status.st_mode) else "something else than a file"
        raise NotAFile(errno.EINVAL, f"it is {what}")


@cache
def has_descriptor_names() -> bool:
    """Return whether files can be opened and named by their descriptors: on Linux with ``/proc``."""
    return hasattr(os, "O_PATH") and os.path.isdir("/proc/self/fd")


def is_file(path: str) -> bool:
    """Return whether there is a file, and not a link or something else."""
    try:
        return S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


class closing_fd:
    """Close a descriptor at the end of the block."""

    __slots__ = ("_descriptor",)

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __enter__(self) -> int:
        return self._descriptor

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


def read_json(path: str, *, follow: bool = False) -> JSON:
    """Return what a JSON file says; None when there is none, or it is no JSON, or something else than a file.

    Documents of others name files to be read, and a pipe would be waited for, a device read for ever.

    :param follow: go where a link in its place, or in its directory's, leads.
    :raises StateError: it is there and cannot be read.
    """
    content = read_whole(path, follow=follow)
    return None if content is None else parsed(content)


def parsed(content: bytes) -> JSON:
    """Return what a JSON text says; None when it is none."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def read_whole(path: str, *, follow: bool = False) -> bytes | None:
    """Return what is in a file; None when there is none, or something else than a file. See :func:`read_json`.

    :raises StateError: it is there and cannot be read.
    """
    try:
        with closing_fd(open_to_read(path, follow=follow)) as descriptor, open(descriptor, "rb", closefd=False) as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError, NotAFile):
        return None
    except OSError as error:
        raise StateError(f"{path} cannot be read: {error.strerror}") from error


def open_to_read(path: str, *, follow: bool = False) -> int:
    """Open a file for reading, and nothing else that has its name.

    :param follow: go where a link in its place, or in its directory's, leads.
    :raises NotAFile: something else has that name.
    :raises OSError: it cannot be opened.
    """
    if follow:
        return open_file(os.path.realpath(path), os.O_RDONLY)
    folder, name = os.path.split(path)
    if not name:
        raise NotAFile(errno.EINVAL, "it is a directory")
    with closing_fd(open_folder(folder or ".", make=False)) as directory:
        return open_file(name, os.O_RDONLY, directory)
