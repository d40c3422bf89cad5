"""The error for a spec that is not valid; apart from the others because importing jsonschema is dear."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import jsonschema

from packtivity.root_error import PacktivityError
from packtivity.types import Diagnostic


class InvalidSpec(PacktivityError, jsonschema.ValidationError):
    """A spec does not keep to the packtivity schema; every mistake is in :attr:`diagnostics`.

    Ancestor ``jsonschema.ValidationError`` as upstream 0.17.1 raised: ``message`` and ``path`` (that of the
    first mistake) have the meaning they have there.
    """

    __module__ = "packtivity.errors"  # where programs import it from
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, diagnostics: Sequence[Diagnostic] = (), *, hint: str = "") -> None:
        first = diagnostics[0].path if diagnostics else ()
        jsonschema.ValidationError.__init__(self, message, path=first)
        self.message = message
        self.hint = hint
        self.diagnostics = tuple(diagnostics)

    __str__ = PacktivityError.__str__
    __reduce__ = PacktivityError.__reduce__
