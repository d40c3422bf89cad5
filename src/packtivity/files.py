"""Opens, reads and writes files: without following links, nothing else that has their names, and as a whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import time
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cache, partial
from itertools import count
from stat import S_ISLNK, S_ISREG
from typing import TYPE_CHECKING

from packtivity.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from packtivity.types import JSON

HOLD = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC

NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})
"""Error numbers of file systems without locks: Lustre as it is often mounted, for example."""
_NO_LINKS = frozenset({errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EOPNOTSUPP, errno.EXDEV, errno.EMLINK})
"""Error numbers of systems and sandboxes that allow no hard links."""

_ATTEMPTS = 99
"""How often a file is given its name, while another program keeps taking it away, before that is an error."""

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC

_counted = count()


def is_id(text: object) -> bool:
    """Return whether a text can be the id of a task; it becomes part of file names."""
    return isinstance(text, str) and re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text) is not None


class NotAFile(OSError):
    """A link, pipe, device or directory in place of a file."""


class closing_fd:
    """Close a descriptor at the end of the block."""

    __slots__ = ("_descriptor",)

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __enter__(self) -> int:
        return self._descriptor

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


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

    Where the system cannot do that, what takes the file's place after a look at it is closed again.

    :param folder: descriptor of the directory that ``name`` is relative to.
    :raises NotAFile: something else has that name.
    :raises OSError: it cannot be opened.
    """
    flags |= os.O_CLOEXEC
    if has_descriptor_names():
        with closing_fd(os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)) as place:
            _check_is_file(os.fstat(place))
            return os.open(f"/proc/self/fd/{place}", flags)
    _check_is_file(os.stat(name, dir_fd=folder, follow_symlinks=False))
    descriptor = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
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


def read_whole(path: str, *, follow: bool = False) -> bytes | None:
    """Return what is in a file; None when there is none, or something else than a file.

    Documents of others name files to be read, and a pipe would be waited for, a device read for ever.

    :param follow: go where a link in its place, or in its directory's, leads.
    :raises StateError: it is there and cannot be read.
    """
    try:
        with open(open_to_read(path, follow=follow), "rb") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError, NotAFile):
        return None
    except OSError as error:
        raise StateError.of(error, f"{path} cannot be read: {error.strerror}") from error


def read_json(path: str, *, follow: bool = False) -> JSON:
    """Return what a JSON file says; None when there is none, or it is no JSON; see :func:`read_whole`."""
    content = read_whole(path, follow=follow)
    return None if content is None else parsed(content)


def parsed(content: bytes) -> JSON:
    """Return what a JSON text says; None when it is none."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


class Stays(FileExistsError):
    """What has the name of a file that was to be written is as good, and stays."""


def unwritable(path: str, error: OSError) -> StateError:
    """Return the error to raise when a file cannot be written."""
    return StateError.of(error, f"{path} cannot be written: {error.strerror}", hint=remedy(error))


def remedy(error: OSError) -> str:
    """Return what to do about a file that cannot be opened or written."""
    if isinstance(error, (NotADirectoryError, NotAFile)):
        return "A task may have put that there, so nothing is written through it: remove it, or take another directory."
    return "Is the disk full, or the directory read-only?"


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


def write_json(path: str, document: JSON, *, mode: int = 0o666) -> None:
    """Write a JSON file; see :func:`write_whole`."""
    write_whole(path, json.dumps(document, separators=(",", ":")).encode("utf-8"), mode=mode)


def write_whole(
    path: str, content: bytes, *, sync: bool = False, mode: int = 0o666, stays: Callable[[], bool] | None = None
) -> None:
    """Write a file at once; an older one stays until the new one is complete. The directory is made when missing.

    Links are not followed: neither one in the file's place, which is replaced, nor one in the directory's.

    :param sync: force it to disk before it gets its name.
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
    :param stays: asked whether what has the first name is to keep it; of several who try, one gets that name.
    :raises Stays: it has said so.
    :raises OSError: it cannot be written, or another program keeps putting something else in its place.
    """
    make = partial(_complete, folder, content, sync, mode)
    for _ in range(_ATTEMPTS):
        try:
            with make() as (descriptor, source):
                is_first = stays is None or _is_first(source, names[0], folder, stays)
                others = names if stays is None else names[1:]
                if is_first and all(give_name(descriptor, name, folder, source) for name in others):
                    return
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            # That one alone is the first is what the lock of the task is for then.
            if stays is not None and os.access(names[0], os.F_OK, dir_fd=folder, follow_symlinks=False) and stays():
                raise Stays(errno.EEXIST, "it is there already") from None
            if all(_is_written_by_name(make, name, folder) for name in names):
                return
    raise FileExistsError(errno.EEXIST, "another program keeps putting something else in its place")


def put(path: str, content: bytes, *, sync: bool = False, mode: int = 0o666) -> None:
    """Write a file that must not be there; where the system can do that, it has no name until it is complete.

    :raises FileExistsError: it is.
    :raises OSError: it cannot be written.
    """
    folder, name = os.path.split(path)
    with closing_fd(os.open(folder or ".", HOLD)) as directory:
        write_at(directory, (name,), content, sync=sync, mode=mode, stays=lambda: True)


@contextmanager
def _complete(folder: int, content: bytes, sync: bool, mode: int, *, named: bool = False) -> Iterator[tuple[int, str]]:
    """Make a new file and give its descriptor and a path to link it from: it has no name where the system can do that.

    :param named: give it one, which goes as the block ends.
    """
    descriptor = -1 if named else _nameless(folder, mode)
    source = f"/proc/self/fd/{descriptor}"
    if descriptor < 0:
        source = _beside("new")
        descriptor = os.open(source, _NEW, mode, dir_fd=folder)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        if sync:
            os.fsync(descriptor)
        yield descriptor, source
    finally:
        os.close(descriptor)
        if not os.path.isabs(source):
            with suppress(OSError):
                os.unlink(source, dir_fd=folder)


def _nameless(folder: int, mode: int) -> int:
    """Return a descriptor of a new file without a name; -1 where there is no such thing: not Linux, or NFS."""
    if not has_descriptor_names():
        return -1
    try:
        return os.open(".", os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, mode, dir_fd=folder)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.EISDIR):
            raise
        return -1


def is_named(descriptor: int, name: str, folder: int) -> bool:
    """Return whether a name in a directory is that of an open file."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(name, dir_fd=folder, follow_symlinks=False))
    except FileNotFoundError:
        return False


def give_name(descriptor: int, name: str, folder: int, source: str = "") -> bool:
    """Give an open file a name in a directory, which what has it before loses; false when something else got it.

    :param source: a name that the file has in the directory already, where it cannot be had by its descriptor.
    :raises OSError: it cannot be done.
    """
    temporary = _beside(name)
    os.link(source or f"/proc/self/fd/{descriptor}", temporary, src_dir_fd=folder, dst_dir_fd=folder)
    return _has_taken_place(descriptor, temporary, name, folder)


def _has_taken_place(descriptor: int, temporary: str, name: str, folder: int) -> bool:
    """Rename a file; false when something else has the name then."""
    try:
        os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        raise
    return is_named(descriptor, name, folder)


def _is_first(source: str, name: str, folder: int, stays: Callable[[], bool]) -> bool:
    """Give a file a name; if there is one of that name, and it does not stay, take that away and return false."""
    try:
        os.link(source, name, src_dir_fd=folder, dst_dir_fd=folder)
    except FileExistsError:
        if stays():
            raise Stays(errno.EEXIST, "it is there already") from None
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)
        return False
    return True


def _is_written_by_name(make: Callable[..., AbstractContextManager[tuple[int, str]]], name: str, folder: int) -> bool:
    """Write a file where there are no hard links; false when something else has the name then."""
    with make(named=True) as (descriptor, temporary):
        return _has_taken_place(descriptor, temporary, name, folder)


def lock(descriptor: int) -> bool:
    """Lock an open file (flock); false when somebody else has. Where there are no locks, everybody is told true."""
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
