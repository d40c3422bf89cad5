"""Parameter and result documents. Clients pass this module itself around, for its :func:`create`.

``TypedLeafs`` (the default) sorts keys and may hold objects; ``PureJsonModel`` keeps a document as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from packtivity import settings
from packtivity.datamodel.leafmodel import LeafModel
from packtivity.datamodel.leaves import iter_leaves, leaf_iterator, map_leaves
from packtivity.datamodel.purejson import PureJsonModel
from packtivity.datamodel.typedleafs import TypedLeafs
from packtivity.errors import ConfigurationError

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
