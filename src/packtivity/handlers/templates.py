"""Filling the placeholders of a spec with parameters; errors say where in the spec and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from packtivity.interpolate import MissingName, TemplateError, interpolate, placeholders

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from packtivity.errors import ParameterError


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


def joined(values: Values) -> Values:
    """Return the values with lists written as words with spaces between, as commands want them."""
    return Values([_joined(value) for value in values.args], {name: _joined(v) for name, v in values.names.items()})


def _joined(value: Any) -> Any:
    return " ".join(map(str, value)) if type(value) is list else value


def fill(template: str, values: Values, where: str) -> str:
    """Fill a template.

    :param where: the key of the spec it stands at, for errors: ``process.cmd``.
    :raises MissingParameter: a placeholder has no parameter (also a ``KeyError``).
    :raises ParameterError: the template cannot be filled for another reason.
    """
    try:
        return interpolate(template, values.args, values.names)
    except (MissingName, TemplateError) as error:
        _explain(error, values, where)
        raise


def _explain(error: MissingName | TemplateError, values: Values, where: str) -> None:
    line = error.template.count("\n", 0, error.offset) + 1
    place = f"{where}, line {line}" if "\n" in error.template.rstrip("\n") else where
    what = error.message
    if isinstance(error, MissingName) and "[" not in error.name:  # otherwise a key inside a value is missing
        what = f"placeholder {{{error.field}}}: no parameter is called {error.name!r}"
        name = error.name.strip()
        blanks = f"Write {{{name}}}, without blanks." if name != error.name and name in values.names else ""
        error.hint = blanks or f"{_remedy(error, values)}{error.hint}"
    elif isinstance(error, IndexError) and not values.args:
        what = f"placeholder {{{error.field}}}: the parameters have names, not positions"
    error.message = f"{place}: {what}"
    error.args = (error.message,)


def _remedy(error: MissingName, values: Values) -> str:
    """Return how to pass what is missing; directories are a frequent case with a remedy of its own."""
    name = error.name
    if name == "workdir" or name.startswith("readdir"):
        return f"Directories have names in parameter values only: pass -p {name}='\"{{{name}}}\"'. "
    wanted = " ".join(f"-p {one}=VALUE" for one in _missing(error, values))
    if not wanted:
        return ""
    if not values.names:
        return f"There are no named parameters; pass {wanted}. "
    return f"Pass {wanted}. "


def _missing(error: MissingName, values: Values) -> list[str]:
    """Return every name in the template without a value; text such as awk's ``{print $1}`` is not a name."""
    try:
        asked = [one.name for one in placeholders(error.template)]
    except TemplateError:  # a lone brace further on
        asked = [error.name]
    names = dict.fromkeys(one for one in asked if one not in values.names)
    return [one for one in names if one.replace("-", "_").replace(".", "_").isidentifier()]


def given(error: ParameterError, where: str) -> ParameterError:
    """Return the error with the place in the spec put before its message."""
    error.message = f"{where}: {error.message}"
    error.args = (error.message,)
    return error
