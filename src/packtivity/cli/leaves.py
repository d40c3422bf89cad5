"""What a document says, leaf by leaf under names that people write: ``outputs.files[0]``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from packtivity.types import JSON


def named_leaves(document: JSON, name: str = "") -> Iterator[tuple[str, Any]]:
    """Give each value with its name, ``null``, ``false`` and empty containers too; no name if it is all there is."""
    if isinstance(document, dict) and document:
        for key, value in document.items():
            yield from named_leaves(value, f"{name}.{key}" if name else str(key))
    elif isinstance(document, list) and document:
        for position, value in enumerate(document):
            yield from named_leaves(value, f"{name}[{position}]")
    else:
        yield name, document
