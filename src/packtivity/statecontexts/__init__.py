"""States: the directories a task reads and writes, and how one is made from its JSON.

A loader is a function ``(jsondata, **options)``; plug-ins add theirs with ``@stateloader("name")`` or an entry
point of the group ``packtivity.states``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from packtivity import settings
from packtivity.errors import ConfigurationError
from packtivity.registry import Registry, load_object, suggestion
from packtivity.statecontexts.posixfs_context import InvalidState, LocalFSState
from packtivity.types import JSONValue, State

__all__ = ["InvalidState", "LocalFSState", "load_state", "statehandlers", "stateloader"]

stateloader: Registry[Callable[..., Any]] = Registry("state type", "packtivity.states")
statehandlers = stateloader.table


@stateloader("localfs")
def _from_localfs(jsondata: dict[str, Any], **_options: Any) -> LocalFSState:
    return LocalFSState.fromJSON(jsondata)


@stateloader("frompython")
def _from_python(jsondata: JSONValue, *, statestring: str = "", **_options: Any) -> Any:
    if not statestring:
        raise InvalidState(
            "a state of the type 'frompython' is made by the class that the option state names, and that is not given",
            hint="From a program, give load_state the option state=py:module:Class.",
        )
    return load_object(f"{statestring.removeprefix('py:')}.fromJSON", purpose="option state")(jsondata)


@stateloader("fromenv")
def _from_environment(jsondata: JSONValue, **_options: Any) -> Any:
    module = settings.current().state_provider
    if not module:
        raise ConfigurationError(
            "states of the type 'fromenv' come from the module PACKTIVITY_STATEPROVIDER names, and that is not set",
            hint="Set PACKTIVITY_STATEPROVIDER=module.",
        )
    return load_object(f"{module}:load_state", purpose="PACKTIVITY_STATEPROVIDER")(jsondata)


def load_state(jsondata: JSONValue, deserialization_opts: Mapping[str, Any] | None = None) -> State:
    """Make a state from its JSON.

    Who makes it: the class that the option ``state`` names as ``py:module:Class``; else the module that
    ``PACKTIVITY_STATEPROVIDER`` names; else the loader for the document's ``state_type``.

    :raises InvalidState: no loader knows the document's type (also a ``TypeError``).
    :raises ConfigurationError: the class or module cannot be imported.
    """
    statestring = (deserialization_opts or {}).get("state") or ""
    if statestring.startswith("py:"):
        return statehandlers["frompython"]["default"](jsondata, statestring=statestring)  # type: ignore[no-any-return]
    if settings.current().state_provider:
        return statehandlers["fromenv"]["default"](jsondata)  # type: ignore[no-any-return]
    if not isinstance(jsondata, dict) or "state_type" not in jsondata:
        raise InvalidState(
            f"state document {str(jsondata)[:200]} does not say its state_type",
            hint='Write {"state_type": "localfs", "identifier": …, "readwrite": […], "readonly": […]}.',
        )
    name = jsondata["state_type"]
    if name not in stateloader:
        raise InvalidState(f"unknown state type {name!r}", hint=suggestion(str(name), stateloader.names()))
    return stateloader.find(str(name))(jsondata)  # type: ignore[no-any-return]
