"""A backend of one's own: a folder is the queue, and ``packtivity-worker`` does the work.

Five methods, nothing inherited. ``submit`` writes a task document; whoever watches the folder runs
``packtivity-worker`` on it, here a process that is started for each task. All else is found out from the record.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import uuid
from typing import Any

from packtivity.errors import ProxyError
from packtivity.record import read_outcome
from packtivity.runners import is_alive, runner
from packtivity.task import Task


class FolderProxy:
    """Handle of a task: where its document and its record are, and who works on it."""

    def __init__(self, details: dict[str, Any]) -> None:
        self._details = details

    def details(self) -> dict[str, Any]:
        return self._details

    def set_details(self, details: dict[str, Any]) -> None:
        self._details = {**self._details, **details}

    def json(self) -> dict[str, Any]:
        return {"proxyname": "FolderProxy", "proxydetails": self._details}


class FolderBackend:
    """Runs tasks whose documents lie in a folder."""

    def __init__(self, folder: str | None = None) -> None:
        self.folder = folder

    def prepublish(self, spec: Any, parameters: Any, state: Any) -> Any:
        return None

    def submit(self, spec: Any, parameters: Any, state: Any, metadata: Any = None) -> FolderProxy:
        metadata = metadata or {"name": "packtivity"}
        task_id = uuid.uuid4().hex
        document = Task.of(spec, parameters, state, metadata, id=task_id).to_json()
        path = os.path.join(self.folder or state.metadir, f"{task_id}.task.json")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            json.dump(document, file)
        record = f"{state.metadir}/{metadata['name']}.{task_id}.outcome.json"
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        worker = subprocess.Popen(["packtivity-worker", path], start_new_session=True, **quiet)
        worker.returncode = 0  # it lives on when we end; its record tells the rest
        return FolderProxy({"task": path, "record": record, "worker": runner(worker.pid)})

    def ready(self, resultproxy: FolderProxy) -> bool:
        return self._outcome(resultproxy)["status"] != "running"

    def successful(self, resultproxy: FolderProxy) -> bool:
        return self._outcome(resultproxy)["status"] == "succeeded"

    def result(self, resultproxy: FolderProxy) -> Any:
        outcome = self._outcome(resultproxy)
        if outcome["status"] != "succeeded":
            raise RuntimeError(outcome["error"]["message"])
        return outcome["result"]

    def fail_info(self, resultproxy: FolderProxy) -> Any:
        error = self._outcome(resultproxy)["error"]
        return error and (error["type"], error["message"])

    def cancel(self, resultproxy: FolderProxy) -> None:
        if not self.ready(resultproxy):
            os.kill(resultproxy.details()["worker"]["pid"], signal.SIGINT)

    def _outcome(self, resultproxy: FolderProxy) -> dict[str, Any]:
        details = resultproxy.details()
        alive = is_alive(details["worker"])  # asked first: what has ended since has written its record
        outcome = read_outcome(details["record"])
        if outcome is not None:
            return outcome
        if not os.path.exists(details["task"]):
            raise ProxyError(f"no task {details['task']} is known")
        lost = {"type": "WorkerLost", "message": "its worker died before it was over"}
        return {"status": "running", "error": None} if alive else {"status": "failed", "error": lost}


def make_backend(backendstring: str, backendopts: dict[str, Any]) -> tuple[bool, FolderBackend]:
    """Make the backend that ``-b folder`` or ``-b folder:DIRECTORY`` names; False says that it is asynchronous."""
    _, _, folder = backendstring.partition(":")
    return False, FolderBackend(**{**backendopts, **({"folder": folder} if folder else {})})


def load_folder_proxy(jsondata: Any, deserialization_opts: Any = None, best_effort_backend: bool = False) -> Any:
    """Make a proxy of its document, and the backend that answers for it."""
    proxy = FolderProxy(jsondata["proxydetails"])
    return (proxy, FolderBackend()) if best_effort_backend else proxy
