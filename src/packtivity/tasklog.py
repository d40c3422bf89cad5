"""Log files of a task: ``{metadir}/{name}.{topic}.log``, appended to over runs.

Topics are ``step`` (what packtivity does), ``pull`` and ``run`` (the task's own output). The loggers are called
``pack.NAME.TOPIC`` as in upstream 0.17.1, yet each task has its own: tasks of the same name in several threads
neither mix nor lose each other's lines. Values of environment variables are never logged.
"""

from __future__ import annotations

import logging
import os
import time
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

from packtivity.errors import ConfigurationError, PacktivityError, StateError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LOGFORMAT = "%(asctime)s | %(name)20.20s | %(levelname)6s | %(message)s"
formatter = logging.Formatter(LOGFORMAT)

DEFAULT_NAME = "packtivity"
_LONGEST_NAME = 160
_LONGEST_LINE = 1 << 16

_active: ContextVar[Mapping[tuple[str, str | None], logging.Logger]] = ContextVar("active", default={})  # noqa: B039


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
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise StateError(f"directory {path} cannot be made: {error.strerror}") from error


# --- the log of a topic ----------------------------------------------------------------------------------------


class LogFile(logging.Handler):
    """Appends records to a file, each with one write; unlike :class:`logging.FileHandler` it fails aloud."""

    def __init__(self, path: str) -> None:
        super().__init__(logging.DEBUG)
        self.baseFilename = path
        self.setFormatter(formatter)
        self._descriptor = _open(path)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record.

        :raises StateError: the file cannot be written, because the disk is full for example.
        """
        text = self.format(record) + "\n"
        _write(self._descriptor, text.encode("utf-8", "backslashreplace"), self.baseFilename)

    def close(self) -> None:
        """Close the file; may be called again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        super().close()


def _open(path: str) -> int:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    try:
        try:
            return os.open(path, flags, 0o666)
        except FileNotFoundError:
            mkdir_p(os.path.dirname(path))
            return os.open(path, flags, 0o666)
    except OSError as error:
        raise StateError(f"log file {path} cannot be opened: {error.strerror}") from error


def _write(descriptor: int, content: bytes, path: str) -> None:
    try:
        written = os.write(descriptor, content)
        while written < len(content):
            written += os.write(descriptor, memoryview(content)[written:])
    except OSError as error:
        raise StateError(
            f"log file {path} cannot be written: {error.strerror}", hint="Is the disk full, or a quota used up?"
        ) from error


def default_logging_handlers(
    exec_config: Any, log: logging.Logger, metadata: Mapping[str, Any] | None, state: Any, topic: str
) -> None:
    """Add what is used unless ``PACKTIVITY_LOGGING_HANDLER`` says otherwise: standard error for steps, and the file.

    :raises ConfigurationError: the level for standard error is none that :mod:`logging` knows.
    :raises StateError: the log file cannot be opened.
    """
    if topic == "step":
        stream = logging.StreamHandler()
        stream.setLevel(_level(exec_config.stream_loglevel()))
        stream.setFormatter(formatter)
        log.addHandler(stream)
    path = log_path(metadata, state, topic)
    if path is not None:
        log.addHandler(LogFile(path))
        log.info("starting file logging for topic: %s", topic)


def _level(name: Any) -> int:
    known = logging.getLevelNamesMapping()
    if isinstance(name, int):
        return name
    try:
        return int(name) if str(name).isdecimal() else known[str(name).upper()]
    except KeyError:
        raise ConfigurationError(
            f"PACKTIVITY_LOGGING_STREAM_LEVEL: {name!r} is no logging level", hint=f"There are: {', '.join(known)}."
        ) from None


@contextmanager
def setup_logging_topic(
    exec_config: Any,
    metadata: Mapping[str, Any] | None,
    state: Any,
    topic: str,
    return_logger: bool = False,
) -> Iterator[Any]:
    """Give the logger of a topic for as long as the block lasts; inside such a block, the same one again.

    Handlers that somebody put on the logger called ``pack.NAME.TOPIC`` get the lines as well, and stay.

    :param return_logger: give None when false, as in upstream 0.17.1.
    :raises ConfigurationError: the custom handler or the level cannot be used.
    :raises StateError: a log file cannot be opened.
    """
    key = (get_topic_loggername(metadata, topic), state.metadir if state else None)
    active = _active.get()
    if key in active:
        yield active[key] if return_logger else None
        return
    log = _new_logger(key[0])
    token = _active.set({**active, key: log})
    try:
        _add_handlers(exec_config, log, metadata, state, topic)
        yield log if return_logger else None
    finally:
        _active.reset(token)
        for handler in log.handlers[:]:
            log.removeHandler(handler)
            handler.close()


def _new_logger(name: str) -> logging.Logger:
    """Return a logger of its own, whose lines also reach a logger that somebody made under this name before."""
    log = logging.Logger(name, logging.DEBUG)  # noqa: LOG001 - getLogger would give every task the same one
    log.propagate = False
    namesake = _namesake(name)
    if namesake is not None:
        log.parent, log.propagate, namesake.propagate = namesake, True, False
    return log


def _namesake(name: str) -> logging.Logger | None:
    found = logging.Logger.manager.loggerDict.get(name)
    return found if isinstance(found, logging.Logger) and found.handlers else None


def _add_handlers(
    exec_config: Any, log: logging.Logger, metadata: Mapping[str, Any] | None, state: Any, topic: str
) -> None:
    if exec_config.disable_logging():
        log.disabled = True
    elif custom := exec_config.custom_logging_handler():
        _add_custom_handlers(custom, log, metadata, state, topic)
    else:
        default_logging_handlers(exec_config, log, metadata, state, topic)


def _add_custom_handlers(
    custom: str, log: logging.Logger, metadata: Mapping[str, Any] | None, state: Any, topic: str
) -> None:
    from packtivity.registry import load_object

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


# --- the log of a task's own output ----------------------------------------------------------------------------


class RunLog(Protocol):
    """Where a task's output goes: bytes of any kind, in pieces of any size."""

    path: str | None

    def write(self, chunk: bytes) -> None:
        """Take the next bytes."""

    def note(self, message: str) -> None:
        """Add a line of packtivity's own."""


class RunLogFile:
    """Puts the prefix of a log line before each line of output; a line may have any length.

    :param path: absolute path of the file, appended to.
    :param name: name of the logger that stands in each line.
    """

    def __init__(self, path: str, name: str) -> None:
        self.path: str | None = path
        self._name = name
        self._descriptor = _open(path)
        self._line_open = False

    def _prefix(self, level: str = "INFO") -> bytes:
        now = time.time()
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now))
        fields = {"asctime": f"{stamp},{int(now % 1 * 1000):03d}", "name": self._name, "levelname": level}
        return (LOGFORMAT % {**fields, "message": ""}).encode("utf-8", "backslashreplace")

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
        _write(self._descriptor, content, str(self.path))

    def close(self) -> None:
        """End the last line, because other runs are appended, and close the file."""
        if self._descriptor >= 0:
            try:
                self._finish_line()
            finally:
                os.close(self._descriptor)
                self._descriptor = -1


class RunLogLines:
    """Gives output line by line to a logger that somebody has put handlers on; long lines come in pieces."""

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


@contextmanager
def run_log(
    exec_config: Any, metadata: Mapping[str, Any] | None, state: Any, topic: str = "run"
) -> Iterator[RunLog | None]:
    """Give the log for a task's output; None when there is nowhere to write, or logging is off.

    :raises StateError: the file cannot be opened, or (at the end of the block) written.
    """
    name, path = get_topic_loggername(metadata, topic), log_path(metadata, state, topic)
    if exec_config.disable_logging():
        yield None
    elif exec_config.custom_logging_handler() or _namesake(name):
        with setup_logging_topic(exec_config, metadata, state, topic, return_logger=True) as log:
            written = path if any(isinstance(handler, LogFile) for handler in log.handlers) else None
            with _closing(RunLogLines(log, written)) as lines:
                yield lines
    elif path is None:
        yield None
    else:
        with _closing(RunLogFile(path, name)) as file:
            yield file


@contextmanager
def _closing(log: Any) -> Iterator[Any]:
    """Close a log at the end; when something else went wrong already, that stays the error."""
    try:
        yield log
    except BaseException:
        with suppress(PacktivityError, OSError):
            log.close()
        raise
    log.close()
