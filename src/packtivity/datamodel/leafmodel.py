"""Typed leaves: objects inside parameter documents, and how they are written as JSON.

A leaf model says which key of a mapping names a type, and which class each name stands for::

    {"keyword": "$type", "types": {"File": "mymodule:File"}, "literals": {"magics": ["file:"], "parser": "mymodule:parse"}}

A class has ``json()`` and ``fromJSON(data)``. The form is that of upstream 0.17.1.
"""

from __future__ import annotations

import json
from binascii import a2b_base64, b2a_base64
from collections.abc import Mapping
from typing import Any, cast

from packtivity.datamodel.leaves import TOO_DEEP, Document, iter_leaves, key_text, sorted_copy
from packtivity.errors import ConfigurationError, ParameterError
from packtivity.registry import load_object, suggestion
from packtivity.types import JSON

MAGIC = "b64json://"
"""What a string starts with that stands for a leaf: the rest is base64 of its JSON."""

_ATOMS = frozenset({int, float, bool, type(None)})


class LeafModel:
    """What a leaf-model document says, made ready for use.

    :ivar datamodel: the document itself.
    :ivar keyword: key that names a type; ``None`` for documents without types.
    :ivar magics: beginnings of strings that stand for leaves.
    :raises ConfigurationError: the document has another form, or names a class that cannot be imported.
    """

    canonical_leaf_magic = MAGIC

    def __init__(self, spec: Mapping[str, Any] | None = None) -> None:
        self.datamodel = spec or {"keyword": None, "types": {}}
        try:
            self.keyword = self.datamodel["keyword"]
            named = dict(self.datamodel["types"])
        except (KeyError, TypeError, ValueError):
            raise ConfigurationError(
                f"leaf model {spec!r} is not of the form {{keyword: KEY, types: {{NAME: CLASS}}}}"
            ) from None
        self._classes: dict[str, Any] = {name: _class(name, given) for name, given in named.items()}
        self._names = {found: name for name, found in self._classes.items()}
        self.magics = [MAGIC]
        self.litparser: Any = None
        literals = self.datamodel.get("literals")
        if literals:
            self.litparser = load_object(literals["parser"], purpose="leaf model: literals")
            self.magics += literals["magics"]
        self._beginnings = tuple(self.magics)

    # --- strings that stand for leaves ---

    def leaf_encode(self, obj: object) -> str:
        """Return the ``b64json://`` string that stands for an object."""
        return MAGIC + b2a_base64(json.dumps(self.dumper(obj)).encode("utf-8"), newline=False).decode("ascii")

    def leaf_decode(self, encoded: str) -> JSON:
        """Return the JSON that a string stands for.

        :raises ParameterError: it is not an encoded leaf.
        """
        if encoded.startswith(MAGIC):
            try:
                return json.loads(a2b_base64(encoded.removeprefix(MAGIC)).decode("utf-8"))
            except ValueError as error:
                raise ParameterError(f"{encoded[:60]!r} is not base64 of JSON: {error}") from None
        if encoded.startswith(self._beginnings):
            return self.litparser(encoded)
        raise ParameterError(f"{encoded[:60]!r} is not an encoded leaf (expected a prefix {', '.join(self.magics)})")

    # --- objects ---

    def loader(self, spec: dict[str, Any], idleafs: bool = False) -> Any:
        """Return the object that a mapping describes, or the mapping if it describes none.

        :param idleafs: give the string that stands for the object instead.
        :raises ParameterError: the mapping names a type that the model does not have.
        """
        if not self.keyword or self.keyword not in spec:
            return spec
        name = spec[self.keyword]
        found = self._classes.get(name) if isinstance(name, str) else None
        if found is None:
            raise ParameterError(
                f"{self.keyword}: {name!r} is no type of the leaf model", hint=suggestion(str(name), self._classes)
            )
        obj = found.fromJSON({key: value for key, value in spec.items() if key != self.keyword})
        return self.leaf_encode(obj) if idleafs else obj

    def dumper(self, obj: object) -> JSON:
        """Return the JSON of an object, its type named.

        :raises ParameterError: it is of no type of the model.
        """
        if isinstance(obj, Document):
            return obj.json()
        name = self._names.get(type(obj))
        if name is None:
            raise ParameterError(
                f"a value of type {type(obj).__name__} cannot be written as JSON: {str(obj)[:60]!r}",
                hint="Use strings, numbers, lists and mappings, or add the type to the leaf model.",
            )
        return {**cast("Document", obj).json(), self.keyword: name}

    # --- whole documents ---

    def dump(self, data: object) -> JSON:
        """Return a document as plain JSON that shares nothing with ``data``: objects written, strings decoded.

        Does to tuples, keys and numbers what a round trip through :mod:`json` does.

        :raises ParameterError: something in it cannot be written; the message says where.
        """
        try:
            return self._dump(data)
        except RecursionError:
            raise ParameterError(TOO_DEEP) from None
        except ParameterError as error:
            raise self._located(error, data) from None

    def _dump(self, value: object) -> JSON:
        if type(value) is str:
            return self.leaf_decode(value) if value.startswith(self._beginnings) else value
        if type(value) is dict:
            return self._dump_mapping(value)
        if type(value) in _ATOMS:
            return value
        if isinstance(value, (list, tuple)):
            items = []
            for item in value:
                items.append(self._dump(item))  # noqa: PERF401 - a comprehension costs a level of recursion
            return items
        return self._dump_rare(value)

    def _dump_mapping(self, value: dict[Any, Any]) -> dict[str, JSON]:
        result = {}
        for key, item in value.items():
            result[key if type(key) is str else key_text(key)] = item if type(item) in _ATOMS else self._dump(item)
        return result

    def _dump_rare(self, value: object) -> JSON:
        """Dump what is no plain JSON type: a subclass of one, or an object."""
        for base in (str, int, float):
            if isinstance(value, base):
                return self._dump(base(value) if base is not str else str.__str__(value))
        if isinstance(value, dict):
            return self._dump_mapping(value)
        return self._dump(self.dumper(value))

    def _located(self, error: ParameterError, data: object) -> ParameterError:
        """Add to an error the path of the leaf that it is about."""
        for path, value in iter_leaves(data):
            try:
                self._dump(value)
            except ParameterError:
                where = "/".join(map(str, path))
                return ParameterError(f"parameter {where}: {error.message}" if path else error.message, hint=error.hint)
        return error

    def load(self, data: object, *, idleafs: bool = False) -> Any:
        """Return plain JSON as a fresh document with keys sorted and, where it describes some, objects in it."""
        return sorted_copy(data) if not self.keyword else self._load(data, idleafs)

    def _load(self, data: object, idleafs: bool) -> Any:
        if isinstance(data, dict):
            result = {}
            for key in sorted(data):
                result[key] = self._load(data[key], idleafs)
            return self.loader(result, idleafs)
        if isinstance(data, list):
            return [self._load(value, idleafs) for value in data]
        return data


def _class(name: str, given: object) -> type:
    if isinstance(given, str):
        given = load_object(given, purpose=f"leaf model: type {name}")
    if not isinstance(given, type):
        raise ConfigurationError(f"leaf model: type {name}: {given!r} is neither a class nor module:Class")
    return given


PLAIN = LeafModel()
"""The model of documents without types."""


def leaf_model(spec: Mapping[str, Any] | None) -> LeafModel:
    """Return the model for a document, the common empty one without making it anew."""
    return LeafModel(spec) if spec else PLAIN
