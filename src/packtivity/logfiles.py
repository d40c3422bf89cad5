"""Log files of a task, written without :mod:`logging`, whose import costs a short command more than the task does.

They are ``{metadir}/{name}.{topic}.log``, appended to over runs. Topics are ``step`` (what packtivity does), ``pull``
and ``run`` (the task's own output). Values of environment variables are never logged.

A line reads ``time | logger | level | message`` (:data:`LOGFORMAT`), as upstream 0.17.1 writes it. Each record is one
write to a file opened for appending, so that tasks that share a file do not tear each other's lines.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from packtivity.errors import StateError
from packtivity.files import open_file, open_folder, open_sink
from packtivity.printable import escaped

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Protocol

    class RunLog(Protocol):
        """Where a task's output goes: bytes of any kind, in pieces of any size."""

        path: str | None

        def write(self, chunk: bytes) -> None:
            """Take the next bytes."""

        def note(self, message: str) -> None:
            """Add a line of packtivity's own."""


LOGFORMAT = "%(asctime)s | %(name)20.20s | %(levelname)6s | %(message)s"
LEVELS = {"CRITICAL": 50, "FATAL": 50, "ERROR": 40, "WARNING": 30, "WARN": 30, "INFO": 20, "DEBUG": 10, "NOTSET": 0}
"""The levels that :mod:`logging` knows from the start."""

_NOTHING = 1 << 10
DEFAULT_NAME = "packtivity"
_LONGEST_NAME = 160
_SINKS = frozenset({"/dev/null", "/dev/full"})


def safe_name(metadata: Mapping[str, Any] | None) -> str:
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


def get_base_loggername(metadata: Mapping[str, Any] | None) -> str:
    """Return ``pack.NAME``."""
    return f"pack.{safe_name(metadata)}"


def get_topic_loggername(metadata: Mapping[str, Any] | None, topic: str) -> str:
    """Return ``pack.NAME.TOPIC``."""
    return f"pack.{safe_name(metadata)}.{topic}"


def log_path(metadata: Mapping[str, Any] | None, state: Any, topic: str) -> str | None:
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

    A link to another file or directory is not followed, and nothing else than a file is opened: an earlier task may have
    put it there, and has no business with what it leads to. What swallows everything is an exception.

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
                return open_sink(os.path.realpath(path), flags)
            return open_file(name, flags, directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise StateError(f"log file {path} cannot be opened: {error.strerror}") from error


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


def _line(name: str, level: str, message: str) -> str:
    now = time.time()
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now))
    fields = {"asctime": f"{stamp},{int(now % 1 * 1000):03d}", "name": name, "levelname": level}
    return LOGFORMAT % {**fields, "message": message}


class StepLog:
    """What the step log takes of a :class:`logging.Logger`, for when nobody else listens.

    :param name: name of the logger that stands in each line.
    :param path: absolute path of the file, appended to; None for no file.
    :param threshold: level from which lines also go to standard error.
    """

    def __init__(self, name: str, path: str | None, threshold: int = _NOTHING) -> None:
        self._name = name
        self._path = path
        self._threshold = threshold
        self._descriptor = -1 if path is None else open_log(path)
        if path is not None:
            self.info("starting file logging for topic: %s", "step")

    def debug(self, message: str, *args: object) -> None:
        """Write what only somebody who looks for a fault wants to know."""
        self._write("DEBUG", message, args)

    def info(self, message: str, *args: object) -> None:
        """Write what is being done."""
        self._write("INFO", message, args)

    def warning(self, message: str, *args: object) -> None:
        """Write what may be wrong."""
        self._write("WARNING", message, args)

    def error(self, message: str, *args: object, exc_info: BaseException | None = None) -> None:
        """Write what went wrong, and where when an error is given."""
        if exc_info is not None:
            from traceback import format_exception

            message, args = (message % args if args else message), ()
            message = f"{message}\n{''.join(format_exception(exc_info))}".rstrip("\n")
        self._write("ERROR", message, args)

    def _write(self, level: str, message: str, args: tuple[object, ...]) -> None:
        to_stream = LEVELS[level] >= self._threshold
        if self._descriptor < 0 and not to_stream:
            return
        line = _line(self._name, level, message % args if args else message) + "\n"
        if to_stream and sys.stderr is not None:
            with suppress(OSError, ValueError):  # nobody reads standard error any more; the file has the line
                sys.stderr.write(escaped(line))
                sys.stderr.flush()
        if self._descriptor >= 0:
            write_log(self._descriptor, line.encode("utf-8", "backslashreplace"), str(self._path))

    def close(self) -> None:
        """Close the file; may be called again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class RunLogFile:
    """Puts the prefix of a log line before each line of output; a line may have any length.

    :param path: absolute path of the file, appended to.
    :param name: name of the logger that stands in each line.
    """

    def __init__(self, path: str, name: str) -> None:
        self.path: str | None = path
        self._name = name
        self._descriptor = open_log(path)
        self._line_open = False

    def _prefix(self, level: str = "INFO") -> bytes:
        return _line(self._name, level, "").encode("utf-8", "backslashreplace")

    def write(self, chunk: bytes) -> None:
        """Write the next bytes of output.

        :raises StateError: the file cannot be written.
        """
        prefix = self._prefix()
        lines = chunk.replace(b"\n", b"\n" + prefix)
        if not self._line_open:
            lines = prefix + lines
        self._line_open = not chunk.endswith(b"\n")
        self._put(lines if self._line_open else lines[: -len(prefix)])

    def note(self, message: str) -> None:
        """Write a line of packtivity's own, on a line of its own."""
        self._finish_line()
        self._put(self._prefix("WARNING") + message.encode("utf-8", "backslashreplace") + b"\n")

    def _finish_line(self) -> None:
        if self._line_open:
            self._line_open = False
            self._put(b"\n")

    def _put(self, content: bytes) -> None:
        write_log(self._descriptor, content, str(self.path))

    def close(self) -> None:
        """End the last line, because other runs are appended, and close the file."""
        if self._descriptor >= 0:
            try:
                self._finish_line()
            finally:
                os.close(self._descriptor)
                self._descriptor = -1
