"""Source texts: decoding, lines and places in them, and the error for a text that cannot be read."""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Sequence

from packtivity.errors import ParameterError
from packtivity.types import Diagnostic, Position

MAX_DEPTH = 100
"""How deeply lists and mappings may be nested; real specs need 10."""

MOST_MISTAKES = 100
"""How many mistakes of one text are reported; whoever makes more has another problem."""

LINE_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
"""What ends a line (YAML 1.1, chapter 4)."""


class BadText(ParameterError):
    """A text is not YAML, or holds something that JSON cannot; every mistake is in :attr:`diagnostics`.

    What a command raises when a parameter file or value cannot be read. For a spec, the loader turns it into
    :class:`packtivity.errors.InvalidSpec`.
    """

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        first = diagnostics[0]
        place = f"{first.position}: " if first.position else ""
        super().__init__(place + first.message, hint=first.hint)
        self.diagnostics = tuple(diagnostics)


def locate(text: str, source: str, offset: int) -> tuple[Position, str]:
    """Return the position of the character at ``offset``, and its line."""
    start, line = 0, 1
    for found in LINE_BREAK.finditer(text):
        if found.end() > offset:
            return Position(source, line, offset - start + 1), text[start : found.start()]
        start, line = found.end(), line + 1
    return Position(source, line, offset - start + 1), text[start:]


def error_at(text: str, source: str, offset: int, code: str, message: str, hint: str = "") -> Diagnostic:
    """Return the error that stands at the character ``offset`` of a text."""
    position, excerpt = locate(text, source, min(offset, len(text)))
    excerpt = excerpt.encode(errors="replace").decode()
    return Diagnostic("error", code, message, position=position, excerpt=excerpt, hint=hint)


def decode(content: bytes | str, source: str) -> str:
    """Return the text of a file: UTF-8, or UTF-16 with a byte order mark (YAML 1.1, chapter 5).

    :raises BadText: the bytes are no such text.
    """
    if isinstance(content, str):
        return _without_surrogates(content.removeprefix("\ufeff"), source)
    encoding = "utf-16" if content[:2] in {b"\xff\xfe", b"\xfe\xff"} else "utf-8"
    content = content.removeprefix(BOM_UTF8)
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        before = content[: error.start].decode(encoding, "replace")
        position, _ = locate(before, source, len(before))
        _, excerpt = locate(content.decode(encoding, "replace"), source, len(before))
        name = "UTF-16" if encoding == "utf-16" else "UTF-8"
        message = f"byte 0x{content[error.start]:02x} at offset {error.start} is not {name} text"
        hint = "Is this the right file? If so, save it as UTF-8 (iconv -f LATIN1 -t UTF-8 converts)."
        raise BadText(
            [Diagnostic("error", "not-utf-8", message, (), position, excerpt, expected="UTF-8 text", hint=hint)]
        ) from None


def _without_surrogates(text: str, source: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        message = f"character number {error.start + 1} comes from a byte that is not UTF-8"
        hint = "Write it as UTF-8."
        raise BadText([error_at(text, source, error.start, "invalid-character", message, hint)]) from None
    return text
