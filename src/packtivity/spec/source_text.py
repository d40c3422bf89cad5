"""Source texts: decoding, lines and places in them, and the error for a text that cannot be read."""

from __future__ import annotations

import re
from bisect import bisect_right
from codecs import BOM_UTF8
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from packtivity.errors import ParameterError
from packtivity.types import Diagnostic, Path, Position, Severity

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


@dataclass(eq=False, repr=False)
class Text:
    """A text.

    :ivar content: decoded, without byte order mark.
    :ivar source: its name, for people: a path or URL.
    """

    content: str
    source: str

    @cached_property
    def _lines(self) -> list[str]:
        return LINE_BREAK.split(self.content)

    @cached_property
    def _starts(self) -> list[int]:
        return [0, *(found.end() for found in LINE_BREAK.finditer(self.content))]

    def line(self, number: int) -> str:
        """Return a line, counted from 1, without its newline; empty past the end."""
        return self._lines[number - 1] if 0 < number <= len(self._lines) else ""

    def place(self, offset: int) -> Position:
        """Return the position of the character at ``offset``."""
        line = bisect_right(self._starts, offset)
        return Position(self.source, line, offset - self._starts[line - 1] + 1)

    def diagnostic(
        self, offset: int, code: str, message: str, hint: str, path: Path = (), severity: Severity = "error"
    ) -> Diagnostic:
        """Return what there is to tell about the character at ``offset``; ``path`` is the place in the data."""
        position = self.place(min(offset, len(self.content)))
        return Diagnostic(severity, code, message, path, position, self.line(position.line), hint=hint)

    def error(self, offset: int, code: str, message: str, hint: str) -> BadText:
        """Return the error for a text that cannot be used because of what stands at ``offset``."""
        return BadText([self.diagnostic(offset, code, message, hint)])


def decode(content: bytes | str, source: str) -> Text:
    """Return the text of a file: UTF-8, or UTF-16 with a byte order mark (YAML 1.1, chapter 5).

    :raises BadText: the bytes are no such text.
    """
    if isinstance(content, str):
        return _without_surrogates(content.removeprefix("\ufeff"), source)
    encoding = "utf-16" if content[:2] in {b"\xff\xfe", b"\xfe\xff"} else "utf-8"
    content = content.removeprefix(BOM_UTF8)
    try:
        return Text(content.decode(encoding), source)
    except UnicodeDecodeError as error:
        readable = Text(content.decode(encoding, "replace"), source)
        name = "UTF-16" if encoding == "utf-16" else "UTF-8"
        message = f"byte 0x{content[error.start]:02x} at offset {error.start} is not {name} text"
        hint = "Is this the right file? If so, save it as UTF-8 (iconv -f LATIN1 -t UTF-8 converts)."
        offset = len(content[: error.start].decode(encoding, "replace"))
        found = readable.diagnostic(offset, "not-utf-8", message, hint)
        raise BadText([found._replace(expected="UTF-8 text")]) from None


def _without_surrogates(content: str, source: str) -> Text:
    try:
        content.encode()
    except UnicodeEncodeError as error:
        message = f"character number {error.start + 1} comes from a byte that is not UTF-8"
        readable = Text(content.encode(errors="replace").decode(), source)
        raise readable.error(error.start, "invalid-character", message, "Write it as UTF-8.") from None
    return Text(content, source)
