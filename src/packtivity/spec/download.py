"""One document over HTTP: bounded in time, size and redirects; logins and private networks only as the user named them."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urljoin, urlsplit

import requests
import urllib3

from packtivity.connections import Origin, PrivateAddress, Session, netrc_login, origin, within
from packtivity.errors import LoadError
from packtivity.registry import note_foreign_code
from packtivity.settings import Settings
from packtivity.spec.access import Access
from packtivity.spec.remote import split_login

note_foreign_code("requests")  # it writes to loggers, in threads perhaps

_REDIRECTS = 5
_CONNECT_SECONDS = 10.0
_CHUNK = 16_384
_VARIABLE = "YADAGE_SCHEMA_LOAD_TOKEN"
_HTML = (b"<!doctype html", b"<html")


@dataclass(frozen=True, slots=True)
class Ask:
    """What to fetch, and within which bounds.

    :ivar shown: the address, for people.
    :ivar token: sent as ``PRIVATE-TOKEN``, to ``token_host`` only.
    :ivar token_host: scheme, host and port the token belongs to, as an address.
    :ivar etag: version at hand; the server need not send that again.
    :ivar timeout: seconds the whole exchange may take.
    :ivar limit: bytes the document may have when unpacked.
    :ivar access: what may be reached, and which logins go where; without it, nothing private and no login.
    """

    url: str
    shown: str
    token: str | None = field(repr=False)
    token_host: str
    etag: str
    timeout: float
    limit: int
    access: Access | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came.

    :ivar content: the document, ``None`` when the version at hand is still current.
    """

    content: bytes | None
    etag: str


class _Exchange:
    """The exchange itself, in a thread, so that neither name lookup nor a trickling server can make it last."""

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self.url = ask.url
        self.access = ask.access or Access(Settings())
        self.given_up = threading.Event()

    def run(self) -> Answer | LoadError:
        """Return the answer, or the error to raise."""
        try:
            return self._follow()
        except LoadError as error:
            return error
        except PrivateAddress as error:
            return _private(error, self.url, self.ask)
        except (OSError, ValueError, urllib3.exceptions.HTTPError) as error:
            # No cause is kept: requests' errors hold the request, and that holds the token.
            return _explained(error, self.ask)

    def _follow(self) -> Answer:
        access, named = self.access, set(self.access.guard.named)
        timeout = (min(_CONNECT_SECONDS, self.ask.timeout), self.ask.timeout)
        may_login = access.covers(self.url)
        try:
            with Session(access.guard) as session:
                for _ in range(_REDIRECTS + 1):
                    login = access.login(self.url) if may_login else access.document_login(self.url)
                    with session.ask(self.url, self._headers(self.url, may_login), timeout, login) as response:
                        if not response.is_redirect:
                            return self._answer(response)
                        there = _redirected(self.url, response.headers["location"], self.ask)
                    may_login = self._step(origin(self.url), there, may_login)
                    self.url = there
        finally:
            access.guard.named = named
        raise LoadError(
            f"{self.ask.shown}: redirected more than {_REDIRECTS} times", hint="Is a login needed to see it?"
        )

    def _step(self, server: Origin, there: str, may_login: bool) -> bool:
        """Tell whether a login may go where a server redirects to."""
        target, guard = origin(there), self.access.guard
        if server in guard.named and target[1] == server[1]:
            guard.allow(target)  # a server that the user named may send us to another port of its own
        return (may_login and target == server) or self.access.covers(there)

    def _headers(self, url: str, may_login: bool) -> dict[str, str]:
        headers = {"Accept-Encoding": "identity", "User-Agent": "packtivity"}
        if self.ask.etag:
            headers["If-None-Match"] = self.ask.etag
        if self.ask.token and may_login and origin(url) == origin(self.ask.token_host):
            headers["PRIVATE-TOKEN"] = self.ask.token
        return headers

    def _answer(self, response: requests.Response) -> Answer:
        if response.status_code == 304 and self.ask.etag:
            return Answer(None, self.ask.etag)
        if response.status_code != 200:
            raise _refused(response, self.ask)
        announced = int(response.headers.get("Content-Length") or 0)
        if announced > self.ask.limit:
            raise _too_large(self.ask)
        content = b"".join(self._chunks(response))
        if len(content) < announced and "Content-Encoding" not in response.headers and not self.given_up.is_set():
            # urllib3 before 2.0 takes a connection that ends early for the end of the document.
            raise requests.exceptions.ChunkedEncodingError("fewer bytes came than were announced")
        if content.lstrip()[:15].lower().startswith(_HTML):
            raise LoadError(
                f"{self.ask.shown}: the server sent a web page instead of YAML or JSON",
                hint=f"Is it the address of the raw file? A login page needs a token ({_VARIABLE} for GitLab).",
            )
        return Answer(content, response.headers.get("ETag", ""))

    def _chunks(self, response: requests.Response) -> Iterator[bytes]:
        """Yield the unpacked document piece by piece, at most one piece more than it may have."""
        size = 0
        for chunk in response.iter_content(_CHUNK):
            size += len(chunk)
            if size > self.ask.limit:
                raise _too_large(self.ask)
            if self.given_up.is_set():
                return
            yield chunk


def download(ask: Ask) -> Answer:
    """Fetch one document.

    :raises LoadError: it does not come, for whatever reason, within the bounds.
    """
    if ask.token and not re.fullmatch(r"[\x21-\x7e]+", ask.token):
        raise LoadError(f"{_VARIABLE} has characters that no token has", hint="Set it anew, without blanks in it.")
    for name, url in ((ask.shown, ask.url), ("PACKTIVITY_GITLAB_HOST", ask.token_host)):
        try:
            _ = urlsplit(url).port
        except ValueError as error:
            # What it says may have a password in it.
            why = "it cannot be read" if "@" in url else error
            raise LoadError(f"{name} is no address: {why}", hint="The form is https://HOST[:PORT]/PATH.") from None
    exchange = _Exchange(ask)
    answer = within(ask.timeout, exchange.run)
    if answer is None:
        exchange.given_up.set()
        raise _too_slow(ask)
    if isinstance(answer, LoadError):
        raise answer
    return answer


def _redirected(url: str, target: str, ask: Ask) -> str:
    there = urljoin(url, target)
    scheme = urlsplit(there).scheme
    if scheme not in {"http", "https"}:
        raise LoadError(f"{ask.shown}: the server redirects to an address that is not http or https ({scheme}:)")
    if scheme == "http" and urlsplit(url).scheme == "https":
        host = urlsplit(there).hostname
        raise LoadError(f"{ask.shown}: the server redirects from https to plain http ({host})", hint=_TRUST)
    return there


_TRUST = "Name the http address itself if you trust it."


def _refused(response: requests.Response, ask: Ask) -> LoadError:
    status = response.status_code
    answer = f"{status} {response.reason or ''}".rstrip() + _reason_given(response)
    if ask.token:
        answer = answer.replace(ask.token, "…")
    return LoadError(f"{ask.shown}: the server answers {answer}", hint=_advice(status, ask))


def _reason_given(response: requests.Response) -> str:
    """Return what GitLab says in its answer, which tells a missing project from a missing file."""
    if "json" not in response.headers.get("Content-Type", ""):
        return ""
    found = re.search(rb'"(?:message|error)"\s*:\s*"([ -~]{1,100}?)"', next(response.iter_content(2000), b""))
    return f" ({found[1].decode()})" if found else ""


def _advice(status: int, ask: Ask) -> str:
    gitlab = origin(ask.url) == origin(ask.token_host)
    if status in {401, 403, 404} and ask.access and (hint := _not_named(ask, ask.access, gitlab=gitlab)):
        return hint
    if status in {401, 403}:
        if gitlab and ask.token:
            return f"The token in {_VARIABLE} is wrong, expired, or may not read this repository."
        return (
            f"It needs a login: set {_VARIABLE}." if gitlab else "It needs a login, which is possible for GitLab only."
        )
    if status == 404 and gitlab and not ask.token:
        return f"Check repository, branch and path; a private repository answers like this without {_VARIABLE}."
    if status in {404, 410}:
        return "Check the repository, the branch (@BRANCH) and the path."
    if status == 429:
        return "The server gets too many requests from here; wait, or name a commit: those are fetched once only."
    return "The server has trouble; try again later." if status >= 500 else "Check the address."


def _not_named(ask: Ask, access: Access, *, gitlab: bool) -> str:
    """Say that there is a login which was not sent, because a document named this source and the user did not."""
    what = "the token" if gitlab and ask.token else "your login (~/.netrc)" if netrc_login(origin(ask.url)) else ""
    if not what or access.covers(ask.url):
        return ""
    return (
        f"You have not named this source, so {what} was not sent. If you trust what refers to it: "
        f"--trust-source {access.source_of(ask.url)} (PACKTIVITY_TRUSTED_SOURCES)."
    )


def _private(error: PrivateAddress, url: str, ask: Ask) -> LoadError:
    parts = urlsplit(split_login(url)[0])
    how = "may not be used by a document" if url == ask.url else "is where the server redirects to"
    return LoadError(
        f"{ask.shown}: {error.host} ({error.found}) {how}",
        hint="Only you can name servers in a private network. If you trust this one: "
        f"--trust-source {parts.scheme}://{parts.netloc} (PACKTIVITY_TRUSTED_SOURCES).",
    )


def _too_large(ask: Ask) -> LoadError:
    hint = "Is it the right address? If so, raise PACKTIVITY_DOWNLOAD_LIMIT."
    return LoadError(f"{ask.shown}: larger than {ask.limit:,} bytes", hint=hint)


def _too_slow(ask: Ask) -> LoadError:
    hint = "Check the network; if the server is that slow, raise PACKTIVITY_DOWNLOAD_TIMEOUT."
    return LoadError(f"{ask.shown}: did not arrive within {ask.timeout:g} seconds", hint=hint)


def _explained(error: Exception, ask: Ask) -> LoadError:
    """Say why there was no answer, in words that hold nothing of the request."""
    host = urlsplit(ask.url).hostname
    causes = list(_causes(error))
    if isinstance(error, requests.exceptions.Timeout):
        return _too_slow(ask)
    if isinstance(error, requests.exceptions.SSLError):
        hint = "Check date and certificates of this machine; REQUESTS_CA_BUNDLE names a file of further authorities."
        return LoadError(f"{ask.shown}: the secure connection to {host} fails ({_reason(causes)})", hint=hint)
    if isinstance(error, requests.exceptions.ProxyError):
        return LoadError(f"{ask.shown}: the proxy cannot be reached", hint="Check HTTPS_PROXY and NO_PROXY.")
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return LoadError(f"{ask.shown}: no host is called {host}", hint=_NETWORK)
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return LoadError(f"{ask.shown}: {host} refuses the connection", hint=_NETWORK)
    if isinstance(error, requests.exceptions.ConnectionError | requests.exceptions.ChunkedEncodingError):
        return LoadError(f"{ask.shown}: the connection to {host} broke ({_reason(causes)})", hint="Try again.")
    if isinstance(error, requests.exceptions.ContentDecodingError):
        return LoadError(f"{ask.shown}: the server sends damaged compressed data", hint="Try again later.")
    return LoadError(f"{ask.shown}: cannot be fetched ({_reason(causes)})", hint="Check the address.")


_NETWORK = "Check the spelling and the network; --offline takes what the cache has."


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


def _reason(causes: list[BaseException]) -> str:
    """Return the words of the operating system, or else the kind of error."""
    for cause in causes:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
    return type(causes[-1]).__name__
