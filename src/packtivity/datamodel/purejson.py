"""Parameter and result documents without types: the order of the document is kept everywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from packtivity.datamodel.leaves import Document, leaf_iterator, map_leaves, plain_copy
from packtivity.datamodel.query import run_jq
from packtivity.types import JSON

if TYPE_CHECKING:
    from jsonpointer import JsonPointer


class PureJsonModel(Document):
    """A JSON document, as it is (behaviour of upstream 0.17.1's ``purejson``).

    :param data: the document; never changed, nor kept.
    :param modelspec: accepted because :class:`TypedLeafs` has one there; not used.
    """

    def __init__(self, data: object, modelspec: Mapping[str, Any] | None = None) -> None:  # noqa: ARG002
        self.data = plain_copy(data.json() if isinstance(data, Document) else data)

    def __repr__(self) -> str:
        return f"<JSON {self.data}>"

    def __getitem__(self, key: str | int) -> Any:
        return self.data[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.data)

    def __len__(self) -> int:
        return len(self.data)

    def __setitem__(self, key: str | int, value: object) -> None:
        self.data[key] = value

    def __delitem__(self, key: str | int) -> None:
        del self.data[key]

    def json(self) -> JSON:
        """Return the document."""
        return self.data

    def typed(self) -> JSON:
        """Return the document."""
        return self.data

    def copy(self) -> PureJsonModel:
        """Return an independent document."""
        return PureJsonModel(self.data)

    def replace(self, path: JsonPointer, value: object) -> None:
        """Put ``value`` where the JSON pointer ``path`` points."""
        if path.parts:
            path.set(self.data, value)
        else:
            self.data = value

    def map(self, function: Callable[[Any], Any]) -> PureJsonModel:
        """Return a copy with ``function(leaf)`` in place of each leaf; takes time linear in the leaves."""
        return PureJsonModel(map_leaves(self.data, function))

    def leafs(self) -> Iterator[tuple[Any, Any]]:
        """Give each leaf with its JSON pointer, in the order of the document."""
        return leaf_iterator(self.data)

    def resolve_ref(self, reference: JsonPointer) -> Any:
        """Return what a JSON pointer points to."""
        return reference.get(self.data)

    def jq(self, jq_program: str, *, multiple_output: bool = False, text_output: bool = False) -> PureJsonModel:
        """Return the first output of a jq program as a document, a list of all outputs, or their text.

        :raises JqError: the program cannot be compiled, fails, or gives nothing.
        """
        found = run_jq(jq_program, self.data, multiple_output=multiple_output, text_output=text_output)
        return PureJsonModel(found)
