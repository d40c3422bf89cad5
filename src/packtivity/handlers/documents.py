"""Parameter documents as handlers see them: ``TypedLeafs``, ``PureJsonModel``, or plain data that a caller passed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from packtivity import datamodel

if TYPE_CHECKING:
    from packtivity.types import JSON, Parameters, ParametersLike, State


def typed(parameters: ParametersLike, state: State | None = None) -> Any:
    """Return the values of a document, typed leaves as objects; REANA passes plain dictionaries."""
    return document(parameters, state).typed()


def plain(parameters: ParametersLike, state: State | None = None) -> JSON:
    """Return the document as JSON."""
    return document(parameters, state).json()


def as_given(parameters: ParametersLike) -> JSON:
    """Return the JSON of a document that has upstream's methods; plain data stays as it is."""
    read = getattr(parameters, "json", None)
    return parameters if read is None else read()


def document(parameters: ParametersLike, state: State | None = None) -> Parameters:
    """Return the document as an object that has upstream's methods."""
    if hasattr(parameters, "typed"):
        return cast("Parameters", parameters)
    return datamodel.create(parameters, getattr(state, "datamodel", None))
