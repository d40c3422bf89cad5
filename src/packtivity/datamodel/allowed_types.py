"""Which leaf models may be taken from a document that anybody can have written."""

from __future__ import annotations

import sys

from packtivity import settings
from packtivity.errors import ConfigurationError
from packtivity.registry import load_object


def check_datamodel(model: object) -> None:
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
        if _is_configured(module):
            trusted = _is_configured(_origin(str(name)))
        else:
            trusted = name not in parsers and module in sys.modules
        if not trusted:
            raise ConfigurationError(
                f"leaf model: {name!r} is of a module that is not configured here",
                hint="Name the module in PACKTIVITY_PLUGINS where the document is used.",
            )


def _origin(name: str) -> str:
    """Return the module that something is defined in: a module that imports ``os`` has ``os.system``, too."""
    found = load_object(name, purpose="leaf model")
    return str(getattr(found, "__module__", ""))


def _is_configured(module: str) -> bool:
    known = {*settings.current().plugins, settings.current().state_provider}
    return any(module == name or module.startswith(f"{name}.") for name in known if name)
