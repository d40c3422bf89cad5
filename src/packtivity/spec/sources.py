"""Where documents come from: local files, web addresses, GitHub and GitLab repositories.

Pure arithmetic on places, and reading of local files. What goes over the network is in
:mod:`packtivity.spec.fetch`, imported only when a document is remote.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from packtivity.errors import LoadError
from packtivity.registry import nearest

if TYPE_CHECKING:
    from packtivity.settings import Settings

LOCAL_LIMIT = 67_108_864
"""Bytes a local document may have."""

_WEB = re.compile(r"https?://", re.IGNORECASE)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_SECRET = re.compile(r"([?&][^=&#]*(?:token|secret|passw|key|sig)[^=&#]*=)[^&#]*", re.IGNORECASE)
_FROM_GITHUB = "lukasheinrich/yadage-workflows/master"
_FORM = "{0}:USER/REPOSITORY[@BRANCH_OR_COMMIT][:FOLDER]"


class NotAllowed(LoadError):
    """A document refers to something it may not reach: a remote one to local files, or an unknown kind of address."""


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file of this machine.

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
        if _WEB.match(reference):
            return WebFile(reference)
        scheme = _SCHEME.match(reference)
        if scheme and scheme[1].lower() != "file":
            raise NotAllowed(f"{reference!r}: addresses of kind {scheme[0]!r} are not known", hint=_KINDS)
        if scheme:
            reference = unquoted(reference[len("file://") :].removeprefix("localhost"))
        return self._beside(reference)

    def _beside(self, name: str) -> LocalFile:
        shown = os.path.normpath(os.path.join(os.path.dirname(self.shown), name))
        return LocalFile(os.path.normpath(os.path.join(os.path.dirname(self.path), name)), shown)

    def split(self, reference: str) -> tuple[Location, str]:
        """Return the place and the fragment of a reference; a file whose name has ``#`` or ``%`` in it counts first.

        :raises NotAllowed: as :meth:`join`.
        """
        if _SCHEME.match(reference) or ("#" not in reference and "%" not in reference):
            name, _, fragment = reference.partition("#")
            return self.join(name), fragment
        cuts = [match.start() for match in re.finditer("#", reference)]
        for cut in [*cuts, len(reference)]:
            for name in (reference[:cut], unquoted(reference[:cut])):
                if name and os.path.isfile(self._beside(name).path):
                    return self._beside(name), reference[cut + 1 :]
        name, _, fragment = reference.partition("#")
        return self.join(name), fragment


@dataclass(frozen=True, slots=True)
class WebFile:
    """A document at an ``http`` or ``https`` address."""

    url: str
    remote: ClassVar[bool] = True

    @property
    def shown(self) -> str:
        """Return the address without any password or token in it."""
        return _SECRET.sub(r"\1…", re.sub(r"(?<=://)[^/@]*@", "", self.url))

    def join(self, reference: str) -> Location:
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
        from urllib.parse import quote

        project, path, ref = (quote(part, safe="") for part in (self.repository, self.path, self.ref))
        return f"{self.host}/api/v4/projects/{project}/repository/files/{path}/raw?ref={ref}"

    @property
    def shown(self) -> str:
        """Return the address a person can open."""
        return f"{self.host}/{self.repository}/-/raw/{self.ref}/{self.path}"

    def join(self, reference: str) -> Location:
        """Return what a reference without its fragment names, seen from this file.

        :raises NotAllowed: it leaves the repository, names a local file, or an unknown kind of address.
        """
        if not reference:
            return self
        if _SCHEME.match(reference):
            return WebFile(_joined_url(self.url, reference, self.shown))
        path = os.path.normpath(os.path.join("/", os.path.dirname(self.path), unquoted(reference)))
        return GitLabFile(self.host, self.repository, self.ref, path.lstrip("/"))

    def split(self, reference: str) -> tuple[Location, str]:
        """Return the place and the fragment of a reference.

        :raises NotAllowed: as :meth:`join`.
        """
        name, _, fragment = reference.partition("#")
        return self.join(name), fragment


Location = LocalFile | WebFile | GitLabFile

_KINDS = "A reference names a file beside this one, '#/a/place' in it, or an http or https address."


def unquoted(text: str) -> str:
    """Return a part of an address with its percent escapes read (RFC 3986)."""
    if "%" not in text:
        return text
    from urllib.parse import unquote

    return unquote(text)


def _joined_url(base: str, reference: str, shown: str) -> str:
    from urllib.parse import urljoin

    try:
        url = urljoin(base, reference)
    except ValueError as error:
        raise NotAllowed(f"{reference!r} is no address: {error}", hint=_KINDS) from None
    if not _WEB.match(url):
        raise NotAllowed(
            f"{reference!r}: a remote document ({shown}) may refer to http and https addresses only",
            hint="Copy the documents to this machine if they are meant to use local files.",
        )
    return url


def locate(spec: str, toplevel: str | None, settings: Settings) -> tuple[Location, str]:
    """Return the place of a spec and the fragment (``/pointer``) inside it.

    :param spec: what the user calls it: a path below ``toplevel``, an absolute path or an address, with or without
        ``#/pointer``; or a whole ``github:`` or ``gitlab-cern:`` source whose subpath is the file.
    :param toplevel: directory or source, by default the current directory.
    :raises LoadError: the source does not have one of the known forms.
    """
    if _is_repository(spec):
        source, _, spec = spec.rpartition(":")
        if source.count(":") != 1:
            raise LoadError(f"{source}:{spec}: which file?", hint="Write " + _FORM.format("github") + " and the file.")
        toplevel = source
    if not spec or spec[0] == "#":
        raise LoadError(f"{spec!r} names no file", hint="Name the spec file, then '#/pointer' for a place inside.")
    return _base(toplevel, settings).split(spec)


def _is_repository(source: str) -> bool:
    return source.startswith(("github:", "gitlab-cern:"))


def _base(toplevel: str | None, settings: Settings) -> Location:
    """Return a place inside the toplevel, so that names are joined to it as to a neighbour."""
    toplevel = toplevel or ""
    if _WEB.match(toplevel):
        return WebFile(toplevel.rstrip("/") + "/")
    if toplevel.startswith("github:"):
        repository, ref, folder = _repository(toplevel, "main")
        return WebFile(_raw_url(settings, "/".join(filter(None, (repository, ref, folder)))))
    if toplevel.startswith("gitlab-cern:"):
        repository, ref, folder = _repository(toplevel, "master")
        return GitLabFile(settings.gitlab_host.rstrip("/"), repository, ref, f"{folder}/x" if folder else "x")
    if not os.path.isdir(toplevel or "."):
        if toplevel.startswith("from-github/"):
            return WebFile(_raw_url(settings, _FROM_GITHUB + "/" + toplevel.removeprefix("from-github/").strip("/")))
        if toplevel.startswith("file://"):
            return _base(unquoted(toplevel[len("file://") :]), settings)
        if toplevel.startswith("from-cap"):
            message = f"{toplevel}: sources of the kind 'from-cap' are no longer served by anybody"
            raise LoadError(message, hint="Fetch the spec by other means and load it from a local directory.")
    return LocalFile(os.path.join(os.path.abspath(toplevel), "x"), os.path.join(toplevel, "x"))


def _raw_url(settings: Settings, path: str) -> str:
    from urllib.parse import quote

    return f"{settings.github_raw_host.rstrip('/')}/{quote(path)}/"


def _repository(source: str, default_ref: str) -> tuple[str, str, str]:
    """Split ``KIND:user/repo[@ref][:subpath]``."""
    kind, _, rest = source.partition(":")
    repository, _, folder = rest.partition(":")
    repository, at, ref = repository.partition("@")
    if not re.fullmatch(r"[^/\s:@?#]+(/[^/\s:@?#]+)+", repository) or (at and not ref):
        raise LoadError(f"{source!r} does not name a repository", hint=f"The form is {_FORM.format(kind)}.")
    return repository, ref or default_ref, folder.strip("/")


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
