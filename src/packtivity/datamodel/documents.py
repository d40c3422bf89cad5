"""Parameter and result documents: with objects as leaves, or plain."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from packtivity.datamodel.leafmodel import LeafModel
from packtivity.datamodel.leaves import Document, map_leaves, plain_copy
from packtivity.datamodel.query import JsonPathError, find_jsonpath, run_jq
from packtivity.types import JSON

if TYPE_CHECKING:
    from jsonpointer import JsonPointer


_PLAIN = LeafModel()
"""The model of documents without types."""


class TypedLeafs(Document):
    """A JSON document whose leaves may be objects, described by a leaf model (behaviour of upstream 0.17.1).

    :param data: the document; never changed, nor kept.
    :param leafmodel: leaf-model document (see :class:`~packtivity.datamodel.LeafModel`), ``None`` for plain JSON.
    :raises ParameterError: ``data`` holds something that cannot be written as JSON.
    """

    def __init__(self, data: object, leafmodel: Mapping[str, Any] | None = None, idleafs: bool = False) -> None:  # noqa: ARG002 - upstream's signature
        self.leafmodel = leafmodel
        self._leafmodel = LeafModel(leafmodel) if leafmodel else _PLAIN
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

    def __getitem__(self, key: str | int) -> Any:
        if self._leafmodel.keyword:  # the whole document may be one object
            return self.typed()[key]
        return self._leafmodel.load(self._data[key])

    def __setitem__(self, key: str | int, value: object) -> None:
        self._data[key] = self._plain(value)

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
        if self._leafmodel.keyword:
            return TypedLeafs(map_leaves(self.typed(), function), self.leafmodel)
        return TypedLeafs(map_leaves(self._data, function, sort_keys=True), self.leafmodel)

    # --- questions ---

    def resolve_ref(self, reference: JsonPointer) -> Any:
        """Return what a JSON pointer points to."""
        if self._leafmodel.keyword:  # it may point into an object
            return reference.get(self.typed())
        return self._leafmodel.load(reference.get(self._data))

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


class PureJsonModel(Document):
    """A JSON document, as it is (behaviour of upstream 0.17.1's ``purejson``).

    :param data: the document; never changed, nor kept.
    :param modelspec: accepted because :class:`TypedLeafs` has one there; not used.
    """

    def __init__(self, data: object, modelspec: Mapping[str, Any] | None = None) -> None:  # noqa: ARG002
        self._data = plain_copy(data.json() if isinstance(data, Document) else data)

    def __repr__(self) -> str:
        return f"<JSON {self._data}>"

    def __getitem__(self, key: str | int) -> Any:
        return self._data[key]

    def __setitem__(self, key: str | int, value: object) -> None:
        self._data[key] = value

    def copy(self) -> PureJsonModel:
        """Return an independent document."""
        return PureJsonModel(self._data)

    def replace(self, path: JsonPointer, value: object) -> None:
        """Put ``value`` where the JSON pointer ``path`` points."""
        if path.parts:
            path.set(self._data, value)
        else:
            self._data = value

    def map(self, function: Callable[[Any], Any]) -> PureJsonModel:
        """Return a copy with ``function(leaf)`` in place of each leaf; takes time linear in the leaves."""
        return PureJsonModel(map_leaves(self._data, function))

    def resolve_ref(self, reference: JsonPointer) -> Any:
        """Return what a JSON pointer points to."""
        return reference.get(self._data)

    def jq(self, jq_program: str, *, multiple_output: bool = False, text_output: bool = False) -> PureJsonModel:
        """Return the first output of a jq program as a document, a list of all outputs, or their text.

        :raises JqError: the program cannot be compiled, fails, or gives nothing.
        """
        found = run_jq(jq_program, self._data, multiple_output=multiple_output, text_output=text_output)
        return PureJsonModel(found)
