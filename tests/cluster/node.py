"""A node of a test cluster, in place of the kubelet: takes the pods that an API server has for it and runs them with Docker.

    python node.py --server https://127.0.0.1:6443 --token … --ca ca.crt --cert server.crt --key server.key --claims DIR

It is a client of the API like any other, so it serves a real API server as well as the small one of these tests. What a
pod's container sees and how it is reported (volumes, sub-paths, ``$(NAME)``, user, limits, image pulls, deadline, exit codes,
OOMKilled, eviction, grace) is as the Kubernetes documentation has it. A PersistentVolumeClaim is a directory below DIR.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import re
import signal
import ssl
import subprocess
import tempfile
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import requests

NAME = "test-node"
_VARIABLE = re.compile(r"\$(\$|\(([-._a-zA-Z][-._a-zA-Z0-9]*)\))?")


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def expand(text: str, variables: dict[str, str]) -> str:
    """Replace ``$(NAME)`` by a known variable and ``$$`` by ``$``, as in arguments and variables of containers."""

    def one(found: re.Match[str]) -> str:
        if found[1] == "$":
            return "$"
        return variables.get(found[2], found[0]) if found[2] else found[0]

    return _VARIABLE.sub(one, text)


def number(quantity: str) -> float:
    units = {"m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
    for unit in sorted(units, key=len, reverse=True):
        if quantity.endswith(unit):
            return float(quantity.removesuffix(unit)) * units[unit]
    return float(quantity)


class Api:
    def __init__(self, server: str, token: str, ca: str) -> None:
        self.server, self.session = server, requests.Session()
        self.session.verify, self.session.trust_env = ca, False
        self.session.headers["Authorization"] = f"Bearer {token}"

    def __call__(self, method: str, path: str, body: Any = None, kind: str = "application/json", **query: Any) -> Any:
        """Return the answer; None for what is not there."""
        for _ in range(100):
            with suppress(requests.ConnectionError):
                data = None if body is None else json.dumps(body)
                found = self.session.request(
                    method, self.server + path, data=data, params=query, headers={"Content-Type": kind}, timeout=30
                )
                if found.status_code in (404, 409):
                    return None
                if found.status_code < 300:
                    return found.json()
                if found.status_code not in (401, 429, 500, 503):
                    raise RuntimeError(f"{method} {path}: {found.status_code} {found.text}")
            time.sleep(0.1)
        return None


class Waiting(Exception):
    """A container cannot be started for now."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason, self.message = reason, message


class Pod:
    """One pod on this node."""

    def __init__(self, node: Node, pod: dict[str, Any]) -> None:
        self.node, self.spec, self.uid = node, pod["spec"], pod["metadata"]["uid"]
        self.name, self.namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
        self.path = f"/api/v1/namespaces/{self.namespace}/pods/{self.name}"
        self.folder = Path(tempfile.mkdtemp(prefix="pod-", dir=node.folder))
        self.status: dict[str, Any] = {"phase": "Pending", "startTime": now(), "initContainerStatuses": []}
        self.ended = ""  # why it was ended from outside
        self.over = threading.Event()
        self.running = ""
        threading.Thread(target=self.run, daemon=True).start()
        if self.spec.get("activeDeadlineSeconds"):
            threading.Timer(self.spec["activeDeadlineSeconds"], self.end, ["DeadlineExceeded"]).start()

    def report(self, **changes: Any) -> None:
        self.status |= changes
        body = {"status": self.status}
        self.node.api("PATCH", self.path + "/status", body, "application/merge-patch+json")

    def run(self) -> None:
        try:
            for container in self.spec.get("initContainers") or []:
                self.status["initContainerStatuses"].append(self.wait_and_run(container, {}))
                if self.status["initContainerStatuses"][-1]["state"]["terminated"]["exitCode"]:
                    return self.close("Failed")
            container = self.spec["containers"][0]
            found = self.wait_and_run(container, {"phase": "Running"})
            code = found["state"]["terminated"]["exitCode"]
            self.close("Failed" if code or self.ended else "Succeeded", containerStatuses=[found])
        except InterruptedError:
            self.close("Failed")
        finally:
            self.over.set()
        return None

    def close(self, phase: str, **more: Any) -> None:
        why = {"DeadlineExceeded": "Pod was active on the node longer than the specified deadline"}
        why["Evicted"] = "The node was low on resource: memory. "
        if self.ended in why:
            more |= {"reason": self.ended, "message": why[self.ended]}
        self.report(phase=phase, **more)

    def wait_and_run(self, container: dict[str, Any], started: dict[str, Any]) -> dict[str, Any]:
        """Start a container as soon as that is possible, and return its status when it has ended."""
        tries = 0
        while not self.ended:
            try:
                argv, image = self.argv(container)
                return self.carry_out(container, argv, image, started)
            except Waiting as why:
                reason = "ImagePullBackOff" if why.reason == "ErrImagePull" and tries % 2 else why.reason
                state = {"waiting": {"reason": reason, "message": why.message}}
                self.report(containerStatuses=[self.state_of(container, state, "")])
                tries += 1
                time.sleep(0.3)
        raise InterruptedError

    def state_of(self, container: dict[str, Any], state: dict[str, Any], image: str) -> dict[str, Any]:
        return {
            "name": container["name"], "image": container["image"], "imageID": image, "ready": "running" in state,
            "restartCount": 0, "state": state,
        }  # fmt: skip

    def carry_out(self, container: Any, argv: list[str], image: str, started: dict[str, Any]) -> dict[str, Any]:
        name = f"k8s-{container['name']}-{self.uid}"
        made = self.node.docker(*argv)
        if made.returncode:
            raise Waiting("CreateContainerError", made.stderr.strip())
        began, self.running = now(), name
        with open(self.log(container["name"]), "wb") as log:
            start = ["docker", "start", "--attach", name]
            process = subprocess.Popen(start, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        while (
            process.poll() is None
            and self.node.docker("inspect", "--format", "{{.State.Running}}", name).stdout != "true\n"
        ):
            time.sleep(0.05)
        running = self.state_of(container, {"running": {"startedAt": began}}, image)
        self.report(**started, **({"containerStatuses": [running]} if started else {}))
        code = process.wait()
        inspected = self.node.docker("inspect", "--format", "{{.State.OOMKilled}} {{.State.ExitCode}}", name)
        oom, _, exit_code = inspected.stdout.partition(" ")
        code = int(exit_code or code)
        reason = (
            "OOMKilled" if oom == "true" else "Completed" if code == 0 else "StartError" if code == 125 else "Error"
        )
        ended = {"exitCode": code, "reason": reason, "startedAt": began, "finishedAt": now()}
        return self.state_of(container, {"terminated": ended}, image)

    def log(self, container: str) -> Path:
        return self.folder / f"{container}.log"

    def end(self, reason: str) -> None:
        """End the containers: TERM, and KILL after the time of grace."""
        if self.over.is_set():
            return
        self.ended = self.ended or reason
        grace = 0 if reason in ("DeadlineExceeded", "Evicted") else self.spec.get("terminationGracePeriodSeconds", 30)
        while not self.over.wait(0.1):
            if self.running:
                self.node.docker("stop", "-t", str(grace), self.running)

    def remove(self) -> None:
        """Take the pod away, as it is wanted."""
        self.end("Deleted")
        for container in [*(self.spec.get("initContainers") or []), *self.spec["containers"]]:
            self.node.docker("rm", "-f", "-v", f"k8s-{container['name']}-{self.uid}")
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": self.uid}}
        self.node.api("DELETE", self.path, {"apiVersion": "v1", "kind": "DeleteOptions", **options})
        self.node.pods.pop(self.uid, None)

    # --- how a container is started ---

    def argv(self, container: dict[str, Any]) -> tuple[list[str], str]:
        image = self.image(container)
        security = {**(self.spec.get("securityContext") or {}), **(container.get("securityContext") or {})}
        argv = ["create", "--name", f"k8s-{container['name']}-{self.uid}", "--pull", "never"]
        argv += ["--network", "host" if self.spec.get("hostNetwork") else "none"]
        argv += ["--init"] if self.spec.get("shareProcessNamespace") else []
        if security.get("runAsNonRoot") and not security.get("runAsUser"):
            raise Waiting("CreateContainerConfigError", "container has runAsNonRoot and image will run as root")
        if "runAsUser" in security:
            argv += ["--user", f"{security['runAsUser']}:{security.get('runAsGroup', 0)}"]
        if security.get("allowPrivilegeEscalation") is False:
            argv += ["--security-opt", "no-new-privileges"]
        argv += [f"--cap-drop={each}" for each in (security.get("capabilities") or {}).get("drop", [])]
        limits = (container.get("resources") or {}).get("limits") or {}
        if "memory" in limits:
            memory = str(int(number(limits["memory"])))
            argv += ["--memory", memory, "--memory-swap", memory]
        argv += ["--cpus", f"{number(limits['cpu']):g}"] if "cpu" in limits else []
        variables = self.variables(container)
        for name, value in variables.items():
            argv += ["--env", f"{name}={value}"]
        argv += ["--workdir", container["workingDir"]] if container.get("workingDir") else []
        for mount in container.get("volumeMounts") or []:
            argv += ["--mount", self.mount(mount)]
        command = [expand(part, variables) for part in container.get("command") or []]
        return [*argv, "--entrypoint", command[0], container["image"], *command[1:]], image

    def variables(self, container: dict[str, Any]) -> dict[str, str]:
        found: dict[str, str] = {}
        for each in container.get("env") or []:
            reference = (each.get("valueFrom") or {}).get("secretKeyRef")
            if reference:
                found[each["name"]] = self.files("secrets", reference["name"])[reference["key"]].decode()
            else:
                found[each["name"]] = expand(each.get("value") or "", found)
        return found

    def image(self, container: dict[str, Any]) -> str:
        """See that the image is here, and return its identity."""
        name, policy = container["image"], container.get("imagePullPolicy", "IfNotPresent")
        if name != name.lower() and "/" not in name:
            raise Waiting("InvalidImageName", f'Failed to apply default image tag "{name}"')
        here = self.node.docker("image", "inspect", "--format", "{{json .RepoDigests}}", name)
        if here.returncode and policy == "Never":
            raise Waiting("ErrImageNeverPull", f'Container image "{name}" is not present with pull policy of Never')
        if here.returncode or policy == "Always":
            pulled = self.node.docker("pull", "-q", name)
            if pulled.returncode:
                raise Waiting("ErrImagePull", f'failed to pull image "{name}": {pulled.stderr.strip()}')
            here = self.node.docker("image", "inspect", "--format", "{{json .RepoDigests}}", name)
        digests = json.loads(here.stdout)
        return f"docker-pullable://{digests[0]}" if digests else ""

    def mount(self, mount: dict[str, Any]) -> str:
        volume = next(each for each in self.spec["volumes"] if each["name"] == mount["name"])
        source = self.volume(volume)
        if mount.get("subPath"):
            source = source / mount["subPath"]
            if not source.exists():
                source.mkdir(mode=0o750, parents=True)
        value = f"type=bind,source={source},destination={mount['mountPath']}"
        return value + (",readonly" if mount.get("readOnly") else "")

    def volume(self, volume: dict[str, Any]) -> Path:
        if "hostPath" in volume:
            return Path(volume["hostPath"]["path"])
        if "persistentVolumeClaim" in volume:
            claim: Path = self.node.claims / volume["persistentVolumeClaim"]["claimName"]
            if not claim.is_dir():
                raise Waiting("ContainerCreating", f"claim {claim.name} is not bound")
            return claim
        folder = self.folder / "volumes" / volume["name"]
        folder.mkdir(parents=True, exist_ok=True)
        if "emptyDir" in volume:
            folder.chmod(0o777)
            return folder
        kind = "configmaps" if "configMap" in volume else "secrets"
        source = volume.get("configMap") or volume["secret"]
        found = self.files(kind, source.get("name") or source["secretName"])
        items = source.get("items") or [{"key": key, "path": key} for key in found]
        for item in items:
            file = folder / item["path"]
            if not file.exists():
                file.write_bytes(found[item["key"]])
                file.chmod(item.get("mode", source.get("defaultMode", 0o644)))
        return folder

    def files(self, kind: str, name: str) -> dict[str, bytes]:
        found = self.node.api("GET", f"/api/v1/namespaces/{self.namespace}/{kind}/{name}")
        if found is None:
            raise Waiting("ContainerCreating", f'{kind} "{name}" not found')
        encoded = found.get("data") or {} if kind == "secrets" else found.get("binaryData") or {}
        plain = {} if kind == "secrets" else found.get("data") or {}
        return {key: text.encode() for key, text in plain.items()} | {
            key: base64.b64decode(text) for key, text in encoded.items()
        }


class Node:
    def __init__(self, api: Api, claims: Path, folder: Path, port: int) -> None:
        self.api, self.claims, self.folder = api, claims, folder
        self.pods: dict[str, Pod] = {}
        self.going: set[str] = set()
        body = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": NAME, "labels": {"kubernetes.io/hostname": NAME}},
        }
        api("POST", "/api/v1/nodes", body)
        size = {"cpu": "8", "memory": "64Gi", "pods": "110"}
        status = {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}, {"type": "Hostname", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
            "capacity": size,
            "allocatable": size,
            "conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": now(), "reason": "KubeletReady"}],
        }
        api("PATCH", f"/api/v1/nodes/{NAME}/status", {"status": status}, "application/merge-patch+json")

    @staticmethod
    def docker(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)

    def work(self) -> None:
        """Look for pods that are ours or nobody's, again and again."""
        while True:
            for pod in (self.api("GET", "/api/v1/pods") or {}).get("items") or []:
                self.look(pod)
            time.sleep(0.1)

    def look(self, pod: dict[str, Any]) -> None:
        metadata, uid = pod["metadata"], pod["metadata"]["uid"]
        phase = (pod.get("status") or {}).get("phase")
        if not pod["spec"].get("nodeName"):
            if not pod["spec"].get("nodeSelector") and not metadata.get("deletionTimestamp"):
                target = {"apiVersion": "v1", "kind": "Node", "name": NAME}
                path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/binding"
                self.api(
                    "POST",
                    path,
                    {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": metadata["name"]}, "target": target},
                )
        elif metadata.get("deletionTimestamp") and uid not in self.going:
            self.going.add(uid)
            known = self.pods.get(uid)
            if known is None:
                options = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0}
                self.api("DELETE", f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}", options)
            else:
                threading.Thread(target=known.remove, daemon=True).start()
        elif uid not in self.pods and uid not in self.going and phase not in ("Succeeded", "Failed"):
            self.pods[uid] = Pod(self, pod)

    def named(self, namespace: str, name: str) -> Pod | None:
        return next((pod for pod in self.pods.values() if (pod.namespace, pod.name) == (namespace, name)), None)


def serve(node: list[Node], cert: str, key: str) -> ThreadingHTTPServer:
    class Kubelet(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _, verb, namespace, pod, *rest = self.path.partition("?")[0].split("/")
            found = node[0].named(namespace, pod)
            content = b""
            if found is None:
                self.send_response(404)
            elif verb == "evict":
                threading.Thread(target=found.end, args=["Evicted"]).start()
                self.send_response(200)
            elif not found.log(rest[0]).exists():
                content = f"container {rest[0]} is waiting to start".encode()
                self.send_response(400)
            else:
                content = found.log(rest[0]).read_bytes()
                self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Kubelet)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("server", "token", "ca", "cert", "key", "claims", "folder"):
        parser.add_argument(f"--{name}", required=True)
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    nodes: list[Node] = []
    server = serve(nodes, given.cert, given.key)
    nodes.append(
        Node(Api(given.server, given.token, given.ca), Path(given.claims), Path(given.folder), server.server_port)
    )
    print(json.dumps({"port": server.server_port}), flush=True)
    nodes[0].work()


if __name__ == "__main__":
    main()
