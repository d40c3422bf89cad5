"""One hash for a directory and all it holds: ``dirhash`` 0.5.0's SHA-1, which states were hashed with upstream.

The hash of a directory is that of its entries' descriptions, sorted. Names and contents count; empty directories,
dangling links, sockets and pipes do not. Links are followed.
"""

from __future__ import annotations

import hashlib
import os


def tree_hash(directory: str) -> str:
    """Return the SHA-1 of a directory as 40 hexadecimal digits; an empty one has the SHA-1 of nothing.

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
