"""The logs that a task writes while it runs: the lean ones, or loggers of :mod:`logging` where somebody listens.

Somebody listens when ``PACKTIVITY_LOGGING_HANDLER`` is set, or when a logger of the task's name has handlers.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from packtivity.logfiles import LEVELS, RunLogFile, StepLog, get_topic_loggername, log_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from packtivity.logfiles import RunLog

_steps: ContextVar[Mapping[tuple[str, str | None], StepLog]] = ContextVar("steps", default={})  # noqa: B039


def _listeners(exec_config: Any, name: str) -> bool:
    """Return whether lines may have to go anywhere but the file and standard error."""
    if exec_config.custom_logging_handler():
        return True
    if "logging" not in sys.modules:
        return False
    from packtivity.loggers import namesake

    return namesake(name) is not None


@contextmanager
def step_log(exec_config: Any, metadata: Mapping[str, Any] | None, state: Any) -> Iterator[Any]:
    """Give the step log of a task for as long as the block lasts; inside such a block, the same one again.

    :raises ConfigurationError: the custom handler or the level cannot be used.
    :raises StateError: the log file cannot be opened.
    """
    name, path = get_topic_loggername(metadata, "step"), log_path(metadata, state, "step")
    active = _steps.get()
    if (name, path) in active:
        yield active[name, path]
        return
    level = str(exec_config.stream_loglevel()).upper()
    off = exec_config.disable_logging()
    if not off and (level not in LEVELS or _listeners(exec_config, name)):
        from packtivity.loggers import setup_logging_topic

        with setup_logging_topic(exec_config, metadata, state, "step", return_logger=True) as log:
            yield log
        return
    log = StepLog(name, None) if off else StepLog(name, path, LEVELS[level])
    token = _steps.set({**active, (name, path): log})
    try:
        yield log
    finally:
        _steps.reset(token)
        log.close()


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
    elif _listeners(exec_config, name):
        from packtivity.loggers import LogFile, RunLogLines, setup_logging_topic

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
        with suppress(Exception):  # a log handler of somebody else's may raise anything
            log.close()
        raise
    log.close()
