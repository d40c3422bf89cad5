"""The commands ``packtivity describe`` and ``packtivity example``: what a spec asks for, before anything runs."""

from __future__ import annotations

import shlex
import sys
from typing import Any

import click

from packtivity.cli import options
from packtivity.cli.command import command
from packtivity.cli.printing import say, say_json, show

_OUTPUT = click.option(
    "-o",
    "--output",
    default=None,
    type=options.File(directory=False),
    help="Write to this file in place of standard output; one that exists is left alone.",
)
_FORCE = click.option("--force", is_flag=True, help="Overwrite the file of --output.")


@command("describe", options.spec, options.document, options.document_format)
def describe(**given: Any) -> None:
    """Print what the task of SPEC needs and what it publishes.

    Its parameters with the places where each is used, the image and resources, and the outputs.
    """
    from packtivity.cli.inputs import load_spec
    from packtivity.cli.summary import as_text, summarise

    found = summarise(load_spec(given))
    if given["format"] == "json":
        say_json(found, indent=2)
        return
    from packtivity.cli.terminal import wants_colour
    from packtivity.spec.sources import without_secrets

    show("\n".join(as_text(found, without_secrets(given["spec"]), colour=wants_colour(sys.stdout))))


@command("example", options.spec, options.document, _OUTPUT, _FORCE)
def example(**given: Any) -> None:
    """Write a parameter file for SPEC to fill in (YAML), with comments that say where each parameter is used."""
    from packtivity.cli.inputs import load_spec
    from packtivity.cli.summary import as_example, summarise
    from packtivity.errors import UsageError
    from packtivity.spec.sources import without_secrets

    words = ["packtivity-run", *(["-t", given["toplevel"]] if given["toplevel"] else []), given["spec"]]
    words = [without_secrets(word) for word in words]
    text = as_example(summarise(load_spec(given)), shlex.join([*words, given["output"] or "parameters.yml"]))
    output = given["output"]
    if output is None:
        say(text, end=False)
        return
    try:
        with open(output, "w" if given["force"] else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(f"{output} exists already", hint="Use another name, or --force to overwrite it.") from None
    except OSError as error:
        from packtivity.cli.errors import CannotWrite

        raise CannotWrite(f"{output} cannot be written: {error.strerror}") from None
