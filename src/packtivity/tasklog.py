"""The logs that a task writes while it runs: files, and loggers of :mod:`logging`.

The files are ``{metadir}/{name}.{topic}.log``, appended to over runs. Topics are ``step`` (what packtivity does), ``pull``
and ``run`` (the task's own output). Values of environment variables are never logged.

A line reads ``time | logger | level | message`` (:data:`LOGFORMAT`), as upstream 0.17.1 writes it. Each record is one
write to a file opened for appending, so that tasks that share a file do not tear each other's lines.

The loggers are called ``pack.NAME.TOPIC`` as in upstream 0.17.1, yet each task has its own: tasks of the same name in
several threads neither mix nor lose each other's lines.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, TextIO

from packtivity.errors import ConfigurationError, PacktivityError, StateError
from packtivity.files import open_file, open_folder, remedy
from packtivity.printable import escaped
from packtivity.registry import load_object

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from packtivity.types import LogConfig, Metadata, RunLog, State

LOGFORMAT = "%(asctime)s | %(name)20.20s | %(levelname)6s | %(message)s"
DEFAULT_NAME = "packtivity"
_LONGEST_NAME = 160
_SINKS = frozenset({"/dev/null", "/dev/full"})
BEGINNING = "starting file logging for topic: "
formatter = logging.Formatter(LOGFORMAT)
_LONGEST_LINE = 1 << 16


def safe_name(metadata: Metadata | None) -> str:
    """Return a task's name such that it can be part of a file name and of a log line."""
    name = str((metadata or {}).get("name") or DEFAULT_NAME)
    safe = "".join(c if c.isprintable() and c not in "/\\" else "_" for c in name)
    content = os.fsencode(safe)
    if len(content) <= _LONGEST_NAME:
        return safe
    digest = hashlib.sha256(content).hexdigest()[:12]
    return content[: _LONGEST_NAME - 13].decode("utf-8", "ignore") + "-" + digest


def get_base_loggername(metadata: Metadata | None) -> str:
    """Return ``pack.NAME``."""
    return f"pack.{safe_name(metadata)}"


def get_topic_loggername(metadata: Metadata | None, topic: str) -> str:
    """Return ``pack.NAME.TOPIC``."""
    return f"{get_base_loggername(metadata)}.{topic}"


def log_path(metadata: Metadata | None, state: State | None, topic: str) -> str | None:
    """Return the absolute path of a log file; None for a state that has no place for one."""
    metadir = state.metadir if state else None
    return f"{metadir}/{safe_name(metadata)}.{topic}.log" if metadir else None


class ShownFormatter(logging.Formatter):
    """A formatter for a stream that a person may watch: what a document has put into a message is escaped."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of a record."""
        return escaped(super().format(record))


_active: ContextVar[Mapping[tuple[str, str | None], logging.Logger]] = ContextVar("active", default={})  # noqa: B039


class LogFile(logging.Handler):
    """Appends records to a file, each with one write; unlike :class:`logging.FileHandler` it fails aloud.

    :ivar is_new: whether there was nothing in it when it was opened.
    :raises StateError: the file cannot be opened.
    """

    def __init__(self, path: str) -> None:
        super().__init__(logging.DEBUG)
        self.baseFilename = path
        self.setFormatter(formatter)
        try:
            self._descriptor = _open(path)
        except OSError as error:
            message = f"log file {path} cannot be opened: {error.strerror}"
            raise StateError.of(error, message, hint=remedy(error)) from error
        self.is_new = not os.fstat(self._descriptor).st_size

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record; see :meth:`append`."""
        self.append((self.format(record) + "\n").encode("utf-8", "backslashreplace"))

    def append(self, content: bytes) -> None:
        """Write at the end.

        :raises StateError: the file cannot be written, because the disk is full for example.
        """
        try:
            while content:
                content = content[os.write(self._descriptor, content) :]
        except OSError as error:
            message = f"log file {self.baseFilename} cannot be written: {error.strerror}"
            raise StateError.of(error, message, hint="Is the disk full, or a quota used up?") from error

    def close(self) -> None:
        """Close the file; may be called again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        super().close()


def _open(path: str) -> int:
    """Return a descriptor that appends to a file; the directory is made when it is missing.

    A link to another file or directory is not followed, and nothing but a file is opened: an earlier task may have put it
    there to get at the target. Links to :data:`_SINKS` are the exception.
    """
    (folder, name), flags = os.path.split(path), os.O_WRONLY | os.O_APPEND
    directory = open_folder(folder)
    try:
        return os.open(name, flags | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666, dir_fd=directory)
    except FileExistsError:
        target = os.path.realpath(path) if os.path.islink(path) else ""
        if target in _SINKS:
            return os.open(target, flags | os.O_NOFOLLOW | os.O_CLOEXEC)
        return open_file(name, flags, directory)
    finally:
        os.close(directory)


class _StandardError(logging.StreamHandler[TextIO]):
    """Standard error; nothing happens when it is closed, because the file has the line."""

    def flush(self) -> None:
        """Flush what can be flushed."""
        with suppress(OSError, ValueError):
            super().flush()

    def handleError(self, record: logging.LogRecord) -> None:
        """Do nothing."""


def default_logging_handlers(
    exec_config: LogConfig, log: logging.Logger, metadata: Metadata | None, state: State | None, topic: str
) -> None:
    """Add the default handlers: standard error for steps, and the file.

    :raises ConfigurationError: :mod:`logging` does not know the level for standard error.
    :raises StateError: the log file cannot be opened.
    """
    if topic == "step":
        stream = _StandardError()
        stream.setLevel(_level(exec_config.stream_loglevel()))
        stream.setFormatter(ShownFormatter(LOGFORMAT))
        log.addHandler(stream)
    path = log_path(metadata, state, topic)
    if path is not None:
        log.addHandler(LogFile(path))
        log.info("%s", _beginning(topic))


def _beginning(topic: str) -> str:
    """Return the first line of a log, with what tells how the times in it, which are those of this machine, differ from UTC."""
    offset = time.strftime("%z")
    return f"{BEGINNING}{topic} (times are UTC{offset[:3]}:{offset[3:]})"


def _level(name: str) -> int:
    known = logging.getLevelNamesMapping()
    try:
        return int(name) if name.isdecimal() else known[name.upper()]
    except KeyError:
        raise ConfigurationError(
            f"PACKTIVITY_LOGGING_STREAM_LEVEL: {name!r} is no logging level", hint=f"There are: {', '.join(known)}."
        ) from None


class _TaskLogger(logging.Logger):
    """A logger of its own, where ``getLogger`` would give every task of that name the same one."""

    def __init__(self, name: str) -> None:
        super().__init__(name, logging.DEBUG)
        self.propagate = False

    def callHandlers(self, record: logging.LogRecord) -> None:
        """Pass a record to our handlers, and to those of the logger registered under this name."""
        before = namesake(self.name)
        for handler in (*self.handlers, *(before.handlers if before else ())):
            if record.levelno >= handler.level:
                handler.handle(record)


@contextmanager
def setup_logging_topic(
    exec_config: LogConfig,
    metadata: Metadata | None,
    state: State | None,
    topic: str,
    return_logger: bool = False,
) -> Iterator[logging.Logger | None]:
    """Give the logger of a topic for as long as the block lasts; inside such a block, the same one again.

    Handlers of the registered logger ``pack.NAME.TOPIC`` get the lines as well, and stay.

    :param return_logger: give None when false, as in upstream 0.17.1.
    :raises ConfigurationError: the custom handler or the level cannot be used.
    :raises StateError: a log file cannot be opened.
    """
    with step_log(exec_config, metadata, state, topic) as log:
        yield log if return_logger else None


@contextmanager
def step_log(
    exec_config: LogConfig, metadata: Metadata | None, state: State | None, topic: str = "step"
) -> Iterator[logging.Logger]:
    """Give the step log of a task, or that of another topic, as :func:`setup_logging_topic` does."""
    key = (get_topic_loggername(metadata, topic), state.metadir if state else None)
    active = _active.get()
    if key in active:
        yield active[key]
        return
    log = _TaskLogger(key[0])
    token = _active.set({**active, key: log})
    try:
        if exec_config.disable_logging():
            log.disabled = True
        elif custom := exec_config.custom_logging_handler():
            _add_custom_handlers(custom, log, metadata, state, topic)
        else:
            default_logging_handlers(exec_config, log, metadata, state, topic)
        yield log
    finally:
        _active.reset(token)
        for handler in log.handlers[:]:
            log.removeHandler(handler)
            handler.close()


def namesake(name: str) -> logging.Logger | None:
    """Return the logger registered under a name, if it has handlers."""
    registered = logging.Logger.manager.loggerDict.get(name)
    return registered if isinstance(registered, logging.Logger) and registered.handlers else None


def _add_custom_handlers(
    custom: str, log: logging.Logger, metadata: Metadata | None, state: State | None, topic: str
) -> None:
    purpose = "PACKTIVITY_LOGGING_HANDLER"
    function = load_object(custom, purpose=purpose)
    try:
        function(log, metadata, state, topic)
    except PacktivityError:
        raise
    except Exception as error:  # somebody else's function may raise anything
        raise ConfigurationError(
            f"{purpose}: {custom} failed for the topic {topic}: {type(error).__name__}: {error}",
            hint="It is called with (log, metadata, state, topic) and adds handlers to log.",
        ) from error


def log_failure(log: logging.Logger, error: BaseException) -> None:
    """Write to the step log what went wrong; when that cannot be written either, ``error`` stays what is raised."""
    name = type(error).__name__
    try:
        if isinstance(error, PacktivityError):
            log.error("%s: %s", name, error)
        elif isinstance(error, Exception):
            log.error("the task raised an error", exc_info=error)
        else:
            log.error("interrupted: %s", name)
    except Exception as second:  # noqa: BLE001 - a log handler of somebody else's may raise anything
        error.add_note(f"{type(second).__name__}: {second}")


@contextmanager
def run_log(
    exec_config: LogConfig, metadata: Metadata | None, state: State | None, topic: str = "run"
) -> Iterator[RunLog | None]:
    """Give the log for a task's output; None when there is nowhere to write, or logging is off.

    :raises StateError: the file cannot be opened, or (at the end of the block) written.
    """
    name, path = get_topic_loggername(metadata, topic), log_path(metadata, state, topic)
    if exec_config.disable_logging():
        yield None
    elif exec_config.custom_logging_handler() or namesake(name):
        with step_log(exec_config, metadata, state, topic) as log:
            written = path if any(isinstance(handler, LogFile) for handler in log.handlers) else None
            with _closing(RunLogLines(log, written)) as lines:
                yield lines
    elif path is None:
        yield None
    else:
        with _closing(RunLogFile(path, name)) as file:
            yield file


@contextmanager
def _closing(log: RunLogLines | RunLogFile) -> Iterator[RunLogLines | RunLogFile]:
    """Close a log at the end; when something else went wrong already, that stays the error."""
    try:
        yield log
    except BaseException:
        with suppress(Exception):  # a log handler of somebody else's may raise anything
            log.close()
        raise
    log.close()


class RunLogLines:
    """Passes output line by line to a logger with handlers of the user's; long lines come in pieces."""

    def __init__(self, log: logging.Logger, path: str | None = None) -> None:
        self.path = path
        self._log = log
        self._rest = b""

    def write(self, chunk: bytes) -> None:
        """Log the lines that are complete."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            self._line(line)
        while len(self._rest) >= _LONGEST_LINE:
            self._line(self._rest[:_LONGEST_LINE])
            self._rest = self._rest[_LONGEST_LINE:]

    def _line(self, line: bytes) -> None:
        self._log.info("%s", line.decode("utf-8", "replace"))

    def note(self, message: str) -> None:
        """Log a remark of packtivity's own."""
        self.close()
        self._log.warning("%s", message)

    def close(self) -> None:
        """Log the last line when it has no end."""
        if self._rest:
            self._line(self._rest)
            self._rest = b""


class RunLogFile:
    """Puts the prefix of a log line before each line of output; a line may have any length.

    :param path: absolute path of the file, appended to.
    :param name: name of the logger that stands in each line.
    """

    def __init__(self, path: str, name: str) -> None:
        self.path: str | None = path
        self._name = name
        self._file = LogFile(path)
        self._line_open = False

    def _prefix(self, level: int = logging.INFO) -> bytes:
        record = logging.LogRecord(self._name, level, "", 0, "", None, None)
        return formatter.format(record).encode("utf-8", "backslashreplace")

    def write(self, chunk: bytes) -> None:
        """Write the next bytes of output.

        :raises StateError: the file cannot be written.
        """
        prefix = self._prefix()
        if self._file.is_new:
            self._file.is_new = False
            self._file.append(prefix + f"{_beginning(self._name.rpartition('.')[2])}\n".encode())
        lines = chunk.replace(b"\n", b"\n" + prefix)
        if not self._line_open:
            lines = prefix + lines
        self._line_open = not chunk.endswith(b"\n")
        self._file.append(lines if self._line_open else lines[: -len(prefix)])

    def note(self, message: str) -> None:
        """Write a line of packtivity's own, on a line of its own."""
        self._finish_line()
        self._file.append(self._prefix(logging.WARNING) + message.encode("utf-8", "backslashreplace") + b"\n")

    def _finish_line(self) -> None:
        if self._line_open:
            self._line_open = False
            self._file.append(b"\n")

    def close(self) -> None:
        """End the last line, because other runs are appended, and close the file."""
        try:
            self._finish_line()
        finally:
            self._file.close()
