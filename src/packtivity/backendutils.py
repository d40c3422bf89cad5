"""Backends and proxies by name, under the names of upstream 0.17.1."""

from packtivity.backends.registry import (
    backend,
    backend_from_string,
    backends,
    is_async,
    is_sync,
    load_proxy,
    proxyhandlers,
    proxyloader,
)

__all__ = [
    "backend",
    "backend_from_string",
    "backends",
    "is_async",
    "is_sync",
    "load_proxy",
    "proxyhandlers",
    "proxyloader",
]
