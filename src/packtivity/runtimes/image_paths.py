"""Which files and folders of this machine a document may name as its image.

An image that is a place on the machine gives its content to the task: ``image: /`` would be everything that the caller
can read. So a document names places below CVMFS, whose content is published, and all others need the caller's word.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from packtivity.errors import EnvironmentUnavailable
from packtivity.runtimes.images import archive_path

if TYPE_CHECKING:
    from collections.abc import Sequence

CVMFS = "/cvmfs"


def existing(candidates: Sequence[str]) -> str | None:
    """Return the real path of the first candidate that is there; ``None`` if none is."""
    return next((os.path.realpath(path) for path in candidates if os.path.exists(path)), None)


def may_be_image(path: str, allowed: Sequence[str]) -> bool:
    """Return whether a document may name a place, wherever links in its path lead.

    :param allowed: folders and files that the caller has named, besides CVMFS.
    """
    real = os.path.realpath(path)
    return _is_below(real, CVMFS) or any(real == os.path.realpath(top) or _is_below(real, top) for top in allowed)


def _is_below(real: str, top: str) -> bool:
    return real.startswith(os.path.realpath(top).rstrip("/") + "/") and real != "/"


def refuse_foreign(image: str, path: str, allowed: Sequence[str]) -> None:
    """Refuse an image that is a place on this machine which the caller has not named.

    :raises EnvironmentUnavailable: a document may not name ``path``.
    """
    if may_be_image(path, allowed):
        return
    real = os.path.realpath(path)
    where = image if real == image else f"{image} ({real})"
    raise EnvironmentUnavailable(
        f"image {where} is a place on this machine; a spec may use only places below {CVMFS} as its image, because its task "
        "can read what is there",
        hint=f"To allow it, name it or the folder it is in: --image-dir {real}, or PACKTIVITY_IMAGE_DIRS.",
    )


def check_archive(image: str, allowed: Sequence[str]) -> None:
    """Refuse an archive or layout (``docker-archive:/…``, ``oci:/…``) in a place that the caller has not named.

    :raises EnvironmentUnavailable: it is in such a place.
    """
    path = archive_path(image)
    if path is not None:
        refuse_foreign(image, path, allowed)
