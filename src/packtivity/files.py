"""Writes files as a whole or not at all, and opens files and directories without following links."""

from __future__ import annotations

import errno
import os
import time
from contextlib import contextmanager, suppress
from functools import cache
from itertools import count
from stat import S_ISCHR, S_ISLNK, S_ISREG
from typing import TYPE_CHECKING, Any

from packtivity.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from packtivity.types import JSON


def is_id(text: Any) -> bool:
    """Return whether a text can be the id of a task; it becomes part of file names."""
    return (
        isinstance(text, str)
        and 0 < len(text) <= 64
        and text.isascii()
        and ("a" + text.replace("-", "_")).isidentifier()
    )


def write_json(path: str, document: JSON, *, sync: bool = False, mode: int = 0o666) -> None:
    """Write a JSON file; see :func:`write_whole`."""
    import json

    write_whole(path, json.dumps(document, separators=(",", ":")).encode("utf-8"), sync=sync, mode=mode)


def write_whole(path: str, content: bytes, *, sync: bool = False, mode: int = 0o666) -> None:
    """Write a file at once; an older one stays until the new one is complete. The directory is made when missing.

    Links are not followed: neither one in the file's place, which is replaced, nor one in the directory's.

    :param sync: force it to disk before it gets its name. Without it there is a moment, too short for anybody but
        another program at the same place, in which there is neither the old nor the new one.
    :raises StateError: it cannot be written.
    """
    folder, name = os.path.split(path)
    try:
        with closing_fd(open_folder(folder or ".")) as directory:
            write_at(directory, (name,), content, sync=sync, mode=mode)
    except OSError as error:
        raise unwritable(path, error) from error


def unwritable(path: str, error: OSError) -> StateError:
    """Return the error to raise when a file cannot be written."""
    return StateError(
        f"{path} cannot be written: {error.strerror}", hint="Is the disk full, or the directory read-only?"
    )


@contextmanager
def replacing(path: str) -> Iterator[str]:
    """Give the name of a file to make (mode ``x``), which takes the place of another one as the block ends, or goes if it fails.

    :raises OSError: it cannot take that place.
    """
    temporary = _beside(path)
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def _beside(path: str) -> str:
    return f"{path}.{os.getpid():x}{time.monotonic_ns():x}{next(_counted):x}.tmp"


_counted = count()


# --- in a directory that is held by a descriptor ---------------------------------------------------------------

_HOLD = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC


_NO_LINKS = frozenset({errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EOPNOTSUPP, errno.EXDEV, errno.EMLINK})
"""Error numbers of systems and sandboxes that allow no hard links."""


_ATTEMPTS = 99
"""How often a file is given its name, while another program keeps taking it away, before that is an error."""


class NotAFile(OSError):
    """A link, pipe, device or directory in place of a file."""


def open_folder(path: str, *, make: bool = True) -> int:
    """Return a descriptor by which to work in a directory, whatever its name leads to later; a link is not followed.

    :param make: make it when it is missing, and those above it.
    :raises OSError: it is not there, cannot be made, or is something else.
    """
    try:
        try:
            return os.open(path, _HOLD | os.O_NOFOLLOW)
        except FileNotFoundError:
            if not make:
                raise
            os.makedirs(path, exist_ok=True)
            return os.open(path, _HOLD | os.O_NOFOLLOW)
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
    if not _has_descriptor_names():
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
def _has_descriptor_names() -> bool:
    """Return whether files can be opened and named by their descriptors: on Linux with ``/proc``."""
    return hasattr(os, "O_PATH") and os.path.isdir("/proc/self/fd")


def is_file(path: str) -> bool:
    """Return whether there is a file, and not a link or something else."""
    try:
        return S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def is_named(descriptor: int, name: str, folder: int) -> bool:
    """Return whether a name in a directory is that of an open file."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(name, dir_fd=folder, follow_symlinks=False))
    except FileNotFoundError:
        return False


def write_at(folder: int, names: tuple[str, ...], content: bytes, *, sync: bool = False, mode: int = 0o666) -> None:
    """Write a new file and give it names in a directory; what had one of them before loses it.

    :param folder: descriptor of the directory.
    :raises OSError: it cannot be written, or another program keeps putting something else in its place.
    """
    for _ in range(_ATTEMPTS):
        if _is_written(folder, names, content, sync, mode):
            return
    raise FileExistsError(errno.EEXIST, "another program keeps putting something else in its place")


def _is_written(folder: int, names: tuple[str, ...], content: bytes, sync: bool, mode: int) -> bool:
    """Do it once; false when somebody else was faster."""
    descriptor = _nameless(folder, mode)
    if descriptor < 0:
        return all(_is_written_by_name(folder, name, content, sync, mode) for name in names)
    with closing_fd(descriptor):
        _fill(descriptor, content, sync=sync)
        try:
            return all(give_name(descriptor, name, folder, sync=sync) for name in names)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
    return all(_is_written_by_name(folder, name, content, sync, mode) for name in names)


def give_name(descriptor: int, name: str, folder: int, *, sync: bool) -> bool:
    """Give an open file a name in a directory; false when somebody else has taken it away at once.

    :raises OSError: it cannot be done.
    """
    if not sync:
        # ext4 forces a file to disk that is renamed over another one, which takes longer than all the rest.
        with suppress(FileExistsError):  # another program has just given that name to a file of its own
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=folder)
            _link(descriptor, name, folder)
            return True
    temporary = _beside(name)
    _link(descriptor, temporary, folder)
    return _has_taken_place(descriptor, temporary, name, folder)


def _link(descriptor: int, name: str, folder: int) -> None:
    os.link(f"/proc/self/fd/{descriptor}", name, src_dir_fd=descriptor, dst_dir_fd=folder)


def _has_taken_place(descriptor: int, temporary: str, name: str, folder: int) -> bool:
    """Rename a file; false when something else has the name then."""
    try:
        os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        raise
    return is_named(descriptor, name, folder)


def _is_written_by_name(folder: int, name: str, content: bytes, sync: bool, mode: int) -> bool:
    temporary = _beside(name)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with closing_fd(os.open(temporary, flags, mode, dir_fd=folder)) as descriptor:
        try:
            _fill(descriptor, content, sync=sync)
            if not sync:
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=folder)
        except OSError:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=folder)
            raise
        return _has_taken_place(descriptor, temporary, name, folder)


def put(path: str, content: bytes, *, sync: bool = False, mode: int = 0o666) -> None:
    """Write a file that must not be there; where the system can do that, it has no name until it is complete.

    :raises OSError: it cannot be written.
    """
    folder, name = os.path.split(path)
    with closing_fd(os.open(folder or ".", _HOLD)) as directory:
        descriptor = _nameless(directory, mode)
        if descriptor >= 0:
            with closing_fd(descriptor):
                _fill(descriptor, content, sync=sync)
                try:
                    _link(descriptor, name, directory)
                except OSError as error:
                    if error.errno not in _NO_LINKS:
                        raise
                else:
                    return
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with closing_fd(os.open(name, flags, mode, dir_fd=directory)) as descriptor:
            _fill(descriptor, content, sync=sync)


def _nameless(folder: int, mode: int) -> int:
    """Return a descriptor of a new file without a name; -1 where there is no such thing: not Linux, or NFS."""
    if not _has_descriptor_names():
        return -1
    try:
        return os.open(".", os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, mode, dir_fd=folder)
    except IsADirectoryError:  # before Linux 3.11
        return -1
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            raise
        return -1


class closing_fd:
    """Close a descriptor at the end of the block."""

    __slots__ = ("_descriptor",)

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __enter__(self) -> int:
        return self._descriptor

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


def _fill(descriptor: int, content: bytes, *, sync: bool) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
    if sync:
        os.fsync(descriptor)


NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})
"""Error numbers of file systems without locks: Lustre as it is often mounted, for example."""


def lock(descriptor: int) -> bool:
    """Lock an open file (flock); false when somebody else has. Where there are no locks, everybody is told true.

    :raises OSError: it cannot be locked for another reason.
    """
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    return True


def read_json(path: str, *, follow: bool = False) -> JSON:
    """Return what a JSON file says; None when there is none, or it is no JSON, or something else than a file.

    Documents of others name files to be read, and a pipe would be waited for, a device read for ever.

    :param follow: go where a link in its place, or in its directory's, leads.
    :raises StateError: it is there and cannot be read.
    """
    import json

    try:
        with closing_fd(open_to_read(path, follow=follow)) as descriptor, open(descriptor, "rb", closefd=False) as file:
            return json.loads(file.read())
    except (FileNotFoundError, NotADirectoryError, NotAFile):
        return None
    except OSError as error:
        raise StateError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError):
        return None


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
