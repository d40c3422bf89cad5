"""Text to plain data: YAML 1.1 as upstream 0.17.1 reads it, and JSON, which is YAML too.

What differs from ``yaml.safe_load``: dates stay the strings they are, keys become the strings :func:`json.dumps`
would write, repeated keys are told, and anything that is not JSON is an error with a place. Nothing here opens
files; where a document comes from is the business of :mod:`packtivity.spec.sources`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from packtivity.errors import ParameterError
from packtivity.types import JSON, Diagnostic, Position

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_DEPTH = 100
"""How deep lists and mappings may stand inside each other; real specs need 10."""

TOLD = 100
"""How many mistakes of one text are told; whoever makes more has another problem."""

LINE_BREAK = "\r\n|[\n\r\x85\u2028\u2029]"
"""Pattern of what ends a line (YAML 1.1, chapter 4); compiled by who needs it."""


class BadText(ParameterError):
    """A text is not YAML, or says something that JSON cannot; every mistake is in :attr:`diagnostics`.

    What a command raises when a parameter file or value cannot be read. For a spec, the loader turns it into
    :class:`packtivity.errors.InvalidSpec`.
    """

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        first = diagnostics[0]
        place = f"{first.position}: " if first.position else ""
        super().__init__(place + first.message, hint=first.hint)
        self.diagnostics = tuple(diagnostics)


class Parsed:
    """One text and what it says.

    :ivar text: the text, decoded, without byte order mark.
    :ivar source: its name, for people: a path or URL.
    :ivar data: plain JSON data; nothing in it is shared, so it may be changed.
    :ivar problems: warnings.
    :ivar references: whether some mapping has a key ``$ref``.
    """

    __slots__ = ("_lines", "_node", "data", "problems", "references", "source", "text")

    def __init__(
        self,
        text: str,
        source: str,
        data: JSON,
        problems: tuple[Diagnostic, ...] = (),
        references: bool = False,
        node: Any = None,
    ) -> None:
        self.text = text
        self.source = source
        self.data = data
        self.problems = problems
        self.references = references
        self._node = node
        self._lines: list[str] | None = None

    def node(self) -> Any:
        """Return the root of the YAML node tree; that of a JSON text is made when first asked for."""
        if self._node is None and self.data is not None:
            from packtivity.spec.yamlnodes import compose

            # Tabs between the tokens of a JSON text are no YAML; inside its strings there are none.
            self._node = compose(self.text.replace("\t", " "), self.source)
        return self._node

    def line(self, number: int) -> str:
        """Return a line of the text, counted from 1, without its newline; empty past the end."""
        if self._lines is None:
            import re

            self._lines = re.split(LINE_BREAK, self.text)
        return self._lines[number - 1] if 0 < number <= len(self._lines) else ""


def locate(text: str, source: str, offset: int) -> tuple[Position, str]:
    """Return where the character at ``offset`` stands, and its line."""
    import re

    start, line = 0, 1
    for found in re.finditer(LINE_BREAK, text):
        if found.end() > offset:
            return Position(source, line, offset - start + 1), text[start : found.start()]
        start, line = found.end(), line + 1
    return Position(source, line, offset - start + 1), text[start:]


def decode(content: bytes | str, source: str) -> str:
    """Return the text of a file: UTF-8, or UTF-16 with a byte order mark (YAML 1.1, chapter 5).

    :raises BadText: the bytes are no such text.
    """
    if isinstance(content, str):
        return _without_surrogates(content.removeprefix("\ufeff"), source)
    encoding = "utf-16" if content[:2] in {b"\xff\xfe", b"\xfe\xff"} else "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        before = content[: error.start].decode(encoding, "replace")
        position, _ = locate(before, source, len(before))
        _, excerpt = locate(content.decode(encoding, "replace"), source, len(before))
        name = "UTF-16" if encoding == "utf-16" else "UTF-8"
        raise BadText(
            [
                Diagnostic(
                    "error",
                    "not-utf-8",
                    f"byte 0x{content[error.start]:02x} at offset {error.start} is not {name} text",
                    position=position,
                    excerpt=excerpt,
                    expected="UTF-8 text",
                    hint="Is this the right file? If so, save it as UTF-8 (iconv -f LATIN1 -t UTF-8 converts).",
                )
            ]
        ) from None


def _without_surrogates(text: str, source: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        position, excerpt = locate(text, source, error.start)
        raise BadText(
            [
                Diagnostic(
                    "error",
                    "invalid-character",
                    f"character number {error.start + 1} comes from a byte that is not UTF-8",
                    position=position,
                    excerpt=excerpt.encode(errors="replace").decode(),
                    hint="Write it as UTF-8.",
                )
            ]
        ) from None
    return text


def parse(content: bytes | str, source: str) -> Parsed:
    """Read a text.

    :param source: its name in positions.
    :raises BadText: it is not text, not YAML, not JSON data, or so deep or large that nobody means it.
    """
    text = decode(content, source)
    if text[:1] in {"{", "["}:
        from packtivity.spec.jsontext import read_json

        found = read_json(text)
        if found is not None:
            return Parsed(text, source, found[0], references=found[1])
    from packtivity.spec.yamldata import Reader
    from packtivity.spec.yamlnodes import compose

    node = compose(text, source)
    reader = Reader(text, source)
    data = reader.read(node)
    return Parsed(text, source, data, reader.problems(), reader.references, node)


def load_yaml(content: bytes | str, source: str = "<text>") -> JSON:
    """Return what a YAML text says: dates stay strings, keys become strings, an empty text is ``None``.

    :raises BadText: (a :class:`~packtivity.errors.ParameterError`) it is not YAML, or not JSON data.
    """
    return parse(content, source).data
