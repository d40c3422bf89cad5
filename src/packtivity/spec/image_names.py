"""Names of container images as a spec gives them: which there are, and what they are in full."""

from __future__ import annotations

import re

from packtivity.errors import ParameterError

_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
_NAME = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_REFERENCE = rf"(?:{_HOST}/)?{_NAME}(?:/{_NAME})*(?::[\w][\w.-]{{0,127}})?(?:@[A-Za-z0-9+._-]+:[0-9a-fA-F]{{32,}})?"
_URI = r"(?:oras|library|shub|docker-archive|oci|oci-archive)://?[^\s\x00-\x1f]+"
_ARCHIVE = r"(?:docker-archive|oci|oci-archive):(?://(?=/))?(?P<path>/(?!/)[^:]*)(?::.*)?"
_TRANSPORTS = frozenset(
    ("containers-storage", "dir", "docker-archive", "docker-daemon", "oci", "oci-archive", "ostree", "sif", "tarball")
)
"""What Podman takes a name before a colon for (containers-transports(5)): mostly for a place on this machine."""


def is_path(image: str) -> bool:
    """Return whether an image is a folder or SIF file and not something to pull."""
    return image.startswith(("/", "./", "../")) or image.endswith((".sif", ".simg"))


def is_uri(image: str) -> bool:
    """Return whether an image has a scheme that only Apptainer understands."""
    return re.fullmatch(_URI, image, re.ASCII) is not None


def archive_path(image: str) -> str | None:
    """Return the file or folder of an image that is an archive or a layout on this machine; ``None`` for others.

    The path ends at the first colon, as in containers-transports(5).

    :raises ParameterError: it is none that every tool understands alike.
    """
    if image.partition(":")[0] not in _TRANSPORTS or not is_uri(image):
        return None
    match = re.fullmatch(_ARCHIVE, image, re.ASCII | re.DOTALL)
    if match is None:
        raise ParameterError(
            f"environment.image: {image!r} has no absolute path",
            hint="Write one slash after the colon: oci-archive:/folder/image.tar.",
        )
    return match["path"]


def full_image(image: str, tag: str | None) -> str:
    """Join an environment's ``image`` and ``imagetag``.

    ``IMAGE:TAG`` as upstream 0.17.1, except that a tag or digest that the image already has is kept, and that a path
    gets no tag ``latest``.

    :raises ParameterError: the result is no image name, or two different tags are given.
    """
    image, tag = image.removeprefix("docker://"), tag or ""
    if is_path(image) or is_uri(image):
        joined = image if tag in ("", "latest") or image.endswith((f":{tag}", ".sif", ".simg")) else f"{image}:{tag}"
        if not joined.isprintable():
            raise ParameterError(f"environment.image: {joined!r} has a control character in it")
        return joined
    last = image.rpartition("/")[2]
    own = last.partition("@")[0].partition(":")[2]
    if "@" in last or own:
        if tag not in ("", "latest", own):
            raise ParameterError(
                f"environment: image {image!r} has a tag or digest already, and imagetag says {tag!r}",
                hint="Write the tag in one place only.",
            )
        joined = image
    else:
        joined = f"{image}:{tag}" if tag else image
    return _checked(joined)


def _checked(image: str) -> str:
    if image.partition(":")[0] in _TRANSPORTS:
        raise ParameterError(
            f"environment.image: {image!r} would be a place on this machine for some container tools",
            hint=f"If it is in a registry, write that as well: docker.io/library/{image}",
        )
    if not re.fullmatch(_REFERENCE, image, re.ASCII):
        lower = image.partition(":")[0].lower()
        hint = "Repository names are written in lower case." if lower != image.partition(":")[0] else ""
        raise ParameterError(
            f"environment.image: {image!r} is not the name of a container image",
            hint=hint or "Write REGISTRY/NAME, with :TAG or @sha256:DIGEST if need be, or an absolute path.",
        )
    return image
