"""The commands. Importing this package imports nothing: each name below is fetched when it is asked for.

Upstream 0.17.1 has ``runcli``, ``validatecli``, ``utilcli``, ``checkproxy`` and ``getinit_data`` here.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from packtivity.cli.check import checkproxy
    from packtivity.cli.main import util as utilcli
    from packtivity.cli.parameters import getinit_data
    from packtivity.cli.run import runcli
    from packtivity.cli.validate import validatecli

__all__ = ["checkproxy", "getinit_data", "runcli", "utilcli", "validatecli"]


def __getattr__(name: str) -> Any:
    try:
        found = _fetch(name)
    except KeyboardInterrupt:
        if not _is_program():
            raise
        sys.stderr.write("error: interrupted\n")
        raise SystemExit(130) from None
    globals()[name] = found
    return found


def _is_program() -> bool:
    """Tell whether one of our commands is being started, of which nothing else is there yet that could end it."""
    return os.path.basename(sys.argv[0]).startswith("packtivity")


def _fetch(name: str) -> Any:
    found: Any
    if name == "runcli":
        from packtivity.cli.run import runcli

        found = runcli
    elif name == "validatecli":
        from packtivity.cli.validate import validatecli

        found = validatecli
    elif name == "utilcli":
        from packtivity.cli.main import util

        found = util
    elif name == "checkproxy":
        from packtivity.cli.check import checkproxy

        found = checkproxy
    elif name == "getinit_data":
        from packtivity.cli.parameters import getinit_data

        found = getinit_data
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return found
