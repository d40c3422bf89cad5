"""Environments: what to run in, completed with the parameters and the state.

A handler is ``(environment, parameters, state) → environment``, a new document: the one given is never changed.
"""

from __future__ import annotations

from copy import deepcopy
from json import dumps
from typing import TYPE_CHECKING, Any

from packtivity.datamodel import plain
from packtivity.errors import ParameterError
from packtivity.handlers.process_handlers import Values, fill
from packtivity.registry import DEFAULT, Registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from packtivity.types import JSON, ParametersLike, Part, State

    Handler = Callable[[Part, ParametersLike, State | None], dict[str, Any]]

environment: Registry[Handler] = Registry("environment", "packtivity.environments")
handlers = environment.table


def find(kind: str, implementation: str = DEFAULT) -> Handler:
    """Return the handler of an environment type; one that nobody registered is left as it is (upstream 0.17.1).

    :raises ConfigurationError: the type is known, but not in this implementation.
    """
    if kind in environment or implementation != DEFAULT:
        return environment.find(kind, implementation)
    return environment.find("default")


@environment("docker-encapsulated")
def docker_encapsulated(environment: Part, parameters: ParametersLike, state: State | None) -> dict[str, Any]:
    """Fill in ``workdir`` and the contents of ``par_mounts``.

    Each ``{jqscript, mountpath}`` becomes ``{mountpath, mountcontent}``: what jq prints for the parameters. ``env``
    and ``envscript`` stay as they are.

    :raises ParameterError: a jq program fails, an entry of ``par_mounts`` is not complete, or ``workdir`` names a
        directory that the state does not have.
    """
    built: dict[str, Any] = deepcopy(dict(environment))
    if built.get("par_mounts"):
        document = plain(parameters, state)
        built["par_mounts"] = [_mounted(mount, document, at) for at, mount in enumerate(built["par_mounts"])]
    if built.get("workdir") is not None and state is None:
        built["workdir"] = fill(built["workdir"], Values((), {}), "environment.workdir")
    elif built.get("workdir") is not None and state is not None:
        try:
            built["workdir"] = state.contextualize_value(built["workdir"])
        except ParameterError as error:
            error.message = f"environment.workdir: {error.message}"
            error.args = (error.message,)
            raise
    return built


def _mounted(mount: dict[str, Any], document: JSON, at: int) -> dict[str, Any]:
    import jq

    for key in ("jqscript", "mountpath"):
        if key not in mount:  # the schema, which is upstream's, lets it be left out
            raise ParameterError(
                f"environment.par_mounts[{at}] has no {key!r}",
                hint="Each entry needs jqscript (what to write) and mountpath (the file to write it to).",
            )
    program = mount["jqscript"]
    try:  # one JSON value a line, byte for byte as upstream 0.17.1 wrote it
        content = str(jq.compile(program).input(text=dumps(document)).text())
    except ValueError as error:
        raise ParameterError(
            f"environment.par_mounts[{at}].jqscript: jq program {program!r}: {str(error).strip()}",
            hint="Try it on the parameter document with the jq command.",
        ) from None
    return {**{key: value for key, value in mount.items() if key != "jqscript"}, "mountcontent": content}


@environment("localproc-env")
@environment("noop-env")
@environment("manual-instructions-env")
@environment("default")
def default(environment: Part, parameters: ParametersLike, state: State | None) -> dict[str, Any]:  # noqa: ARG001 (a handler)
    """Leave an environment as it is."""
    return deepcopy(dict(environment))
