"""Registries: a name and an implementation, found in the order decorator, entry point, built-in.

The table itself is a plain nested dictionary, because plug-ins written for upstream 0.17.1 index it:
``handlers[kind][implementation]``. Entry points are read only when a name is looked up that nothing else gives.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from functools import partial
from typing import Any, Generic, TypeVar

from packtivity.errors import ConfigurationError, PacktivityError

foreign_code: dict[str, str] = {}
"""Modules and backends, not part of packtivity itself, that this process uses, and what each is for."""

T = TypeVar("T")
Table = dict[str, dict[str, T]]

DEFAULT = "default"


def nearest(word: str, known: Iterable[object]) -> str | None:
    """Return the one of ``known`` that ``word`` was probably meant to be, if any is near."""
    names = [name for name in known if isinstance(name, str)]
    by_folded = {name.lower().replace("_", "-"): name for name in names}
    found = get_close_matches(word.lower().replace("_", "-"), by_folded, n=1, cutoff=0.6)
    return by_folded[found[0]] if found else None


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return the hint for a name that is not known: the nearest one, if any is near, and all there are."""
    names = sorted(known)
    near = nearest(word, names)
    return (f"Did you mean {near!r}? " if near else "") + f"There are: {', '.join(names) or 'none'}."


def load_object(reference: str, *, purpose: str) -> Any:
    """Import ``module:attribute``.

    :param reference: what to import; dots in the attribute reach into it.
    :param purpose: what it is for, named in errors (``PACKTIVITY_LOGGING_HANDLER``).
    :raises ConfigurationError: the form is wrong, the module cannot be imported, or has no such attribute.
    """
    module_name, separator, attribute = reference.partition(":")
    if not (separator and module_name and attribute):
        raise ConfigurationError(f"{purpose}: {reference!r} is not of the form module:attribute")
    found = load_module(module_name, purpose=purpose)
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            near = nearest(part, dir(found))
            raise ConfigurationError(
                f"{purpose}: {module_name} has no {attribute!r}", hint=f"Did you mean {near!r}?" if near else ""
            ) from None
    return found


def load_module(name: str, *, purpose: str) -> Any:
    """Import a module that the user named.

    :raises ConfigurationError: it cannot be imported, whatever the reason; the reason is kept as the cause.
    """
    note_foreign_code(name, purpose)
    try:
        return importlib.import_module(name)
    except PacktivityError:
        raise
    except (Exception, SystemExit) as error:  # a user's module may raise anything while it is imported
        raise ConfigurationError(
            f"{purpose}: module {name!r} cannot be imported: {type(error).__name__}: {error}",
            hint="Check the spelling, and that it is installed in the environment packtivity runs in.",
        ) from error


def note_foreign_code(name: str, purpose: str = "") -> None:
    """Note that code of others is about to run.

    :param purpose: what it is for, named when it fails; empty where its errors are for us to understand.
    """
    foreign_code.setdefault(name, purpose)


class Registry(Generic[T]):
    """One kind of extension.

    :param kind: what the entries are, in messages: ``publisher``.
    :param entry_points: entry-point group that other packages may add to; entries are named ``NAME`` or
        ``NAME/IMPLEMENTATION``.
    """

    def __init__(self, kind: str, entry_points: str) -> None:
        self.kind = kind
        self.group = entry_points
        self.table: Table[T] = {}
        self._absent: set[tuple[str, str]] = set()

    def __call__(self, name: str, implementation: str = DEFAULT) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Use as a decorator: ``@publisher("my-pub")``."""
        return _registering(self.table, name, implementation)

    def find(self, name: str, implementation: str = DEFAULT) -> T:
        """Return what is registered.

        :raises ConfigurationError: nothing is; the message has the nearest name and what there is.
        """
        if implementation not in self.table.get(name, {}) and not self._load_entry_point(name, implementation):
            known = self.names()
            if name not in known:
                raise ConfigurationError(f"unknown {self.kind} {name!r}", hint=suggestion(name, known))
            raise ConfigurationError(
                f"{self.kind} {name!r} has no implementation {implementation!r}",
                hint=suggestion(implementation, self.table.get(name, {})),
            )
        return self.table[name][implementation]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (bool(self.table.get(name)) or self._load_entry_point(name, DEFAULT))

    def names(self) -> list[str]:
        """Return every name that can be found, entry points included, sorted."""
        return sorted({*self.table, *(point.name.partition("/")[0] for point in self._entry_points())})

    def _entry_points(self) -> Any:
        from importlib.metadata import entry_points

        return entry_points(group=self.group)

    def _load_entry_point(self, name: str, implementation: str) -> bool:
        """Load what another package provides; false when none does. Threads may do that at the same time.

        :raises ConfigurationError: it cannot be loaded, which is said at every look-up.
        """
        if (name, implementation) in self._absent:
            return False
        wanted = name if implementation == DEFAULT else f"{name}/{implementation}"
        for point in self._entry_points():
            if point.name == wanted:
                found = load_object(point.value, purpose=f"entry point {self.group}: {point.name}")
                if not callable(found):
                    raise ConfigurationError(f"entry point {self.group}: {point.name} is not callable: {found!r}")
                self.table.setdefault(name, {})[implementation] = found
                return True
        self._absent.add((name, implementation))
        return False


def _registering(
    table: dict[str, dict[str, Any]], name: str, implementation: str = DEFAULT
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        table.setdefault(name, {})[implementation] = function
        return function

    return register


def handler_decorator() -> tuple[dict[str, dict[str, Any]], Callable[..., Any]]:
    """Return an empty table and the decorator that fills it, for plug-ins with tables of their own."""
    table: dict[str, dict[str, Any]] = {}
    return table, partial(_registering, table)
