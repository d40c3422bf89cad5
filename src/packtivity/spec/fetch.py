"""Remote documents: from the cache where that is right, else over HTTP.

A commit never changes, so what was fetched of one is never asked for again; anything else is asked for each time,
at the cost of a short answer where the server knows versions (``ETag``). Nothing old is used silently. An exchange is
bounded in time, size and redirects; logins and private networks are used only as the user named them.

A cached document is one file: a line of JSON about it, then the document. A file that is not what its first line says
counts as missing, and a directory that cannot be written to never prevents loading.
"""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from urllib.parse import urljoin, urlsplit

import requests
import urllib3

from packtivity import folders
from packtivity.connections import Origin, PrivateAddress, Session, netrc_login, origin, within
from packtivity.errors import LoadError, StateError
from packtivity.files import write_whole
from packtivity.folders import make_private
from packtivity.registry import nearest, note_foreign_code
from packtivity.settings import Settings
from packtivity.spec.access import Access
from packtivity.spec.remote import GitLabFile, WebFile, split_login

note_foreign_code("requests")  # it writes to loggers, in threads perhaps

_REDIRECTS = 5
_CONNECT_SECONDS = 10.0
_CHUNK = 16_384
_SILENT_SECONDS = 3.0
"""After which the user is told what is waited for."""
_VARIABLE = "YADAGE_SCHEMA_LOAD_TOKEN"
_HTML = (b"<!doctype html", b"<html")
_NETWORK = "Check the spelling and the network; --offline takes what the cache has."
_TRUSTED = "(PACKTIVITY_TRUSTED_SOURCES)."
_COMMIT = re.compile(r"[0-9a-fA-F]{40}")


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
        about = {"url": shown, "key": _digest(url.encode()), "sha256": _digest(entry.content)}
        about |= {"etag": entry.etag, "fetched": entry.fetched}
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


def fetch(file: WebFile | GitLabFile, access: Access, *, offline: bool | None = None) -> bytes:
    """Return the content of a remote document.

    :param access: what may be reached, and with which logins; and the settings.
    :param offline: take it from the cache or not at all; by default as the settings say.
    :raises LoadError: it cannot be had, with the reason.
    """
    offline = access.settings.offline if offline is None else offline
    cache = Cache(folders.cached(access.settings.cache_dir, make=False))
    url, _ = split_login(file.url)
    identities = access.identities(file.url)
    kept = next((entry for identity in identities if (entry := cache.find(_key(url, identity)))), None)
    if kept and (offline or is_pinned(file, access.settings)):
        return kept.content
    if offline:
        near = nearest(file.shown, cache.addresses())
        hint = f"The cache has {near}." if near else "Load it once without --offline (PACKTIVITY_OFFLINE)."
        message = f"{file.shown}: not in the cache ({cache.directory}), and offline nothing is fetched"
        raise LoadError(message, hint=hint)
    access.guard.inside = False
    try:
        content, etag = download(file, access, kept.etag if kept else "")
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


# --- the exchange ----------------------------------------------------------------------------------------------


def download(file: WebFile | GitLabFile, access: Access, etag: str) -> tuple[bytes | None, str]:
    """Fetch one document, within the time and size that the settings allow.

    :param etag: version at hand; the server need not send that again.
    :return: the document, ``None`` when the version at hand is still current; and what the server calls its version.
    :raises LoadError: it does not come, for whatever reason, within the bounds.
    """
    if access.secret and not re.fullmatch(r"[\x21-\x7e]+", access.secret):
        raise LoadError(f"{_VARIABLE} has characters that no token has", hint="Set it anew, without blanks in it.")
    for name, url in ((file.shown, file.url), ("PACKTIVITY_GITLAB_HOST", access.settings.gitlab_host)):
        try:
            _ = urlsplit(url).port
        except ValueError as error:
            # What it says may have a password in it.
            why = "it cannot be read" if "@" in url else error
            raise LoadError(f"{name} is no address: {why}", hint="The form is https://HOST[:PORT]/PATH.") from None
    exchange = _Exchange(file, access, etag)
    announcement = threading.Timer(_SILENT_SECONDS, _announce, (file.shown, exchange.seconds))
    announcement.daemon = True
    announcement.start()
    try:
        answer = within(exchange.seconds, exchange.run)
    finally:
        announcement.cancel()
    if answer is None:
        exchange.given_up.set()
        raise exchange.too_slow()
    if isinstance(answer, LoadError):
        raise answer
    return answer


def _announce(shown: str, seconds: float) -> None:
    logging.getLogger(__name__).warning(
        "waiting for %s (up to %g seconds, PACKTIVITY_DOWNLOAD_TIMEOUT)", shown, seconds
    )


class _Exchange:
    """The exchange itself, in a thread, so that neither name lookup nor a trickling server can make it last."""

    def __init__(self, file: WebFile | GitLabFile, access: Access, etag: str) -> None:
        self.first = self.url = file.url
        self.shown = file.shown
        self.access = access
        self.etag = etag
        self.seconds = access.settings.download_timeout
        self.limit = access.settings.download_limit
        self.given_up = threading.Event()

    def run(self) -> tuple[bytes | None, str] | LoadError:
        """Return the answer, or the error to raise."""
        try:
            return self._follow()
        except LoadError as error:
            return error
        except PrivateAddress as error:
            return self._private(error)
        except (OSError, ValueError, urllib3.exceptions.HTTPError) as error:
            # No cause is kept: requests' errors hold the request, and that holds the token.
            return self._explained(error)

    def _follow(self) -> tuple[bytes | None, str]:
        access, named = self.access, set(self.access.guard.named)
        timeout = (min(_CONNECT_SECONDS, self.seconds), self.seconds)
        may_login = access.covers(self.url)
        try:
            with Session(access.guard) as session:
                for _ in range(_REDIRECTS + 1):
                    login = access.login(self.url, covered=may_login)
                    with session.ask(self.url, self._headers(may_login), timeout, login) as response:
                        if not response.is_redirect:
                            return self._answer(response)
                        there = _redirected(self.url, response.headers["location"], self.shown)
                    may_login = self._step(origin(self.url), there, may_login)
                    self.url = there
        finally:
            access.guard.named = named
        raise self._failure(f"redirected more than {_REDIRECTS} times", "Is a login needed to see it?")

    def _step(self, server: Origin, there: str, may_login: bool) -> bool:
        """Tell whether a login may go where a server redirects to."""
        target, guard = origin(there), self.access.guard
        if server in guard.named and target[1] == server[1]:
            guard.allow(target)  # a server that the user named may send us to another port of its own
        return (may_login and target == server) or self.access.covers(there)

    def _headers(self, may_login: bool) -> dict[str, str]:
        headers = {"Accept-Encoding": "identity", "User-Agent": "packtivity"}
        if self.etag:
            headers["If-None-Match"] = self.etag
        if may_login and (token := self.access.token(self.url)):
            headers["PRIVATE-TOKEN"] = token
        return headers

    def _answer(self, response: requests.Response) -> tuple[bytes | None, str]:
        if response.status_code == 304 and self.etag:
            return None, self.etag
        if response.status_code != 200:
            raise self._refused(response)
        announced = int(response.headers.get("Content-Length") or 0)
        if announced > self.limit:
            raise self._too_large()
        content = b"".join(self._chunks(response))
        if len(content) < announced and "Content-Encoding" not in response.headers and not self.given_up.is_set():
            # urllib3 before 2.0 takes a connection that ends early for the end of the document.
            raise requests.exceptions.ChunkedEncodingError("fewer bytes came than were announced")
        if content.lstrip()[:15].lower().startswith(_HTML):
            hint = f"Is it the address of the raw file? A login page needs a token ({_VARIABLE} for GitLab)."
            raise self._failure("the server sent a web page instead of YAML or JSON", hint)
        return content, response.headers.get("ETag", "")

    def _chunks(self, response: requests.Response) -> Iterator[bytes]:
        """Yield the unpacked document piece by piece, at most one piece more than it may have."""
        size = 0
        for chunk in response.iter_content(_CHUNK):
            size += len(chunk)
            if size > self.limit:
                raise self._too_large()
            if self.given_up.is_set():
                return
            yield chunk

    # --- what goes wrong ---

    def _failure(self, message: str, hint: str) -> LoadError:
        return LoadError(f"{self.shown}: {message}", hint=hint)

    def too_slow(self) -> LoadError:
        """Return the error for a document that takes too long."""
        hint = "Check the network; if the server is that slow, raise PACKTIVITY_DOWNLOAD_TIMEOUT."
        return self._failure(f"did not arrive within {self.seconds:g} seconds", hint)

    def _too_large(self) -> LoadError:
        hint = "Is it the right address? If so, raise PACKTIVITY_DOWNLOAD_LIMIT."
        return self._failure(f"larger than {self.limit:,} bytes", hint)

    def _private(self, error: PrivateAddress) -> LoadError:
        parts = urlsplit(split_login(self.url)[0])
        how = "may not be used by a document" if self.url == self.first else "is where the server redirects to"
        trust = f"--trust-source {parts.scheme}://{parts.netloc} {_TRUSTED}"
        hint = f"Only you can name servers in a private network. If you trust this one: {trust}"
        return self._failure(f"{error.host} ({error.found}) {how}", hint)

    def _refused(self, response: requests.Response) -> LoadError:
        status = response.status_code
        answer = f"{status} {response.reason or ''}".rstrip() + _reason_given(response)
        if self.access.secret:
            answer = answer.replace(self.access.secret, "…")
        return self._failure(f"the server answers {answer}", self._advice(status))

    def _advice(self, status: int) -> str:
        gitlab, token = self.access.is_gitlab(self.first), bool(self.access.secret)
        if status in {401, 403, 404} and (hint := self._not_named("the token" if gitlab and token else "")):
            return hint
        if status in {401, 403}:
            if gitlab and token:
                return f"The token in {_VARIABLE} is wrong, expired, or may not read this repository."
            return f"It needs a login{f': set {_VARIABLE}.' if gitlab else ', which is possible for GitLab only.'}"
        if status == 404 and gitlab and not token:
            return f"Check repository, branch and path; a private repository answers like this without {_VARIABLE}."
        if status in {404, 410}:
            return "Check the repository, the branch (@BRANCH) and the path."
        if status == 429:
            return "The server gets too many requests from here; wait, or name a commit: those are fetched once only."
        return "The server has trouble; try again later." if status >= 500 else "Check the address."

    def _not_named(self, token: str) -> str:
        """Say that there is a login which was not sent, because a document named this source and the user did not."""
        what = token or ("your login (~/.netrc)" if netrc_login(origin(self.first)) else "")
        if not what or self.access.covers(self.first):
            return ""
        trust = f"--trust-source {self.access.source_of(self.first)} {_TRUSTED}"
        return f"You have not named this source, so {what} was not sent. If you trust what refers to it: {trust}"

    def _explained(self, error: Exception) -> LoadError:
        """Say why there was no answer, in words that hold nothing of the request."""
        host, causes, kinds = urlsplit(self.first).hostname, list(_causes(error)), requests.exceptions
        reason = next((cause.strerror for cause in causes if isinstance(cause, OSError) and cause.strerror), None)
        reason = reason or type(causes[-1]).__name__
        if isinstance(error, kinds.Timeout):
            return self.too_slow()
        if isinstance(error, kinds.SSLError):
            hint = (
                "Check date and certificates of this machine; REQUESTS_CA_BUNDLE names a file of further authorities."
            )
            return self._failure(f"the secure connection to {host} fails ({reason})", hint)
        if isinstance(error, kinds.ProxyError):
            return self._failure("the proxy cannot be reached", "Check HTTPS_PROXY and NO_PROXY.")
        if any(isinstance(cause, socket.gaierror) for cause in causes):
            return self._failure(f"no host is called {host}", _NETWORK)
        if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
            return self._failure(f"{host} refuses the connection", _NETWORK)
        if isinstance(error, kinds.ConnectionError | kinds.ChunkedEncodingError):
            return self._failure(f"the connection to {host} broke ({reason})", "Try again.")
        if isinstance(error, kinds.ContentDecodingError):
            return self._failure("the server sends damaged compressed data", "Try again later.")
        return self._failure(f"cannot be fetched ({reason})", "Check the address.")


def _redirected(url: str, target: str, shown: str) -> str:
    there = urljoin(url, target)
    scheme = urlsplit(there).scheme
    if scheme not in {"http", "https"}:
        raise LoadError(f"{shown}: the server redirects to an address that is not http or https ({scheme}:)")
    if scheme == "http" and urlsplit(url).scheme == "https":
        message = f"{shown}: the server redirects from https to plain http ({urlsplit(there).hostname})"
        raise LoadError(message, hint="Name the http address itself if you trust it.")
    return there


def _reason_given(response: requests.Response) -> str:
    """Return what GitLab says in its answer, which tells a missing project from a missing file."""
    if "json" not in response.headers.get("Content-Type", ""):
        return ""
    found = re.search(rb'"(?:message|error)"\s*:\s*"([ -~]{1,100}?)"', next(response.iter_content(2000), b""))
    return f" ({found[1].decode()})" if found else ""


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what lies behind it, which urllib3 keeps in several ways."""
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        one = waiting.pop()
        if not isinstance(one, BaseException) or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting += [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args]
