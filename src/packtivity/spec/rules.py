"""What cannot work as written in an environment and in jq programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from packtivity.spec.diagnostics import Finding
from packtivity.spec.parts import jq_programs
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
            hint, expected = (
                "Rename it; the task cannot run with it.",
                "letters, digits and underscores, and no digit first",
            )
            yield Finding("bad-variable-name", message, path, at_key=True, expected=expected, hint=hint)
    yield from resource_findings(environment["resources"])
    for index, mount in enumerate(environment["par_mounts"]):
        for key in ("mountpath", "jqscript"):
            if key not in mount:
                path, hint = (
                    ("environment", "par_mounts", index),
                    f"Add {key}; both 'mountpath' and 'jqscript' are needed.",
                )
                yield Finding("incomplete-mount", f"this entry has no {key!r}", path, expected=key, hint=hint)


def _image_findings(image: str, tag: str) -> Iterator[Finding]:
    name, colon, given = image.rpartition(":")
    if "@" in image or not colon or "/" in given:
        return
    message = f"image {image!r} has a tag already; with imagetag it becomes {f'{image}:{tag}'!r}"
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
