"""The commands. Importing this package imports nothing: each name below is imported on first use.

Upstream 0.17.1 has ``runcli``, ``validatecli``, ``utilcli``, ``checkproxy`` and ``getinit_data`` here.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from packtivity.cli.declarations import checkproxy, runcli, validatecli
    from packtivity.cli.declarations import util as utilcli
    from packtivity.cli.parameters import getinit_data

__all__ = ["checkproxy", "getinit_data", "runcli", "utilcli", "validatecli"]

_HOMES = {
    "checkproxy": ("declarations", "checkproxy"),
    "getinit_data": ("parameters", "getinit_data"),
    "runcli": ("declarations", "runcli"),
    "utilcli": ("declarations", "util"),
    "validatecli": ("declarations", "validatecli"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _HOMES[name]
    globals()[name] = getattr(import_module(f"{__name__}.{module}"), attribute)
    return globals()[name]
