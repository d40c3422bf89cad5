"""Odds and ends that plug-ins import, under the names of upstream 0.17.1."""

from packtivity.datamodel import leaf_iterator
from packtivity.handlers.execution_handlers import mkdir_p
from packtivity.registry import handler_decorator
from packtivity.task import load_packtivity

__all__ = ["handler_decorator", "leaf_iterator", "load_packtivity", "mkdir_p"]
