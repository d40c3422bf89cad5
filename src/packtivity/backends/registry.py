"""Backends by name, proxies by name: what is built in, and what plug-ins add.

A backend is registered as a function ``(backendstring, backendopts) → (is_sync, backend)``, a proxy as
``(jsondata, deserialization_opts, best_effort_backend) → proxy``, or ``(proxy, backend)`` when the backend is wanted
too: both as in upstream 0.17.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from packtivity import settings
from packtivity.backends import engines
from packtivity.backends.base import defaultsyncbackend
from packtivity.backends.proxies import ExternalAsyncProxy
from packtivity.errors import BackendError, ConfigurationError, PacktivityError, ProxyError
from packtivity.registry import Registry, load_object, suggestion

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from packtivity.types import JSON

    BackendMaker = Callable[[str, dict[str, Any]], tuple[bool, Any]]
    ProxyLoader = Callable[..., Any]

backend: Registry[BackendMaker] = Registry("backend", "packtivity.backends")
backends = backend.table

proxyloader: Registry[ProxyLoader] = Registry("proxy", "packtivity.proxies")
proxyhandlers = proxyloader.table

is_sync, is_async = True, False
_FROM_ENVIRONMENT = "PACKTIVITY_ASYNCBACKEND"


# --- backends --------------------------------------------------------------------------------------------------


def backend_from_string(backendstring: str, backendopts: Mapping[str, Any] | None = None) -> tuple[bool, Any]:
    """Make the backend a string names, such as ``defaultsync`` or ``py:module:Class``.

    :param backendopts: keyword arguments for it; the file ``PACKTIVITY_ASYNCBACKEND_OPTS`` comes on top.
    :returns: whether it is a synchronous one, and the backend.
    :raises BackendError: there is no such backend, or it cannot be started.
    """
    options = {**(backendopts or {}), **_options_from_file()}
    maker = _find_backend(backendstring)
    try:
        synchronous, made = maker(backendstring, options)
    except PacktivityError:
        raise
    except TypeError as error:
        raise BackendError(
            f"backend {backendstring!r} cannot be made with the options {sorted(options)}: {error}"
        ) from error
    except Exception as error:  # somebody else's class may raise anything
        raise BackendError(f"backend {backendstring!r} cannot be started: {type(error).__name__}: {error}") from error
    return synchronous, made


def _find_backend(name: str) -> BackendMaker:
    head = name.partition(":")[0]
    for candidate in (name, head, f"{head}:"):
        if candidate and candidate in backend:
            return backend.find(candidate)
    prefixes = [known for known in backends if known and name.startswith(known) and not known[-1].isalnum()]
    if prefixes:
        return backend.find(max(prefixes, key=len))
    raise BackendError(f"no backend is called {name!r}", hint=suggestion(head, backend.names()))


def _options_from_file() -> dict[str, Any]:
    file = settings.current().async_backend_opts
    if not file:
        return {}
    found = settings.read_yaml("PACKTIVITY_ASYNCBACKEND_OPTS", file)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ConfigurationError(
            f"PACKTIVITY_ASYNCBACKEND_OPTS: {file} is not a mapping of keyword arguments",
            hint="Write lines of the form NAME: VALUE.",
        )
    return {str(key): value for key, value in found.items()}


def _environment_parts() -> tuple[str, str, str]:
    """Return module, backend class and proxy class of the backend ``fromenv``."""
    value = settings.current().async_backend
    if not value:
        raise BackendError(
            f"the backend 'fromenv' is the one {_FROM_ENVIRONMENT} names, and that is not set",
            hint=f"Set {_FROM_ENVIRONMENT}=module:backendclass:proxyclass.",
        )
    parts = value.split(":")
    if len(parts) not in {2, 3} or not all(parts[:2]):
        raise BackendError(f"{_FROM_ENVIRONMENT}: {value!r} is not of the form module:backendclass:proxyclass")
    return parts[0], parts[1], parts[2] if len(parts) == 3 else ""


@backend("defaultsync")
def _defaultsync(backendstring: str, backendopts: dict[str, Any]) -> tuple[bool, Any]:  # noqa: ARG001
    return is_sync, defaultsyncbackend(**backendopts)


@backend("externalasync")
def _externalasync(backendstring: str, backendopts: dict[str, Any]) -> tuple[bool, Any]:
    _, _, name = backendstring.partition(":")
    if name not in ("", "default"):
        raise BackendError(f"no external backend is called {name!r}", hint="There is: externalasync:default.")
    options = dict(backendopts)
    jobs = options.pop("job_backend", None) or engines.DefaultExternalJobBackend(options.get("config"))
    return is_async, engines.ExternalAsyncBackend(job_backend=jobs, **options)


def _register(row: engines.Row) -> None:
    """Register the backend of an engine and the loader of its proxies."""

    def make(backendstring: str, backendopts: dict[str, Any]) -> tuple[bool, Any]:
        _, _, value = backendstring.partition(":")
        chosen = {row.option: value} if value and row.option else {}
        return is_async, getattr(engines, row.backend)(**{**backendopts, **chosen})

    def load(jsondata: JSON, deserialization_opts: Any = None, best_effort_backend: bool = False) -> Any:  # noqa: ARG001
        return _with_backend(getattr(engines, row.proxy).fromJSON(jsondata), row.name, best_effort_backend)

    backend(row.name)(make)
    proxyloader(row.proxy)(load)


@backend("py:")
def _python(backendstring: str, backendopts: dict[str, Any]) -> tuple[bool, Any]:
    _, _, reference = backendstring.partition(":")
    return is_async, _load(reference, f"backend {backendstring!r}")(**backendopts)


@backend("fromenv")
def _fromenv(backendstring: str, backendopts: dict[str, Any]) -> tuple[bool, Any]:  # noqa: ARG001
    module, name, _ = _environment_parts()
    return is_async, _load(f"{module}:{name}", _FROM_ENVIRONMENT)(**backendopts)


def _load(reference: str, purpose: str) -> Any:
    try:
        return load_object(reference, purpose=purpose)
    except ConfigurationError as error:
        raise BackendError(error.message, hint=error.hint) from error


# --- proxies ---------------------------------------------------------------------------------------------------


def load_proxy(
    jsondata: JSON,
    deserialization_opts: Mapping[str, Any] | None = None,
    best_effort_backend: bool = True,
    raise_on_unknown: bool = False,
) -> Any:
    """Make a proxy of its document.

    The loader is the one ``deserialization_opts["proxy"]`` names (``py:module:Class``), else the one registered
    under ``proxyname``, else, when ``PACKTIVITY_ASYNCBACKEND`` is set, the proxy class named there.

    :param best_effort_backend: return ``(proxy, backend)``, the backend being None where nobody knows it.
    :param raise_on_unknown: raise for a proxy that nobody knows, which is None otherwise.
    :raises ProxyError: the document is no proxy document, or nobody knows it and ``raise_on_unknown``.
    """
    if not (isinstance(jsondata, dict) and isinstance(jsondata.get("proxyname"), str)):
        raise ProxyError("this is no proxy document: it has no proxyname")
    options = dict(deserialization_opts or {})
    loader = _find_loader(jsondata["proxyname"], options)
    if loader is not None:
        return loader(jsondata, options, best_effort_backend)
    if raise_on_unknown:
        name = jsondata["proxyname"]
        raise ProxyError(f"unknown proxy type: {name}", hint=suggestion(name, proxyloader.names()))
    return (None, None) if best_effort_backend else None


def _find_loader(name: str, options: dict[str, Any]) -> ProxyLoader | None:
    chosen = options.get("proxy") or ""
    if chosen.startswith("py:"):
        options["proxystring"] = chosen
        return proxyloader.find("frompython")
    if name in proxyloader:
        return proxyloader.find(name)
    if settings.current().async_backend:
        return proxyloader.find("fromenv")
    return None


def _with_backend(proxy: Any, name: str, best_effort_backend: bool) -> Any:
    return (proxy, backend_from_string(name)[1]) if best_effort_backend else proxy


@proxyloader("ExternalAsyncProxy")
def _external_proxy(jsondata: JSON, deserialization_opts: Any = None, best_effort_backend: bool = False) -> Any:  # noqa: ARG001
    name = "fromenv" if settings.current().async_backend else "externalasync:default"
    return _with_backend(ExternalAsyncProxy.fromJSON(jsondata), name, best_effort_backend)


@proxyloader("fromenv")
def _fromenv_proxy(jsondata: JSON, deserialization_opts: Any = None, best_effort_backend: bool = False) -> Any:  # noqa: ARG001
    module, _, name = _environment_parts()
    if not name:
        raise BackendError(
            f"{_FROM_ENVIRONMENT} names no proxy class, and nobody else knows a {jsondata['proxyname']!r}",
            hint=f"Set {_FROM_ENVIRONMENT}=module:backendclass:proxyclass.",
        )
    proxy = _load(f"{module}:{name}.fromJSON", _FROM_ENVIRONMENT)(jsondata)
    return _with_backend(proxy, "fromenv", best_effort_backend)


@proxyloader("frompython")
def _python_proxy(jsondata: JSON, deserialization_opts: Any = None, best_effort_backend: bool = False) -> Any:
    _, _, reference = (deserialization_opts or {}).get("proxystring", "").partition(":")
    if not reference:
        raise ProxyError(
            f"a {jsondata['proxyname']!r} is loaded by the class that the option proxy names, and that is not given",
            hint="From a program, give load_proxy the option proxy=py:module:Class.",
        )
    proxy = _load(f"{reference}.fromJSON", "option proxy")(jsondata)
    if best_effort_backend and settings.current().async_backend:
        return _with_backend(proxy, "fromenv", best_effort_backend)
    return (proxy, None) if best_effort_backend else proxy


for _row in engines.ENGINES:
    _register(_row)
