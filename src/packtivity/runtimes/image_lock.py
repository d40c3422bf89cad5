"""Lock files: the digest that each container image must have.

JSON, ``{"version": 1, "images": {"docker.io/library/python:3.12": "sha256:…"}}``; image names as in the specs.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from packtivity.errors import EnvironmentUnavailable, LoadError, StateError
from packtivity.files import replacing
from packtivity.runtimes.images import UNPACKED, is_path, parse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from packtivity.runtimes.base import Runtime
    from packtivity.runtimes.image_store import Image

VERSION = 1


def locked_reference(reference: str, locked: Mapping[str, str] | None) -> str:
    """Name an image by its locked digest, so that nothing else can be run.

    :param locked: the digest each image must have; ``None`` when any will do.
    :raises EnvironmentUnavailable: the image is not among them, or named with another digest.
    """
    if locked is None:
        return reference
    if reference not in locked:
        raise EnvironmentUnavailable(
            f"the image {reference} is not in the lock file", hint="Add it with: packtivity lock SPEC"
        )
    digest = locked[reference]
    if "@" in reference and not reference.endswith(f"@{digest}"):
        raise EnvironmentUnavailable(f"the image {reference} is locked to another digest: {digest}")
    return f"{parse(reference).name}@{digest}"


def read_lock(path: str) -> dict[str, str]:
    """Return image → digest.

    :raises LoadError: the file does not exist or is not a lock file.
    """
    try:
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
        images = document["images"]
        if document["version"] != VERSION or not all(isinstance(digest, str) for digest in images.values()):
            raise ValueError("not of this version")
    except OSError as error:
        raise LoadError(
            f"lock file {path} cannot be read: {error.strerror}", hint="Write it with: packtivity lock SPEC"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LoadError(
            f"{path} is not a lock file: {error}", hint="Remove it, and write it anew: packtivity lock SPEC"
        ) from None
    return dict(images)


def write_lock(path: str, images: dict[str, str]) -> None:
    """Add images to a lock file, which is created if necessary and never half written.

    :raises LoadError: the file exists and is not a lock file.
    :raises StateError: it cannot be written.
    """
    merged = {**(read_lock(path) if os.path.exists(path) else {}), **images}
    text = json.dumps({"version": VERSION, "images": dict(sorted(merged.items()))}, indent=2) + "\n"
    try:
        with replacing(path) as temporary, open(temporary, "x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise StateError(f"lock file {path} cannot be written: {error.strerror}") from error


def digest_of(image: Image, runtime: Runtime) -> str:
    """Return what to lock an image to.

    :raises EnvironmentUnavailable: it has no digest by which others could get the same image, or its registry gives none.
    """
    if image.digest:
        return image.digest
    if is_path(image.reference) or image.run.startswith(UNPACKED):
        return image.identifier
    if not runtime.has_store:
        raise EnvironmentUnavailable(
            f"the image {image.reference} cannot be locked: its registry does not tell its digest",
            hint=f"If it is private, log in: {runtime.name} {runtime.login}",
        )
    raise EnvironmentUnavailable(
        f"the image {image.reference} cannot be locked: it was made here and has no digest in a registry",
        hint=f"Push it to a registry with {runtime.name}, and name it there.",
    )
