"""Logs of a task as loggers of :mod:`logging`, for code that adds handlers of its own.

The loggers are called ``pack.NAME.TOPIC`` as in upstream 0.17.1, yet each task has its own: tasks of the same name in
several threads neither mix nor lose each other's lines.
"""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from packtivity.errors import ConfigurationError, PacktivityError
from packtivity.logfiles import LOGFORMAT, get_topic_loggername, log_path, open_log, write_log
from packtivity.printable import escaped

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

formatter = logging.Formatter(LOGFORMAT)
_LONGEST_LINE = 1 << 16


class ShownFormatter(logging.Formatter):
    """A formatter for a stream that a person may watch: what a document has put into a message is escaped."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of a record."""
        return escaped(super().format(record))


_active: ContextVar[Mapping[tuple[str, str | None], logging.Logger]] = ContextVar("active", default={})  # noqa: B039


class LogFile(logging.Handler):
    """Appends records to a file, each with one write; unlike :class:`logging.FileHandler` it fails aloud."""

    def __init__(self, path: str) -> None:
        super().__init__(logging.DEBUG)
        self.baseFilename = path
        self.setFormatter(formatter)
        self._descriptor = open_log(path)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record.

        :raises StateError: the file cannot be written, because the disk is full for example.
        """
        text = self.format(record) + "\n"
        write_log(self._descriptor, text.encode("utf-8", "backslashreplace"), self.baseFilename)

    def close(self) -> None:
        """Close the file; may be called again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        super().close()


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
        stream.setFormatter(ShownFormatter(LOGFORMAT))
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


class _TaskLogger(logging.Logger):
    """A logger of its own, where ``getLogger`` would give every task of that name the same one."""

    def __init__(self, name: str) -> None:
        super().__init__(name, logging.DEBUG)
        self.propagate = False

    def callHandlers(self, record: logging.LogRecord) -> None:
        """Give a record to our handlers, and to those of the logger that somebody made under this name."""
        before = namesake(self.name)
        for handler in (*self.handlers, *(before.handlers if before else ())):
            if record.levelno >= handler.level:
                handler.handle(record)


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
    log = _TaskLogger(key[0])
    token = _active.set({**active, key: log})
    try:
        _add_handlers(exec_config, log, metadata, state, topic)
        yield log if return_logger else None
    finally:
        _active.reset(token)
        for handler in log.handlers[:]:
            log.removeHandler(handler)
            handler.close()


def namesake(name: str) -> logging.Logger | None:
    """Return the logger that somebody made under a name and put handlers on."""
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
