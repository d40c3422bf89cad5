"""What the user named, and so may be reached wherever it is and may get the user's logins; a document names nothing.

The user names the source (``--toplevel``), the spec, the sources of ``--trust-source``, and, so far as reaching them goes,
the GitLab and GitHub hosts of the settings. A login goes to the source it was named for only: to the project of a
GitLab server, the repository on GitHub, the folder of any other server.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from urllib.parse import unquote, urlsplit

from packtivity.connections import Guard, Origin, netrc_login, origin, sent_url
from packtivity.errors import ConfigurationError, LoadError
from packtivity.settings import Settings
from packtivity.spec.refs import scheme_of
from packtivity.spec.remote import GitLabFile, WebFile, remote_base, split_login, without_secrets
from packtivity.spec.sources import Location, is_remote_source

_PROJECT = re.compile(r"[\w.-]+(/[\w.-]+)*")
_API_FILE = re.compile(r"/api/v\d+/projects/([^/]+)/repository/[^/].*")
_PAGE_FILE = re.compile(r"/([^/]+/[^/]+(?:/[^/]+)*?)/(?:-/)?(?:raw|blob)/.+")
_NO_PROJECT = re.compile(r"/[\w-]*")
_OTHER = "?"
"""Stands for what is no file of a project."""
_KEYS = frozenset({"ref", "ref_type", "inline", "lfs"})
"""What may stand in the query of a GitLab file; others may carry a login, or somebody else's name."""


@dataclass(frozen=True, slots=True)
class Source:
    """A place that the user named.

    :ivar project: of a GitLab server or GitHub, in lower case; a group stands for all of its projects.
    :ivar folder: path that the source's files are below, where there are no projects; or of the one file.
    :ivar query: of the one file; ``None`` for a folder.
    """

    server: Origin
    project: str = ""
    folder: str = ""
    query: str | None = None

    def has(self, path: str, query: str) -> bool:
        """Return whether a path is the one file, or in the folder."""
        if self.query is not None:
            return (path, query) == (self.folder, self.query)
        return bool(self.folder) and path.startswith(f"{self.folder.removesuffix('/')}/")


class Access:
    """What one load may reach, and which logins go where.

    :ivar guard: which addresses may be connected to.
    :ivar secret: the GitLab token, empty if there is none.
    """

    def __init__(self, settings: Settings, sources: Iterable[Source] = (), logins: Iterable[str] = ()) -> None:
        self.settings = settings
        self.gitlab, self.gitlab_path = _server(settings.gitlab_host)
        self.github, self.github_path = _server(settings.github_raw_host)
        self.secret = (settings.load_token or "").strip()
        self._logins = frozenset(logins)
        upgraded = [replace(one, server=_upgraded(one.server)) for one in sources]
        self._sources = frozenset([*sources, *upgraded])
        named = [one.server for one in self._sources]
        for server in (self.gitlab, self.github):
            named += [server, _upgraded(server)] if server else []
        self.guard = Guard(named)

    # --- logins ---

    def covers(self, url: str) -> bool:
        """Return whether an address belongs to a source that the user named; one that can be read in two ways does not."""
        try:
            server, parts = origin(url), urlsplit(sent_url(url))
        except ValueError:
            return False
        path = parts.path or "/"
        here = [one for one in self._sources if one.server == server]
        if not here or not _is_plain(path):
            return False
        if any(one.has(path, parts.query) for one in here):
            return True
        project = self.project(server, path, parts.query)
        if not project:
            return project == ""
        return any(one.project and f"{project}/".startswith(f"{one.project}/") for one in here)

    def project(self, server: Origin, path: str, query: str) -> str | None:
        """Return the project a file is in, nothing for what is in none; ``None`` where the server has no projects."""
        if server == self.gitlab:
            return _gitlab_project(path.removeprefix(self.gitlab_path), query)
        if server == self.github:
            parts = path.removeprefix(self.github_path).split("/")
            return "/".join(parts[1:3]).casefold() if len(parts) > 3 else _OTHER
        return None

    def token(self, url: str) -> str:
        """Return the GitLab token if an address is one of its server, else nothing; see :meth:`covers` for the rest."""
        return self.secret if self.is_gitlab(url) else ""

    def login(self, url: str, *, covered: bool) -> tuple[str, str] | None:
        """Return the user and password for an address: those in it, or in ``~/.netrc`` where the user named the source.

        :param covered: whether the user did; a login that the user put into an address stays at its source.
        """
        login = split_login(url)[1]
        if not login:
            return netrc_login(origin(url)) if covered else None
        user, _, password = login.partition(":")
        return (unquote(user), unquote(password)) if covered or login not in self._logins else None

    def is_gitlab(self, url: str) -> bool:
        """Return whether an address is one of the GitLab server."""
        return self.gitlab is not None and _server(url)[0] == self.gitlab

    def identities(self, url: str) -> list[str]:
        """Return as whom a document can be fetched, the most specific first; the last one is anybody.

        A copy that was sent to one of them is not for the others.
        """
        covered = self.covers(url)
        token, login = self.token(url) if covered else "", self.login(url, covered=covered)
        identities = ["named"] if _server(url)[0] in self.guard.named else []
        if token or login:
            digest = hashlib.sha256(token.encode()).hexdigest()
            identities.insert(0, f"login {login[0] if login else ''} {digest}")
        return [*identities, ""]

    # --- words ---

    def source_of(self, url: str) -> str:
        """Return how the user would name the source of an address, for ``--trust-source``."""
        server, parts = origin(url), urlsplit(split_login(sent_url(url))[0])
        project = self.project(server, parts.path, "") if _is_plain(parts.path) else None
        if project and project != _OTHER:
            return f"{'gitlab-cern' if server == self.gitlab else 'github'}:{project}"
        return f"{parts.scheme}://{parts.netloc}{parts.path.rpartition('/')[0]}"


def of_load(file: Location, spec: str, toplevel: str | None, settings: Settings, trusted: Iterable[str] = ()) -> Access:
    """Return what may be reached to load a spec.

    :param file: where the spec is.
    :param spec: what the user calls it.
    :param toplevel: what the user named as its source.
    :param trusted: further sources, as ``--trust-source`` takes them; those of the settings are added.
    :raises ConfigurationError: one of these is no source.
    """
    places: list[WebFile | GitLabFile] = []
    sources: list[Source] = []
    if isinstance(file, WebFile | GitLabFile):
        base = _toplevel(spec, toplevel, settings)
        places = [file] if base is None else [file, base]
        sources += _named(file, settings, whole=base is None)
        sources += _named(base, settings, whole=True) if base is not None else []
    logins = [login for place in places if isinstance(place, WebFile) and (login := split_login(place.url)[1])]
    for name in (*trusted, *settings.trusted_sources):
        sources += _trusted(name, settings)
    return Access(settings, sources, logins)


def of_file(file: WebFile | GitLabFile, settings: Settings) -> Access:
    """Return what may be reached for one document that the user, or this program, named itself."""
    return Access(settings, [*_named(file, settings, whole=True)])


def _toplevel(spec: str, toplevel: str | None, settings: Settings) -> WebFile | GitLabFile | None:
    """Return a place in the toplevel if it was one over the network that the spec was looked for in."""
    if not toplevel or scheme_of(spec) or not is_remote_source(toplevel):
        return None
    try:
        return remote_base(toplevel, settings)
    except LoadError:
        return None  # the spec names its repository itself


def _named(place: WebFile | GitLabFile, settings: Settings, *, whole: bool) -> Iterator[Source]:
    """Yield what is named with a place.

    :param whole: whether the folder of the place is named with it, and not the one file.
    """
    try:
        server, parts = origin(place.url), urlsplit(sent_url(place.url))
    except ValueError:
        return
    path = parts.path
    if isinstance(place, GitLabFile):
        yield Source(server, place.repository.casefold())
        return
    if not path.endswith("/"):
        yield Source(server, folder=path, query=parts.query)
    project = Access(settings).project(server, path, "") if _is_plain(path) else None
    if project is not None:
        yield Source(server, project.replace(_OTHER, ""))
    elif whole:
        yield Source(server, folder=path.rpartition("/")[0] + "/")


def _trusted(name: str, settings: Settings) -> Iterator[Source]:
    """Yield what one value of ``--trust-source`` stands for.

    :raises ConfigurationError: it is no source.
    """
    form = "Write gitlab-cern:GROUP/REPO, github:USER/REPO or an http(s) address; several are separated by commas."
    try:
        if not is_remote_source(name):
            raise ValueError(name)
        place = remote_base(name, settings)
        server = origin(place.url)
    except (ValueError, LoadError):
        message = f"--trust-source (PACKTIVITY_TRUSTED_SOURCES): {without_secrets(name)!r} is no source"
        raise ConfigurationError(message, hint=form) from None
    if isinstance(place, GitLabFile):
        yield Source(server, place.repository.casefold())
        return
    access, path = Access(settings), urlsplit(split_login(place.url)[0]).path
    if server == access.github and path.removeprefix(access.github_path).strip("/"):
        yield Source(server, "/".join(path.removeprefix(access.github_path).strip("/").split("/")[:2]).casefold())
    elif server == access.gitlab and path.removeprefix(access.gitlab_path).strip("/"):
        inside = path.removeprefix(access.gitlab_path).rstrip("/")
        known = {_gitlab_project(f"{inside}/x", ""), _gitlab_project(f"{inside}/repository/x", "")} - {_OTHER}
        yield Source(server, known.pop() if known else unquote(inside.strip("/")).casefold())
    else:
        yield Source(server, folder=path)


# --- addresses -------------------------------------------------------------------------------------------------


def _server(address: str) -> tuple[Origin | None, str]:
    """Return the server of an address and its path, which all addresses of a setting begin with; none for a broken one."""
    try:
        return origin(address), urlsplit(address).path.rstrip("/")
    except ValueError:
        return None, ""


def _upgraded(server: Origin) -> Origin:
    """Return the server that ``http`` addresses are usually redirected to."""
    return ("https", server[1], 443) if server[::2] == ("http", 80) else server


def _is_plain(path: str) -> bool:
    """Return whether a path means one thing only, however often a server on the way unquotes it."""
    for _ in range(5):
        again = unquote(path)
        if again == path:
            break
        path = again
    else:
        return False
    parts = path.split("/")
    return "\\" not in path and path.isprintable() and not {".", ".."} & set(parts) and "" not in parts[1:-1]


def _gitlab_project(path: str, query: str) -> str:
    """Return the project that a file of a GitLab server is in; nothing for a page outside of every project."""
    if {key.partition("=")[0] for key in query.split("&") if key} - _KEYS:
        return _OTHER
    if _NO_PROJECT.fullmatch(path):
        return ""  # where the server sends people to log in; there are no files
    if found := _API_FILE.fullmatch(path):
        project = unquote(found[1])
    elif not path.casefold().startswith("/api/") and (found := _PAGE_FILE.fullmatch(path)):
        project = found[1]
    else:
        return _OTHER
    return project.casefold() if _PROJECT.fullmatch(project) else _OTHER
