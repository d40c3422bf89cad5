"""Writes files so that they are there as a whole or not at all, and reads what was written so; knows what can be in a name."""

from __future__ import annotations

import errno
import os
import time
from contextlib import contextmanager, suppress
from stat import S_ISREG
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


def write_json(path: str, document: JSON, *, sync: bool = False) -> None:
    """Write a JSON file; see :func:`write_whole`."""
    import json

    write_whole(path, json.dumps(document, separators=(",", ":")).encode("utf-8"), sync=sync)


def write_whole(path: str, content: bytes, *, sync: bool = False) -> None:
    """Write a file at once; an older one stays until the new one is complete. The directory is made when missing.

    :param sync: force it to disk before it gets its name. Without it there is a moment, too short for anybody but
        another program at the same place, in which there is neither the old nor the new one.
    :raises StateError: it cannot be written.
    """
    temporary = _beside(path)
    try:
        try:
            put(temporary, content, sync=sync)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            put(temporary, content, sync=sync)
        rename(temporary, path, sync=sync)
    except OSError as error:
        with suppress(OSError):
            os.unlink(temporary)
        raise StateError(
            f"{path} cannot be written: {error.strerror}", hint="Is the disk full, or the directory read-only?"
        ) from error


@contextmanager
def replacing(path: str) -> Iterator[str]:
    """Give the name of a file to write, which takes the place of another one as the block ends, or goes if it fails.

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
    return f"{path}.{os.getpid():x}{time.monotonic_ns():x}.tmp"


def rename(temporary: str, path: str, *, sync: bool) -> None:
    """Give a file that is complete its name; see :func:`write_whole`.

    :raises OSError: it cannot be done.
    """
    if not sync:
        # ext4 forces a file to disk that is renamed over another one, which takes longer than all the rest.
        with suppress(FileNotFoundError):
            os.unlink(path)
    os.replace(temporary, path)


def name_also(path: str, second: str, content: bytes, *, sync: bool) -> None:
    """Give a file a second name, as :func:`write_whole` would.

    :param content: what is in it, for file systems without hard links.
    :raises StateError: it cannot be done.
    """
    link = _beside(second) if sync else second
    try:
        if not sync:
            with suppress(FileNotFoundError):
                os.unlink(second)
        os.link(path, link)
        if sync:
            os.replace(link, second)
    except OSError:
        write_whole(second, content, sync=sync)


def put(path: str, content: bytes, *, sync: bool = False) -> None:
    """Write a file that must not be there; where the system can do that, it has no name until it is complete.

    :raises OSError: it cannot be written.
    """
    try:
        descriptor = os.open(os.path.dirname(path) or ".", os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, 0o666)
    except (AttributeError, IsADirectoryError):  # not Linux; before 3.11
        _put_by_name(path, content, sync=sync)
        return
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            raise
        _put_by_name(path, content, sync=sync)
        return
    with _closing(descriptor):
        _fill(descriptor, content, sync=sync)
        try:
            os.link(f"/proc/self/fd/{descriptor}", path, src_dir_fd=descriptor)
        except FileNotFoundError:  # no /proc
            _put_by_name(path, content, sync=sync)


def _put_by_name(path: str, content: bytes, *, sync: bool) -> None:
    with _closing(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)) as descriptor:
        _fill(descriptor, content, sync=sync)


@contextmanager
def _closing(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _fill(descriptor: int, content: bytes, *, sync: bool) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
    if sync:
        os.fsync(descriptor)


NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})
"""What file systems answer that have no locks: Lustre as it is often mounted, for example."""


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


def read_json(path: str) -> JSON:
    """Return what a JSON file says; None when there is none, or it is no JSON, or something else than a file.

    Documents of others name files to be read, and a pipe would be waited for, a device read for ever.

    :raises StateError: it is there and cannot be read.
    """
    import json

    try:
        with _closing(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)) as descriptor:
            if not S_ISREG(os.fstat(descriptor).st_mode):
                return None
            with open(descriptor, "rb", closefd=False) as file:
                return json.loads(file.read())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StateError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError):
        return None
