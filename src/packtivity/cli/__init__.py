"""The commands. Importing this package imports nothing: each name below is imported on first use.

Upstream 0.17.1 has ``runcli``, ``validatecli``, ``utilcli``, ``checkproxy`` and ``getinit_data`` here.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from packtivity.cli.declarations import checkproxy, runcli, utilcli, validatecli
    from packtivity.cli.parameters import getinit_data

__all__ = ["checkproxy", "getinit_data", "runcli", "utilcli", "validatecli"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "parameters" if name == "getinit_data" else "declarations"
    return getattr(import_module(f"{__name__}.{home}"), name)
