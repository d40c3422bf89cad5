"""The handle of a task in a cluster."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast

from packtivity import record_fields
from packtivity.backends.proxies import ExternalAsyncProxy
from packtivity.errors import ProxyError
from packtivity.files import is_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from packtivity.types import JSON

HIDDEN = "***hidden by packtivity***"
"""What stands in a document for a parameter whose name says that nobody else may see it."""

_TEXTS = ("job_id", "namespace", "cluster", "uid", "task_id", "key", "name")


class KubernetesProxy(ExternalAsyncProxy):
    """Handle of a task in a cluster; its document has no values of parameters that are called a password or the like.

    ``jobproxy`` has the Job's name (``job_id``, as in upstream 0.17.1), its ``namespace``, ``cluster`` and ``uid``, and
    the task's ``task_id``, ``key``, ``name`` (of its logs), ``record`` (path) and ``config``. A task that needed no Job
    has no ``job_id``.

    :ivar answer: how it went, once that is known.
    :ivar datamodel: leaf types of the result.
    """

    def __init__(self, jobproxy: Any, spec: JSON, statedata: JSON, pardata: JSON, resultdata: JSON = None) -> None:
        super().__init__(jobproxy, spec, statedata, pardata, resultdata)
        self.answer: dict[str, Any] | None = None
        self.datamodel: JSON = jobproxy.get("datamodel") if isinstance(jobproxy, dict) else None

    @property
    def task_id(self) -> str:
        """Return the id of the task."""
        return str(self.jobproxy["task_id"])

    @property
    def record(self) -> str | None:
        """Return the path that the record has or will have."""
        found: str | None = self.jobproxy.get("record")
        return found

    def proxyname(self) -> str:
        """Return ``KubernetesProxy``."""
        return "KubernetesProxy"

    def details(self) -> JSON:
        """Return everything but what is secret, with the caller's remarks."""
        found = super().details()
        found["pardata"] = hidden(self.pardata)
        if self.answer is not None and not (self.record and os.path.exists(self.record)):
            hide = record_fields.secrets({}, self.pardata)
            found["answer"] = {**self.answer, "error": record_fields.masked(self.answer.get("error"), hide)}
        return found

    @classmethod
    def fromJSON(cls, data: Mapping[str, Any]) -> KubernetesProxy:
        """Read the handle.

        :raises ProxyError: something in it cannot be.
        """
        proxy = cast("KubernetesProxy", super().fromJSON(data))
        _check(proxy)
        remarks = dict(proxy._details or {})
        answer = remarks.pop("answer", None)
        proxy.answer = answer if isinstance(answer, dict) and isinstance(answer.get("status"), str) else None
        proxy.set_details(remarks or None)
        return proxy


def _check(proxy: KubernetesProxy) -> None:
    from packtivity.datamodel.allowed_types import check_datamodel

    found = proxy.jobproxy
    if not isinstance(found, dict) or not is_id(found.get("task_id")):
        raise ProxyError("proxy document of a KubernetesProxy has no jobproxy with a task_id that could be one")
    texts = all(isinstance(found.get(name, ""), str) for name in _TEXTS)
    if not texts or not isinstance(found.get("record"), (str, type(None))) or not isinstance(proxy.spec, dict):
        raise ProxyError("proxy document of a KubernetesProxy: its jobproxy has not the form that it must have")
    if not is_id(found.get("key")):  # it becomes part of a file's name
        raise ProxyError("proxy document of a KubernetesProxy has no key that could be one")
    lacking = [name for name in ("namespace", "cluster", "uid") if found.get("job_id") and name not in found]
    if lacking:
        raise ProxyError(f"proxy document of a KubernetesProxy has a job_id and no {lacking[0]}")
    for name in ("job_id", "namespace"):
        text = found.get(name) or "a"
        if not (text.isascii() and text.replace("-", "a").isalnum() and len(text) < 64):
            raise ProxyError(f"proxy document of a KubernetesProxy: {name} {text!r} cannot be the name of anything")
    check_datamodel(proxy.datamodel)


def hidden(parameters: JSON) -> JSON:
    """Return parameters in which :data:`HIDDEN` stands for the values of those with telling names, however deep."""
    if isinstance(parameters, list):
        return [hidden(value) for value in parameters]
    if not isinstance(parameters, dict):
        return parameters
    return {
        name: _cover(value) if record_fields.is_secret(str(name)) else hidden(value)
        for name, value in parameters.items()
    }


def _cover(value: JSON) -> JSON:
    if isinstance(value, dict):
        return {name: _cover(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_cover(inner) for inner in value]
    return HIDDEN if isinstance(value, str) and value else value


def shows_hidden(data: JSON) -> bool:
    """Return whether something in a document would have had a value that is hidden."""
    return any(HIDDEN in text for text in record_fields.strings(data))
