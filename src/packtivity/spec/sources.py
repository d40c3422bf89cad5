"""Where documents come from: local files, web addresses, GitHub and GitLab repositories.

Pure arithmetic on places, and reading of local files. What goes over the network is in :mod:`packtivity.spec.fetch`.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from posixpath import dirname, join, normpath
from typing import ClassVar, TypeAlias
from urllib.parse import quote, unquote, urljoin, urlsplit

from packtivity import settings
from packtivity.errors import LoadError
from packtivity.registry import nearest
from packtivity.settings import Settings

Location: TypeAlias = "LocalFile | WebFile | GitLabFile"

LOCAL_LIMIT = 67_108_864
"""Bytes a local document may have."""

KINDS = "A reference names a file beside this one, '#/a/place' in it, or an http or https address."
_REPOSITORIES = ("github:", "gitlab-cern:")


class NotAllowed(LoadError):
    """A document refers to something it may not reach: a remote one to local files, or an unknown kind of address."""


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file of this machine; two of them are equal when their paths are.

    :ivar path: absolute, with ``..`` taken out; links are not followed.
    :ivar shown: the path as the user would write it.
    """

    path: str
    shown: str = field(compare=False)
    remote: ClassVar[bool] = False

    def join(self, reference: str) -> Location:
        """Return what a reference without its fragment names, seen from this file.

        :raises NotAllowed: the reference has an unknown scheme.
        """
        if not reference:
            return self
        scheme = scheme_of(reference)
        if scheme in {"http", "https"}:
            return WebFile(reference)
        if scheme not in {"", "file"}:
            raise NotAllowed(f"{reference!r}: addresses of kind {scheme!r} are not known", hint=KINDS)
        if scheme:
            reference = unquote(reference[len("file://") :].removeprefix("localhost"))
        return self._beside(reference)

    def _beside(self, name: str) -> LocalFile:
        shown = os.path.normpath(os.path.join(os.path.dirname(self.shown), name))
        return LocalFile(os.path.normpath(os.path.join(os.path.dirname(self.path), name)), shown)

    def split(self, reference: str) -> tuple[Location, str]:
        """Return the place and the fragment of a reference; a file whose name has ``#`` or ``%`` in it counts first.

        :raises NotAllowed: as :meth:`join`.
        """
        if not scheme_of(reference) and ("#" in reference or "%" in reference):
            cuts = [at for at, character in enumerate(reference) if character == "#"]
            for cut in [*cuts, len(reference)]:
                for name in (reference[:cut], unquote(reference[:cut])):
                    if name and os.path.isfile(self._beside(name).path):
                        return self._beside(name), reference[cut + 1 :]
        name, _, fragment = reference.partition("#")
        return self.join(name), fragment


def scheme_of(reference: str) -> str:
    """Return ``http`` for ``HTTP://…``, and nothing for what is no address but a name."""
    scheme, found, _ = reference.partition("://")
    plain = scheme.replace("+", "").replace("-", "").replace(".", "")
    return scheme.lower() if found and plain.isascii() and plain.isalnum() and scheme[0].isalpha() else ""


def locate(spec: str, toplevel: str | None, chosen: Settings | None = None) -> tuple[Location, str]:
    """Return the place of a spec and the fragment (``/pointer``) inside it.

    :param spec: what the user calls it: a path below ``toplevel``, an absolute path or an address, with or without
        ``#/pointer``; or a whole ``github:`` or ``gitlab-cern:`` source whose subpath is the file.
    :param toplevel: directory or source, by default the current directory.
    :param chosen: settings, by default those of the environment.
    :raises LoadError: the source does not have one of the known forms.
    """
    if spec.startswith(_REPOSITORIES):
        source, _, spec = spec.rpartition(":")
        if source.count(":") != 1:
            raise LoadError(f"{source}:{spec}: which file?", hint="Write github:USER/REPOSITORY:PATH/TO/SPEC.yml.")
        toplevel = source
    if not spec or spec[0] == "#":
        raise LoadError(f"{spec!r} names no file", hint="Name the spec file, then '#/pointer' for a place inside.")
    return _base(toplevel or "", chosen).split(spec)


def is_remote_source(toplevel: str) -> bool:
    """Return whether the user names a source that is reached over the network."""
    if toplevel.startswith(_REPOSITORIES) or scheme_of(toplevel) in {"http", "https"}:
        return True
    return toplevel.startswith("from-github/") and not os.path.isdir(toplevel)


def _base(toplevel: str, chosen: Settings | None) -> Location:
    """Return a place inside the toplevel, so that names are joined to it as to a neighbour."""
    if is_remote_source(toplevel):
        return remote_base(toplevel, chosen or settings.current())
    if scheme_of(toplevel) == "file":
        return _base(unquote(toplevel[len("file://") :]), chosen)
    if toplevel.startswith("from-cap") and not os.path.isdir(toplevel):
        message = f"{toplevel}: sources of the kind 'from-cap' are no longer served by anybody"
        raise LoadError(message, hint="Fetch the spec by other means and load it from a local directory.")
    return LocalFile(os.path.join(os.path.abspath(toplevel), "x"), os.path.join(toplevel, "x"))


def read_local(file: LocalFile) -> bytes:
    """Return the content of a local file.

    :raises LoadError: it is not there, cannot be read, is a directory, or is larger than :data:`LOCAL_LIMIT`.
    """
    try:
        with open(file.path, "rb") as stream:
            content = stream.read(LOCAL_LIMIT + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise _missing(file) from None
    except IsADirectoryError:
        raise _directory(file) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise LoadError(f"{file.shown}: cannot be read: {reason}", hint="Check the path and its permissions.") from None
    if len(content) > LOCAL_LIMIT:
        raise LoadError(f"{file.shown}: larger than {LOCAL_LIMIT:,} bytes", hint="Is this the right file?")
    return content


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


def _documents(directory: str) -> list[str]:
    return [name for name in _names(directory) if name.endswith((".yml", ".yaml", ".json"))]


def _missing(file: LocalFile) -> LoadError:
    directory, name = os.path.split(file.path)
    if not os.path.isdir(directory):
        there = directory
        while not os.path.isdir(there):
            there = os.path.dirname(there)
        return LoadError(
            f"{file.shown}: no such file, because there is no directory {directory}",
            hint=f"{there} is there; check the path and -t/--toplevel.",
        )
    near = nearest(name, _names(directory))
    if near:
        return LoadError(f"{file.shown}: no such file in {directory}", hint=f"Did you mean {near!r}?")
    here = _documents(directory)
    listed = f"There are: {', '.join(here[:8])}{', …' if len(here) > 8 else ''}." if here else "It has no YAML files."
    return LoadError(f"{file.shown}: no such file in {directory}", hint=listed)


def _directory(file: LocalFile) -> LoadError:
    here = _documents(file.path)
    hint = f"Name a file in it: {', '.join(here[:8])}." if here else "Name a spec file; it has no YAML files."
    return LoadError(f"{file.shown}: this is a directory", hint=hint)


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
class WebFile:
    """A document at an ``http`` or ``https`` address."""

    url: str
    remote: ClassVar[bool] = True

    @property
    def shown(self) -> str:
        """Return the address without any password or token in it."""
        return without_secrets(self.url)

    def join(self, reference: str) -> WebFile:
        """Return what a reference without its fragment names, seen from this document.

        :raises NotAllowed: it names a local file, or an unknown kind of address.
        """
        return WebFile(_joined_url(self.url, reference, self.shown)) if reference else self

    def split(self, reference: str) -> tuple[Location, str]:
        """Return the place and the fragment of a reference.

        :raises NotAllowed: as :meth:`join`.
        """
        name, _, fragment = reference.partition("#")
        return self.join(name), fragment


@dataclass(frozen=True, slots=True)
class GitLabFile:
    """A file of a GitLab repository, read through the v4 files API.

    :ivar host: ``https://gitlab.cern.ch``, without a slash at the end.
    :ivar path: the file inside the repository, without a slash at the start.
    """

    host: str
    repository: str
    ref: str
    path: str
    remote: ClassVar[bool] = True

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

    def split(self, reference: str) -> tuple[Location, str]:
        """Return the place and the fragment of a reference.

        :raises NotAllowed: as :meth:`join`.
        """
        name, _, fragment = reference.partition("#")
        return self.join(name), fragment


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
