"""A Kubernetes cluster of one node on loopback: an API server over HTTPS, and a node that runs pods with Docker.

The API server is the small one of these tests; with ``PACKTIVITY_TEST_KUBERNETES`` naming a folder with the programs
``etcd``, ``kube-apiserver`` and ``kube-controller-manager``, every test runs with these, too.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from needs import need_engine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SETUP = ROOT / "tools" / "setup-engines.sh"
REAL = os.environ.get("PACKTIVITY_TEST_KUBERNETES")
NAMESPACE = "tasks"
USER, NODE = "user-token-aaaaaaaa", "node-token-bbbbbbbb"
CLAIM = "yadagedata"


@pytest.fixture(scope="session")
def engines() -> dict[str, str]:
    """Variables that lead to Docker and the registry."""
    pytest.importorskip("kubernetes")
    need_engine(Path("/var/lib/packtivity-engines/run").is_dir(), "what the container engines need")
    text = subprocess.run([str(SETUP), "env"], capture_output=True, text=True, check=True).stdout
    found = dict(item.split("=", 1) for item in text.removeprefix("export ").split())
    answer = subprocess.run(["docker", "info"], capture_output=True, check=False, env={**os.environ, **found})
    need_engine(answer.returncode == 0, "a running Docker")
    return found


@pytest.fixture(scope="session")
def cluster_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="packtivity-cluster-", dir="/tmp"))
    folder.chmod(0o755)
    make_certificates(folder)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def make_certificates(folder: Path) -> None:
    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2")
    openssl(*new, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=test-ca")
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=test")
    (folder / "san").write_text("subjectAltName=IP:127.0.0.1\n")
    signed = ("x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial")
    openssl(*signed, "-days", "2", "-extfile", "san", "-out", "server.crt")


class Cluster:
    """The cluster, as tests see it."""

    def __init__(self, kind: str, folder: Path, engines: dict[str, str]) -> None:
        self.kind, self.folder, self.engines = kind, folder / kind, engines
        self.claims = self.folder / "claims"
        self.base = self.claims / CLAIM
        self.base.mkdir(parents=True)
        (self.folder / "pods").mkdir()
        self.ca = folder / "ca.crt"
        for name in ("server.crt", "server.key"):
            shutil.copy(folder / name, self.folder / name)
        self.processes: list[subprocess.Popen[str]] = []
        self.session = requests.Session()
        self.session.verify, self.session.trust_env = str(self.ca), False
        self.start_server()
        self.prepare()
        self.registry = engines["PACKTIVITY_TEST_REGISTRY"]
        node = ["--server", self.url, "--token", NODE, "--ca", str(self.ca), "--claims", str(self.claims)]
        node += ["--cert", "server.crt", "--key", "server.key", "--folder", str(self.folder / "pods")]
        self.kubelet = self.start(["node.py", *node])["port"]
        self.kubeconfig = self.write_kubeconfig("kubeconfig", USER)

    def start(self, argv: list[str]) -> dict[str, Any]:
        with (self.folder / f"{argv[0]}.err").open("ab") as errors:
            process = subprocess.Popen(
                [sys.executable, str(HERE / argv[0]), *argv[1:]],
                cwd=self.folder,
                env={**os.environ, **self.engines},
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
        self.processes.append(process)
        assert process.stdout is not None
        return dict(json.loads(process.stdout.readline()))

    def start_server(self) -> None:
        if self.kind == "small":
            found = self.start(["apiserver.py", "--cert", "server.crt", "--key", "server.key", "--token", USER])
            self.url = f"https://127.0.0.1:{found['port']}"
            return
        port = free_ports()
        self.url = f"https://127.0.0.1:{port}"
        (self.folder / "tokens.csv").write_text(f'{NODE},admin,1,"system:masters"\n{USER},tester,2,"testers"\n')
        self.write_kubeconfig("admin.kubeconfig", NODE)
        with (self.folder / "start.err").open("ab") as errors:
            argv = [str(HERE / "start.sh"), str(self.folder), str(port)]
            self.processes.append(
                subprocess.Popen(argv, stdout=errors, stderr=errors, text=True, start_new_session=True)
            )
        self.until(lambda: self.answers("/readyz"), 90)

    def answers(self, path: str) -> bool:
        try:
            return self.session.get(self.url + path, headers={"Authorization": f"Bearer {NODE}"}, timeout=5).ok
        except requests.RequestException:
            return False

    def prepare(self) -> None:
        """Make the namespace; in a real cluster, give the tester the rights that the documentation names, and no more."""
        if self.kind == "small":
            return
        self.api(
            "POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        )
        group = "rbac.authorization.k8s.io"
        rules = [
            {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create", "get", "list", "delete"]},
            {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"]},
            {"apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": ["get", "list"]},
        ]
        path = f"/apis/{group}/v1/namespaces/{NAMESPACE}"
        about = {"apiVersion": f"{group}/v1", "metadata": {"name": "packtivity"}}
        self.api("POST", f"{path}/roles", {**about, "kind": "Role", "rules": rules})
        who = {"roleRef": {"apiGroup": group, "kind": "Role", "name": "packtivity"}}
        subjects = [{"kind": "User", "name": "tester", "apiGroup": group}]
        self.api("POST", f"{path}/rolebindings", {**about, "kind": "RoleBinding", **who, "subjects": subjects})

    def write_kubeconfig(self, name: str, token: str, url: str | None = None) -> Path:
        path = self.folder / name
        one = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [
                {"name": "test", "cluster": {"server": url or self.url, "certificate-authority": str(self.ca)}}
            ],
            "users": [{"name": "test", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": NAMESPACE}}],
        }
        path.write_text(json.dumps(one))
        return path

    def api(self, method: str, path: str, body: Any = None) -> Any:
        """Ask as somebody who may do everything."""
        answer = self.session.request(
            method, self.url + path, json=body, headers={"Authorization": f"Bearer {NODE}"}, timeout=30
        )
        return answer.json()

    def objects(self, kind: str) -> list[dict[str, Any]]:
        group = "/apis/batch/v1" if kind == "jobs" else "/api/v1"
        found = self.api("GET", f"{group}/namespaces/{NAMESPACE}/{kind}")["items"]
        return [each for each in found if each["metadata"]["name"] != "kube-root-ca.crt"]

    def delete_job(self, name: str) -> None:
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Foreground"}
        self.api("DELETE", f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs/{name}", options)

    def evict(self) -> None:
        """End the only pod as a kubelet does whose node runs out of memory."""
        (pod,) = self.objects("pods")
        url = f"https://127.0.0.1:{self.kubelet}/evict/{NAMESPACE}/{pod['metadata']['name']}"
        requests.get(url, verify=str(self.ca), timeout=10)

    def faults(self, **wanted: Any) -> None:
        self.session.post(f"{self.url}/faults", json=wanted, timeout=10)

    def asked(self) -> list[list[str]]:
        """Return what has been asked since the last call of this."""
        return list(self.session.get(f"{self.url}/requests", timeout=10).json())

    def until(self, condition: Callable[[], Any], seconds: float = 60) -> Any:
        give_up = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < give_up, "waited in vain"
            time.sleep(0.05)
        return found

    def running(self) -> bool:
        """Return whether there is one pod, and it runs."""
        pods = self.objects("pods")
        return len(pods) == 1 and pods[0]["status"].get("phase") == "Running"

    def clear(self) -> None:
        """Delete all Jobs, and wait until nothing is left."""
        for job in self.objects("jobs"):
            self.delete_job(job["metadata"]["name"])
        self.until(lambda: not any(self.objects(kind) for kind in ("jobs", "pods", "configmaps")))

    def stop(self) -> None:
        for process in reversed(self.processes):
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(30)
            if process.stdout is not None:
                process.stdout.close()
        self.session.close()


def free_ports() -> int:
    """Return the first of three ports that nobody has."""
    for port in range(26440, 26940, 10):
        for each in (port, port + 1, port + 2):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", each)) == 0:
                    break
        else:
            return port
    raise AssertionError("no free ports")


@pytest.fixture(scope="session", params=["small", *(["real"] if REAL else [])])
def whole_cluster(request: pytest.FixtureRequest, cluster_folder: Path, engines: dict[str, str]) -> Iterator[Cluster]:
    cluster = Cluster(request.param, cluster_folder, engines)
    yield cluster
    cluster.stop()


@pytest.fixture
def cluster(whole_cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """The cluster, with nothing in it, and settings that lead to it."""
    for name in [name for name in os.environ if name.startswith(("PACKTIVITY_KUBE", "PACKTIVITY_ASYNC", "YADAGE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("KUBECONFIG", str(whole_cluster.kubeconfig))
    monkeypatch.setenv("YADAGE_K8S_PATHBASE", str(whole_cluster.base))
    monkeypatch.setenv("PACKTIVITY_LOGGING_STREAM_LEVEL", "CRITICAL")
    monkeypatch.setenv("PACKTIVITY_KUBE_RESOURCE_OPTS", '{"requests": {"memory": "16Mi", "cpu": "10m"}}')
    monkeypatch.chdir(whole_cluster.base)
    whole_cluster.clear()
    yield whole_cluster
    if whole_cluster.kind == "small":
        whole_cluster.faults(tokens=[USER], status=0, count=0, drop=0, strange404=0)
    whole_cluster.clear()
