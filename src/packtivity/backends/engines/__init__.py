"""The engines that are built in, one row each; the module of one is imported when it is used, because it needs a library."""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple

from packtivity.errors import BackendError


class Row(NamedTuple):
    """What is to be known of an engine before its module is imported.

    :ivar name: what backend strings begin with: ``local``, ``local:4``.
    :ivar home: its module, below :mod:`packtivity.backends`.
    :ivar backend: class of the backend, made with the options as keywords.
    :ivar option: the option that is given by what follows the colon of a backend string; empty for none.
    :ivar proxy: class of its proxies, and the name under which their documents are loaded.
    """

    name: str
    home: str
    backend: str
    option: str
    proxy: str


_KUBERNETES = ("engines.kubernetes.backend", "DirectExternalKubernetesBackend", "namespace", "KubernetesProxy")
ENGINES = (
    Row("foregroundasync", "base", "ForegroundBackend", "", "ForegroundProxy"),
    Row("multiproc", "engines.multiproc", "MultiProcBackend", "poolsize", "MultiProcProxy"),
    Row("local", "engines.local", "LocalBackend", "jobs", "LocalProxy"),
    Row("slurm", "engines.slurm", "SlurmBackend", "partition", "SlurmProxy"),
    Row("celery", "engines.celery", "CeleryBackend", "queue", "CeleryProxy"),
    Row("ipcluster", "engines.ipyparallel", "IPythonParallelBackend", "", "IPythonParallelProxy"),
    Row("kubedirectjob", *_KUBERNETES),
    Row("kubernetes", *_KUBERNETES),
)

_HOMES = {name: row.home for row in ENGINES for name in (row.backend, row.proxy)}
_HOMES |= {
    "default_celeryapp": "engines.celery",
    "run_nullary": "engines.celery",
    "ExternalAsyncBackend": "external",
    "DefaultExternalJobBackend": "external",
}


class MissingLibrary(BackendError, ImportError):
    """The library of an engine is not installed here."""


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"no attribute {name!r}")
    try:
        return getattr(import_module(f"packtivity.backends.{home}"), name)
    except ModuleNotFoundError as error:
        raise missing(name, home.rpartition(".")[2], error) from error


def missing(what: str, extra: str, error: ModuleNotFoundError) -> MissingLibrary:
    """Say that something needs a library, and which extra installs it."""
    library = str(error.name).partition(".")[0]
    return MissingLibrary(
        f"{what} needs the library {library}, which is not installed here",
        hint=f"Install it: pip install 'packtivity[{extra}]'.",
    )
