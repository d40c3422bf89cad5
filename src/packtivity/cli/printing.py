"""How commands print: nothing else in the command line writes to a stream, but for what draws on a terminal."""

from __future__ import annotations

import sys
from typing import Any

import click

from packtivity.printable import escaped


def say(text: str, *, err: bool = False, end: bool = True) -> None:
    """Print lines; what a document has put into them cannot steer a terminal.

    :param err: print on standard error.
    :param end: end with a line end.
    """
    click.echo(escaped(text), err=err, nl=end)


def say_json(document: Any, **how: Any) -> None:
    """Print a document as JSON, which is ASCII with everything else escaped.

    :param how: keyword arguments of :func:`json.dumps`.
    """
    import json

    click.echo(json.dumps(document, **how))


def show(text: str) -> None:
    """Print what is ready for a terminal: coloured by us, and all from documents in it escaped before."""
    click.echo(text)


def show_error(text: str) -> None:
    """Print the same on standard error; a closed or full one is no reason to fail."""
    try:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
    except UnicodeEncodeError:
        sys.stderr.write(text.encode("ascii", "backslashreplace").decode("ascii") + "\n")
    except (OSError, ValueError, AttributeError):
        pass
