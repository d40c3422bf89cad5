"""How commands print: nothing else in the command line writes to a stream, but for what draws on a terminal."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from packtivity.printable import escaped

if TYPE_CHECKING:
    from collections.abc import Iterator


def say(text: str, *, err: bool = False, end: bool = True) -> None:
    """Print lines; what a document has put into them cannot steer a terminal.

    :param err: print on standard error.
    :param end: end with a line end.
    """
    click.echo(escaped(text), err=err, nl=end)


def say_json(document: object, **how: Any) -> None:
    """Print a document as JSON, which is ASCII with everything else escaped.

    :param how: keyword arguments of :func:`json.dumps`.
    """
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


def plain(result: Any) -> Any:
    """Return a result as JSON; backends of others may give it so already."""
    return result.json() if hasattr(result, "json") else result


def named_leaves(document: object, name: str = "") -> Iterator[tuple[str, Any]]:
    """Give each value with its name, ``null``, ``false`` and empty containers too; no name if it is all there is."""
    if isinstance(document, dict) and document:
        for key, value in document.items():
            yield from named_leaves(value, f"{name}.{key}" if name else str(key))
    elif isinstance(document, list) and document:
        for position, value in enumerate(document):
            yield from named_leaves(value, f"{name}[{position}]")
    else:
        yield name, document
