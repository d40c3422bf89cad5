"""What cannot work as written in a spec alone: braces that no parameter can fill, images, resources, jq programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from packtivity.interpolate import Placeholder
from packtivity.spec.diagnostics import Finding
from packtivity.spec.resources import findings as resource_findings
from packtivity.spec.templates import Template, braces, is_positional, is_shell, jq_programs, needs, templates


def template_findings(spec: dict[str, Any], given: frozenset[str] | None = None) -> Iterator[Finding]:
    """Yield findings about a spec's templates.

    :param given: names of the parameters; ``None`` when they are not known, and then ``{}`` beside names is a mistake.
    """
    all_have_names = given is None and bool(needs(spec))
    for template in templates(spec):
        yield from brace_findings(template, given or frozenset())
        for placeholder in braces(template.text).names:
            if not is_positional(placeholder):
                if placeholder.name not in (given or ()):
                    yield from _odd_name(placeholder, template)
            elif all_have_names and template.source != "state":
                yield positional_finding(placeholder, template)


def brace_findings(template: Template, given: frozenset[str] = frozenset()) -> Iterator[Finding]:
    """Yield findings about braces that no parameter can fill."""
    text, found = template.text, braces(template.text)
    for start, end in found.literal:
        if text[start + 1 : end - 1] not in given:
            message = f"{_short(text[start:end])} is taken for a placeholder, but no parameter has such a name"
            yield Finding(
                "literal-braces", message, template.path, offset=start, hint=_remedy(text[start + 1 : end - 1])
            )
    for offset in found.lone:
        message = f"lone {text[offset]!r}: the text cannot be rendered"
        hint = f"Write {text[offset] * 2} for a brace that is meant as it is."
        yield Finding("lone-brace", message, template.path, offset=offset, hint=hint)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return repr(line if len(line) <= 40 else f"{line[:18]} … {line[-18:]}")


def _remedy(inner: str) -> str:
    doubled = f"Write {_doubled(f'{{{inner}}}')}"
    name = inner.strip()
    if name.isidentifier():
        return f"Write {{{name}}}, without blanks, for the parameter {name!r}; {doubled[0].lower()}{doubled[1:]} for braces."
    return doubled


def _doubled(text: str) -> str:
    if "\n" in text or len(text) > 60:
        return "{{ for { and }} for } that belong to the script itself."
    return text.replace("{", "{{").replace("}", "}}")


def positional_finding(placeholder: Placeholder, template: Template) -> Finding:
    """Return the finding for ``{}`` where parameters have names."""
    shown = f"{{{placeholder.field}}}"
    message = f"{shown} is filled from a list of parameters, but this task's parameters have names"
    hint = f"Write {{{shown}}} if the braces are meant as they are, else name the parameter."
    return Finding("positional-placeholder", message, template.path, offset=placeholder.start, hint=hint)


def _odd_name(placeholder: Placeholder, template: Template) -> Iterator[Finding]:
    text = template.text[placeholder.start : placeholder.end]
    if is_shell(placeholder, template.text):
        message = f"${text} looks like a shell variable, but is taken for a placeholder"
        hint = f"Write ${{{text}}} for the variable; ${placeholder.name} does without braces."
        yield Finding("literal-braces", message, template.path, offset=placeholder.start - 1, hint=hint)
    elif "._" in placeholder.field:
        message = f"{text} reaches for Python internals, which is an error when the task is run"
        hint = "Use the parameter's own keys, such as {name[key]}."
        yield Finding("forbidden-placeholder", message, template.path, offset=placeholder.start, hint=hint)


def environment_findings(spec: dict[str, Any]) -> Iterator[Finding]:
    """Yield findings about a container environment."""
    environment = spec["environment"] or {}
    if environment.get("environment_type") == "docker-encapsulated":
        yield from _image_findings(environment)
        yield from _variable_findings(environment["env"])
        yield from resource_findings(environment["resources"])
        yield from _mount_findings(environment["par_mounts"])


def _image_findings(environment: Mapping[str, Any]) -> Iterator[Finding]:
    image, tag = environment["image"], environment["imagetag"]
    name, colon, given = image.rpartition(":")
    if "@" in image or not colon or "/" in given:
        return
    message = f"image {image!r} has a tag already; with imagetag it becomes {f'{image}:{tag}'!r}"
    hint = f'Write\nimage: {name}\nimagetag: "{given}"'
    yield Finding("image-with-tag", message, ("environment", "image"), offset=len(name), hint=hint)


def _variable_findings(variables: Mapping[str, Any]) -> Iterator[Finding]:
    for name in variables:
        if not (name.isascii() and name.isidentifier()):
            message = f"{name!r} is not a valid name of a variable"
            hint = "Rename it; the task cannot run with it."
            expected = "letters, digits and underscores, and no digit first"
            yield Finding(
                "bad-variable-name", message, ("environment", "env", name), True, expected=expected, hint=hint
            )


def _mount_findings(mounts: list[dict[str, Any]]) -> Iterator[Finding]:
    for index, mount in enumerate(mounts):
        path = ("environment", "par_mounts", index)
        for key in ("mountpath", "jqscript"):
            if key not in mount:
                hint = f"Add {key}; both 'mountpath' and 'jqscript' are needed."
                yield Finding("incomplete-mount", f"this entry has no {key!r}", path, expected=key, hint=hint)


def jq_findings(spec: dict[str, Any]) -> Iterator[Finding]:
    """Yield the jq programs that do not compile; jq is imported only if there are any."""
    for path, program in jq_programs(spec):
        import jq

        try:
            jq.compile(program)
        except ValueError as error:
            why = str(error).strip().partition("\n")[0].removeprefix("jq: error: ")
            yield Finding("bad-jq", f"not a jq program: {why}", path, hint="Try it with jq on the parameter file.")
