"""Values that a shell takes for more than a word, because their placeholders stand in no quotes."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from packtivity.datamodel import typed
from packtivity.handlers.process_handlers import values_of
from packtivity.interpolate import TemplateError, placeholders

if TYPE_CHECKING:
    from packtivity.types import ParametersLike, Part, State

SHELLS = frozenset({"sh", "bash", "dash", "ash", "ksh", "zsh"})
_QUOTED = re.compile(r"\\.|'[^']*'|\"(?:\\.|[^\"\\])*\"", re.DOTALL)
_STEERS = re.compile(r"[&;()|<>`'\"]")
"""What ends a word or a command in a shell."""


def unquoted_values(process: Part, parameters: ParametersLike, state: State | None) -> str:
    """Return what to write where a value with ``&``, ``;``, ``(`` … stands without quotes in a shell's text; empty for none.

    It is a likely cause, not a certain one: some values are parts of commands on purpose.
    """
    key = "cmd" if "cmd" in process else "script"
    template = process.get(key)
    interpreter = str(process.get("interpreter", "sh")).split()
    if not isinstance(template, str) or "<<" in template:  # what follows << is no words
        return ""
    if key == "script" and not (interpreter and os.path.basename(interpreter[0]) in SHELLS):
        return ""
    names = values_of(typed(parameters, state)).names
    try:
        found = list(placeholders(template))
    except TemplateError:
        return ""
    for placeholder in found:
        value = names.get(placeholder.name)
        text = " ".join(map(str, value)) if isinstance(value, list) else value
        steering = _STEERS.search(_QUOTED.sub("", text)) if isinstance(text, str) else None
        if steering and placeholder.field == placeholder.name and not _in_quotes(template[: placeholder.start]):
            line = template.count("\n", 0, placeholder.start) + 1
            place = f"process.{key}, line {line}" if "\n" in template.rstrip("\n") else f"process.{key}"
            return (
                f"The value of {placeholder.name!r} has {steering[0]} in it, and the shell takes that for its own, because "
                f'the placeholder is not in quotes ({place}): write "{{{placeholder.name}}}".'
            )
    return ""


def _in_quotes(text: str) -> bool:
    """Return whether a quote is open at the end of a shell's text; comments may have apostrophes in them."""
    text = re.sub(r"(?m)(?:^|(?<=\s))#.*$", "", text)
    return re.search(r"['\"]", _QUOTED.sub("", text)) is not None
