"""The commands ``packtivity describe`` and ``packtivity example``: what a spec asks for, before anything runs."""

from __future__ import annotations

import json
import shlex
import sys
from typing import TYPE_CHECKING, Any

from packtivity.cli.errors import CannotWrite
from packtivity.cli.inputs import command_line, load_spec
from packtivity.cli.terminal import named_leaves, say, say_json, show, wants_colour
from packtivity.errors import ParameterError, UsageError
from packtivity.printable import printable
from packtivity.runtimes.resources import understand
from packtivity.spec.diagnostics import dotted
from packtivity.spec.image_names import full_image
from packtivity.spec.parts import kind_of, needs
from packtivity.spec.remote import without_secrets

if TYPE_CHECKING:
    from packtivity.cli.declarations import DescribeOptions, ExampleOptions


def describe_spec(options: DescribeOptions) -> None:
    """Carry out ``packtivity describe``."""
    summary = summarise(load_spec(options))
    if options.format == "json":
        say_json(summary, indent=2)
    else:
        show("\n".join(as_text(summary, without_secrets(options.spec), colour=wants_colour(sys.stdout))))


def write_example(options: ExampleOptions) -> None:
    """Carry out ``packtivity example``.

    :raises UsageError: the file is there already.
    :raises CannotWrite: it cannot be written.
    """
    output = options.output
    use = f"{command_line(options, 'packtivity-run')} {shlex.quote(output or 'parameters.yml')}"
    text = as_example(summarise(load_spec(options)), use)
    if output is None:
        say(text)
        return
    try:
        with open(output, "w" if options.force else "x", encoding="utf-8") as file:
            file.write(f"{text}\n")
    except FileExistsError as error:
        raise UsageError.of(
            error, f"{output} exists already", hint="Use another name, or --force to overwrite it."
        ) from None
    except OSError as error:
        raise CannotWrite.of(error, f"{output} cannot be written: {error.strerror}") from None


def summarise(spec: dict[str, Any]) -> dict[str, Any]:
    """Return what ``describe --format json`` prints.

    :param spec: valid, defaults filled.
    :returns: ``process_type``, ``environment_type``, ``publisher_type``, ``image``, ``user``, ``resources``, ``parameters``
        (name → ``used``: list of places, ``published_as``: list of output names) and ``outputs`` (name → what it
        will be; ``None`` when names are only known after the run).
    """
    process, environment, publisher = spec["process"] or {}, spec["environment"] or {}, spec["publisher"]
    names = kind_of(publisher).names
    published = [*named_leaves(publisher[names])] if names else []
    return {
        "process_type": process.get("process_type"),
        "environment_type": environment.get("environment_type"),
        "publisher_type": publisher.get("publisher_type"),
        "image": _image(environment),
        "user": _user(environment),
        "resources": environment.get("resources", []),
        "parameters": {
            name: {
                "used": [dotted(path) for path in paths],
                "published_as": [output for output, value in published if value == name],
            }
            for name, paths in needs(spec).items()
        },
        "outputs": _outputs(publisher),
    }


def _image(environment: dict[str, Any]) -> str | None:
    if "image" not in environment:
        return None
    try:
        return full_image(environment["image"], environment["imagetag"])
    except ParameterError:  # which is for the run to say
        return f"{environment['image']}:{environment['imagetag']}"


def _user(environment: dict[str, Any]) -> str | None:
    """Say who the task is in its container, and what its home is."""
    if "image" not in environment:
        return None
    uid = understand(environment.get("resources") or []).uid
    return "the image's own, with its home" if uid is None else f"{uid} (kubernetes_uid), with /tmp for a home"


def _outputs(publisher: dict[str, Any]) -> dict[str, str] | None:
    kind = kind_of(publisher)
    if kind.names:
        return {
            name: f"value of parameter {value}" if isinstance(value, str) and value else _literal(value)
            for name, value in named_leaves(publisher[kind.names])
            if name
        }
    if kind.outputs:
        found = {name: _literal(value) for name, value in named_leaves(publisher[kind.outputs])}
        return {name or "(document)": text for name, text in found.items() if name or text != "{}"}
    if kind.pattern:
        return {publisher["outputkey"]: f"files matching {publisher[kind.pattern]}"}
    return None


def _literal(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def as_text(found: dict[str, Any], name: str, *, colour: bool = False) -> list[str]:
    """Return the lines that ``describe`` prints for people."""
    bold, plain = ("\x1b[1m", "\x1b[0m") if colour else ("", "")
    resources = ", ".join(_literal(resource) for resource in found["resources"])
    facts = {"process": found["process_type"], "environment": found["environment_type"]}
    facts |= {"image": found["image"], "user": found["user"], "resources": resources}
    lines = [f"{bold}{printable(name)}{plain}"]
    lines += _columns({key: str(value) for key, value in facts.items() if value})
    lines += ["", f"{bold}parameters{plain}"]
    lines += _columns({key: _uses(value) for key, value in found["parameters"].items()}) or ["  (none)"]
    lines += ["", f"{bold}outputs{plain} ({printable(str(found['publisher_type']))})"]
    if found["outputs"] is None:
        return [*lines, f"  {kind_of(found).description}"]
    return lines + (_columns(found["outputs"]) or ["  (none)"])


def _uses(parameter: dict[str, Any]) -> str:
    used = ", ".join(dict.fromkeys(parameter["used"]))
    published = ", ".join(parameter["published_as"])
    return f"{used}; published as {published}" if published else used


def _columns(rows: dict[str, str]) -> list[str]:
    width = max(map(len, rows), default=0)
    return [f"  {printable(key):{width}}  {_one_line(text)}".rstrip() for key, text in rows.items()]


def _one_line(text: str) -> str:
    return printable(" ".join(text.split()))


def as_example(found: dict[str, Any], use: str) -> str:
    """Return the text of a parameter file to fill in.

    :param use: the command that takes it when it is filled in.
    """
    lines = [
        f"# Fill in, then: {_one_line(use)}",
        "# In values, {workdir} stands for the first --write directory, {readdir0} for the first --read directory.",
    ]
    for name, parameter in found["parameters"].items():
        is_plain = name.isidentifier() and name.isascii() and name.lower() not in _NOT_PLAIN
        # What is published is nearly always a file that the task makes; a list of them is for the user to write.
        value = " " + json.dumps("{workdir}/" + name) if parameter["published_as"] else ""
        lines += ["", f"# {_one_line(_uses(parameter))}", f"{name if is_plain else json.dumps(name)}:{value}"]
    if not found["parameters"]:
        lines += ["", "# This task needs no parameters.", "{}"]
    return "\n".join(lines)


_NOT_PLAIN = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
