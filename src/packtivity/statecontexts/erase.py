"""Emptying a directory, and nothing else."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence

from packtivity.errors import StateError


def empty_directory(path: str, *, keep: Sequence[str] = ()) -> None:
    """Delete all that is in a directory; the directory itself stays, as does what ``keep`` names inside it.

    :param path: absolute, real; a missing one is empty already.
    :param keep: absolute, real.
    :raises StateError: it is not to be emptied (root, a home, no longer a directory), or cannot be.
    """
    if not os.path.lexists(path):
        return
    _refuse_precious(path)
    try:
        _empty(path, keep)
    except OSError as error:
        raise StateError(
            f"directory {path} cannot be emptied: {error.strerror}: {error.filename}",
            hint="Look at its owner and permissions, and whether something in it is in use.",
        ) from None


def _refuse_precious(path: str) -> None:
    if os.path.islink(path) or not os.path.isdir(path):
        raise StateError(
            f"{path} is to be emptied, but is no longer a directory", hint="Look what has taken its place."
        )
    if path in {"/", os.path.realpath(os.path.expanduser("~"))}:
        raise StateError(f"directory {path} is not emptied: it holds more than a task's data", hint="Use another.")


def _empty(path: str, keep: Sequence[str]) -> None:
    with os.scandir(path) as scanned:
        entries = list(scanned)
    for entry in entries:
        if any(kept == entry.path for kept in keep):
            continue
        if not entry.is_dir(follow_symlinks=False):
            os.unlink(entry.path)
        elif any(kept.startswith(entry.path + "/") for kept in keep):
            _empty(entry.path, keep)
        else:
            shutil.rmtree(entry.path)
