"""The error for a spec that is not valid; apart from the others because importing jsonschema is dear."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import jsonschema

from packtivity.errors import PacktivityError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from packtivity.types import Diagnostic


class InvalidSpec(PacktivityError, jsonschema.ValidationError):
    """A spec does not keep to the packtivity schema; every mistake is in :attr:`diagnostics`.

    Ancestor ``jsonschema.ValidationError`` as upstream 0.17.1 raised: ``message`` and ``path`` (that of the
    first mistake) have the meaning they have there.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, diagnostics: Sequence[Diagnostic] = (), *, hint: str = "") -> None:
        first = diagnostics[0].path if diagnostics else ()
        jsonschema.ValidationError.__init__(self, message, path=first)
        self.message = message
        self.hint = hint
        self.diagnostics = tuple(diagnostics)

    __str__ = PacktivityError.__str__
    __reduce__ = PacktivityError.__reduce__
