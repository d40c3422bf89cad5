"""Asks an image registry which digest a tag has now, and what the image wants: OCI distribution specification 1.1.

Only for tools without a store of their own (Apptainer) and for lock files; Docker and Podman answer from their store.
A private registry is asked with the login that the tool itself has kept for it, and no other is told of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from packtivity import settings
from packtivity.runtimes.images import Reference, is_loopback, parse

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import requests

_INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
_MANIFESTS = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
_LONGEST = 4_194_304
"""Bytes a manifest may have."""


@dataclass(frozen=True, slots=True)
class Description:
    """What a registry says of an image.

    :ivar digest: of what the tag names: of the index, when there is one for several architectures.
    :ivar workdir: the work directory the image asks for, empty when it asks for none.
    """

    digest: str
    workdir: str = ""


def describe(image: str) -> Description | None:
    """Ask the registry; ``None`` when it does not tell us: unreachable, private, or no such image."""
    import requests

    reference = parse(image)
    try:
        with requests.Session() as session:
            return _describe(session, reference)
    except (requests.RequestException, ValueError, KeyError, TypeError, AttributeError):
        return None


def _describe(session: requests.Session, reference: Reference) -> Description | None:
    manifest = _get(session, reference, f"manifests/{reference.digest or reference.tag}", (*_INDEXES, *_MANIFESTS))
    digest = reference.digest or manifest.headers.get("Docker-Content-Digest", "")
    if not digest:
        return None
    document = manifest.json()
    if "manifests" in document:
        inner = [entry["digest"] for entry in document["manifests"] if _is_ours(entry.get("platform") or {})]
        if not inner:
            return None  # the tool says best that there is none for this machine
        document = _get(session, reference, f"manifests/{inner[0]}", _MANIFESTS).json()
    config = _get(session, reference, f"blobs/{document['config']['digest']}", ("*/*",)).json()
    return Description(digest, str((config.get("config") or {}).get("WorkingDir") or ""))


def _is_ours(platform: dict[str, Any]) -> bool:
    import os

    machine = os.uname().machine
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
    return platform.get("os") == "linux" and platform.get("architecture") == architecture


def _get(session: requests.Session, reference: Reference, what: str, accept: tuple[str, ...]) -> requests.Response:
    host = "registry-1.docker.io" if reference.registry == "docker.io" else reference.registry
    url = f"{'http' if is_loopback(host) else 'https'}://{host}/v2/{reference.repository}/{what}"
    limit = settings.value("download_timeout")
    headers = {"Accept": ", ".join(accept)}
    answer = session.get(url, headers=headers, timeout=limit)
    if answer.status_code == 401 and "Authorization" not in session.headers:
        login = find_login(reference.registry, settings.caller_environment())
        session.headers["Authorization"] = _answer(session, answer.headers.get("WWW-Authenticate", ""), login)
        answer = session.get(url, headers=headers, timeout=limit)
    answer.raise_for_status()
    if len(answer.content) > _LONGEST:
        raise ValueError("too long for a manifest")
    return answer


def _answer(session: requests.Session, challenge: str, login: str) -> str:
    """Answer a registry that wants to know who asks: by the login, or a token that it or anybody may have."""
    from requests.utils import parse_dict_header

    scheme, _, fields = challenge.partition(" ")
    if scheme.lower() == "basic":
        return f"Basic {login}"
    asked: dict[str, str] = parse_dict_header(fields)  # type: ignore[no-untyped-call]
    realm = asked.pop("realm", "")
    if scheme.lower() != "bearer" or not realm.startswith("https://"):
        return ""
    headers = {"Authorization": f"Basic {login}"} if login else {}
    answer = session.get(realm, params=asked, headers=headers, timeout=settings.value("download_timeout")).json()
    return f"Bearer {answer.get('token') or answer.get('access_token') or ''}"


def find_login(registry: str, caller: Mapping[str, str]) -> str:
    """Return the login that a tool has kept for a registry, as HTTP sends it; empty when there is none to be read."""
    import json

    names = (
        ("https://index.docker.io/v1/", "docker.io") if registry == "docker.io" else (registry, f"https://{registry}")
    )
    for file in _login_files(caller):
        try:
            with open(file, encoding="utf-8") as stream:
                kept = json.load(stream).get("auths") or {}
            found = [kept[name]["auth"] for name in names if kept.get(name, {}).get("auth")]
        except (OSError, ValueError, TypeError, AttributeError):
            continue
        if found:
            return str(found[0])
    return ""


def _login_files(caller: Mapping[str, str]) -> Iterator[str]:
    """Yield where Apptainer, Docker and Podman keep logins."""
    home = caller.get("HOME", "/")
    yield f"{home}/.apptainer/docker-config.json"
    yield f"{home}/.singularity/docker-config.json"
    yield f"{caller.get('DOCKER_CONFIG') or f'{home}/.docker'}/config.json"
    if "REGISTRY_AUTH_FILE" in caller:
        yield caller["REGISTRY_AUTH_FILE"]
    if "XDG_RUNTIME_DIR" in caller:
        yield f"{caller['XDG_RUNTIME_DIR']}/containers/auth.json"
