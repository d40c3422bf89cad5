"""Logs of a task, under the names of upstream 0.17.1."""

from packtivity.tasklog import (
    LOGFORMAT,
    default_logging_handlers,
    formatter,
    get_base_loggername,
    get_topic_loggername,
    setup_logging_topic,
)

__all__ = [
    "LOGFORMAT",
    "default_logging_handlers",
    "formatter",
    "get_base_loggername",
    "get_topic_loggername",
    "setup_logging_topic",
]
