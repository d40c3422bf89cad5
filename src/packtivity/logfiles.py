"""Log files of a task: their names, and how they are opened and written.

They are ``{metadir}/{name}.{topic}.log``, appended to over runs. Topics are ``step`` (what packtivity does), ``pull``
and ``run`` (the task's own output). Values of environment variables are never logged.

A line reads ``time | logger | level | message`` (:data:`LOGFORMAT`), as upstream 0.17.1 writes it. Each record is one
write to a file opened for appending, so that tasks that share a file do not tear each other's lines.
"""

from __future__ import annotations

import errno
import os
from stat import S_ISCHR
from typing import TYPE_CHECKING

from packtivity.errors import StateError
from packtivity.files import NotAFile, open_file, open_folder

if TYPE_CHECKING:
    from packtivity.types import Metadata, State

LOGFORMAT = "%(asctime)s | %(name)20.20s | %(levelname)6s | %(message)s"
DEFAULT_NAME = "packtivity"
_LONGEST_NAME = 160
_SINKS = frozenset({"/dev/null", "/dev/full"})


def safe_name(metadata: Metadata | None) -> str:
    """Return a task's name such that it can be part of a file name and of a log line."""
    name = str((metadata or {}).get("name") or DEFAULT_NAME)
    if name.isalnum() or name.replace("_", "").replace("-", "").isalnum():
        safe = name
    else:
        safe = "".join(c if c.isprintable() and c not in "/\\" else "_" for c in name)
    if len(os.fsencode(safe)) > _LONGEST_NAME:
        import hashlib

        digest = hashlib.sha256(os.fsencode(safe)).hexdigest()[:12]
        safe = os.fsencode(safe)[: _LONGEST_NAME - 13].decode("utf-8", "ignore") + "-" + digest
    return safe


def get_base_loggername(metadata: Metadata | None) -> str:
    """Return ``pack.NAME``."""
    return f"pack.{safe_name(metadata)}"


def get_topic_loggername(metadata: Metadata | None, topic: str) -> str:
    """Return ``pack.NAME.TOPIC``."""
    return f"pack.{safe_name(metadata)}.{topic}"


def log_path(metadata: Metadata | None, state: State | None, topic: str) -> str | None:
    """Return the absolute path of a log file; None for a state that has no place for one."""
    metadir = state.metadir if state else None
    return f"{metadir}/{safe_name(metadata)}.{topic}.log" if metadir else None


def mkdir_p(path: str) -> None:
    """Make a directory and those above it; one that exists is fine.

    :raises StateError: it cannot be made, or something else is in its place.
    """
    if os.path.isdir(path):
        return
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise StateError(f"directory {path} cannot be made: {error.strerror}") from error


def open_log(path: str) -> int:
    """Return a descriptor that appends to a file; the directory is made when it is missing.

    A link to another file or directory is not followed, and nothing but a file is opened: an earlier task may have put it
    there to get at the target. Links to :data:`_SINKS` are the exception.

    :raises StateError: the file cannot be opened.
    """
    folder, name = os.path.split(path)
    flags = os.O_WRONLY | os.O_APPEND
    try:
        directory = open_folder(folder)
        try:
            return os.open(name, flags | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666, dir_fd=directory)
        except FileExistsError:
            if os.path.islink(path) and os.path.realpath(path) in _SINKS:
                return _open_sink(os.path.realpath(path), flags)
            return open_file(name, flags, directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise StateError(f"log file {path} cannot be opened: {error.strerror}") from error


def _open_sink(path: str, flags: int) -> int:
    """Open a device, such as ``/dev/null``, and nothing that has taken its place."""
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not S_ISCHR(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotAFile(errno.EINVAL, "it is not a device")
    os.set_blocking(descriptor, True)
    return descriptor


def write_log(descriptor: int, content: bytes, path: str) -> None:
    """Append to a file.

    :raises StateError: the file cannot be written, because the disk is full for example.
    """
    try:
        written = os.write(descriptor, content)
        while written < len(content):
            written += os.write(descriptor, memoryview(content)[written:])
    except OSError as error:
        raise StateError(
            f"log file {path} cannot be written: {error.strerror}", hint="Is the disk full, or a quota used up?"
        ) from error
