"""Remote documents: from the cache where that is right, else over the network.

A commit never changes, so what was fetched of one is never asked for again; anything else is asked for each time,
at the cost of a short answer where the server knows versions (``ETag``). Nothing old is used silently.

A cached document is one file: a line of JSON about it, then the document. A file that is not what its first line says
counts as missing, and a directory that cannot be written to never prevents loading.
"""

from __future__ import annotations

import json
import os
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256

from packtivity import folders
from packtivity.errors import LoadError, StateError
from packtivity.files import write_whole
from packtivity.folders import make_private
from packtivity.registry import nearest
from packtivity.settings import Settings
from packtivity.spec.access import Access, of_file
from packtivity.spec.download import download
from packtivity.spec.remote import GitLabFile, WebFile, split_login


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
        with suppress(OSError, StateError):
            make_private(self.directory)
            write_whole(self._path(url), json.dumps(about).encode() + b"\n" + entry.content, sync=True, mode=0o600)

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


# --- fetching --------------------------------------------------------------------------------------------------

_COMMIT = re.compile(r"[0-9a-fA-F]{40}")


def fetch(
    file: WebFile | GitLabFile, settings: Settings, access: Access | None = None, *, offline: bool | None = None
) -> bytes:
    """Return the content of a remote document.

    :param access: what may be reached, and with which logins; by default as if the user had named the document.
    :param offline: take it from the cache or not at all; by default as the settings say.
    :raises LoadError: it cannot be had, with the reason.
    """
    if offline is None:
        offline = settings.offline
    if access is None:
        access = of_file(file, settings)
    cache = Cache(folders.cached(settings.cache_dir, make=False))
    url, _ = split_login(file.url)
    identities = access.identities(file.url)
    kept = next((entry for identity in identities if (entry := cache.find(_key(url, identity)))), None)
    if kept and (offline or is_pinned(file, settings)):
        return kept.content
    if offline:
        raise _not_kept(file.shown, cache)
    access.guard.inside = False
    try:
        content, etag = download(file, settings, access, kept.etag if kept else "")
    except LoadError as error:
        if kept:
            error.hint = f"{error.hint} --offline would use the copy of {kept.fetched}.".lstrip()
        raise
    if content is None:
        content = kept.content if kept else b""
    is_special = access.guard.inside or identities[0].startswith("login")
    now = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    cache.keep(_key(url, identities[0] if is_special else ""), file.shown, Entry(content, etag, now))
    return content


def _key(url: str, identity: str) -> str:
    """Return what a document is kept under: what was sent to one who logged in is not for a stranger's document."""
    return f"{url}\n{identity}" if identity else url


def is_pinned(file: WebFile | GitLabFile, settings: Settings) -> bool:
    """Return whether a place names a commit (40 hexadecimal digits), which never changes."""
    if isinstance(file, GitLabFile):
        return bool(_COMMIT.fullmatch(file.ref))
    host = settings.github_raw_host.rstrip("/") + "/"
    parts = file.url.removeprefix(host).split("/") if file.url.startswith(host) else []
    return len(parts) > 3 and bool(_COMMIT.fullmatch(parts[2]))


def _not_kept(shown: str, cache: Cache) -> LoadError:
    near = nearest(shown, cache.addresses())
    hint = f"The cache has {near}." if near else "Load it once without --offline (PACKTIVITY_OFFLINE)."
    return LoadError(f"{shown}: not in the cache ({cache.directory}), and offline nothing is fetched", hint=hint)
