"""The key of a user, by which it is known that something was written by that user's tasks or for them.

The key is in ``STATE_DIR/seal.key``, or in the file that ``PACKTIVITY_SEAL_KEY_FILE`` names, which several replicas of a
service may share. Only what was derived from it ever leaves this process.
"""

from __future__ import annotations

import hmac
import os
from contextlib import suppress

from packtivity import folders, settings
from packtivity.errors import StateError
from packtivity.files import closing_fd, open_file, put, write_whole

_SIZE = 32
_TAG = 8
"""Hexadecimal digits by which an id proves whose it is."""

_keys: dict[str, bytes | None] = {}


def user_key(*, make: bool = True) -> bytes | None:
    """Return the key of this user; None where none can be kept.

    :param make: make it when there is none.
    """
    path = settings.current().seal_key or f"{settings.state_dir()}/seal.key"
    if path not in _keys:
        found = _read(path) or (_make(path) if make else None)
        if found is None and not make:
            return None
        _keys[path] = found
    return _keys[path]


def _read(path: str) -> bytes | None:
    try:
        with closing_fd(open_file(path, os.O_RDONLY)) as descriptor:
            key = os.read(descriptor, _SIZE)
    except OSError:
        return None
    return key if len(key) == _SIZE else None


def _make(path: str) -> bytes | None:
    try:
        folders.state()
        with suppress(FileExistsError):  # whoever is first has made the key of all
            put(path, os.urandom(_SIZE), mode=0o600)
        if (key := _read(path)) is None:  # the machine stopped before it was on the disk
            write_whole(path, os.urandom(_SIZE), sync=True, mode=0o600)
    except (OSError, StateError):
        return None
    return key or _read(path)


def own_id(stem: str) -> str:
    """Return an id that begins with ``stem`` and proves to this user that it was given by him."""
    key = user_key()
    return stem + (os.urandom(_TAG // 2).hex() if key is None else _tag(key, stem))


def is_own(task_id: str) -> bool:
    """Return whether an id was given by this user."""
    key = user_key(make=False)
    return key is not None and hmac.compare_digest(_tag(key, task_id[:-_TAG]), task_id[-_TAG:])


def _tag(key: bytes, stem: str) -> str:
    return hmac.digest(key, b"id " + stem.encode(), "sha256").hex()[:_TAG]
