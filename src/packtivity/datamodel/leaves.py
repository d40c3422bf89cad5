"""Walking JSON documents leaf by leaf, each in time that grows with the document and no faster.

A leaf is a string, a number or ``true``: what jq's ``paths(scalars)`` gives (upstream 0.17.1 used it). ``null``,
``false`` and empty containers are no leaves, except as the whole document.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

from packtivity.errors import ParameterError
from packtivity.types import JSON, Path

if TYPE_CHECKING:
    from jsonpointer import JsonPointer

CONTAINERS = (dict, list, tuple)
Container: TypeAlias = dict[Any, Any] | list[Any] | tuple[Any, ...]

TOO_DEEP = "the document is nested too deeply, or contains itself"


class Document:
    """What ``TypedLeafs`` and ``PureJsonModel`` have in common: each may stand for its JSON inside another."""

    _data: Any

    def __iter__(self) -> Iterator[Any]:
        return iter(self.typed())

    def __len__(self) -> int:
        return len(self.typed())

    def __delitem__(self, key: str | int) -> None:
        del self._data[key]

    def json(self) -> JSON:
        """Return the document as plain JSON, in the order it was given."""
        return self._data

    def typed(self) -> Any:
        """Return the document."""
        return self._data

    def copy(self) -> Document:
        """Return an independent document."""
        raise NotImplementedError

    def leafs(self) -> Iterator[tuple[JsonPointer, Any]]:
        """Give each leaf with its JSON pointer, in the order of :meth:`typed`; the document may be changed meanwhile."""
        return leaf_iterator(self.typed())

    def asrefs(self, callback: Callable[[JsonPointer], Any] | None = None) -> Any:
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


def leaf_iterator(jsonable: object) -> Iterator[tuple[JsonPointer, Any]]:
    """Give each leaf with its :class:`jsonpointer.JsonPointer`, in the order of the document (upstream 0.17.1)."""
    from jsonpointer import JsonPointer

    for path, value in list(iter_leaves(jsonable)):
        yield JsonPointer.from_parts(path), value


def map_leaves(data: object, function: Callable[[Any], Any], *, sort_keys: bool = False) -> Any:
    """Return the document with ``function(leaf)`` in place of each leaf; ``data`` stays as it is.

    ``null`` and ``false`` stay, except as the whole document. Tuples become lists.

    :param sort_keys: sort the keys of each mapping, which must be strings.
    :raises ParameterError: the document is nested too deeply.
    """
    try:
        return rebuilt(data, function, lambda mapping: dict(sorted(mapping.items())) if sort_keys else mapping)
    except RecursionError:
        raise ParameterError(TOO_DEEP) from None


def rebuilt(data: object, leaf: Callable[[Any], Any], mapping: Callable[[dict[Any, Any]], Any]) -> Any:
    """Return a document made anew, from its leaves upwards; see :func:`map_leaves`.

    :param mapping: given each mapping, its values made anew, to return what takes its place.
    :raises RecursionError: the document is nested too deeply.
    """
    if not isinstance(data, CONTAINERS):
        return leaf(data)
    # A loop, not a comprehension: that takes up a second level of the recursion limit before Python 3.12.
    made: Any = {} if isinstance(data, dict) else [None] * len(data)
    for key, value in _items(data):
        made[key] = value if value is None or value is False else rebuilt(value, leaf, mapping)
    return mapping(made) if isinstance(data, dict) else made


def plain_copy(data: object) -> Any:
    """Return a copy that shares no container with the original; what is not a dict or list is kept as it is."""
    return map_leaves(data, lambda leaf: leaf)


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
