"""The line that opens an interpreter where a task would run."""

from __future__ import annotations

import os
import shlex


def interactive(interpreter: str, workdir: str) -> str:
    """Return one ASCII line that opens ``interpreter`` in ``workdir``.

    It can be given to a shell, and after :func:`shlex.split` to the operating system too, which is what clients of
    ``packtivity-util shell`` do with it.
    """
    return shlex.join(["sh", "-c", f"cd {_ascii_word(workdir)} && exec {interpreter}"])


def _ascii_word(text: str) -> str:
    if text.isascii() and text.isprintable():
        return shlex.quote(text)
    return f"\"$(printf %b '{_octal(os.fsencode(text))}')\""


def _octal(data: bytes) -> str:
    return "".join(chr(b) if 32 <= b < 127 and b not in b"\\'" else f"\\0{b:03o}" for b in data)
