"""What goes wrong between a program and its cluster, and that no task is called failed, lost or run twice for it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from packtivity import errors
from packtivity.backends.registry import backend_from_string, load_proxy
from packtivity.statecontexts import LocalFSState

if TYPE_CHECKING:
    from pathlib import Path


def small_only(cluster: Any) -> None:
    if cluster.kind != "small":
        pytest.skip("faults are ordered from the small API server only")


def make(patience: float = 10, **options: Any) -> Any:
    return backend_from_string("kubernetes", {"patience": patience, **options})[1]


@pytest.fixture
def workdir(cluster: Any) -> Path:
    folder: Path = cluster.base / f"work-{os.urandom(4).hex()}"
    folder.mkdir()
    return folder


def task(cluster: Any, cmd: str) -> Any:
    image = {"environment_type": "docker-encapsulated", "image": f"{cluster.registry}/test/busybox", "imagetag": "1.0"}
    return {
        "process": {"process_type": "string-interpolated-cmd", "cmd": cmd},
        "environment": {**image, "envscript": "", "env": {}, "resources": [], "workdir": None, "par_mounts": []},
        "publisher": {"publisher_type": "constant-pub", "publish": {"done": True}},
    }


def submit(backend: Any, spec: Any, workdir: Path) -> Any:
    return backend.submit(spec, {"w": "{workdir}"}, LocalFSState([str(workdir)]), {"name": "one"})


def reread(proxy: Any) -> Any:
    return load_proxy(json.loads(json.dumps(proxy.json())), best_effort_backend=False)


def runs(workdir: Path) -> int:
    """Return how often the command has been started."""
    return len((workdir / "runs").read_text().splitlines())


COUNT = "echo x >> {w}/runs"


# --- the API is away --------------------------------------------------------------------------------------------


def test_submitting_without_a_cluster_says_so_in_time(cluster, workdir):
    path = cluster.write_kubeconfig("nowhere", "user-token-aaaaaaaa", "https://127.0.0.1:9")
    backend = make(1, kubeconfig=str(path))
    with pytest.raises(errors.BackendError, match="could not be reached for 1 s"):
        submit(backend, task(cluster, "true"), workdir)


def test_an_api_that_is_away_for_a_moment_is_waited_for_at_submission(cluster, workdir):
    small_only(cluster)
    backend = make()
    cluster.faults(status=503, count=4)
    assert backend.result(submit(backend, task(cluster, COUNT), workdir)).json() == {"done": True}
    assert runs(workdir) == 1


def test_an_answer_that_is_lost_does_not_make_a_second_job(cluster, workdir):
    small_only(cluster)
    backend = make()
    cluster.faults(drop=1)
    proxy = submit(backend, task(cluster, COUNT), workdir)
    assert backend.result(proxy).json() == {"done": True}
    assert runs(workdir) == 1


def test_an_api_that_is_away_while_a_task_runs_is_no_failure(cluster, workdir):
    small_only(cluster)
    backend = make(0.5)
    proxy = submit(backend, task(cluster, f"{COUNT}; sleep 2"), workdir)
    cluster.faults(status=503, count=1000)
    with pytest.raises(errors.BackendError, match="Tasks that run are not touched"):
        backend.ready(proxy)
    assert not os.path.exists(proxy.record)
    cluster.faults(count=0)
    assert backend.result(proxy).json() == {"done": True}
    assert runs(workdir) == 1


def test_what_is_forbidden_is_told_at_once_unless_it_was_allowed_before(cluster, workdir):
    small_only(cluster)
    backend = make()
    cluster.faults(status=403, count=1000)
    began = time.monotonic()
    with pytest.raises(errors.BackendError, match="does not allow this"):
        submit(backend, task(cluster, COUNT), workdir)
    assert time.monotonic() - began < 10
    cluster.faults(count=0)
    proxy = submit(backend, task(cluster, COUNT), workdir)
    cluster.faults(status=403, count=3)
    assert backend.result(proxy).json() == {"done": True}


def test_a_server_that_is_killed_and_comes_back_is_waited_for(cluster, workdir):
    if cluster.kind != "real":
        pytest.skip("the small API server keeps nothing over a restart")
    backend = make(60)
    proxy = submit(backend, task(cluster, f"{COUNT}; sleep 3"), workdir)
    cluster.until(cluster.running)
    os.kill(int((cluster.folder / "apiserver.pid").read_text()), signal.SIGKILL)
    assert backend.result(proxy).json() == {"done": True}
    assert runs(workdir) == 1


@pytest.mark.soak
def test_a_stranger_who_says_404_is_not_believed(cluster, workdir):
    small_only(cluster)
    backend = make()
    proxy = submit(backend, task(cluster, "sleep 1"), workdir)
    cluster.faults(strange404=3)
    assert backend.status(proxy).status in ("waiting", "running", "succeeded")
    assert backend.result(proxy).json() == {"done": True}


def test_an_expired_token_is_said_plainly_and_a_new_one_is_taken_up(cluster, workdir):
    small_only(cluster)
    backend = make(kubeconfig=str(cluster.write_kubeconfig("mine", "user-token-aaaaaaaa")))
    proxy = submit(backend, task(cluster, f"{COUNT}; sleep 1"), workdir)
    cluster.faults(tokens=["user-token-renewed"])
    with pytest.raises(errors.BackendError, match="does not accept our credentials .401") as caught:
        backend.ready(proxy)
    assert "user-token" not in str(caught.value)
    cluster.write_kubeconfig("mine", "user-token-renewed")
    assert backend.result(proxy).json() == {"done": True}
    assert runs(workdir) == 1


def test_a_program_that_makes_tokens_is_asked(cluster, workdir, tmp_path):
    told = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": "user-token-aaaaaaaa"},
    }
    (tmp_path / "login").write_text(f"#!/bin/sh\ncat <<'END'\n{json.dumps(told)}\nEND\n")
    (tmp_path / "login").chmod(0o755)
    path = cluster.write_kubeconfig("with-program", "unused")
    found = json.loads(path.read_text())
    login = {"apiVersion": told["apiVersion"], "command": str(tmp_path / "login"), "interactiveMode": "Never"}
    found["users"][0]["user"] = {"exec": login}
    path.write_text(json.dumps(found))
    backend = make(kubeconfig=str(path))
    assert backend.result(submit(backend, task(cluster, COUNT), workdir)).json() == {"done": True}


def test_a_certificate_that_nobody_vouches_for_is_refused_at_once(cluster, workdir):
    path = cluster.write_kubeconfig("strange-ca", "user-token-aaaaaaaa")
    found = json.loads(path.read_text())
    del found["clusters"][0]["cluster"]["certificate-authority"]
    path.write_text(json.dumps(found))
    began = time.monotonic()
    with pytest.raises(errors.BackendError, match="no certificate that is trusted"):
        submit(make(60, kubeconfig=str(path)), task(cluster, "true"), workdir)
    assert time.monotonic() - began < 20


def test_what_the_cluster_refuses_is_told_in_its_words(cluster, workdir):
    backend = make(pod_spec={"nodeSelektor": {}})
    if cluster.kind == "real":
        pytest.skip("servers before 1.25 do not tell unknown fields")
    with pytest.raises(errors.BackendError, match="unknown field.*nodeSelektor"):
        submit(backend, task(cluster, "true"), workdir)


# --- somebody else ----------------------------------------------------------------------------------------------


def test_a_job_that_somebody_deleted_is_said_to_be_lost(cluster, workdir):
    backend = make()
    proxy = submit(backend, task(cluster, "sleep 60"), workdir)
    cluster.until(cluster.running)
    cluster.delete_job(proxy.jobproxy["job_id"])
    cluster.until(lambda: not cluster.objects("jobs"))
    with pytest.raises(errors.WorkerLost, match="somebody deleted it"):
        backend.result(proxy)
    assert backend.status(reread(proxy)).status == "failed"


def test_a_proxy_of_another_cluster_is_not_known_here(cluster, workdir, tmp_path, monkeypatch):
    backend = make()
    proxy = submit(backend, task(cluster, "sleep 2"), workdir)
    document = proxy.json()
    document["proxydetails"]["jobproxy"]["cluster"] = "https://elsewhere:6443"
    other = load_proxy(json.loads(json.dumps(document)), best_effort_backend=False)
    monkeypatch.setenv(
        "PACKTIVITY_STATE_DIR", str(tmp_path)
    )  # where it is one's own, one's own document says where it is
    with pytest.raises(errors.ProxyError, match="is in the cluster https://elsewhere:6443"):
        backend.status(other)


@pytest.mark.soak
def test_a_job_of_that_name_that_is_not_ours_is_left_alone(cluster, workdir):
    backend = make()
    spec = task(cluster, "true")
    first = submit(backend, spec, workdir)
    name = first.jobproxy["job_id"]
    backend.result(first)
    cluster.until(lambda: not cluster.objects("jobs"))
    container = {"name": "a", "image": spec["environment"]["image"] + ":1.0", "command": ["sleep", "60"]}
    template = {
        "metadata": {"labels": {"a": "b"}},
        "spec": {"restartPolicy": "Never", "containers": [container], "terminationGracePeriodSeconds": 0},
    }
    body = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": {"template": template}}
    cluster.api("POST", "/apis/batch/v1/namespaces/tasks/jobs", body)
    with pytest.raises(errors.BackendError, match="that is not of packtivity"):
        submit(backend, spec, workdir)


# --- the client is killed, and two clients ----------------------------------------------------------------------

SUBMIT = """
import json, sys, os
from packtivity.backends.registry import backend_from_string
from packtivity.statecontexts import LocalFSState
_, backend = backend_from_string("kubernetes")
spec, workdir, kill = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3]
if kill == "after-create":
    create = backend.cluster.create
    def dying(kind, body):
        create(kind, body)
        os.kill(os.getpid(), 9)
    backend.cluster.create = dying
proxy = backend.submit(spec, {"w": "{workdir}"}, LocalFSState([workdir]), {"name": "one"})
print(proxy.jobproxy["uid"], flush=True)
print(backend.result(proxy).json())
"""


def start(spec: Any, workdir: Path, kill: str = "") -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", SUBMIT, json.dumps(spec), str(workdir), kill]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    out, err = process.communicate(timeout=90)
    return process.returncode, out or err


def test_the_job_of_a_client_that_was_killed_is_taken_over(cluster, workdir):
    spec = task(cluster, f"{COUNT}; sleep 2")
    assert ended(start(spec, workdir, "after-create"))[0] == -signal.SIGKILL
    assert len(cluster.objects("jobs")) == 1
    backend = make()
    assert backend.result(submit(backend, spec, workdir)).json() == {"done": True}
    assert runs(workdir) == 1


@pytest.mark.soak
def test_a_killed_client_that_had_not_sent_the_script_is_mended(cluster, workdir):
    spec = task(cluster, "")
    script = f"{COUNT}\n"
    spec["process"] = {"process_type": "interpolated-script-cmd", "script": script, "interpreter": "sh"}
    assert ended(start(spec, workdir, "after-create"))[0] == -signal.SIGKILL
    assert cluster.objects("configmaps") == []
    backend = make()
    assert backend.result(submit(backend, spec, workdir)).json() == {"done": True}
    assert runs(workdir) == 1


def test_two_clients_that_submit_the_same_run_it_once(cluster, workdir):
    spec = task(cluster, f"{COUNT}; until test -e {{w}}/go; do sleep 0.1; done")
    clients = [start(spec, workdir), start(spec, workdir)]
    uids = {client.stdout.readline() for client in clients if client.stdout}
    assert len(uids) == 1
    (workdir / "go").write_text("")
    assert [ended(client) for client in clients] == [(0, "{'done': True}\n")] * 2
    assert runs(workdir) == 1
    assert len(list((workdir / "_packtivity").glob("one.*.outcome.json"))) == 1


@pytest.mark.soak
def test_a_failed_job_that_nobody_asked_about_is_run_again(cluster, workdir):
    backend = make()
    spec = task(cluster, f"{COUNT}; test $(wc -l < {{w}}/runs) = 2")
    first = submit(backend, spec, workdir)
    cluster.until(lambda: [job for job in cluster.objects("jobs") if job["status"].get("failed")])
    second = submit(backend, spec, workdir)
    assert backend.result(second).json() == {"done": True}
    assert backend.status(first).status == "failed"
    assert runs(workdir) == 2


def test_retries_run_a_failed_task_again(cluster, workdir):
    backend = make()
    backend.exec_config = backend.exec_config.replace(retries=2)
    proxy = submit(backend, task(cluster, f"{COUNT}; echo run; test $(wc -l < {{w}}/runs) = 2"), workdir)
    assert backend.result(proxy).json() == {"done": True}
    with open(proxy.record, encoding="utf-8") as file:
        assert json.load(file)["attempts"] == 2
    assert (workdir / "_packtivity" / "one.run.log").read_text().count("| run\n") == 2


@pytest.mark.soak
def test_jobs_that_failed_can_be_kept(cluster, workdir):
    backend = make(keep_failed=True)
    proxy = submit(backend, task(cluster, "exit 1"), workdir)
    cluster.until(lambda: backend.ready(proxy))
    assert [job["metadata"]["name"] for job in cluster.objects("jobs")] == [proxy.jobproxy["job_id"]]


@pytest.mark.soak
def test_nobody_is_root_unless_told(cluster, workdir):
    backend = make()
    backend.result(submit(backend, task(cluster, "id -u > {w}/id"), workdir))
    assert int((workdir / "id").read_text()) == (os.getuid() or 1000)
    told = make(run_as_user="0")
    told.result(submit(told, task(cluster, "id -u > {w}/id2"), workdir))
    assert (workdir / "id2").read_text() == "0\n"
