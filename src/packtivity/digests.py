"""SHA-256, and codes made with it that prove who has written something (HMAC, RFC 2104)."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_PIECE = 1 << 20
_INNER, _OUTER = (bytes(number ^ mask for number in range(256)) for mask in (0x36, 0x5C))
_BLOCK = 64


@cache
def _small_hasher() -> Callable[..., Any]:
    try:
        from _sha2 import sha256  # type: ignore[import-not-found,unused-ignore]  # Python 3.12
    except ImportError:
        try:
            from _sha256 import sha256  # type: ignore[import-not-found,unused-ignore,no-redef]  # Python 3.11
        except ImportError:
            from hashlib import sha256
    return sha256  # type: ignore[no-any-return,unused-ignore]


def hasher(size: int) -> Callable[..., Any]:
    """Return SHA-256: for little data the one that is there at once, for much the faster one that is dear to import."""
    if size < _PIECE:
        return _small_hasher()
    from hashlib import sha256

    return sha256


def hmac(key: bytes, content: bytes) -> str:
    """Return the HMAC-SHA-256 of something, 64 hexadecimal digits.

    The module :mod:`hmac` gives the same; to import it takes longer than a short task.

    :param key: 64 bytes at most.
    """
    new, padded = hasher(len(content)), key.ljust(_BLOCK, b"\0")
    inner = new(padded.translate(_INNER))
    inner.update(content)
    code: str = new(padded.translate(_OUTER) + inner.digest()).hexdigest()
    return code


def sha256(path: str, size: int) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits.

    :param size: of the file, bytes.
    :raises OSError: it cannot be read.
    """
    digest = hasher(size)()
    with open(path, "rb", buffering=0) as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    found: str = digest.hexdigest()
    return found
