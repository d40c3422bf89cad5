"""What is allowed and yet surely not meant: unknown placeholders, misspelt parameters, shell braces in templates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from packtivity.spec.document import Document
    from packtivity.types import Diagnostic


def lint_spec(document: Document | None, spec: dict[str, Any], parameters: Document | None = None) -> list[Diagnostic]:
    """Return warnings about a valid spec."""
    return []
