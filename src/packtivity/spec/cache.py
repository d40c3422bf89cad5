"""Remote documents kept on this machine, by their address.

One file each: a line of JSON about it, then the document. A file that is not what its first line says is as good
as none, and a directory that cannot be written to never keeps anybody from loading.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256

from packtivity.folders import make_private


@dataclass(frozen=True, slots=True)
class Entry:
    """A kept document.

    :ivar etag: what the server calls this version, empty if it does not say.
    :ivar fetched: when it was last known to be current, ``2026-01-31 12:00 UTC``.
    """

    content: bytes
    etag: str
    fetched: str


class Cache:
    """The documents in one directory, which is made when something is kept.

    :param directory: absolute path; documents go into a directory below it that only the user may read, because
        some were fetched with the user's token.
    """

    def __init__(self, directory: str) -> None:
        self.directory = os.path.join(directory, "documents")

    def find(self, url: str) -> Entry | None:
        """Return the document of an address, ``None`` when there is none or it is damaged."""
        try:
            with open(self._path(url), "rb") as stream:
                about = json.loads(stream.readline())
                content = stream.read()
            if about["key"] != _digest(url.encode()) or about["sha256"] != _digest(content):
                return None
            return Entry(content, str(about["etag"]), str(about["fetched"]))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def keep(self, url: str, shown: str, entry: Entry) -> None:
        """Keep a document, if that is possible; a reader never sees half of it.

        :param shown: the address without secrets, for :meth:`addresses`.
        """
        about = {
            "url": shown,
            "key": _digest(url.encode()),
            "sha256": _digest(entry.content),
            "etag": entry.etag,
            "fetched": entry.fetched,
        }
        temporary = os.path.join(self.directory, f".{os.getpid()}-{os.urandom(8).hex()}")
        with suppress(OSError):
            make_private(self.directory)
            try:
                _write(temporary, json.dumps(about).encode() + b"\n" + entry.content)
                os.replace(temporary, self._path(url))
            except OSError:
                os.unlink(temporary)

    def addresses(self) -> list[str]:
        """Return the addresses of all kept documents, without secrets, sorted."""
        found = set()
        with suppress(OSError):
            for name in os.listdir(self.directory):
                with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
                    with open(os.path.join(self.directory, name), "rb") as stream:
                        found.add(str(json.loads(stream.readline())["url"]))
        return sorted(found)

    def _path(self, url: str) -> str:
        return os.path.join(self.directory, _digest(url.encode()))


def _digest(content: bytes) -> str:
    return sha256(content).hexdigest()


def _write(path: str, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(descriptor)
