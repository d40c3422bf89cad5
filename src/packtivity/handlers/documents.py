"""Parameter documents as handlers see them: ``TypedLeafs``, ``PureJsonModel``, or plain data that a caller passed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from packtivity import datamodel

if TYPE_CHECKING:
    from packtivity.types import JSON


def typed(parameters: Any, state: Any = None) -> Any:
    """Return the values of a document, typed leaves as objects; REANA passes plain dictionaries."""
    return document(parameters, state).typed()


def plain(parameters: Any, state: Any = None) -> JSON:
    """Return the document as JSON."""
    return document(parameters, state).json()


def document(parameters: Any, state: Any = None) -> Any:
    """Return the document as an object that has upstream's methods."""
    if hasattr(parameters, "typed"):
        return parameters
    return datamodel.create(parameters, getattr(state, "datamodel", None))
