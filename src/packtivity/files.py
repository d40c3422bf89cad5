"""Writes files as a whole or not at all; nothing is written through a link. Opening is in :mod:`packtivity.opening`."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from contextlib import contextmanager, suppress
from itertools import count
from typing import TYPE_CHECKING, Any

from packtivity import opening
from packtivity.errors import StateError
from packtivity.opening import (
    HOLD,
    NotAFile,
    closing_fd,
    is_file,
    open_file,
    open_folder,
    open_sink,
    open_to_read,
    parsed,
    read_json,
    read_whole,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from packtivity.types import JSON

__all__ = [
    "NO_LOCKS",
    "NotAFile",
    "Stays",
    "closing_fd",
    "give_name",
    "is_file",
    "is_id",
    "is_named",
    "lock",
    "open_file",
    "open_folder",
    "open_sink",
    "open_to_read",
    "parsed",
    "put",
    "read_json",
    "read_whole",
    "replacing",
    "try_lock",
    "unwritable",
    "write_at",
    "write_json",
    "write_whole",
]


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


def write_whole(
    path: str, content: bytes, *, sync: bool = False, mode: int = 0o666, stays: Callable[[], bool] | None = None
) -> None:
    """Write a file at once; an older one stays until the new one is complete. The directory is made when missing.

    Links are not followed: neither one in the file's place, which is replaced, nor one in the directory's.

    :param sync: force it to disk before it gets its name. Without it there is a moment, too short for anybody but
        another program at the same place, in which there is neither the old nor the new one.
    :param stays: asked whether one that is there is to stay, and then nothing is written.
    :raises StateError: it cannot be written.
    """
    folder, name = os.path.split(path)
    try:
        with closing_fd(open_folder(folder or ".")) as directory:
            write_at(directory, (name,), content, sync=sync, mode=mode, stays=stays)
    except Stays:
        return
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

_NO_LINKS = frozenset({errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EOPNOTSUPP, errno.EXDEV, errno.EMLINK})
"""Error numbers of systems and sandboxes that allow no hard links."""


_ATTEMPTS = 99
"""How often a file is given its name, while another program keeps taking it away, before that is an error."""


def is_named(descriptor: int, name: str, folder: int) -> bool:
    """Return whether a name in a directory is that of an open file."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(name, dir_fd=folder, follow_symlinks=False))
    except FileNotFoundError:
        return False


_NOREPLACE = 1


class Stays(FileExistsError):
    """What has the name of a file that was to be written is as good, and stays."""


def write_at(
    folder: int,
    names: tuple[str, ...],
    content: bytes,
    *,
    sync: bool = False,
    mode: int = 0o666,
    stays: Callable[[], bool] | None = None,
) -> None:
    """Write a new file and give it names in a directory; what had one of them before loses it.

    :param folder: descriptor of the directory.
    :param stays: asked whether what has the first name is to keep it.
    :raises Stays: it has said so.
    :raises OSError: it cannot be written, or another program keeps putting something else in its place.
    """
    for _ in range(_ATTEMPTS):
        if _is_written(folder, names, content, sync, mode, stays):
            return
    raise FileExistsError(errno.EEXIST, "another program keeps putting something else in its place")


def _is_written(
    folder: int, names: tuple[str, ...], content: bytes, sync: bool, mode: int, stays: Callable[[], bool] | None
) -> bool:
    """Do it once; false when somebody else was faster."""
    descriptor = _nameless(folder, mode)
    if descriptor >= 0:
        with closing_fd(descriptor):
            _fill(descriptor, content, sync=sync)
            others = names
            try:
                if stays is not None:
                    _be_first(descriptor, names[0], folder, stays)
                    others = names[1:]
                return all(give_name(descriptor, name, folder, sync=sync) for name in others)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
    if stays is not None:
        _be_first_by_name(folder, names[0], content, mode, stays)
        names = names[1:]
    return all(_is_written_by_name(folder, name, content, sync, mode) for name in names)


def _be_first(descriptor: int, name: str, folder: int, stays: Callable[[], bool]) -> None:
    """Give an open file a name, which what has it already loses unless that stays: of several who try, one does it."""
    for _ in range(_ATTEMPTS):
        try:
            return _link(descriptor, name, folder)
        except FileExistsError:
            if stays():
                raise Stays(errno.EEXIST, "somebody has been faster") from None
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)
    raise FileExistsError(errno.EEXIST, "another program keeps putting something else in its place")


def _be_first_by_name(folder: int, name: str, content: bytes, mode: int, stays: Callable[[], bool]) -> None:
    """Do the same where there are no hard links."""
    temporary = _beside(name)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with closing_fd(os.open(temporary, flags, mode, dir_fd=folder)) as descriptor:
        _fill(descriptor, content, sync=True)
    try:
        for _ in range(_ATTEMPTS):
            if _renamed_to_new(temporary, name, folder):
                return
            if stays():
                raise Stays(errno.EEXIST, "somebody has been faster")
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=folder)
        raise FileExistsError(errno.EEXIST, "another program keeps putting something else in its place")
    except OSError:
        os.unlink(temporary, dir_fd=folder)
        raise


def _renamed_to_new(old: str, new: str, folder: int) -> bool:
    """Rename a file; false when there is one of the new name, where the system can see to that: renameat2(2)."""
    import ctypes  # which takes longer to import than a short task runs, and few need it

    system = ctypes.CDLL(None, use_errno=True)
    rename = getattr(system, "renameat2", None)
    if rename is not None and rename(folder, os.fsencode(old), folder, os.fsencode(new), _NOREPLACE) == 0:
        return True
    if rename is not None and ctypes.get_errno() == errno.EEXIST:
        return False
    if os.access(new, os.F_OK, dir_fd=folder, follow_symlinks=False):  # what the lock of the task has to do then
        return False
    os.rename(old, new, src_dir_fd=folder, dst_dir_fd=folder)
    return True


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
    with closing_fd(os.open(folder or ".", HOLD)) as directory:
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
    if not opening.has_descriptor_names():
        return -1
    try:
        return os.open(".", os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, mode, dir_fd=folder)
    except IsADirectoryError:  # before Linux 3.11
        return -1
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            raise
        return -1


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
    return try_lock(descriptor, fcntl.LOCK_EX) is not False


def try_lock(descriptor: int, how: int) -> bool | None:
    """Lock an open file; false when somebody else has, None where there are no locks.

    :param how: ``LOCK_EX`` or ``LOCK_SH``.
    :raises OSError: it cannot be locked for another reason.
    """
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return None
    return True
