"""What is planned, as lines for a POSIX shell, exact, to be run by hand.

What they show is what they run: a character that does not print is written as the ``printf`` that makes it, so that no
terminal acts on it, and a shell still gets it.
"""

from __future__ import annotations

import os
import shlex
from itertools import groupby
from typing import TYPE_CHECKING

from packtivity.runtimes import image_store
from packtivity.runtimes.base import Launch
from packtivity.runtimes.credentials import without_caches
from packtivity.spec.image_names import is_path, is_uri

if TYPE_CHECKING:
    from packtivity.runtimes.base import Runtime
    from packtivity.types import Execution

_SCRATCH = "PACKTIVITY-SCRATCH"


def shell_line(execution: Execution) -> str:
    """Return a line that does the same as a plain process.

    The variables of a clean environment are named, not spelt out: their values are the caller's and may be secrets.
    """
    line = joined(execution.argv)
    if not execution.inherit_env:
        kept = " ".join(f'{name}="${{{name}}}"' for name in sorted(execution.env) if name.isidentifier())
        line = f"env -i {kept} {line}" if kept else f"env -i {line}"
    elif execution.env:
        line = f"{joined(('env', *(f'{name}={value}' for name, value in sorted(execution.env.items()))))} {line}"
    line = _fed(line, execution.stdin)
    return f"cd {quoted(execution.workdir)} && {line}" if execution.workdir else line


def launch_by_hand(runtime: Runtime, execution: Execution, *, cidfile: str | None = None) -> Launch:
    """Decide what can be decided without pulling.

    Credentials of the caller are not passed on: whoever runs a container by hand has his own.

    :raises EnvironmentUnavailable: the image is a folder or file that is not here or that the tool cannot run.
    """
    reference = str(execution.image)
    image = image_store.local_image(runtime, reference, unpacked=execution.unpacked, allowed=execution.image_dirs)
    if image is None and not runtime.has_store:
        image = image_store.read_note(runtime, reference)
    if image is not None:
        return Launch(image.run, workdir=image.workdir or None, cidfile=cidfile)
    plain = runtime.has_store or is_path(reference) or is_uri(reference)
    return Launch(runtime.names(reference)[0] if plain else f"docker://{reference}", cidfile=cidfile)


def container_line(runtime: Runtime, execution: Execution) -> str:
    """Return a line that does what the run would do: writes the files it needs, feeds its input, starts it.

    :raises EnvironmentUnavailable: the tool cannot do what is asked.
    """
    execution = without_caches(execution)
    launch = launch_by_hand(runtime, execution)
    if runtime.needs_scratch:
        launch = Launch(launch.image, scratch=_SCRATCH, workdir=launch.workdir)
    # A private folder of its own, as each run has; the only word that is left to the shell.
    line = joined(runtime.run_argv(execution, launch)).replace(f" {_SCRATCH} ", ' "$(mktemp -d)" ', 1)
    line = _fed(line, execution.stdin)
    files = [f"{_printf(content)} > {quoted(path)}" for path, content in execution.files]
    return " && ".join([*files, line])


def _fed(line: str, stdin: bytes | None) -> str:
    """Give a line its standard input."""
    return f"{_printf(stdin)} | {line}" if stdin else f"{line} </dev/null"


def _printf(content: bytes) -> str:
    try:
        text = content.decode()
    except UnicodeDecodeError:
        text = "\0"
    # An argument cannot have a NUL in it.
    return f"printf %b '{octal(content)}'" if "\0" in text else f"printf %s {quoted(text)}"


def joined(argv: tuple[str, ...]) -> str:
    """Return arguments as a line; what prints stands in it as it is, line ends included."""
    return " ".join(map(quoted, argv))


def quoted(text: str) -> str:
    """Quote one word for a shell such that all of it prints, but for tabs and line ends."""
    parts = ((plain, "".join(characters)) for plain, characters in groupby(text, key=_is_plain))
    made = (shlex.quote(part) if plain else f"\"$(printf %b '{octal(os.fsencode(part))}')\"" for plain, part in parts)
    return "".join(made) or "''"


def _is_plain(character: str) -> bool:
    # A shell drops line ends at the end of what a command prints, so they stand as they are.
    return character.isprintable() or character in "\n\t"


def ascii_line(argv: tuple[str, ...]) -> str:
    """Return one ASCII line that a shell can run and :func:`shlex.split` can split, whatever is in the arguments."""
    line = shlex.join(argv)
    if line.isascii() and line.isprintable():
        return line
    line = f"exec {' '.join(map(ascii_word, argv))}"
    return shlex.join(["sh", "-c", f"{_LINE_END} {line}" if _END in line else line])


_END = '"$packtivity_n"'
_LINE_END = "packtivity_n=$(printf '\\012.'); packtivity_n=${packtivity_n%.};"
"""A shell drops line ends at the end of what a command prints."""


def ascii_word(text: str) -> str:
    """Quote one word for a shell in printable ASCII, for :func:`ascii_line`."""
    if text.isascii() and text.isprintable():
        return shlex.quote(text)
    body = text.rstrip("\n")
    return f"\"$(printf %b '{octal(os.fsencode(body))}')\"" + _END * (len(text) - len(body))


def octal(data: bytes) -> str:
    """Write bytes in ASCII as ``printf %b`` reads them."""
    return "".join(chr(b) if 32 <= b < 127 and b not in b"\\'" else f"\\0{b:03o}" for b in data)
