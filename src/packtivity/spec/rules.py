"""What cannot work as written in an environment and in jq programs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from packtivity.errors import ParameterError
from packtivity.spec.diagnostics import Finding
from packtivity.spec.image_names import full_image, is_path, is_uri
from packtivity.spec.parts import jq_programs, templates, wildcard_at
from packtivity.spec.resources import findings as resource_findings


def environment_findings(spec: dict[str, Any]) -> Iterator[Finding]:
    """Yield findings about a container environment."""
    environment = spec["environment"] or {}
    if environment.get("environment_type") != "docker-encapsulated":
        return
    yield from _image_findings(environment["image"], environment["imagetag"])
    for name in environment["env"]:
        if not (name.isascii() and name.isidentifier()):
            message, path = f"{name!r} is not a valid name of a variable", ("environment", "env", name)
            expected = "letters, digits and underscores, and no digit first"
            hint = "Rename it; the task cannot run with it."
            yield Finding("bad-variable-name", message, path, at_key=True, expected=expected, hint=hint)
    yield from resource_findings(environment["resources"])
    for index, mount in enumerate(environment["par_mounts"]):
        for key in ("mountpath", "jqscript"):
            if key not in mount:
                path = ("environment", "par_mounts", index)
                hint = f"Add {key}; both 'mountpath' and 'jqscript' are needed."
                yield Finding("incomplete-mount", f"this entry has no {key!r}", path, expected=key, hint=hint)


def _image_findings(image: str, tag: str) -> Iterator[Finding]:
    try:
        full_image(image, tag)
    except ParameterError as error:
        message = error.message.removeprefix("environment.image: ").removeprefix("environment: ")
        yield Finding("impossible-image", message, ("environment", "image"), hint=error.hint)
        return
    name, _, given = image.rpartition(":")
    if name and not (_has_no_tag(image) or "@" in image or is_uri(image) or is_path(image)):
        message = f"image {image!r} has a tag already, which is taken; other programs make {f'{image}:{tag}'!r} of it"
        hint = f'Write\nimage: {name}\nimagetag: "{given}"'
        yield Finding("image-with-tag", message, ("environment", "image"), offset=len(name), hint=hint)


def jq_findings(spec: dict[str, Any]) -> Iterator[Finding]:
    """Yield the jq programs that do not compile; jq is imported only if there are any."""
    for path, program in jq_programs(spec):
        import jq

        try:
            jq.compile(program)
        except ValueError as error:
            why = str(error).strip().partition("\n")[0].removeprefix("jq: error: ")
            yield Finding("bad-jq", f"not a jq program: {why}", path, hint="Try it with jq on the parameter file.")


_CHANGES_DIRECTORY = re.compile(
    r"(?:^|[;&|(]|\b(?:do|then|else)\b)[ \t]*(cd[ \t]+(?:--[ \t]+)?/[^\s;&|)]*)", re.MULTILINE
)


def advice_findings(spec: dict[str, Any]) -> Iterator[Finding]:
    """Yield advice on a valid spec, without defaults."""
    environment, publisher = spec["environment"] or {}, spec["publisher"]
    image, kind = environment.get("image"), environment.get("environment_type")
    if image is not None and "imagetag" not in environment and _has_no_tag(image):
        message = f"image {image!r} has no tag, so 'latest' is taken, which may be another image at any time"
        yield Finding("image-without-tag", message, ("environment", "image"), hint="Add imagetag, or @sha256:DIGEST.")
    for template in templates(spec):
        moved = _CHANGES_DIRECTORY.search(template.text) if template.source == "process" else None
        if moved and kind == "docker-encapsulated":
            message = f"{moved[1]!r} leaves the work directory: files written by relative names stay in the container"
            hint = "Write results to the paths that parameters give, such as {outputfile}."
            yield template.finding(moved.start(1), "leaves-workdir", message, hint)
        at = wildcard_at(template.text) if template.source == "publisher" else -1
        if at >= 0 and not publisher.get("glob"):
            message = f"the pattern {template.text!r} is published as it stands, because 'glob' is not true"
            hint = "Write glob: true to publish the list of files that match."
            yield template.finding(at, "pattern-as-text", message, hint)


def _has_no_tag(image: str) -> bool:
    return not (is_path(image) or is_uri(image) or "@" in image or ":" in image.rpartition("/")[2])
