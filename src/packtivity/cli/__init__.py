"""The commands. Importing this package imports nothing: each name below is fetched when it is asked for.

Upstream 0.17.1 has ``runcli``, ``validatecli``, ``utilcli``, ``checkproxy`` and ``getinit_data`` here.
"""

from __future__ import annotations

TYPE_CHECKING = False  # importing typing would take half of the time until packtivity.cli.start has begun
if TYPE_CHECKING:
    from typing import Any

    from packtivity.cli.check import checkproxy
    from packtivity.cli.main import util as utilcli
    from packtivity.cli.parameters import getinit_data
    from packtivity.cli.run import runcli
    from packtivity.cli.validate import validatecli

__all__ = ["checkproxy", "getinit_data", "runcli", "utilcli", "validatecli"]


def __getattr__(name: str) -> Any:
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
    globals()[name] = found
    return found
