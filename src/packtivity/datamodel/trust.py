"""Which leaf models may be taken from a document that anybody can have written."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from packtivity import settings
from packtivity.errors import ConfigurationError

if TYPE_CHECKING:
    from packtivity.types import JSON


def check_datamodel(model: JSON) -> None:
    """Refuse a leaf model that would have a module imported, or a function called, that nobody has configured here.

    Types may be of modules that ``PACKTIVITY_PLUGINS`` or ``PACKTIVITY_STATEPROVIDER`` name, or that the program has
    imported by itself; the parser of literals only of the former.

    :raises ConfigurationError: there is one of another module.
    """
    if not isinstance(model, dict):
        return
    types, literals = model.get("types"), model.get("literals")
    names = [name for name in (types.values() if isinstance(types, dict) else ()) if not isinstance(name, type)]
    parsers = [literals.get("parser")] if isinstance(literals, dict) else []
    for name in (*names, *parsers):
        module = str(name).partition(":")[0]
        if not _is_configured(module) and (name in parsers or module not in sys.modules):
            raise ConfigurationError(
                f"leaf model: {name!r} is of a module that is not configured here",
                hint="Name the module in PACKTIVITY_PLUGINS where the document is used.",
            )


def _is_configured(module: str) -> bool:
    known = {*settings.value("plugins"), settings.value("state_provider")}
    return any(module == name or module.startswith(f"{name}.") for name in known if name)
