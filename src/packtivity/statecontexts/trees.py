"""Whole directory trees: emptying one, and one hash for all it holds."""

from __future__ import annotations

import hashlib
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
        raise StateError.of(
            error,
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


# --- hashing ---------------------------------------------------------------------------------------------------


def tree_hash(directory: str) -> str:
    """Return the SHA-1 of a directory as 40 hexadecimal digits, as ``dirhash`` 0.5.0 does (upstream 0.17.1 used it).

    It is that of its entries' descriptions, sorted; an empty one has the SHA-1 of nothing. Names and contents count; empty
    directories, dangling links, sockets and pipes do not. Links are followed.

    :raises OSError: something in it cannot be read.
    """
    return sha1(_description(directory, "", {os.path.realpath(directory): ""}))


def sha1(text: str) -> str:
    """Return the SHA-1 of a text as 40 hexadecimal digits."""
    return hashlib.sha1(text.encode("utf-8", "surrogateescape"), usedforsecurity=False).hexdigest()


def _description(directory: str, relative: str, above: dict[str, str]) -> str:
    """Describe a directory by its entries; empty if it holds no file at any depth.

    :param relative: path from the root of the tree.
    :param above: for each real directory on the way from the root, its path from there.
    """
    entries = []
    with os.scandir(directory) as scanned:
        for entry in scanned:
            if entry.is_dir():
                below = _directory(entry, os.path.join(relative, entry.name), above)
                if below:
                    entries.append(f"dirhash:{sha1(below)}\0name:{entry.name}")
            elif entry.is_file():
                entries.append(f"data:{_file_hash(entry.path)}\0name:{entry.name}")
    return "\0\0".join(sorted(entries))


def _directory(entry: os.DirEntry[str], relative: str, above: dict[str, str]) -> str:
    real = os.path.realpath(entry.path)
    if entry.is_symlink() and real in above:
        # Round in a circle: dirhash, told to allow it, describes the link by where it leads from where it is.
        return os.path.relpath(os.path.join(".", above[real]), os.path.join(".", relative))
    return _description(entry.path, relative, {**above, real: relative})


def _file_hash(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.sha1(usedforsecurity=False)).hexdigest()
