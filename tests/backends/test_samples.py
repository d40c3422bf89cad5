"""Proxies that the version before has written, with what it left on the disk: they are read, and nothing else is done.

Each folder of ``samples`` is one; ``@ROOT@`` stands for where it lies and ``@HOST@`` for the machine.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from packtivity.backendutils import load_proxy
from packtivity.errors import BackendError, ProxyError

SAMPLES = Path(__file__).parent / "samples"
OUT = {"o": "@ROOT@/work/out"}


@pytest.fixture
def sample(request, tmp_path, monkeypatch):
    """Lay a sample out and return its proxy, its backend and a function that lists every file with its content."""
    name = request.param
    monkeypatch.setenv("PACKTIVITY_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    filled = {"@ROOT@": str(tmp_path), "@HOST@": os.uname().nodename}

    def fill(text):
        for mark, value in filled.items():
            text = text.replace(mark, value)
        return text

    for path in (SAMPLES / name).rglob("*"):
        if path.is_file():
            target = tmp_path / fill(str(path.relative_to(SAMPLES / name)))
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(fill(path.read_text()))
    if name.startswith("celery"):
        pytest.importorskip("celery")
    if name.startswith("ipyparallel"):
        pytest.importorskip("ipyparallel")

    def files():
        return {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    document = json.loads((tmp_path / "proxy.json").read_text())
    return document, files, tmp_path


def ask(document):
    proxy, backend = load_proxy(document)
    return backend.status(proxy)


OVER = ["multiproc", "local", "celery", "ipyparallel"]


@pytest.mark.parametrize("sample", [f"{kind}-succeeded" for kind in OVER], indirect=True)
def test_a_task_that_has_succeeded_has_its_result(sample):
    document, files, root = sample
    before = files()
    proxy, backend = load_proxy(document)
    assert proxy.json() == {**document, "proxydetails": {**proxy.json()["proxydetails"], **document["proxydetails"]}}
    assert backend.ready(proxy)
    assert backend.successful(proxy)
    assert backend.result(proxy).json() == {"o": f"{root}/work/out"}
    assert files() == before


@pytest.mark.parametrize("sample", ["externalasync-succeeded", "foregroundasync-succeeded"], indirect=True)
def test_so_has_one_of_a_backend_without_documents(sample):
    document, files, root = sample
    before = files()
    proxy, backend = load_proxy(document)
    assert (backend.ready(proxy), backend.successful(proxy)) == (True, True)
    assert backend.result(proxy).json() == {"o": f"{root}/work/out"}
    assert files() == before


@pytest.mark.parametrize("sample", ["multiproc-failed", "local-failed", "externalasync-failed"], indirect=True)
def test_a_task_that_has_failed_says_why(sample):
    document, files, _ = sample
    before = files()
    proxy, backend = load_proxy(document)
    assert (backend.ready(proxy), backend.successful(proxy)) == (True, False)
    kind, message = backend.fail_info(proxy)
    assert (kind, "exit code 3" in message) == ("TaskFailed", True)
    assert files() == before


@pytest.mark.parametrize("sample", ["multiproc-lost"], indirect=True)
def test_a_task_whose_program_is_dead_is_lost(sample):
    document, files, _ = sample
    before = files()
    status = ask(document)
    assert (status.status, status.error["type"]) == ("failed", "WorkerLost")
    assert files() == before


@pytest.mark.parametrize("sample", ["local-cancelled"], indirect=True)
def test_a_cancelled_task_is_called_so(sample):
    document, files, _ = sample
    before = files()
    assert ask(document).status == "cancelled"
    assert files() == before


@pytest.mark.parametrize("sample", ["local-waiting", "local-running", "ipyparallel-waiting"], indirect=True)
def test_a_task_that_nobody_runs_any_more_is_not_given_away_again(sample):
    document, files, _ = sample
    before = files()
    with pytest.raises(ProxyError, match="earlier version"):
        ask(document)
    proxy, backend = load_proxy(document)
    with pytest.raises((ProxyError, BackendError)):
        backend.cancel(proxy)
    assert files() == before


@pytest.mark.parametrize("sample", ["celery-waiting"], indirect=True)
def test_a_task_that_waits_for_celery_is_not_given_away_again(sample):
    document, files, _ = sample
    proxy = load_proxy(document, best_effort_backend=False)
    assert proxy.json() == document
    from celery import Celery

    from packtivity.backends.engines.celery import CeleryBackend

    away = CeleryBackend(Celery("away", broker="redis://127.0.0.1:1/0", backend="redis://127.0.0.1:1/0"))
    before = files()
    assert away.status(proxy).status == "unclear"
    there = CeleryBackend(Celery("there", broker="memory://", backend="cache+memory://"))
    with pytest.raises(ProxyError, match="earlier version"):
        there.status(load_proxy(document, best_effort_backend=False))
    there.engine.store.mark({proxy.task_id: None})
    assert there.status(load_proxy(document, best_effort_backend=False)).status == "waiting"
    with pytest.raises(BackendError, match="not known to be yours"):
        there.cancel(load_proxy(document, best_effort_backend=False))
    assert files() == before


@pytest.mark.parametrize("sample", ["kubernetes-open", "kubernetes-succeeded"], indirect=True)
def test_a_proxy_of_a_cluster_is_loaded(sample):
    document, _, _ = sample
    assert load_proxy(document, best_effort_backend=False).json() == document


KUBECONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "c",
    "clusters": [{"name": "c", "cluster": {"server": "https://cluster.invalid:6443"}}],
    "users": [{"name": "c", "user": {"token": "t"}}],
    "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c", "namespace": "tasks"}}],
}


def in_a_cluster(sample, monkeypatch):
    """Return a sample whose cluster is named, and not there."""
    pytest.importorskip("kubernetes")
    document, files, root = sample
    (root / "kubeconfig").write_text(json.dumps(KUBECONFIG))
    monkeypatch.setenv("KUBECONFIG", str(root / "kubeconfig"))
    return document, files, root


@pytest.mark.parametrize("sample", ["kubernetes-succeeded"], indirect=True)
def test_the_record_tells_of_a_task_in_a_cluster_that_is_not_there(sample, monkeypatch):
    document, files, root = in_a_cluster(sample, monkeypatch)
    before = files()
    proxy, backend = load_proxy(document)
    assert (backend.ready(proxy), backend.successful(proxy)) == (True, True)
    assert backend.result(proxy).json() == {"o": f"{root}/work/out"}
    assert proxy.json() == document
    assert files() == before


@pytest.mark.parametrize("sample", ["kubernetes-open"], indirect=True)
def test_a_task_in_a_cluster_that_cannot_be_asked_stays_as_it_is(sample, monkeypatch):
    document, files, _ = in_a_cluster(sample, monkeypatch)
    monkeypatch.setenv("PACKTIVITY_KUBE_PATIENCE", "0.2")
    before = files()
    proxy, backend = load_proxy(document)
    with pytest.raises(BackendError, match=r"could not be reached for 0\.2 s"):
        backend.ready(proxy)
    with pytest.raises(BackendError, match="could not be reached"):
        backend.cancel(proxy)
    assert files() == before
