"""The key of a user, by which it is known that something was written by that user's tasks or for them.

The key is in ``STATE_DIR/seal.key``, or in the file that ``PACKTIVITY_SEAL_KEY_FILE`` names, which several replicas of a
service may share. Only what was derived from it ever leaves this process: the ids of tasks end with a proof of whose they
are, and with each task travels a key of its own, by which its record is sealed.
"""

from __future__ import annotations

import hmac
import os
from contextlib import suppress
from stat import S_IWGRP, S_IWOTH

from packtivity import folders, settings
from packtivity.errors import ConfigurationError, StateError
from packtivity.files import closing_fd, open_to_read, put, write_whole

_SIZE = 32
"""Bytes of a key that is made; one of somebody else's making has at least so many."""

_LONGEST = 64
_TAG = 8
"""Hexadecimal digits by which an id proves whose it is."""

_BEFORE, _AFTER, _CODE = b',"seal":"', b'"}', 64
"""What a seal looks like at the end of a JSON object."""

_keys: dict[str, bytes | None] = {}


def user_key(*, make: bool = True) -> bytes | None:
    """Return the key of this user; None where none can be kept.

    :param make: make it when there is none.
    :raises ConfigurationError: ``PACKTIVITY_SEAL_KEY_FILE`` is needed and cannot be used.
    """
    chosen = settings.current().seal_key
    path = chosen or f"{settings.state_dir()}/seal.key"
    if _keys.get(path) is None:
        found = _read(path, is_chosen=bool(chosen))
        if found is None and make:
            found = _shared(path) if chosen else _made(path)
        if found is None and not make:
            return None
        _keys[path] = found
    return _keys[path]


def _read(path: str, *, is_chosen: bool) -> bytes | None:
    try:
        with closing_fd(open_to_read(path, follow=is_chosen)) as descriptor:
            key, found = os.read(descriptor, _LONGEST), os.fstat(descriptor)
        if not is_chosen and (found.st_uid, found.st_nlink, found.st_mode & 0o77) != (os.getuid(), 1, 0):
            folders.state(make=False)  # one that is private to us is ours wherever it is, and that is found out sooner
    except (OSError, StateError):
        return None
    return key if len(key) >= _SIZE and not found.st_mode & S_IWOTH else None


def _made(path: str) -> bytes | None:
    try:
        folders.state()
        with suppress(FileExistsError):  # whoever is first has made the key of all
            put(path, os.urandom(_SIZE), mode=0o600)
        key, found = _read(path, is_chosen=False), os.lstat(path)
        if key is None and found.st_uid == os.getuid() and found.st_size < _SIZE:  # the machine stopped too early
            write_whole(path, os.urandom(_SIZE), sync=True, mode=0o600)
    except (OSError, StateError):
        return None
    return key or _read(path, is_chosen=False)


def _shared(path: str) -> bytes:
    """Make the key that replicas of a service share; where a group may write to its directory, the group may read it."""
    try:
        folder = os.stat(os.path.dirname(path) or ".")
        with suppress(FileExistsError):
            put(path, os.urandom(_SIZE), sync=True, mode=0o640 if folder.st_mode & S_IWGRP else 0o600)
    except OSError as error:
        raise _unusable(path, f"cannot be made: {error.strerror}", error) from None
    key = _read(path, is_chosen=True)
    if key is None:
        raise _unusable(
            path, f"is no key: a file of at least {_SIZE} bytes that you may read and not everybody may write"
        )
    return key


def _unusable(path: str, why: str, error: OSError | None = None) -> ConfigurationError:
    return ConfigurationError.of(
        error or ValueError(why),
        f"PACKTIVITY_SEAL_KEY_FILE: {path} {why}",
        hint=f"Make one: head -c {_SIZE} /dev/urandom > {path}, and let your group alone read it.",
    )


def _code(key: bytes, content: bytes) -> str:
    """Return the HMAC-SHA-256 of something, 64 hexadecimal digits (RFC 2104)."""
    return hmac.digest(key, content, "sha256").hex()


# --- whose a task is ---


def own_id(stem: str) -> str:
    """Return an id that begins with ``stem`` and proves to this user that it was given by him."""
    key = user_key()
    return stem + (os.urandom(_TAG // 2).hex() if key is None else _tag(key, stem))


def is_own(task_id: str) -> bool:
    """Return whether an id was given by this user."""
    key = user_key(make=False)
    return key is not None and hmac.compare_digest(_tag(key, task_id[:-_TAG]), task_id[-_TAG:])


def _tag(key: bytes, stem: str) -> str:
    return _code(key, b"id " + stem.encode())[:_TAG]


# --- records ---


def record_key(task_id: str, *, make: bool = False) -> str | None:
    """Return the key by which a record of this user's is sealed; None where there is no key of the user.

    It goes with the task to where it runs, and nowhere else.

    :param task_id: the id in the record.
    :param make: make the key of the user when there is none.
    """
    key = user_key(make=make)
    return None if key is None else _code(key, b"record " + task_id.encode())


def own_record_key(task_id: str) -> str | None:
    """Return the same; None for a task whose id was not given by this user."""
    return record_key(task_id) if is_own(task_id) else None


def sealed(content: bytes, key: str | None) -> bytes:
    """Return the text of a JSON object with its seal as last member, ``seal``: the HMAC of the text without that.

    :param key: None leaves the text as it is.
    """
    if key is None:
        return content
    return content[:-1] + _BEFORE + _code(key.encode(), content).encode() + _AFTER


def is_sealed(content: bytes, key: str) -> bool:
    """Return whether a text was sealed with a key and is as it was then."""
    start = len(content) - len(_AFTER) - _CODE
    code, text = content[start : start + _CODE], content[: start - len(_BEFORE)] + b"}"
    form = content[start - len(_BEFORE) : start] == _BEFORE and content.endswith(_AFTER)
    return start > len(_BEFORE) and form and hmac.compare_digest(code, _code(key.encode(), text).encode())
