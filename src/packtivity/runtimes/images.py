"""Names of container images, which files and folders of this machine a document may name as one, and lock files.

An image that is a place on the machine gives its content to the task: ``image: /`` would be everything that the caller
can read. So a document names places below CVMFS, whose content is published, and all others need the caller's word.
"""

from __future__ import annotations

import json
import os
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from packtivity.errors import EnvironmentUnavailable, LoadError, StateError
from packtivity.files import replacing
from packtivity.spec.image_names import is_path

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from packtivity.runtimes.base import Runtime

UNPACKED = "/cvmfs/unpacked.cern.ch"
"""Where CERN publishes unpacked images."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A registry reference in full, as every tool understands it.

    :ivar registry: host, with port: ``docker.io``.
    :ivar repository: path in the registry: ``library/python``.
    :ivar tag: empty when there is only a digest.
    :ivar digest: ``sha256:…``, or empty.
    """

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        tag, digest = self.tag and f":{self.tag}", self.digest and f"@{self.digest}"
        return f"{self.registry}/{self.repository}{tag}{digest}"

    @property
    def name(self) -> str:
        """Return registry and repository."""
        return f"{self.registry}/{self.repository}"


@dataclass(frozen=True, slots=True)
class Image:
    """An image that is available on this machine.

    :ivar reference: as the spec names it.
    :ivar run: what the tool is given: the reference, a folder or a file.
    :ivar digest: ``sha256:…`` in its registry; empty when it never was in one.
    :ivar identifier: the tool's own identifier of its contents; empty when it has none.
    :ivar workdir: work directory the image asks for, where the tool does not look itself.
    :ivar user: the user that the image asks for, as it names it; empty for root.
    :ivar home: ``HOME`` as the image sets it, where the tool does not look itself.
    :ivar ids: user and group id of that user, where somebody looked them up.
    :ivar seen: when the store was inspected, seconds since the epoch.
    """

    reference: str
    run: str
    digest: str = ""
    identifier: str = ""
    workdir: str = ""
    user: str = ""
    home: str = ""
    ids: tuple[int, int] | None = None
    seen: float = 0.0

    def note(self) -> dict[str, str | None]:
        """Return what a record says about it."""
        return {"reference": self.reference, "digest": self.digest or None}

    @property
    def is_fresh(self) -> bool:
        """Return whether the store was inspected a short while ago."""
        return 0 <= time.time() - self.seen < FRESH


FRESH = 60.0
"""Seconds for which what was seen is believed without looking again."""


def parse(image: str) -> Reference:
    """Take a reference apart; the parts that people leave out are Docker's (``docker.io``, ``library/``, ``latest``)."""
    named, _, digest = image.partition("@")
    host, slash, rest = named.partition("/")
    if slash and ("." in host or ":" in host or host == "localhost"):
        registry, path = host, rest
    else:
        registry, path = "docker.io", named
    folder, colon, tag = path.rpartition(":")
    repository, tag = (folder, tag) if colon else (path, "")
    if registry in ("docker.io", "index.docker.io", "registry.hub.docker.com"):
        registry = "docker.io"
        repository = repository if "/" in repository else f"library/{repository}"
    return Reference(registry, repository, tag or ("" if digest else "latest"), digest)


def is_loopback(registry: str) -> bool:
    """Return whether a registry is on this machine, and so spoken to without encryption, as Docker does."""
    host = re.sub(r":[0-9]+$", "", registry)
    return re.fullmatch(r"localhost|127\.[0-9]+\.[0-9]+\.[0-9]+|\[::1\]", host) is not None


def matching_digest(image: str, repo_digests: list[str]) -> str:
    """Return the digest that belongs to an image's repository, out of what ``image inspect`` says; empty if none."""
    wanted = parse(image)
    references = [reference for text in repo_digests if (reference := parse(text)).digest]
    same = [reference.digest for reference in references if reference.name == wanted.name]
    if wanted.digest in same:
        return wanted.digest
    return (same or [""])[0]


def unpacked_candidates(image: str) -> list[str]:
    """Return where CVMFS would have an unpacked copy of an image."""
    if is_path(image):
        return [image, f"{image}:latest"]
    reference = parse(image)
    hosts = ["registry.hub.docker.com", "docker.io"] if reference.registry == "docker.io" else [reference.registry]
    return [f"{UNPACKED}/{host}/{reference.repository}:{reference.tag or 'latest'}" for host in hosts]


def packed_name(path: str) -> str | None:
    """Return the registry reference of an image that CVMFS has unpacked, for tools that cannot run a folder."""
    inner = path.removeprefix(f"{UNPACKED}/")
    if inner == path or inner.startswith(".") or "/" not in inner:
        return None
    return str(parse(inner))


# --- places on this machine ------------------------------------------------------------------------------------

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


# --- lock files ------------------------------------------------------------------------------------------------

# JSON, {"version": 1, "images": {"docker.io/library/python:3.12": "sha256:..."}}; image names as in the specs.


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
        if document["version"] != 1 or not all(isinstance(digest, str) for digest in images.values()):
            raise ValueError("not of this version")
    except OSError as error:
        raise LoadError.of(
            error, f"lock file {path} cannot be read: {error.strerror}", hint="Write it with: packtivity lock SPEC"
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
    text = json.dumps({"version": 1, "images": dict(sorted(merged.items()))}, indent=2) + "\n"
    try:
        with replacing(path) as temporary, open(temporary, "x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise StateError.of(error, f"lock file {path} cannot be written: {error.strerror}") from error


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
