"""Text for people to see: characters that would steer a terminal, or hide or reorder text, are shown as escapes.

They are the control characters (C0, DEL, C1), Unicode's line separators, its marks for the direction of text and all
else that Python does not call printable. Documents of strangers may have them anywhere; what stands on a terminal must
be what is meant.
"""

from __future__ import annotations


def printable(text: str) -> str:
    """Return one line of text; a line end in it is shown as an escape as well."""
    text = text.rstrip("\r").replace("\t", "    ")
    return text if text.isprintable() else "".join(map(_shown, text))


def readable(text: str) -> str:
    """Return the same for text of several lines."""
    return "\n".join(map(printable, text.split("\n")))


def escaped(text: str) -> str:
    """Return text of several lines in which only characters that do not print have changed; tabs stay."""
    return text if text.isprintable() else "".join(c if c in "\n\t" else _shown(c) for c in text)


def _shown(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape", "surrogatepass").decode("ascii")
