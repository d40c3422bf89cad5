"""Parameter and result documents whose leaves may be objects."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from packtivity.datamodel.leafmodel import leaf_model
from packtivity.datamodel.leaves import Document, leaf_iterator, map_leaves, plain_copy
from packtivity.datamodel.query import JsonPathError, find_jsonpath, run_jq
from packtivity.types import JSON

if TYPE_CHECKING:
    from jsonpointer import JsonPointer


class TypedLeafs(Document):
    """A JSON document whose leaves may be objects, described by a leaf model (behaviour of upstream 0.17.1).

    :param data: the document; never changed, nor kept.
    :param leafmodel: leaf-model document (see :class:`~packtivity.datamodel.LeafModel`), ``None`` for plain JSON.
    :raises ParameterError: ``data`` holds something that cannot be written as JSON.
    """

    def __init__(self, data: object, leafmodel: Mapping[str, Any] | None = None, idleafs: bool = False) -> None:  # noqa: ARG002 - upstream's signature
        self.leafmodel = leafmodel
        self._leafmodel = leaf_model(leafmodel)
        self._data = self._plain(data)
        self._lent = False

    @classmethod
    def fromJSON(cls, data: object, deserialization_opts: Mapping[str, Any] | None = None) -> TypedLeafs:
        """Make a document from its JSON; ``deserialization_opts`` may have ``leafmodel``."""
        options = deserialization_opts or {}
        return cls(data, options.get("leafmodel"), options.get("idleafs", False))

    def __repr__(self) -> str:
        return f"<TypedLeafs: {self.typed()}>"

    # --- as a container ---

    def _typed(self, data: object) -> Any:
        return self._leafmodel.load(data)

    def _has_objects(self) -> bool:
        return bool(self._leafmodel.keyword)

    def __getitem__(self, key: str | int) -> Any:
        if self._has_objects():  # the whole document may be one object
            return self.typed()[key]
        return self._typed(self._data[key])

    def __iter__(self) -> Iterator[Any]:
        return iter(self.typed())

    def __len__(self) -> int:
        return len(self.typed())

    def __setitem__(self, key: str | int, value: object) -> None:
        self._data[key] = self._plain(value)

    def __delitem__(self, key: str | int) -> None:
        del self._data[key]

    def _plain(self, value: object) -> JSON:
        return self._leafmodel.dump(value.json() if isinstance(value, Document) else value)

    # --- as data ---

    def json(self) -> JSON:
        """Return the document as plain JSON, in the order it was given."""
        self._lent = True
        return self._data

    def typed(self, idleafs: bool = False) -> Any:
        """Return a fresh document with keys sorted and objects in it.

        :param idleafs: put ``b64json://`` strings where the objects are.
        """
        return self._leafmodel.load(self._data, idleafs=idleafs)

    def copy(self) -> TypedLeafs:
        """Return an independent document; its keys are sorted."""
        return TypedLeafs(self.typed(), self.leafmodel)

    def replace(self, path: JsonPointer, value: object) -> None:
        """Put ``value`` where the JSON pointer ``path`` points; what :meth:`json` gave before stays as it was."""
        plain = self._plain(value)
        if not path.parts:
            self._data = plain
        else:
            if self._lent:
                self._data = plain_copy(self._data)
            path.set(self._data, plain)
        self._lent = False

    def map(self, function: Callable[[Any], Any]) -> TypedLeafs:
        """Return a copy with ``function(leaf)`` in place of each leaf; takes time linear in the leaves."""
        if self._has_objects():
            return TypedLeafs(map_leaves(self.typed(), function), self.leafmodel)
        return TypedLeafs(map_leaves(self._data, function, sort_keys=True), self.leafmodel)

    # --- questions ---

    def leafs(self) -> Iterator[tuple[Any, Any]]:
        """Give each leaf with its JSON pointer, in the order of sorted keys; the document may be changed meanwhile."""
        return leaf_iterator(self.typed())

    def resolve_ref(self, reference: JsonPointer) -> Any:
        """Return what a JSON pointer points to."""
        if self._has_objects():  # it may point into an object
            return reference.get(self.typed())
        return self._typed(reference.get(self._data))

    def jsonpointer(self, pointer_str: str) -> Any:
        """Return what a JSON pointer, given as text, points to (RFC 6901)."""
        from jsonpointer import JsonPointer

        return self.resolve_ref(JsonPointer(pointer_str))

    def jsonpath(self, jsonpath_expression: str, multiple_output: bool = False) -> Any:
        """Return the first thing that a JSONPath expression finds, or a list of all.

        :raises JsonPathError: the expression cannot be read, or finds nothing although one thing is wanted.
        """
        found = find_jsonpath(jsonpath_expression, self.typed())
        if multiple_output:
            return found
        if not found:
            raise JsonPathError(f"JSONPath expression finds nothing: {jsonpath_expression}")
        return found[0]

    def jq(self, jq_program: str, *, multiple_output: bool = False, text_output: bool = False) -> TypedLeafs:
        """Return the first output of a jq program as a document, a list of all outputs, or their text.

        The program sees objects as ``b64json://`` strings.

        :raises JqError: the program cannot be compiled, fails, or gives nothing.
        """
        data = self.typed(idleafs=True)
        found = run_jq(jq_program, data, multiple_output=multiple_output, text_output=text_output)
        return TypedLeafs(found, self.leafmodel)
