"""The backend ``ipcluster``: tasks for the engines of an ipyparallel cluster that share the file system.

An engine is given the task document as JSON text, and gives JSON text back; ipyparallel's own envelope is its affair.
Another client can ask for a task as long as the controller lives, and after that for its record.

ipyparallel is imported with this module only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ipyparallel import Client

from packtivity import worker
from packtivity.backends.asked import Answer, AskedBackend
from packtivity.backends.proxies import PacktivityProxyBase, proxy_details
from packtivity.errors import BackendError, ProxyError
from packtivity.files import is_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from packtivity.types import JSON


def run_text(text: str) -> str:
    """Run a task document on an engine; both ways JSON text."""
    import json

    from packtivity.plugins import enable_plugins
    from packtivity.worker import answer

    enable_plugins()
    return json.dumps(answer(json.loads(text)), default=str)


class IPythonParallelProxy(PacktivityProxyBase):
    """Handle of a task on a cluster.

    :param task_id: its id.
    :param message: ipyparallel's id of the message that carries it.
    :param record: path of its record.
    """

    def __init__(self, task_id: str, message: str, record: str | None, details: JSON = None) -> None:
        super().__init__(details=details)
        self.task_id, self.message, self.record = task_id, message, record
        self.datamodel: JSON = None

    def proxyname(self) -> str:
        """Return ``IPythonParallelProxy``."""
        return "IPythonParallelProxy"

    def details(self) -> JSON:
        """Return the ids and where the record is, with the caller's remarks."""
        own = {"task_id": self.task_id, "message": self.message, "record": self.record}
        return {**(self._details or {}), **own}

    @classmethod
    def fromJSON(cls, data: Mapping[str, Any]) -> IPythonParallelProxy:
        """Read the handle.

        :raises ProxyError: something in it cannot be.
        """
        details = dict(proxy_details(data))
        task_id, message, record = (details.pop(name, None) for name in ("task_id", "message", "record"))
        if not is_id(task_id) or not isinstance(message, str) or not isinstance(record, (str, type(None))):
            raise ProxyError("proxy document of an IPythonParallelProxy has no task_id, message and record")
        return cls(task_id, message, record, details or None)


class IPythonParallelBackend(AskedBackend):
    """Gives tasks to the engines of a cluster.

    :param client: client to use; by default one that connects as ipyparallel is configured.
    :param resolve_like_partial: taken and ignored, for callers of upstream 0.17.1.
    :param options: for the client, such as ``profile``, ``cluster_id`` or ``connection_info``.
    """

    def __init__(
        self,
        client: Any = None,
        resolve_like_partial: bool = True,  # noqa: ARG002
        packconfig_spec: Mapping[str, Any] | None = None,
        config: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(packconfig_spec or config)
        self._client, self._options = client, options
        self._results: dict[str, Any] = {}

    @property
    def client(self) -> Any:
        """The client, connected when it is first needed.

        :raises BackendError: there is no cluster.
        """
        if self._client is None:
            try:
                self._client = Client(**self._options)
            except (OSError, TimeoutError) as error:
                raise BackendError(
                    f"no ipyparallel cluster can be reached: {error}", hint="Start one: ipcluster start -n 4."
                ) from error
        return self._client

    def submit(self, spec: Any, parameters: Any, state: Any, metadata: Any = None) -> IPythonParallelProxy:
        """Start a task and return its proxy."""
        import json

        document = self.document(spec, parameters, state, metadata)
        path = worker.record_place(state, document["metadata"], document["id"])
        view = self.client.load_balanced_view()
        view.retries = 0
        result = view.apply_async(run_text, json.dumps(document))
        message = result.msg_ids[0]
        self._results[message] = result
        proxy = IPythonParallelProxy(document["id"], message, path)
        proxy.datamodel = getattr(state, "datamodel", None)
        return proxy

    def ask(self, resultproxy: IPythonParallelProxy) -> Answer:
        """Return how a task is: what its record says; without one, what the controller says.

        :raises ProxyError: nobody knows the task.
        """
        told = worker.final(resultproxy.record, resultproxy.task_id) if resultproxy.record else None
        if told:
            return told
        result = self._results.get(resultproxy.message)
        if result is None:
            try:
                result = self._fetched(resultproxy)
            except (ProxyError, BackendError):
                left = worker.left_behind(resultproxy.record, resultproxy.task_id)
                if left is None:
                    raise
                return left
        return _answer(result) if result.ready() else {"status": "running"}

    def _fetched(self, proxy: IPythonParallelProxy) -> Any:
        from ipyparallel.error import RemoteError

        try:
            known = self.client.result_status([proxy.message], status_only=True)
        except (RemoteError, KeyError):
            known = {}
        if proxy.message not in {*known.get("completed", ()), *known.get("pending", ())}:
            raise ProxyError(
                f"no task {proxy.task_id} is known: it has no record, and the controller does not know it",
                hint="A controller forgets its tasks when it is started anew.",
            )
        result = self.client.get_result(proxy.message, owner=False)
        if proxy.message in known.get("completed", ()):
            result.wait(10)
        self._results[proxy.message] = result
        return result

    def cancel(self, resultproxy: IPythonParallelProxy) -> None:
        """See that a task does not begin; one that is running goes on."""
        self.client.abort(resultproxy.message, block=False)


def _answer(result: Any) -> Answer:
    import json

    from ipyparallel.error import RemoteError, TaskAborted

    try:
        found: Answer = json.loads(result.get(0))
    except TaskAborted as error:
        return {"status": "cancelled", "result": None, "error": {"type": "TaskCancelled", "message": str(error)}}
    except RemoteError as error:
        kind = "WorkerLost" if error.ename == "EngineError" else "TaskFailed"
        return {
            "status": "failed",
            "result": None,
            "error": {"type": kind, "message": f"{error.ename}: {error.evalue}"},
        }
    return found
