"""Walking JSON documents leaf by leaf, each in time that grows with the document and no faster.

A leaf is a string, a number or ``true``: what jq's ``paths(scalars)`` gives (upstream 0.17.1 used it). ``null``,
``false`` and empty containers are no leaves, except as the whole document.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

from packtivity.errors import ParameterError
from packtivity.types import JSON, Path

CONTAINERS = (dict, list, tuple)
Container: TypeAlias = dict[Any, Any] | list[Any] | tuple[Any, ...]

TOO_DEEP = "the document is nested too deeply, or contains itself"


class Document:
    """What ``TypedLeafs`` and ``PureJsonModel`` have in common: each may stand for its JSON inside another."""

    __slots__ = ()

    def json(self) -> JSON:
        """Return the document as JSON."""
        raise NotImplementedError

    def copy(self) -> Document:
        """Return an independent document."""
        raise NotImplementedError

    def leafs(self) -> Iterator[tuple[Any, Any]]:
        """Give each leaf with its JSON pointer."""
        raise NotImplementedError

    def asrefs(self, callback: Callable[[Any], Any] | None = None) -> Any:
        """Return the document with each leaf replaced by its JSON pointer, or by ``callback(pointer)``."""
        data = self.copy().json()
        for pointer, _value in self.leafs():
            reference = callback(pointer) if callback else pointer
            if not pointer.parts:
                return reference
            pointer.set(data, reference)
        return data


def iter_leaves(data: object) -> Iterator[tuple[Path, Any]]:
    """Give each leaf with its path, in the order of the document.

    A document that is no container is one leaf at ``()``, whatever it is.
    """
    if not isinstance(data, CONTAINERS):
        yield (), data
        return
    # An explicit stack: a generator per level would cost the depth again at each leaf.
    stack: list[tuple[Path, Iterator[tuple[Any, Any]]]] = [((), iter(_items(data)))]
    while stack:
        prefix, items = stack[-1]
        for key, value in items:
            if isinstance(value, CONTAINERS):
                stack.append(((*prefix, key), iter(_items(value))))
                break
            if value is not None and value is not False:
                yield (*prefix, key), value
        else:
            stack.pop()


def _items(container: Container) -> Iterable[tuple[Any, Any]]:
    return container.items() if isinstance(container, dict) else enumerate(container)


def leaf_iterator(jsonable: object) -> Iterator[tuple[Any, Any]]:
    """Give each leaf with its :class:`jsonpointer.JsonPointer`, in the order of the document (upstream 0.17.1)."""
    import jsonpointer

    for path, value in list(iter_leaves(jsonable)):
        yield jsonpointer.JsonPointer.from_parts(path), value


def map_leaves(data: object, function: Callable[[Any], Any], *, sort_keys: bool = False) -> Any:
    """Return the document with ``function(leaf)`` in place of each leaf; ``data`` stays as it is.

    ``null`` and ``false`` stay, except as the whole document. Tuples become lists.

    :param sort_keys: sort the keys of each mapping, which must be strings.
    :raises ParameterError: the document is nested too deeply.
    """
    if not isinstance(data, CONTAINERS):
        return function(data)
    try:
        return _mapped(data, function, sort_keys)
    except RecursionError:
        raise ParameterError(TOO_DEEP) from None


def _mapped(data: Container, function: Callable[[Any], Any], sort_keys: bool) -> Any:
    # Loops, not comprehensions: those take up a second level of the recursion limit before Python 3.12.
    if isinstance(data, dict):
        result = {}
        for key in sorted(data) if sort_keys else data:
            value = data[key]
            if isinstance(value, CONTAINERS):
                result[key] = _mapped(value, function, sort_keys)
            else:
                result[key] = value if value is None or value is False else function(value)
        return result
    items = []
    for value in data:
        if isinstance(value, CONTAINERS):
            items.append(_mapped(value, function, sort_keys))
        else:
            items.append(value if value is None or value is False else function(value))
    return items


def sorted_copy(data: object) -> JSON:
    """Return a copy with the keys of every mapping sorted."""
    if isinstance(data, dict):
        result = {}
        for key in sorted(data):
            value = data[key]
            result[key] = sorted_copy(value) if isinstance(value, (dict, list)) else value
        return result
    if isinstance(data, list):
        items = []
        for value in data:
            items.append(sorted_copy(value) if isinstance(value, (dict, list)) else value)  # noqa: PERF401
        return items
    return data


def plain_copy(data: object) -> Any:
    """Return a copy that shares no container with the original; what is not a dict or list is kept as it is."""
    return map_leaves(data, _same) if isinstance(data, CONTAINERS) else data


def _same(value: object) -> Any:
    return value


def key_text(key: object) -> str:
    """Return a mapping's key as :mod:`json` writes it.

    :raises ParameterError: it is no string, number, boolean or null.
    """
    if isinstance(key, str):
        return str.__str__(key)
    try:
        text: str = next(iter(json.loads(json.dumps({key: None}))))
    except TypeError:
        raise ParameterError(f"key {key!r} of type {type(key).__name__} cannot be written as JSON") from None
    return text
