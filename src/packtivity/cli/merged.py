"""Parameters from several files and options as one document that knows where each came from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from packtivity.spec.document import Document
    from packtivity.types import Diagnostic, Path, Position


class Merged:
    """What :class:`packtivity.spec.document.Document` offers, for a mapping put together from several texts."""

    source = "parameters"

    def __init__(self) -> None:
        self.data: dict[str, Any] = {}
        self.problems: tuple[Diagnostic, ...] = ()
        self._origin: dict[str, tuple[Document, Path]] = {}
        self._documents: list[Document] = []

    def add(self, text: str, source: str) -> Any:
        """Take the keys of a mapping; later ones win. What is not YAML is a ``BadText``, as everywhere.

        :returns: what the text says, for the caller to refuse if it is no mapping.
        """
        document = self._read(text, source)
        if isinstance(document.data, dict):
            self.data.update(document.data)
            self._origin.update({name: (document, (name,)) for name in document.data})
        return document.data

    def add_one(self, name: str, text: str, source: str) -> None:
        """Take one value."""
        document = self._read(text, source)
        self.data[name] = document.data
        self._origin[name] = (document, ())

    def _read(self, text: str, source: str) -> Document:
        from packtivity.errors import InvalidSpec
        from packtivity.spec.document import parse_document
        from packtivity.spec.yamltext import BadText

        try:
            document = parse_document(text, source)
        except InvalidSpec as error:
            raise BadText(error.diagnostics) from None
        self._documents.append(document)
        self.problems += document.problems
        return document

    def position(self, path: Path, *, key: bool = False) -> Position | None:
        """Return where the value (or its key) stands."""
        found = self._find(path)
        return found and found[0].position(found[1], key=key)

    def offset_position(self, path: Path, offset: int) -> Position | None:
        """Return where a character of the string at ``path`` stands."""
        found = self._find(path)
        return found and found[0].offset_position(found[1], offset)

    def excerpt(self, position: Position) -> str:
        """Return the line of text that a position is in."""
        for document in self._documents:
            if document.source == position.file:
                return document.excerpt(position)
        return ""

    def _find(self, path: Path) -> tuple[Document, Path] | None:
        if not path or path[0] not in self._origin:
            return None
        document, start = self._origin[str(path[0])]
        return document, (*start, *path[1:])
