"""Finds paths by pattern, meaning what ``glob2`` 0.7 means (upstream 0.17.1 used it), at the speed of ``os.scandir``.

``*`` and ``?`` do not match names that start with a dot. ``**`` gives everything below, at any depth: it leaves out
what starts with a dot right below its base, but not further down, does not follow links, and does not give the base.
A path element with wildcards matches in either case, ``*.ROOT`` finds ``a.root`` (``glob2.glob`` drops its argument
``case_sensitive`` on the way); one without is matched exactly.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import count

from packtivity import settings
from packtivity.errors import PublishError

_MOST_PARTS = 500
_MAGIC = frozenset("*?[")


def glob(pattern: str, directory: str = "") -> list[str]:
    """Return the existing paths that match, sorted.

    :param pattern: path with wildcards; relative to ``directory``, or to the current directory unless it is absolute. A
        path without wildcards gives itself if it exists (as a dangling link, too); one that ends in ``/`` gives
        directories only.
    :param directory: what the pattern is below, taken as it is: ``run[1]`` is no pattern there.
    :return: paths in the form of the pattern, relative or absolute. Directories that cannot be read count as empty.
    :raises PublishError: the pattern has too many parts, or there are more matches, with the directories on the way to them,
        than the setting ``PACKTIVITY_GLOB_LIMIT`` allows: ``**/**/**`` finds a file once for each way to it.
    """
    if pattern.count("/") > _MOST_PARTS:
        raise PublishError(f"the pattern {pattern[:60]!r} … has more than {_MOST_PARTS} parts", hint="Shorten it.")
    limit, met = settings.current().glob_limit, count(1)

    def counted(paths: Iterator[str]) -> Iterator[str]:
        for path in paths:
            if next(met) > limit:
                hint = "Narrow the pattern, with fewer **, or set PACKTIVITY_GLOB_LIMIT."
                raise PublishError(f"the pattern {pattern!r} finds more than {limit} paths", hint=hint)
            yield path

    return sorted(counted(_matches(pattern, f"{directory.rstrip('/')}/" if directory else "", counted, inner=False)))


def has_magic(pattern: str) -> bool:
    """Say whether a pattern has wildcards."""
    return not _MAGIC.isdisjoint(pattern)


def _matches(
    pattern: str, root: str, counted: Callable[[Iterator[str]], Iterator[str]], *, inner: bool
) -> Iterator[str]:
    """Give matches; as the inner part of a longer pattern, only directories, and the base of ``**`` too.

    :param root: what the pattern is below, with a slash at its end; empty for nothing.
    """
    if not has_magic(pattern):
        if os.path.lexists(root + pattern):
            yield root + pattern
        return
    directory, name = os.path.split(pattern)
    if has_magic(directory):
        bases = counted(_matches(directory, root, counted, inner=True))
    else:
        base = root + directory
        bases = iter((base.rstrip("/") or base,))
    for base in bases:
        if name == "**":
            yield from _everything(base, inner=inner)
        elif has_magic(name):
            yield from _listed(base, name, inner=inner)
        elif os.path.lexists(path := os.path.join(base, name)):  # with a last "/": only a directory
            yield path


def _listed(base: str, name: str, *, inner: bool) -> Iterator[str]:
    matches = _matcher(name)
    hidden = name[0] == "."
    prefix = os.path.join(base, "") if base else ""
    for entry in _scan(base):
        found = entry.name
        if (hidden or found[0] != ".") and matches(found) and not (inner and not _is_dir(entry)):
            yield prefix + found


def _everything(base: str, *, inner: bool) -> Iterator[str]:
    prefix = os.path.join(base, "") if base else ""
    if inner:
        yield prefix
    pending = [(base, prefix)]
    while pending:
        directory, prefix = pending.pop()
        top = directory is base
        for entry in _scan(directory):
            path = prefix + entry.name
            if (not inner or _is_dir(entry)) and not (top and entry.name[0] == "."):
                yield path
            # What is hidden right below the base is left out with all it holds.
            if entry.is_dir(follow_symlinks=False) and not (top and entry.name[0] == "."):
                pending.append((path, path + "/"))


def _scan(directory: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory or os.curdir) as entries:
            return list(entries)
    except (OSError, ValueError):  # ValueError: a null byte in the name
        return []


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads round in a circle
        return False


@lru_cache(maxsize=256)
def _matcher(pattern: str) -> Callable[[str], object]:
    return re.compile(fnmatch.translate(pattern), re.IGNORECASE).match if pattern.strip("*") else bool
