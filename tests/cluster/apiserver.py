"""A small API server for tests: Jobs, Pods, ConfigMaps, Secrets and Nodes over HTTPS, and the Job controller's work.

    python apiserver.py --cert server.crt --key server.key --token …

Objects that it is given are held against the official schema, as the models of the Kubernetes Python client have it:
unknown fields and wrong types are refused, as a real server does with fieldValidation=Strict. Faults are ordered with
``POST /faults``: ``{"status": 503, "count": 3}``, ``{"drop": 1}`` (does what is asked, and says nothing), ``{"tokens": […]}``,
``{"strange404": 1}`` (an answer that is not the API's). ``GET /requests`` tells what has been asked.
"""

from __future__ import annotations

import argparse
import http.client
import json
import re
import ssl
import threading
import time
import uuid
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kubernetes.client.models as models

Object = dict[str, Any]
KINDS = {
    "jobs": ("batch/v1", "Job"), "pods": ("v1", "Pod"), "configmaps": ("v1", "ConfigMap"), "secrets": ("v1", "Secret"),
    "nodes": ("v1", "Node"),
}  # fmt: skip
_PATH = re.compile(
    r"/(?:api/v1|apis/batch/v1)(?:/namespaces/(?P<namespace>[^/]+))?/(?P<kind>[a-z]+)(?:/(?P<name>[^/]+))?(?:/(?P<sub>[a-z]+))?"
)
_DNS = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Refused(Exception):
    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.reason, self.message = code, reason, message


# --- the schema ------------------------------------------------------------------------------------------------


def check(value: Any, kind: str, where: str) -> None:
    """Refuse what the schema does not know.

    :param kind: as the client's models write types: ``V1Job``, ``list[str]``, ``dict[str, str]``, ``int`` …
    """
    inner = re.fullmatch(r"[Ll]ist\[(.+)\]", kind)
    keyed = re.fullmatch(r"[Dd]ict[\[(]str, (.+)[\])]", kind)
    if inner:
        _must(isinstance(value, list), where, "a list", value)
        for at, each in enumerate(value):
            check(each, inner[1], f"{where}[{at}]")
    elif keyed:
        _must(isinstance(value, dict), where, "a mapping", value)
        for key, each in value.items():
            check(each, keyed[1], f"{where}.{key}")
    elif kind.startswith("V"):
        model = getattr(models, kind)
        names = {model.attribute_map[name]: type_ for name, type_ in model.openapi_types.items()}
        _must(isinstance(value, dict), where, "a mapping", value)
        for key, each in value.items():
            if key not in names:
                raise Refused(400, "BadRequest", f'strict decoding error: unknown field "{where}.{key}"')
            if each is not None:
                check(each, names[key], f"{where}.{key}")
    else:
        plain = {"str": str, "int": int, "bool": bool, "datetime": str, "float": (int, float), "bytes": str}
        good = isinstance(value, plain.get(kind, object)) and not (kind == "int" and isinstance(value, bool))
        _must(good, where, kind, value)


def _must(good: bool, where: str, wanted: str, value: Any) -> None:
    if not good:
        raise Refused(400, "BadRequest", f"json: cannot unmarshal {value!r} into field {where} of type {wanted}")


def check_meaning(kind: str, body: Object) -> None:
    """Refuse what a real server refuses although the schema has it."""
    name = body["metadata"].get("name", "")
    if not _DNS.fullmatch(name) or len(name) > (63 if kind == "jobs" else 253):
        raise Refused(422, "Invalid", f'metadata.name: Invalid value: "{name}"')
    if kind != "jobs":
        return
    pod = body["spec"]["template"]["spec"]
    volumes = {each["name"] for each in pod.get("volumes") or []}
    for container in [*(pod.get("initContainers") or []), *pod["containers"]]:
        places = [mount["mountPath"] for mount in container.get("volumeMounts") or []]
        if len(places) != len(set(places)) or any(":" in place for place in places):
            raise Refused(
                422, "Invalid", f"volumeMounts.mountPath: Invalid value: {places}: must be unique, without ':'"
            )
        strange = {mount["name"] for mount in container.get("volumeMounts") or []} - volumes
        if strange:
            raise Refused(422, "Invalid", f"volumeMounts.name: Not found: {strange}")
        if not container.get("image"):
            raise Refused(422, "Invalid", "image: Required value")


# --- the store -------------------------------------------------------------------------------------------------


class Store:
    """All objects, and the rules by which they come and go."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.objects: dict[tuple[str, str, str], Object] = {}
        self.version = 0

    def touch(self, found: Object) -> Object:
        self.version += 1
        found["metadata"]["resourceVersion"] = str(self.version)
        return found

    def create(self, kind: str, namespace: str, body: Object) -> Object:
        api, name = KINDS[kind]
        if (body.get("apiVersion"), body.get("kind")) != (api, name):
            raise Refused(400, "BadRequest", f"the object provided is no {api} {name}")
        check(body, f"V1{name}", name)
        check_meaning(kind, body)
        place = (kind, namespace, body["metadata"]["name"])
        with self.lock:
            if place in self.objects:
                deleted = (
                    "object is being deleted: " if self.objects[place]["metadata"].get("deletionTimestamp") else ""
                )
                raise Refused(409, "AlreadyExists", f'{deleted}{kind} "{place[2]}" already exists')
            own = {"uid": str(uuid.uuid4()), "creationTimestamp": now(), "namespace": namespace}
            body = {**body, "metadata": {**body["metadata"], **own}, "status": body.get("status") or {}}
            self.objects[place] = self.touch(body)
            return body

    def get(self, kind: str, namespace: str, name: str) -> Object:
        try:
            return self.objects[kind, namespace, name]
        except KeyError:
            raise Refused(404, "NotFound", f'{kind} "{name}" not found') from None

    def list(self, kind: str, namespace: str | None, selector: str = "") -> list[Object]:
        wanted = dict(part.split("=", 1) for part in selector.split(",") if part)
        with self.lock:
            return [
                found
                for (kind_, namespace_, _), found in sorted(self.objects.items())
                if kind_ == kind
                and namespace in (None, namespace_)
                and wanted.items() <= (found["metadata"].get("labels") or {}).items()
            ]

    def delete(self, kind: str, namespace: str, name: str, options: Object) -> Object:
        with self.lock:
            found = self.get(kind, namespace, name)
            uid = (options.get("preconditions") or {}).get("uid")
            if uid and uid != found["metadata"]["uid"]:
                raise Refused(409, "Conflict", f"Precondition failed: UID in precondition: {uid}")
            waits = (kind == "pods" and options.get("gracePeriodSeconds") != 0 and found["spec"].get("nodeName")) or (
                kind == "jobs" and options.get("propagationPolicy") == "Foreground"
            )
            if waits:
                found["metadata"].setdefault("deletionTimestamp", now())
                if kind == "jobs":
                    found["metadata"]["finalizers"] = ["foregroundDeletion"]
                return self.touch(found)
            del self.objects[kind, namespace, name]
            return found


# --- controllers -----------------------------------------------------------------------------------------------


class Controllers:
    """What a controller manager does about Jobs: makes their pods, says how they went, collects what they leave."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def work(self) -> None:
        while True:
            with self.store.lock:
                for job in self.store.list("jobs", None):
                    self.look(job)
                self.collect()
            time.sleep(0.05)

    def look(self, job: Object) -> None:
        metadata, status = job["metadata"], job["status"]
        pods = [pod for pod in self.store.list("pods", metadata["namespace"]) if owner(pod) == metadata["uid"]]
        if metadata.get("deletionTimestamp"):
            for pod in pods:
                if not pod["metadata"].get("deletionTimestamp"):
                    self.store.delete("pods", metadata["namespace"], pod["metadata"]["name"], {})
            if not pods:
                del self.store.objects["jobs", metadata["namespace"], metadata["name"]]
            return
        phases = [pod["status"].get("phase", "Pending") for pod in pods]
        if any(each["status"] == "True" for each in status.get("conditions") or []):
            ttl = job["spec"].get("ttlSecondsAfterFinished")
            if ttl is not None and time.time() > status["_ended"] + ttl:
                self.store.delete("jobs", metadata["namespace"], metadata["name"], {"propagationPolicy": "Foreground"})
            return
        status.setdefault("startTime", now())
        active = sum(phase in ("Pending", "Running") for phase in phases)
        failed, succeeded = phases.count("Failed"), phases.count("Succeeded")
        status.update(active=active, failed=failed, succeeded=succeeded)
        if succeeded:
            self.finish(job, "Complete", "", "")
        elif failed > job["spec"].get("backoffLimit", 6):
            self.finish(job, "Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
        elif not active:
            self.make_pod(job)

    def finish(self, job: Object, kind: str, reason: str, message: str) -> None:
        condition = {"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": now()}
        job["status"].update(conditions=[condition], _ended=time.time())
        self.store.touch(job)

    def make_pod(self, job: Object) -> None:
        metadata, template = job["metadata"], job["spec"]["template"]
        labels = {
            **(template["metadata"].get("labels") or {}),
            "job-name": metadata["name"],
            "controller-uid": metadata["uid"],
        }
        above = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "name": metadata["name"],
            "uid": metadata["uid"],
            "controller": True,
        }
        name = f"{metadata['name']}-{uuid.uuid4().hex[:5]}"
        more = {"name": name, "labels": labels, "ownerReferences": [above]}
        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {**template["metadata"], **more},
            "spec": dict(template["spec"]),
        }
        self.store.create("pods", metadata["namespace"], {**body, "status": {"phase": "Pending"}})

    def collect(self) -> None:
        """Delete what belonged to an object that is gone."""
        alive = {found["metadata"]["uid"] for found in self.store.objects.values()}
        for (kind, namespace, name), found in list(self.store.objects.items()):
            if owner(found) and owner(found) not in alive and not found["metadata"].get("deletionTimestamp"):
                self.store.delete(kind, namespace, name, {})


def owner(found: Object) -> str:
    above = found["metadata"].get("ownerReferences") or [{}]
    return str(above[0].get("uid") or "")


# --- HTTP ------------------------------------------------------------------------------------------------------


class Faults:
    def __init__(self, token: str) -> None:
        self.tokens, self.status, self.count, self.drop, self.strange404 = [token], 0, 0, 0, 0

    def order(self, wanted: Object) -> None:
        for name, value in wanted.items():
            setattr(self, name, value)


def merged(old: Any, new: Any) -> Any:
    """Apply a JSON merge patch (RFC 7386)."""
    if not isinstance(new, dict) or not isinstance(old, dict):
        return new
    kept = {**old, **{key: merged(old.get(key), value) for key, value in new.items()}}
    return {key: value for key, value in kept.items() if value is not None}


def handler(store: Store, faults: Faults, requests: list[list[str]]) -> type[BaseHTTPRequestHandler]:
    class Api(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else {}
            url = urlsplit(self.path)
            try:
                answer = self.answer(url.path, {key: value[0] for key, value in parse_qs(url.query).items()}, body)
                status = 200
            except Refused as error:
                status = error.code
                answer = {
                    "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": error.message,
                    "reason": error.reason, "code": error.code,
                }  # fmt: skip
            if answer is None:
                self.close_connection = True
                return
            self.say(status, answer)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_any

        def say(self, status: int, answer: Any) -> None:
            kind = "text/plain" if isinstance(answer, bytes) else "application/json"
            content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def answer(self, path: str, query: dict[str, str], body: Object) -> Any:
            scheme, _, token = (self.headers.get("Authorization") or "").partition(" ")
            if path == "/faults":
                faults.order(body)
                return {}
            if path == "/requests":
                found, requests[:] = list(requests), []
                return found
            node = token.startswith("node-")
            if scheme.lower() != "bearer" or (not node and token not in faults.tokens):
                raise Refused(401, "Unauthorized", "Unauthorized")
            if not node:
                requests.append([self.command, path, json.dumps(query)])
                self.fail()
            found = self.api(path, query, body)
            if not node and faults.drop > 0:
                faults.drop -= 1
                return None
            return found

        def fail(self) -> None:
            if faults.count > 0:
                faults.count -= 1
                words = {403: ("Forbidden", "forbidden"), 503: ("ServiceUnavailable", "the server is currently unable")}
                raise Refused(faults.status, *words[faults.status])

        def api(self, path: str, query: dict[str, str], body: Object) -> Any:
            found = _PATH.fullmatch(path)
            if found is None or found["kind"] not in KINDS:
                raise Refused(404, "NotFound", "the server could not find the requested resource")
            if faults.strange404 > 0:
                faults.strange404 -= 1
                return self.strange()
            kind, namespace, name, sub = found["kind"], found["namespace"], found["name"], found["sub"]
            place = (kind, "" if kind == "nodes" else namespace or "", name or "")
            if sub == "log":
                return container_log(store, place, query)
            with store.lock:
                return self.store_answer(place, namespace, sub, query, body)

        def strange(self) -> None:
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            self.close_connection = True

        def store_answer(self, place: Any, namespace: str | None, sub: str | None, query: Any, body: Any) -> Any:
            kind, space, name = place
            if self.command == "POST" and sub == "binding":
                store.touch(store.get(*place))["spec"]["nodeName"] = body["target"]["name"]
                return {"kind": "Status", "status": "Success"}
            if self.command == "POST":
                return public(store.create(kind, space, body))
            if self.command == "DELETE":
                return public(store.delete(kind, space, name, body))
            if self.command == "PATCH":
                changed = store.get(*place)
                changed.update(merged(changed, {"status": body["status"]} if sub == "status" else body))
                return public(store.touch(changed))
            if name:
                return public(store.get(*place))
            return page(store.list(kind, namespace if kind != "nodes" else None, query.get("labelSelector", "")), query)

        def log_message(self, *_: object) -> None:
            return

    return Api


def page(found: list[Object], query: dict[str, str]) -> Object:
    """Return a list, or a part of it with the token for the next one, which a real server forgets after minutes."""
    begin = query.get("continue", "0")
    if begin == "expired":
        raise Refused(410, "Expired", "The provided continue parameter is too old")
    end = int(begin) + int(query.get("limit") or len(found) or 1)
    following = {"continue": str(end)} if end < len(found) else {}
    return {
        "kind": "List",
        "apiVersion": "v1",
        "metadata": following,
        "items": [public(each) for each in found[int(begin) : end]],
    }


def public(found: Object) -> Object:
    return {**found, "status": {key: value for key, value in (found.get("status") or {}).items() if key[0] != "_"}}


def container_log(store: Store, place: tuple[str, str, str], query: dict[str, str]) -> bytes:
    """Ask the node, as a real server does."""
    pod = store.get(*place)
    node = store.get("nodes", "", pod["spec"].get("nodeName") or "")
    port = node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"]
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=ssl._create_unverified_context(), timeout=30)
    connection.request("GET", f"/containerLogs/{place[1]}/{place[2]}/{query.get('container', '')}")
    answer = connection.getresponse()
    content = answer.read()
    if answer.status != 200:
        raise Refused(answer.status, "BadRequest", content.decode() or f'pods "{place[2]}" not found')
    return content


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("cert", "key", "token"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--port", type=int, default=0)
    given = parser.parse_args()
    store, faults = Store(), Faults(given.token)
    server = ThreadingHTTPServer(("127.0.0.1", given.port), handler(store, faults, []))
    server.daemon_threads = True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(given.cert, given.key)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=Controllers(store).work, daemon=True).start()
    print(json.dumps({"port": server.server_port}), flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
