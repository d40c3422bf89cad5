"""Services whose pods come and go, and others who have a proxy: who owns a task does something about it, nobody else."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from packtivity import errors
from packtivity.backends.registry import backend_from_string, load_proxy
from packtivity.statecontexts import LocalFSState

if TYPE_CHECKING:
    from pathlib import Path


UNTIL_GO = "until test -e go; do sleep 0.1; done"


@pytest.fixture
def workdir(cluster: Any) -> Path:
    folder: Path = cluster.base / f"work-{os.urandom(4).hex()}"
    folder.mkdir()
    return folder


def task(cluster: Any, cmd: str, publisher: Any = None) -> Any:
    image = {"environment_type": "docker-encapsulated", "image": f"{cluster.registry}/test/busybox", "imagetag": "1.0"}
    more = {"envscript": "", "env": {}, "resources": [], "workdir": "{workdir}", "par_mounts": []}
    return {
        "process": {"process_type": "string-interpolated-cmd", "cmd": cmd},
        "environment": {**image, **more},
        "publisher": publisher or {"publisher_type": "fromglob-pub", "globexpression": "*.txt", "outputkey": "out"},
    }


def submit(backend: Any, spec: Any, workdir: Path, **parameters: Any) -> Any:
    return backend.submit(spec, parameters, LocalFSState([str(workdir)]), {"name": "one"})


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give the proxy and the backend that somebody else has: a new pod, another replica, who was sent the proxy."""

    def make(proxy: Any) -> tuple[Any, Any]:
        monkeypatch.setenv("PACKTIVITY_STATE_DIR", str(tmp_path / f"state-{os.urandom(4).hex()}"))
        found: tuple[Any, Any] = load_proxy(json.loads(json.dumps(proxy.json())))
        return found

    return make


def written(cluster: Any, workdir: Path, tmp_path: Path) -> Any:
    """Return every file, and every object of the cluster, that somebody could have written or taken away."""
    files = {path: path.read_bytes() for root in (workdir, tmp_path) for path in root.rglob("*") if path.is_file()}
    return files, {each["metadata"]["uid"] for kind in ("jobs", "pods", "configmaps") for each in cluster.objects(kind)}


def asked_to_change(cluster: Any) -> list[list[str]]:
    return [each for each in cluster.asked() if each[0] != "GET"]


def over(cluster: Any) -> bool:
    return bool(cluster.objects("jobs")[0]["status"].get("conditions"))


@pytest.mark.parametrize(("cmd", "fails"), [("touch a.txt; echo printed", False), ("echo went wrong; exit 3", True)])
def test_a_stranger_is_told_how_a_task_went_and_creates_deletes_and_writes_nothing(
    cluster, workdir, elsewhere, tmp_path, cmd, fails
):
    _, owner = backend_from_string("kubernetes")
    mine = submit(owner, task(cluster, f"{UNTIL_GO}; {cmd}"), workdir)
    again, other = elsewhere(mine)
    before = written(cluster, workdir, tmp_path)
    assert not other.ready(again)
    with pytest.raises(errors.BackendError, match="not known to be yours"):
        other.cancel(again)
    if cluster.kind == "small":
        cluster.asked()
    assert written(cluster, workdir, tmp_path)[0] == before[0]
    (workdir / "go").write_text("")
    cluster.until(lambda: over(cluster))
    before = written(cluster, workdir, tmp_path)
    cluster.until(lambda: other.ready(again))
    if fails:
        assert other.fail_info(again)[0] == "TaskFailed"
        assert "went wrong" in other.fail_info(again)[1]
    else:
        assert other.result(again).json() == {"out": [f"{workdir}/a.txt"]}
    assert written(cluster, workdir, tmp_path) == before
    if cluster.kind == "small":
        assert asked_to_change(cluster) == []
    assert not os.path.exists(mine.record)


def test_what_a_stranger_was_told_the_owner_writes_down(cluster, workdir, elsewhere, monkeypatch):
    own = os.environ.get("PACKTIVITY_STATE_DIR")
    _, owner = backend_from_string("kubernetes")
    mine = submit(owner, task(cluster, "touch a.txt"), workdir)
    again, other = elsewhere(mine)
    cluster.until(lambda: other.ready(again))
    assert not os.path.exists(mine.record)
    monkeypatch.delenv("PACKTIVITY_STATE_DIR") if own is None else monkeypatch.setenv("PACKTIVITY_STATE_DIR", own)
    assert owner.result(mine).json() == other.result(again).json()
    assert os.path.exists(mine.record)
    cluster.until(lambda: not cluster.objects("jobs"))


def test_a_service_in_a_new_pod_is_told_by_the_record(cluster, workdir, elsewhere):
    _, owner = backend_from_string("kubernetes")
    mine = submit(owner, task(cluster, "touch a.txt"), workdir)
    document = json.loads(json.dumps(mine.json()))
    result = owner.result(mine).json()
    cluster.until(lambda: not cluster.objects("jobs"))
    again, other = elsewhere(load_proxy(document, best_effort_backend=False))
    assert (other.ready(again), other.successful(again)) == (True, True)
    assert other.result(again).json() == result


def test_a_service_in_a_new_pod_that_submits_again_takes_the_job_over_and_owns_it(cluster, workdir, elsewhere):
    _, owner = backend_from_string("kubernetes")
    spec = task(cluster, f"echo >> runs; {UNTIL_GO}; touch a.txt")
    mine = submit(owner, spec, workdir)
    _, other = elsewhere(mine)
    again = submit(other, spec, workdir)
    assert (again.task_id, again.jobproxy["uid"]) == (mine.task_id, mine.jobproxy["uid"])
    (workdir / "go").write_text("")
    assert other.result(again).json() == {"out": [f"{workdir}/a.txt"]}
    assert os.path.exists(mine.record)
    assert (workdir / "runs").read_text() == "\n"
    cluster.until(lambda: not cluster.objects("jobs"))


def test_a_failed_task_is_run_anew_by_a_service_in_a_new_pod(cluster, workdir, elsewhere):
    _, owner = backend_from_string("kubernetes")
    spec = task(cluster, "echo >> runs; touch a.txt; test $(wc -l < runs) = 2")
    mine = submit(owner, spec, workdir)
    cluster.until(lambda: over(cluster))
    _, other = elsewhere(mine)
    again = submit(other, spec, workdir)
    assert other.result(again).json() == {"out": [f"{workdir}/a.txt"]}
    assert again.task_id != mine.task_id
    assert (workdir / "runs").read_text() == "\n\n"


def test_a_proxy_of_the_version_before_is_asked_about_and_left_alone(cluster, workdir, elsewhere, tmp_path):
    """It has the same form, and nothing of it lies in the state directory."""
    _, owner = backend_from_string("kubernetes")
    mine = submit(owner, task(cluster, "touch a.txt"), workdir)
    again, other = elsewhere(mine)
    cluster.until(lambda: over(cluster))
    before = written(cluster, workdir, tmp_path)
    assert other.result(again).json() == {"out": [f"{workdir}/a.txt"]}
    assert written(cluster, workdir, tmp_path) == before


def test_a_made_up_job_is_not_taken_for_another_task(cluster, workdir):
    """Who may make Jobs in the namespace could say of one that it is of a task that we have."""
    _, backend = backend_from_string("kubernetes")
    first = submit(backend, task(cluster, UNTIL_GO), workdir)
    second = task(cluster, "true")
    probe = submit(backend, second, workdir)
    backend.result(probe)
    cluster.until(lambda: len(cluster.objects("jobs")) == 1)
    (job,) = cluster.objects("jobs")
    labels = {**job["metadata"]["labels"], "packtivity.readthedocs.io/key": probe.jobproxy["key"]}
    annotations = {"packtivity.readthedocs.io/task": first.task_id}
    container = {"name": "payload", "image": second["environment"]["image"] + ":1.0", "command": ["sleep", "60"]}
    pod = {"restartPolicy": "Never", "containers": [container], "terminationGracePeriodSeconds": 0}
    metadata = {"name": probe.jobproxy["job_id"], "labels": labels, "annotations": annotations}
    spec = {"template": {"metadata": {"labels": {"a": "b"}}, "spec": pod}}
    body = {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}
    cluster.api("POST", "/apis/batch/v1/namespaces/tasks/jobs", body)
    with pytest.raises(errors.BackendError, match="which is another one"):
        submit(backend, second, workdir)
