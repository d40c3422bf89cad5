"""POSIX access control lists, read and written as extended attributes, so that no tool has to be installed for them.

The format is that of Linux (``linux/posix_acl_xattr.h``): a version, then a tag, rights and an id for each entry, sorted.
"""

from __future__ import annotations

import errno
import os
import struct
from contextlib import suppress

ACCESS = "system.posix_acl_access"
_VERSION, _NOBODY = 2, 0xFFFFFFFF
_USER_OBJ, _USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 1, 2, 4, 8, 16, 32
_HEADER, _ENTRY = struct.Struct("<I"), struct.Struct("<HHI")

Entry = tuple[int, int, int]
"""Tag, rights (4 read, 2 write, 1 enter or execute), user or group id."""


def is_known(path: str) -> bool:
    """Return whether the file system of a path knows such lists."""
    try:
        os.getxattr(path, ACCESS)
    except OSError as error:
        return error.errno != errno.ENOTSUP
    return True


def read(path: str) -> bytes | None:
    """Return a list as it is stored; ``None`` where there is none, also where the file system knows none."""
    try:
        return os.getxattr(path, ACCESS)
    except OSError:
        return None


def write(path: str, stored: bytes | None) -> None:
    """Store a list, or remove it.

    :raises OSError: the file system knows no such lists, or it is not the caller's file.
    """
    if stored is None:
        with suppress(OSError):
            os.removexattr(path, ACCESS)
    else:
        os.setxattr(path, ACCESS, stored)


def allowing(stored: bytes | None, mode: int, users: dict[int, int]) -> bytes:
    """Return a list that gives users rights and changes nothing for anybody else.

    :param stored: the list as it is; without one it is made of the file's ``mode``.
    :param users: rights by user id.
    """
    entries = {(tag, who): rights for tag, rights, who in _unpack(stored, mode)}
    for user, rights in users.items():
        entries[_USER, user] = entries.get((_USER, user), 0) | rights
    class_rights = [rights for (tag, _), rights in entries.items() if tag in (_USER, _GROUP_OBJ, _GROUP)]
    mask = 0
    for rights in class_rights:
        mask |= rights
    entries[_MASK, _NOBODY] = mask
    packed = (_ENTRY.pack(tag, rights, who) for (tag, who), rights in sorted(entries.items()))
    return _HEADER.pack(_VERSION) + b"".join(packed)


def _unpack(stored: bytes | None, mode: int) -> list[Entry]:
    if stored is not None:
        return [(tag, rights, who) for tag, rights, who in _ENTRY.iter_unpack(stored[_HEADER.size :])]
    rights = ((_USER_OBJ, mode >> 6), (_GROUP_OBJ, mode >> 3), (_OTHER, mode))
    return [(tag, bits & 7, _NOBODY) for tag, bits in rights]
