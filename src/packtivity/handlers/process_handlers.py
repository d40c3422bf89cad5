"""Processes: what to run, rendered with the parameters into a job (upstream 0.17.1's rules).

A handler is ``(process_spec, parameters, state) → job``. It decides nothing about where the job runs. How placeholders
of a spec are filled is here, too, for all kinds of handlers: errors say where in the spec and what to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from packtivity.datamodel import plain, typed
from packtivity.interpolate import MissingName, TemplateError, interpolate, placeholders
from packtivity.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from packtivity.types import Job, ParametersLike, Part, State

    Handler = Callable[[Part, ParametersLike, State | None], Job]

process: Registry[Handler] = Registry("process", "packtivity.processes")
handlers = process.table


def _rendered(process_spec: Part, key: str, parameters: ParametersLike, state: State | None) -> str:
    """Fill a template; lists become words with spaces between, as commands want them."""
    args, names = values_of(typed(parameters, state))
    values = Values([_joined(value) for value in args], {name: _joined(value) for name, value in names.items()})
    return fill(process_spec[key], values, f"process.{key}")


def _joined(value: Any) -> Any:
    return " ".join(map(str, value)) if type(value) is list else value


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


# --- placeholders ----------------------------------------------------------------------------------------------


class Values(NamedTuple):
    """What placeholders may use: ``args`` by position, ``names`` by name."""

    args: Sequence[Any]
    names: Mapping[str, Any]


def values_of(document: Any) -> Values:
    """Return the values a parameter document gives (upstream 0.17.1).

    A mapping gives names, a list gives positions, anything else is ``{value}``.
    """
    if isinstance(document, dict):
        return Values((), document)
    if isinstance(document, list):
        return Values(document, {})
    return Values((), {"value": document})


def fill(template: str, values: Values, where: str) -> str:
    """Fill a template.

    :param where: the key of the spec it stands at, for errors: ``process.cmd``.
    :raises MissingParameter: a placeholder has no parameter (also a ``KeyError``).
    :raises ParameterError: the template cannot be filled for another reason.
    """
    try:
        return interpolate(template, values.args, values.names)
    except (MissingName, TemplateError) as error:
        line = error.template.count("\n", 0, error.offset) + 1
        place = f"{where}, line {line}" if "\n" in template.rstrip("\n") else where
        what = error.message
        if isinstance(error, MissingName) and "[" not in error.name:  # otherwise a key inside a value is missing
            what = f"placeholder {{{error.field}}}: no parameter is called {error.name!r}"
            error.hint = _remedy(error, values)
        elif isinstance(error, IndexError) and not values.args:
            what = f"placeholder {{{error.field}}}: the parameters have names, not positions"
        error.message = f"{place}: {what}"
        error.args = (error.message,)
        raise


def _remedy(error: MissingName, values: Values) -> str:
    """Return how to pass what is missing; directories are a frequent case with a remedy of its own."""
    name = error.name
    if name.strip() != name and name.strip() in values.names:
        return f"Write {{{name.strip()}}}, without blanks."
    if name == "workdir" or name.startswith("readdir"):
        return f"Directories have names in parameter values only: give a parameter the value {{{name}}}. {error.hint}"
    try:
        asked = [one.name for one in placeholders(error.template)]
    except TemplateError:  # a lone brace further on
        asked = [name]
    missing = dict.fromkeys(one for one in asked if one not in values.names)
    # Text such as awk's {print $1} is not a name.
    names = [repr(one) for one in missing if one.replace("-", "_").replace(".", "_").isidentifier()]
    if not names:
        return error.hint
    named = f"parameter{'s' if len(names) > 1 else ''} {', '.join(names)}"
    return f"{'' if values.names else 'There are no named parameters. '}Give the step the {named}. {error.hint}"
