"""Parameter and result documents. Clients pass this module itself around, for its :func:`create`.

``TypedLeafs`` (the default) sorts keys and may hold objects; ``PureJsonModel`` keeps a document as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from packtivity import settings
from packtivity.datamodel.documents import PureJsonModel, TypedLeafs
from packtivity.datamodel.leafmodel import LeafModel
from packtivity.datamodel.leaves import iter_leaves, leaf_iterator, map_leaves
from packtivity.errors import ConfigurationError

if TYPE_CHECKING:
    from packtivity.types import JSON, Parameters, ParametersLike, State

__all__ = ["LeafModel", "PureJsonModel", "TypedLeafs", "create", "iter_leaves", "leaf_iterator", "map_leaves"]


def create(data: object, model: Mapping[str, Any] | None = None) -> TypedLeafs | PureJsonModel:
    """Make a document of the class that ``PACKTIVITY_DATAMODEL_IMPL`` names.

    :param data: JSON, or another document; never changed.
    :param model: leaf model, as a state's ``datamodel`` has it.
    :raises ConfigurationError: the variable names no class.
    :raises ParameterError: ``data`` holds something that cannot be written as JSON.
    """
    name = settings.current().datamodel_impl
    if name == "typedleafs":
        return TypedLeafs(data, model)
    if name == "purejson":
        return PureJsonModel(data, model)
    raise ConfigurationError(
        f"PACKTIVITY_DATAMODEL_IMPL: there is no data model {name!r}", hint="Use typedleafs or purejson."
    )


# --- documents as handlers see them: of the classes above, or plain data that a caller passed ---------------------


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
    return create(parameters, getattr(state, "datamodel", None))
