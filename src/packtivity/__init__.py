"""Run scientific tasks that must stay runnable for decades.

Names are imported when they are first used, so that importing the package costs next to nothing.
"""

from __future__ import annotations

from packtivity.version import VERSION as __version__

TYPE_CHECKING = False  # importing typing for this would cost more than all the rest
if TYPE_CHECKING:
    from typing import Any

    from packtivity import errors
    from packtivity.api import Submission, load, load_packtivity, pack_object, run, submit
    from packtivity.datamodel import TypedLeafs
    from packtivity.statecontexts import LocalFSState

__all__ = [
    "LocalFSState",
    "Submission",
    "TypedLeafs",
    "__version__",
    "errors",
    "load",
    "load_packtivity",
    "pack_object",
    "run",
    "submit",
]

_HOMES = {"LocalFSState": "statecontexts", "TypedLeafs": "datamodel"}
"""Where names are that are not in :mod:`packtivity.api`."""


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _SUBMODULES:
        return import_module(f"packtivity.{name}")
    if name not in __all__:
        raise AttributeError(f"module 'packtivity' has no attribute {name!r}")
    found = getattr(import_module(f"packtivity.{_HOMES.get(name, 'api')}"), name)
    globals()[name] = found
    return found


# Programs written for upstream 0.17.1 reach these as attributes, because importing it imported them.
_SUBMODULES = frozenset(
    {
        "asyncbackends",
        "backendutils",
        "datamodel",
        "errors",
        "logutils",
        "plugins",
        "statecontexts",
        "syncbackends",
        "typedleafs",
        "utils",
    }
)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_SUBMODULES})
