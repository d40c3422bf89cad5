"""Planned runs as text that a POSIX shell understands."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from packtivity.types import Execution


def line(execution: Execution) -> str:
    """Return what does in a shell exactly what the execution does: directory, environment, standard input, argv."""
    command = shlex.join(execution.argv)
    settings = [f"{name}={value}" for name, value in sorted(execution.env.items())]
    if not execution.inherit_env:
        command = shlex.join(["env", "-i", *settings]) + " " + command
    elif settings:
        command = shlex.join(["env", *settings]) + " " + command
    if execution.stdin:
        command = f"{_source(execution.stdin)} | {command}"
    else:
        command += " </dev/null"
    if execution.workdir:
        command = f"cd {shlex.quote(execution.workdir)} && {command}"
    return command


def interactive(interpreter: str, workdir: str) -> str:
    """Return one ASCII line that opens ``interpreter`` in ``workdir``.

    It can be given to a shell, and after :func:`shlex.split` to the operating system too, which is what clients of
    ``packtivity-util shell`` do with it.
    """
    return shlex.join(["sh", "-c", f"cd {_ascii_word(workdir)} && exec {interpreter}"])


def _source(data: bytes) -> str:
    try:
        return f"printf %s {shlex.quote(data.decode())}"
    except UnicodeDecodeError:
        return f"printf %b '{_octal(data)}'"


def _ascii_word(text: str) -> str:
    if text.isascii() and text.isprintable():
        return shlex.quote(text)
    return f"\"$(printf %b '{_octal(os.fsencode(text))}')\""


def _octal(data: bytes) -> str:
    return "".join(chr(b) if 32 <= b < 127 and b not in b"\\'" else f"\\0{b:03o}" for b in data)
