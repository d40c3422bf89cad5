"""Documents on the network as places: web addresses, GitHub and GitLab repositories.

Pure arithmetic. Fetching is in :mod:`packtivity.spec.fetch`, places on this machine are in :mod:`packtivity.spec.sources`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from posixpath import dirname, join, normpath
from urllib.parse import quote, unquote, urljoin, urlsplit

from packtivity.errors import LoadError
from packtivity.settings import Settings
from packtivity.spec.refs import KINDS, File, NotAllowed, scheme_of

_SECRET = re.compile(
    r"([?&;][^=&;#]*(?:token|secret|pass|pwd|key|sig|auth|cred|jwt|session|code)[^=&;#]*=)[^&;#]*", re.IGNORECASE
)
_FROM_GITHUB = "lukasheinrich/yadage-workflows/master"


def split_login(url: str) -> tuple[str, str]:
    """Return an address without the ``USER:PASSWORD`` in it, and that; nothing when there is none."""
    scheme, colon, rest = url.partition("://")
    authority = re.split(r"[/\\?#]", rest, maxsplit=1)[0] if colon else ""
    login, at, host = authority.rpartition("@")
    return (f"{scheme}://{host}{rest[len(authority) :]}", login) if at else (url, "")


def without_secrets(address: str) -> str:
    """Return what the user or a document calls a source, without any password or token in it."""
    shown, _ = split_login(address)
    try:
        _ = urlsplit(address).port
    except ValueError:  # a password with a slash in it, say, which makes no address at all
        shown = re.sub(r"(?<=://).*@", "…@", address, flags=re.DOTALL)
    return _SECRET.sub(r"\1…", shown)


@dataclass(frozen=True, slots=True)
class WebFile(File):
    """A document at an ``http`` or ``https`` address."""

    url: str

    @property
    def shown(self) -> str:
        """Return the address without any password or token in it."""
        return without_secrets(self.url)

    def join(self, reference: str) -> WebFile:
        """Return what a reference without its fragment names, seen from this document.

        :raises NotAllowed: it names a local file, or an unknown kind of address.
        """
        return WebFile(_joined_url(self.url, reference, self.shown)) if reference else self


@dataclass(frozen=True, slots=True)
class GitLabFile(File):
    """A file of a GitLab repository, read through the v4 files API.

    :ivar host: ``https://gitlab.cern.ch``, without a slash at the end.
    :ivar path: the file inside the repository, without a slash at the start.
    """

    host: str
    repository: str
    ref: str
    path: str

    @property
    def url(self) -> str:
        """Return the address the file is fetched from."""
        project, path, ref = (quote(part, safe="") for part in (self.repository, self.path, self.ref))
        return f"{self.host}/api/v4/projects/{project}/repository/files/{path}/raw?ref={ref}"

    @property
    def shown(self) -> str:
        """Return the address a person can open."""
        return f"{self.host}/{self.repository}/-/raw/{self.ref}/{self.path}"

    def join(self, reference: str) -> WebFile | GitLabFile:
        """Return what a reference without its fragment names, seen from this file.

        :raises NotAllowed: it leaves the repository, names a local file, or an unknown kind of address.
        """
        if not reference:
            return self
        if scheme_of(reference):
            return WebFile(_joined_url(self.url, reference, self.shown))
        path = normpath(join("/", dirname(self.path), unquote(reference)))
        return GitLabFile(self.host, self.repository, self.ref, path.lstrip("/"))


def _joined_url(start: str, reference: str, shown: str) -> str:
    try:
        url = urljoin(start, reference)
    except ValueError as error:
        why = error if "@" not in reference + start else "it cannot be read"
        raise NotAllowed(f"{without_secrets(reference)!r} is no address: {why}", hint=KINDS) from None
    if scheme_of(url) not in {"http", "https"}:
        raise NotAllowed(
            f"{without_secrets(reference)!r}: a remote document ({shown}) may refer to http and https addresses only",
            hint="Copy the documents to this machine if they are meant to use local files.",
        )
    return url


def remote_base(toplevel: str, chosen: Settings) -> WebFile | GitLabFile:
    """Return a place inside a remote toplevel, so that names are joined to it as to a neighbour.

    :param toplevel: an http or https address, ``github:…``, ``gitlab-cern:…`` or ``from-github/…``.
    :raises LoadError: it names no repository.
    """
    if toplevel.startswith("gitlab-cern:"):
        repository, ref, folder = _repository(toplevel, "master")
        return GitLabFile(chosen.gitlab_host.rstrip("/"), repository, ref, f"{folder}/x" if folder else "x")
    if toplevel.startswith("github:"):
        return _on_github(chosen, *_repository(toplevel, "main"))
    if toplevel.startswith("from-github/"):
        return _on_github(chosen, _FROM_GITHUB, toplevel.removeprefix("from-github/").strip("/"))
    return WebFile(toplevel.rstrip("/") + "/")


def _on_github(chosen: Settings, *parts: str) -> WebFile:
    return WebFile(f"{chosen.github_raw_host.rstrip('/')}/{quote('/'.join(filter(None, parts)))}/")


def _repository(source: str, default_ref: str) -> tuple[str, str, str]:
    """Split ``KIND:user/repo[@ref][:subpath]``."""
    kind, _, rest = source.partition(":")
    repository, _, folder = rest.partition(":")
    repository, at, ref = repository.partition("@")
    if not re.fullmatch(r"[^/\s:@?#]+(/[^/\s:@?#]+)+", repository) or (at and not ref):
        form = f"{kind}:USER/REPOSITORY[@BRANCH_OR_COMMIT][:FOLDER]"
        raise LoadError(f"{source!r} does not name a repository", hint=f"The form is {form}.")
    return repository, ref or default_ref, folder.strip("/")
