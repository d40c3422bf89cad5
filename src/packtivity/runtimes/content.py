"""Standard input that is known beforehand."""

from __future__ import annotations

import os


def readable(content: bytes | None) -> int:
    """Return a descriptor to read ``content`` from: a file and not a pipe, so that nobody has to feed it."""
    if not content:
        return os.open(os.devnull, os.O_RDONLY)
    descriptor = _anonymous_file()
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _anonymous_file() -> int:
    try:
        return os.memfd_create("packtivity-stdin")
    except (AttributeError, OSError):  # not Linux, or a sandbox forbids it
        import tempfile

        with tempfile.TemporaryFile() as file:
            return os.dup(file.fileno())
