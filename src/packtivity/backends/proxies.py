"""Proxies: JSON handles of submitted tasks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar, Self

from packtivity import record_fields
from packtivity.datamodel.leafmodel import check_datamodel
from packtivity.errors import ProxyError
from packtivity.files import is_id
from packtivity.record import is_record_path

if TYPE_CHECKING:
    from collections.abc import Mapping

    from packtivity.backends.keeper import Known
    from packtivity.backends.status import TaskStatus
    from packtivity.task import Task
    from packtivity.types import JSON, ProxyDocument

PROXYNAME_BASE = "PacktivityProxyBase"
HIDDEN = "***hidden by packtivity***"
"""What stands in a document for a parameter whose name says that nobody else may see it."""


class PacktivityProxyBase:
    """A handle around whatever the engine gives; subclasses override :meth:`details` and :meth:`proxyname`.

    Its JSON form cannot be loaded again, because ``proxy`` is not in it.

    :cvar name: the name of the proxy's loader.
    """

    name: ClassVar[str] = PROXYNAME_BASE

    def __init__(self, proxy: Any = None, details: JSON = None) -> None:
        if proxy is not None:
            self.proxy = proxy
        self._details = details

    def details(self) -> JSON:
        """Return what another process needs to find the task again."""
        return self._details

    def set_details(self, details: JSON) -> None:
        """Put remarks of the caller's beside it; yadage keeps labels there."""
        self._details = details

    def proxyname(self) -> str:
        """Return the name the loader of this kind of proxy is registered under."""
        return self.name

    def json(self) -> ProxyDocument:
        """Return the handle as a document."""
        return {"proxyname": self.proxyname(), "proxydetails": self.details()}


class TaskProxy(PacktivityProxyBase):
    """Handle of a task that was given to an engine; each engine has a subclass, for its name.

    :param task_id: its id.
    :param place: which engine has it; it is compared with the one that is asked, and never connected to.
    :param record: path that its record has or will have: a hint for people, and for who is not its owner.
    :cvar place_name: what ``place`` is called in the document.
    :ivar handle: what the engine calls the task, where that is not derived from its id.
    :ivar datamodel: leaf types of the result.
    :ivar known: what the keeper remembers of the task.
    :ivar ending: how the task went, once that is known.
    :ivar claimed: how it went, as its document says; not believed of a task of the asker's own.
    """

    claimed: TaskStatus | None = None
    place_name: ClassVar[str] = ""

    def __init__(self, task_id: str, place: JSON = None, record: str | None = None, details: JSON = None) -> None:
        super().__init__(details=details)
        self.task_id, self.place, self.record = task_id, place, record
        self.handle = ""
        self.datamodel: JSON = None
        self.known: Known | None = None
        self.ending: TaskStatus | None = None

    def details(self) -> JSON:
        """Return id, record and place, with the caller's remarks."""
        own = {"task_id": self.task_id, "record": self.record}
        if self.place_name:
            own[self.place_name] = self.place
        return {**(self._details or {}), **own}

    def task(self) -> Task | None:
        """Return the task, as far as a proxy of this kind knows it, for who has no other document; None where it does not."""
        return None

    @classmethod
    def is_place(cls, place: Any) -> bool:
        """Return whether something in a document can be the place of a task."""
        return isinstance(place, (str, type(None)))

    @classmethod
    def fromJSON(cls, data: Mapping[str, Any]) -> Self:
        """Read the handle.

        :raises ProxyError: something in it cannot be.
        """
        details = dict(proxy_details(data))
        task_id, record = details.pop("task_id", None), details.pop("record", None)
        place = details.pop(cls.place_name, None) if cls.place_name else None
        if not is_id(task_id) or not cls.is_place(place):
            wanted = f"task_id and {cls.place_name}" if cls.place_name else "task_id"
            raise ProxyError(f"proxy document of a {cls.name} has no {wanted} that could be one")
        if record is not None and not is_record_path(record, task_id):
            raise ProxyError(f"proxy document of a {cls.name}: its record is not the one of its task_id")
        return cls(task_id, place, record, details or None)


class ForegroundProxy(PacktivityProxyBase):
    """Handle of a task that has already run.

    :param resultdata: the result as JSON; None when the task failed.
    :param datamodel: leaf types of the result, None for plain data.
    :param details: remarks of the caller's, such as labels.
    :ivar failure: for a failed task ``{"type", "message"}`` and perhaps ``returncode``, else None.
    :ivar error: the exception itself, as long as the proxy lives in the process the task ran in.
    """

    name = "ForegroundProxy"

    def __init__(self, resultdata: JSON, datamodel: JSON, success: bool, details: JSON = None) -> None:
        super().__init__(details=details)
        self.resultdata = resultdata
        self.datamodel = datamodel
        self.success = success
        self.failure: dict[str, Any] | None = None if success else (details or {}).get("failure")
        self.error: Exception | None = None

    def details(self) -> JSON:
        """Return result and success, with the caller's remarks; only a failed task has more."""
        own = {"resultdata": self.resultdata, "datamodel": self.datamodel, "success": self.success}
        if self.failure is not None:
            own["failure"] = self.failure
        return {**(self._details or {}), **own}

    @classmethod
    def fromJSON(cls, data: Mapping[str, Any]) -> ForegroundProxy:
        """Read the handle.

        :raises ProxyError: something is missing from it.
        """
        details = proxy_details(data)
        check_datamodel(details.get("datamodel"))
        for name in ("datamodel", "failure"):
            if not isinstance(details.get(name), (dict, type(None))):
                raise ProxyError(f"proxy document of a ForegroundProxy: its {name} is not a mapping")
        try:
            return cls(details["resultdata"], details["datamodel"], details["success"], dict(details))
        except KeyError as error:
            raise ProxyError(f"proxy document of a ForegroundProxy has no {error.args[0]!r} in proxydetails") from None


class ExternalAsyncProxy(PacktivityProxyBase):
    """Handle of a job that an outside engine runs; the publisher is run where the result is asked for.

    :param jobproxy: the engine's own handle; one that is not JSON is null in the document.
    :param statedata: ``state.json()``.
    :param pardata: ``parameters.json()``.
    :param resultdata: the result as JSON once it is known.
    """

    name = "ExternalAsyncProxy"

    def __init__(self, jobproxy: Any, spec: JSON, statedata: JSON, pardata: JSON, resultdata: JSON = None) -> None:
        PacktivityProxyBase.__init__(self)
        self.jobproxy = jobproxy
        self.resultdata = resultdata
        self.spec = spec
        self.statedata = statedata
        self.pardata = pardata

    def details(self) -> JSON:
        """Return everything, with the caller's remarks."""
        return {
            **(getattr(self, "_details", None) or {}),  # subclasses do not always call our __init__
            "resultdata": self.resultdata,
            "jobproxy": _as_json(self.jobproxy),
            "spec": self.spec,
            "statedata": self.statedata,
            "pardata": self.pardata,
        }

    @classmethod
    def fromJSON(cls, data: Mapping[str, Any]) -> Self:
        """Read the handle.

        :raises ProxyError: the engine's handle was not kept, or something is missing.
        """
        details = dict(proxy_details(data))
        names = ("jobproxy", "spec", "statedata", "pardata", "resultdata")
        missing = [name for name in names[:-1] if name not in details]
        if missing:
            raise ProxyError(f"proxy document of an {cls.__name__} has no {missing[0]!r} in proxydetails")
        if not details["jobproxy"]:
            raise ProxyError(
                f"proxy document of an {cls.__name__} has no jobproxy: the engine's handle could not be written as JSON",
                hint="Only the process that submitted the task can ask for it.",
            )
        proxy = cls(**{name: details.pop(name) for name in names if name in details})
        if details:
            proxy.set_details(details)
        return proxy


def _as_json(value: Any) -> JSON:
    try:
        json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return None
    return value


def proxy_details(data: Any) -> Mapping[str, Any]:
    """Return ``proxydetails`` of a proxy document.

    :raises ProxyError: it has none.
    """
    details = data.get("proxydetails") if isinstance(data, dict) else None
    if not isinstance(details, dict):
        raise ProxyError("this is no proxy document: it has no mapping called proxydetails")
    return details


def hidden(parameters: JSON, *, secret: bool = False) -> JSON:
    """Return parameters in which :data:`HIDDEN` stands for the texts below telling names, however deep."""
    if isinstance(parameters, dict):
        found = parameters.items()
        return {name: hidden(value, secret=secret or record_fields.is_secret(str(name))) for name, value in found}
    if isinstance(parameters, list):
        return [hidden(value, secret=secret) for value in parameters]
    return HIDDEN if secret and isinstance(parameters, str) and parameters else parameters
