"""Remote documents, over the network or from the cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packtivity.errors import LoadError

if TYPE_CHECKING:
    from packtivity.settings import Settings
    from packtivity.spec.sources import GitLabFile, WebFile


def fetch(file: WebFile | GitLabFile, settings: Settings, *, offline: bool) -> bytes:
    """Return the content of a remote document.

    :raises LoadError: always, so far.
    """
    del settings, offline
    raise LoadError(f"{file.shown}: remote documents cannot be read yet")
