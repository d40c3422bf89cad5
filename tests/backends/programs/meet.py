"""Meets documents of somebody who means harm, the way commands and engines do, and prints what came of it.

meet.py FOLDER: each file KIND-NUMBER in it is one; counts of outcomes and unexpected errors are printed as JSON.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections import Counter
from typing import Any

from packtivity.errors import PacktivityError


def proxy(path: str) -> str:
    from packtivity.cli.proxy_files import ProxyFiles

    files = ProxyFiles([path])
    files.update()
    files.report(as_json=True, logs=False)
    files.report(as_json=False, logs=True)
    return f"exit code {files.exit_code()}"


def task(path: str) -> str:
    from packtivity.cli.worker import exit_code, read_document
    from packtivity.worker import answer

    said = answer(read_document(path))
    if said["status"] != "succeeded":
        exit_code(said)
    return str(said["status"])


def celery(path: str) -> str:
    """A message, run as a worker does, with the result store in memory."""
    os.environ |= {"PACKTIVITY_CELERY_REDIS_BROKER": "memory://", "PACKTIVITY_CELERY_RESULTS": "cache+memory://"}
    from packtivity.backends.engines.celery import default_celeryapp, run_nullary

    with open(path, encoding="utf-8") as file:
        document = json.load(file)
    name = os.path.basename(path)
    run_nullary.apply((document,), task_id=name, throw=True)
    answer = default_celeryapp.backend.get_task_meta(name)["result"]
    return str(answer["status"])


def engine(path: str) -> str:
    """What an engine of a cluster is given."""
    from packtivity.backends.engines.ipyparallel import RUN

    with open(path, encoding="utf-8") as file:
        envelope = {"task": json.load(file)}
    return str(json.loads(RUN(json.dumps(envelope)))["status"])


def document(path: str) -> str:
    """A document among those of the owner's tasks, asked for, listed and cancelled."""
    from packtivity.backends.engines import local
    from packtivity.backends.engines.local import LocalBackend, LocalProxy, Queue
    from packtivity.backends.task_files import TaskFiles
    from packtivity.cli.ps import tasks

    files, queue = TaskFiles(), Queue()
    os.makedirs(files.folder, exist_ok=True)
    queue.prepare()
    name = os.path.basename(path)
    backend = LocalBackend(1)
    local.Queue.supervise = lambda *_: None  # there is another test that has one
    told = []
    for kind in ("json", "over"):
        os.link(path, files.path(name, kind))
        queue.add(name)
        try:
            proxy = LocalProxy.fromJSON({"proxydetails": {"task_id": name, "host": queue.host}})
            told.append(backend.status(proxy).status)
            backend.record_of(proxy)
            tasks(everything=True)
            backend.cancel(proxy)
        except PacktivityError as error:
            told.append(type(error).__name__)
        finally:
            queue.drop(name)
            files.remove(name)
    return " ".join(told)


def record(path: str) -> str:
    """A record in a work directory, found by a proxy and by who is to run the task again."""
    from packtivity import claims
    from packtivity.backends import task_files
    from packtivity.backends.engines.multiproc import MultiProcProxy
    from packtivity.worker import answer

    metadir = f"{path}.work/_packtivity"
    os.makedirs(metadir)
    forged = f"{metadir}/x.x.outcome.json"
    os.link(path, forged)
    os.link(path, f"{metadir}/x.x.state.json")
    details = {"task_id": "x", "record": forged, "runner": {}}
    told = []
    for act in (
        lambda: _answer(MultiProcProxy.fromJSON({"proxydetails": details})),
        lambda: {"status": task_files.lock_of(claims.of_task(forged, "x") or forged, "x")[0]},
        lambda: answer({**TASK, "state": state(f"{path}.work")}),
    ):
        try:
            told.append(act()["status"])
        except PacktivityError as error:
            told.append(type(error).__name__)
    return " ".join(told)


def _answer(proxy: Any) -> dict[str, Any]:
    from packtivity.backends.registry import backend_from_string

    return {"status": backend_from_string("multiproc:1")[1].status(proxy).status}


def state(folder: str) -> Any:
    return {"state_type": "localfs", "identifier": "s", "readwrite": [{"path": folder}], "readonly": []}


TASK: Any = {
    "version": 1,
    "spec": {
        "process": {"process_type": "string-interpolated-cmd", "cmd": "true"},
        "environment": {"environment_type": "noop-env"},
        "publisher": {"publisher_type": "constant-pub", "publish": {}},
    },
    "parameters": {},
    "metadata": {"name": "x"},
    "id": "x",
}
KINDS = {"proxy": proxy, "task": task, "celery": celery, "engine": engine, "document": document, "record": record}


def main() -> None:
    folder = sys.argv[1]
    told: Counter[str] = Counter()
    odd = []
    for name in sorted(os.listdir(folder)):
        kind = name.partition("-")[0]
        if kind not in KINDS or "." in name:
            continue
        quiet = io.TextIOWrapper(io.BytesIO())
        try:
            with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
                said = KINDS[kind](f"{folder}/{name}")
        except PacktivityError as error:
            said = type(error).__name__
        except (ValueError, RecursionError) as error:
            if kind not in ("celery", "engine"):  # there the engine has read the JSON before
                odd.append([name, type(error).__name__, str(error)[:300]])
            said = "not JSON"
        except Exception as error:
            import traceback

            odd.append([name, type(error).__name__, str(error)[:300], traceback.format_exc()[-900:]])
            said = "odd"
        told[f"{kind}: {said}"] += 1
    hook = sys.modules["sitecustomize"]
    print(json.dumps({"told": told, "odd": odd[:8], "odds": len(odd), "seen": hook.SEEN}))


if __name__ == "__main__":
    main()
