"""Asynchronous backends and their proxies, under the names of upstream 0.17.1."""

from packtivity.backends.base import ForegroundBackend, PythonCallableAsyncBackend
from packtivity.backends.engines import __getattr__
from packtivity.backends.external import ExternalAsyncBackend, ExternalAsyncMixin, RemoteResultMixin
from packtivity.backends.proxies import ExternalAsyncProxy, ForegroundProxy, PacktivityProxyBase

__all__ = [
    "ExternalAsyncBackend",
    "ExternalAsyncMixin",
    "ExternalAsyncProxy",
    "ForegroundBackend",
    "ForegroundProxy",
    "PacktivityProxyBase",
    "PythonCallableAsyncBackend",
    "RemoteResultMixin",
    "__getattr__",
]
