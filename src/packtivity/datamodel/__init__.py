"""Parameter and result documents. Clients pass this module itself around, for its :func:`create`.

``TypedLeafs`` (the default) sorts keys and may hold objects; ``PureJsonModel`` keeps a document as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from packtivity import settings
from packtivity.datamodel.leafmodel import LeafModel
from packtivity.datamodel.leaves import iter_leaves, leaf_iterator, map_leaves
from packtivity.datamodel.typedleafs import TypedLeafs
from packtivity.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from packtivity.datamodel.purejson import PureJsonModel

__all__ = ["LeafModel", "PureJsonModel", "TypedLeafs", "create", "iter_leaves", "leaf_iterator", "map_leaves"]


def __getattr__(name: str) -> Any:
    """Import the model that few use when it is asked for (PEP 562)."""
    if name != "PureJsonModel":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from packtivity.datamodel import purejson

    globals()[name] = purejson.PureJsonModel
    return purejson.PureJsonModel


def create(data: Any, model: Mapping[str, Any] | None = None) -> TypedLeafs | PureJsonModel:
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
        from packtivity.datamodel.purejson import PureJsonModel

        return PureJsonModel(data, model)
    raise ConfigurationError(
        f"PACKTIVITY_DATAMODEL_IMPL: there is no data model {name!r}", hint="Use typedleafs or purejson."
    )
