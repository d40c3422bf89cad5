"""Typed leaves: objects inside parameter documents, and how they are written as JSON.

A leaf model says which key of a mapping names a type, and which class each name stands for::

    {"keyword": "$type", "types": {"File": "mymodule:File"}, "literals": {"magics": ["file:"], "parser": "mymodule:parse"}}

A class has ``json()`` and ``fromJSON(data)``. The form is that of upstream 0.17.1.
"""

from __future__ import annotations

import json
import sys
from binascii import a2b_base64, b2a_base64
from collections.abc import Mapping
from typing import Any, cast

from packtivity import settings
from packtivity.datamodel.leaves import TOO_DEEP, Document, iter_leaves, key_text, rebuilt
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
        return rebuilt(value, self._dump_leaf, _with_text_keys)

    def _dump_leaf(self, value: object) -> JSON:
        if type(value) in _ATOMS:
            return value
        if isinstance(value, str):
            text = str.__str__(value)
            return self.leaf_decode(text) if text.startswith(self._beginnings) else text
        for base in (int, float):
            if isinstance(value, base):
                return base(value)
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
        return rebuilt(data, lambda leaf: leaf, lambda each: self.loader(dict(sorted(each.items())), idleafs))


def _with_text_keys(mapping: dict[Any, Any]) -> dict[str, JSON]:
    if all(type(key) is str for key in mapping):
        return mapping
    return {key_text(key): value for key, value in mapping.items()}


def _class(name: str, given: object) -> type:
    if isinstance(given, str):
        given = load_object(given, purpose=f"leaf model: type {name}")
    if not isinstance(given, type):
        raise ConfigurationError(f"leaf model: type {name}: {given!r} is neither a class nor module:Class")
    return given


# --- models in documents that anybody can have written ---------------------------------------------------------


def check_datamodel(model: object) -> None:
    """Refuse a leaf model that would have a module imported, or a function called, that nobody has configured here.

    Types may be of modules that ``PACKTIVITY_PLUGINS`` or ``PACKTIVITY_STATEPROVIDER`` name, or that the program has
    imported by itself; the parser of literals only of the former.

    :raises ConfigurationError: there is one of another module.
    """
    if not isinstance(model, dict):
        return
    types, literals = model.get("types"), model.get("literals")
    names = [name for name in (types.values() if isinstance(types, dict) else ()) if not isinstance(name, type)]
    parsers = [literals.get("parser")] if isinstance(literals, dict) else []
    for name in (*names, *parsers):
        module = str(name).partition(":")[0]
        if _is_configured(module):
            trusted = _is_configured(_origin(str(name)))
        else:
            trusted = name not in parsers and module in sys.modules
        if not trusted:
            raise ConfigurationError(
                f"leaf model: {name!r} is of a module that is not configured here",
                hint="Name the module in PACKTIVITY_PLUGINS where the document is used.",
            )


def _origin(name: str) -> str:
    """Return the module that something is defined in: a module that imports ``os`` has ``os.system``, too."""
    found = load_object(name, purpose="leaf model")
    return str(getattr(found, "__module__", ""))


def _is_configured(module: str) -> bool:
    known = {*settings.current().plugins, settings.current().state_provider}
    return any(module == name or module.startswith(f"{name}.") for name in known if name)
