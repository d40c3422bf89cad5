"""Gets from a registry the digest that a tag has now, and the image's work directory (OCI distribution specification 1.1).

Only for tools without a store of their own (Apptainer) and for lock files; Docker and Podman answer from their store.
A private registry gets the login that the tool itself has stored for it. A spec chooses the registry, and a
registry chooses where it redirects to and who makes tokens (``realm``): the login goes to neither, unless that is the
registry itself, a token service that is known to be its own, or one that ``PACKTIVITY_REGISTRY_LOGINS`` names.
"""

from __future__ import annotations

import json
import os
import re
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urljoin

from urllib3.exceptions import HTTPError

from packtivity import settings
from packtivity.connections import Guard, PrivateAddress, Session, origin, within
from packtivity.runtimes.images import Image, Reference, is_loopback, parse
from packtivity.runtimes.oci import read_config

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from packtivity.connections import Origin

_INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
_MANIFESTS = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
_LONGEST = 4_194_304
"""Bytes a manifest may have."""
_REDIRECTS = 5
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
_TOKENS = re.compile(r"[\x21-\x7e]*")
_SERVICES = {
    "docker.io": ("auth.docker.io",),
    "registry.gitlab.com": ("gitlab.com",),
    "gitlab-registry.cern.ch": ("gitlab.cern.ch",),
}
"""Who makes the tokens of a registry, where that is known to be the same people under another name."""


def describe(image: str) -> Image | None:
    """Query the registry for digest, work directory, user and home; ``None`` when it gives no answer.

    That is: unreachable, private, or no such image. The digest is that of what the tag names: of the index, when there is
    one for several architectures.
    """
    limit = settings.current().download_timeout
    try:
        described: Image | None = within(2 * limit, lambda: _describe(image, parse(image), limit))
    except (OSError, HTTPError, PrivateAddress, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return described


def _describe(image: str, reference: Reference, limit: float) -> Image | None:
    registry = _Registry(reference, limit)
    with registry.session:
        tag = reference.digest or reference.tag
        manifest, headers = registry.get(f"manifests/{tag}", (*_INDEXES, *_MANIFESTS))
        named = headers.get("Docker-Content-Digest", "")
        if not (reference.digest or named):
            return None
        digest = reference.digest or _check_digest(named)
        if "manifests" in manifest:
            inner = [entry["digest"] for entry in manifest["manifests"] if _is_ours(entry.get("platform") or {})]
            if not inner:
                return None  # the tool has the better message about a missing architecture
            manifest, _ = registry.get(f"manifests/{_check_digest(inner[0])}", _MANIFESTS)
        config, _ = registry.get(f"blobs/{_check_digest(manifest['config']['digest'])}", ("*/*",))
    asked = config.get("config") or {}
    homes = [str(line)[5:] for line in asked.get("Env") or [] if str(line).startswith("HOME=")]
    workdir, user = (str(asked.get(name) or "") for name in ("WorkingDir", "User"))
    return Image(image, image, digest, workdir=workdir, user=user, home=homes[-1] if homes else "")


def _check_digest(text: str) -> str:
    """Return a digest that a registry tells; it becomes part of an address and of a tool's argument.

    :raises ValueError: it is none.
    """
    if not _DIGEST.fullmatch(text):
        raise ValueError("no digest")
    return text


def _is_ours(platform: dict[str, Any]) -> bool:
    machine = os.uname().machine
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
    return platform.get("os") == "linux" and platform.get("architecture") == architecture


class _Registry:
    """One registry, queried for one image.

    :param limit: seconds for each answer, and bytes as :data:`_LONGEST` says.
    """

    def __init__(self, reference: Reference, limit: float) -> None:
        host = "registry-1.docker.io" if reference.registry == "docker.io" else reference.registry
        self._reference, self._limit = reference, limit
        self._base = f"{'http' if is_loopback(host) else 'https'}://{host}/v2/{reference.repository}"
        self._own = origin(self._base)
        self._guard = Guard([self._own])
        self.session = Session(self._guard)
        self._authorization = ""

    def get(self, what: str, accept: tuple[str, ...]) -> tuple[dict[str, Any], Mapping[str, str]]:
        """Return a document of the registry and its headers, logging in if the registry requires it.

        :raises OSError, ValueError: it does not come, or is none.
        """
        headers = {"Accept": ", ".join(accept)}
        answer = self._follow(f"{self._base}/{what}", headers)
        if isinstance(answer, str):
            self._authorization = self._answer(answer)
            answer = self._follow(f"{self._base}/{what}", headers)
        if isinstance(answer, str):
            raise ValueError("the registry wants another login")  # noqa: TRY004 - it is what the registry says
        return answer

    def _follow(self, url: str, headers: dict[str, str]) -> tuple[dict[str, Any], Mapping[str, str]] | str:
        """Return the document, or the registry's own challenge to log in."""
        for _ in range(_REDIRECTS + 1):
            server = origin(url)
            if self._own[0] == "https" != server[0]:
                raise ValueError("from https to http")
            if self._guard.inside:
                self._guard.allow(server)  # a registry in a private network keeps its layers there as well
            own = server == self._own and self._authorization
            sent = {**headers, "Authorization": self._authorization} if own else headers
            with self.session.ask(url, sent, self._limit) as answer:
                if answer.status_code == 401 and server == self._own and not self._authorization:
                    return answer.headers.get("WWW-Authenticate", "")
                if not answer.is_redirect:
                    answer.raise_for_status()
                    return _document(answer, self._limit), answer.headers
                url = urljoin(url, answer.headers["location"])
        raise ValueError("too many redirects")

    def _answer(self, challenge: str) -> str:
        """Answer a challenge: with the login, or with a token, which may be anonymous."""
        from requests.utils import parse_dict_header

        login = find_login(self._reference.registry, settings.caller_environment())
        scheme, _, fields = challenge.partition(" ")
        if scheme.lower() == "basic":
            return f"Basic {login}"
        asked: dict[str, str] = parse_dict_header(fields)  # type: ignore[no-untyped-call]
        realm = asked.pop("realm", "")
        return f"Bearer {self._token(realm, asked, login)}" if scheme.lower() == "bearer" else ""

    def _token(self, realm: str, asked: dict[str, str], login: str) -> str:
        """Fetch a token for the registry from the service that it names.

        :param login: as HTTP sends it, or empty; sent only to servers that may have it.
        :raises OSError, ValueError: there is no token.
        """
        service = origin(realm)
        if service[0] != "https" and service != self._own:
            raise ValueError("a token service without encryption")
        if self._guard.inside:
            self._guard.allow(service)
        headers = {"Authorization": f"Basic {login}"} if login and self._may_have_login(service) else {}
        address = f"{realm}{'&' if '?' in realm else '?'}{urlencode(asked)}"
        with self.session.ask(address, headers, self._limit) as answer:
            if answer.status_code != 200:
                raise ValueError("no token")
            answered = _document(answer, self._limit)
        token = str(answered.get("token") or answered.get("access_token") or "")
        if not _TOKENS.fullmatch(token):
            raise ValueError("no token")
        return token

    def _may_have_login(self, service: Origin) -> bool:
        if service == self._own:
            return True
        registry = self._reference.registry
        chosen = [name.partition("=") for name in settings.current().registry_logins]
        known = [*_SERVICES.get(registry, ()), *(host for name, _, host in chosen if name == registry)]
        return service in [("https", host, 443) for host in known] + [
            ("https", name, int(port))
            for name, _, port in (host.rpartition(":") for host in known)
            if name and port.isdecimal()
        ]


def _document(answer: Any, limit: float) -> dict[str, Any]:
    """Return a JSON document, within the limits of size and time.

    :raises ValueError: it is not JSON, too long or too late.
    """
    content, end = b"", time.monotonic() + limit
    for piece in answer.iter_content(16_384):
        content += piece
        if len(content) > _LONGEST or time.monotonic() > end:
            raise ValueError("too long for a manifest")
    document: dict[str, Any] = json.loads(content)
    return document


def find_login(registry: str, caller: Mapping[str, str]) -> str:
    """Return the login that a tool has stored for a registry, as HTTP sends it; empty when none can be read."""
    names = (
        ("https://index.docker.io/v1/", "docker.io") if registry == "docker.io" else (registry, f"https://{registry}")
    )
    for file in _login_files(caller):
        kept = read_config(file).get("auths")
        for name in names:
            entry = kept.get(name) if isinstance(kept, dict) else None
            if isinstance(entry, dict) and entry.get("auth"):
                return str(entry["auth"])
    return ""


def _login_files(caller: Mapping[str, str]) -> Iterator[str]:
    """Yield the files in which Apptainer, Docker and Podman store logins."""
    home = caller.get("HOME", "/")
    yield f"{home}/.apptainer/docker-config.json"
    yield f"{home}/.singularity/docker-config.json"
    yield f"{caller.get('DOCKER_CONFIG') or f'{home}/.docker'}/config.json"
    if "REGISTRY_AUTH_FILE" in caller:
        yield caller["REGISTRY_AUTH_FILE"]
    if "XDG_RUNTIME_DIR" in caller:
        yield f"{caller['XDG_RUNTIME_DIR']}/containers/auth.json"
