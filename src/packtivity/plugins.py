"""Modules that register handlers, backends and proxies when they are imported."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


enabled: list[str] = []
"""Modules that were enabled by name, for processes that run tasks for this one."""


def enable_plugins(modules: Iterable[str] | None = None) -> None:
    """Import plug-in modules: those named here, then those of ``PACKTIVITY_PLUGINS``, each once.

    :raises ConfigurationError: a module cannot be imported.
    """
    from packtivity import settings
    from packtivity.registry import load_module

    given, configured = tuple(modules or ()), settings.current().plugins
    origin = {**dict.fromkeys(configured, "PACKTIVITY_PLUGINS"), **dict.fromkeys(given, "plug-in")}
    for name in dict.fromkeys((*given, *configured)):
        load_module(name, purpose=origin[name])
        if name not in enabled:
            enabled.append(name)
