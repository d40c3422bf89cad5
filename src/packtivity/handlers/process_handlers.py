"""Processes: what to run, rendered with the parameters into a job (upstream 0.17.1's rules).

A handler is ``(process_spec, parameters, state) → job``. It decides nothing about where the job runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from packtivity.datamodel import plain, typed
from packtivity.handlers.templates import fill, joined, values_of
from packtivity.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from packtivity.types import Job, ParametersLike, Part, State

    Handler = Callable[[Part, ParametersLike, State | None], Job]

process: Registry[Handler] = Registry("process", "packtivity.processes")
handlers = process.table


def _rendered(process_spec: Part, key: str, parameters: ParametersLike, state: State | None) -> str:
    return fill(process_spec[key], joined(values_of(typed(parameters, state))), f"process.{key}")


@process("string-interpolated-cmd")
def string_interpolated_cmd(process_spec: Part, parameters: ParametersLike, state: State | None) -> Job:
    """Fill ``cmd``.

    :raises MissingParameter: a placeholder has no parameter.
    """
    return {"command": _rendered(process_spec, "cmd", parameters, state)}


@process("interpolated-script-cmd")
def interpolated_script_cmd(process_spec: Part, parameters: ParametersLike, state: State | None) -> Job:
    """Fill ``script``, to be fed to ``interpreter``; an empty one is an empty input.

    :raises MissingParameter: a placeholder has no parameter.
    """
    return {
        "script": _rendered(process_spec, "script", parameters, state),
        "interpreter": process_spec.get("interpreter", "sh"),
    }


@process("manual-instructions-proc")
def manual_instructions(process_spec: Part, parameters: ParametersLike, state: State | None) -> Job:
    """Hand on the instructions as they are, with the parameters to show beside them.

    Who runs the job asks the person: :func:`packtivity.handlers.manual.carry_out`.
    """
    return {"instructions": process_spec["instructions"], "parameters": plain(parameters, state)}
