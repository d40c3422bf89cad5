"""Names of modules that need an engine's library, imported when they are asked for."""

from __future__ import annotations

from typing import Any

from packtivity.errors import BackendError

_HOMES = {
    "CeleryBackend": "celery",
    "CeleryProxy": "celery",
    "default_celeryapp": "celery",
    "run_nullary": "celery",
    "IPythonParallelBackend": "ipyparallel",
    "IPythonParallelProxy": "ipyparallel",
    "DefaultExternalJobBackend": "jobs",
    "MultiProcBackend": "multiproc",
    "MultiProcProxy": "multiproc",
    "LocalBackend": "local",
    "LocalProxy": "local",
}


class MissingLibrary(BackendError, ImportError):
    """The library of an engine is not installed here."""


def __getattr__(name: str) -> Any:
    from importlib import import_module

    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"no attribute {name!r}")
    try:
        return getattr(import_module(f"packtivity.backends.{home}"), name)
    except ModuleNotFoundError as error:
        raise missing(name, home, error) from error


def missing(what: str, extra: str, error: ModuleNotFoundError) -> MissingLibrary:
    """Say that something needs a library, and which extra installs it."""
    library = str(error.name).partition(".")[0]
    return MissingLibrary(
        f"{what} needs the library {library}, which is not installed here",
        hint=f"Install it: pip install 'packtivity[{extra}]'.",
    )
