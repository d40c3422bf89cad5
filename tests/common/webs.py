"""A web server on loopback whose answers a test chooses, and an Internet in which it has any name and address."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from needs import missing

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

Reply = Callable[["Handler"], None]


@dataclass
class Seen:
    """One request that came."""

    path: str
    headers: dict[str, str]


class Handler(BaseHTTPRequestHandler):
    """Answers from the routes of its server."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        web = self.server.web
        web.seen.append(Seen(self.path, {name.lower(): value for name, value in self.headers.items()}))
        reply = web.routes.get(self.path)
        if reply is None:
            self.answer(404, b"nothing here")
        elif callable(reply):
            reply(self)
        else:
            self.document(reply)

    def document(self, body: bytes) -> None:
        """Answer with a document, or that it has not changed."""
        etag = f'"{hash(body)}"'
        if self.server.web.etags and self.headers.get("If-None-Match") == etag:
            self.answer(304, b"", ETag=etag)
        else:
            self.answer(200, body, **({"ETag": etag} if self.server.web.etags else {}))

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        """Answer in one go; underscores in names of headers become hyphens."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    """Knows the routes, and closes without waiting for clients."""

    daemon_threads = True
    web: Web

    def handle_error(self, request: object, client_address: object) -> None:
        pass


@dataclass
class Web:
    """A running server: put bodies or functions into ``routes``, look into ``seen``."""

    url: str
    routes: dict[str, bytes | Reply] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    etags: bool = True

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def at(self, host: str) -> str:
        """Return the server's address under another name."""
        return self.url.replace("127.0.0.1", host)

    def paths(self) -> list[str]:
        return [one.path for one in self.seen]

    def logins(self) -> list[str | None]:
        return [one.headers.get("authorization") for one in self.seen]

    def tokens(self) -> list[str | None]:
        return [one.headers.get("private-token") for one in self.seen]


def endless(piece: bytes, most: int) -> tuple[Reply, list[int]]:
    """Return an answer that sends a piece again and again, ``most`` times at most, and the lengths of what was sent."""
    sent: list[int] = []

    def reply(handler: Handler) -> None:
        handler.send_response(200)
        handler.end_headers()
        for _ in range(most):
            handler.wfile.write(piece)
            sent.append(len(piece))

    return reply, sent


def serve(context: ssl.SSLContext | None = None) -> Iterator[Web]:
    """Yield a running server; with ``context`` it speaks TLS."""
    server = Server(("127.0.0.1", 0), Handler)
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    web = Web(f"{'https' if context else 'http'}://127.0.0.1:{server.server_port}")
    server.web = web
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield web
    server.shutdown()
    server.server_close()
    thread.join()


class Internet:
    """Names and addresses for servers that are all on loopback: only the system's look-up and connect are replaced.

    :ivar names: what each name stands for; a list of lists has one for each look-up, the last one for good.
    :ivar ports: which port of this machine stands for one of an address.
    :ivar dead: addresses where nobody answers.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: dict[str, list[Any]] = {}
        self.ports: dict[int, int] = {}
        self.dead: set[str] = set()
        self.connected: list[str] = []
        self._getaddrinfo, self._connect = socket.getaddrinfo, socket.socket.connect
        monkeypatch.setattr(socket, "getaddrinfo", self.getaddrinfo)

        def connect(sock: socket.socket, address: Any) -> None:
            return self.connect(sock, address)

        monkeypatch.setattr(socket.socket, "connect", connect)

    def getaddrinfo(self, host: Any, port: Any, *arguments: Any, **more: Any) -> list[Any]:
        name = host.decode() if isinstance(host, bytes) else str(host)
        if name.endswith(".example") and name not in self.names:
            raise socket.gaierror(-2, "Name or service not known")
        if name not in self.names:
            return self._getaddrinfo(host, port, *arguments, **more)
        found = self.names[name]
        if isinstance(found[0], list):
            found = found.pop(0) if len(found) > 1 else found[0]
        return [entry for one in found for entry in self._getaddrinfo(one, port, type=socket.SOCK_STREAM)]

    def connect(self, sock: socket.socket, address: Any) -> None:
        if sock.family not in (socket.AF_INET, socket.AF_INET6):
            return self._connect(sock, address)
        self.connected.append(address[0])
        if address[0] in self.dead:
            raise ConnectionRefusedError(111, "Connection refused")
        here = "127.0.0.1" if sock.family == socket.AF_INET else "::ffff:127.0.0.1"
        return self._connect(sock, (here, self.ports.get(address[1], address[1])))


def certified(folder: Path, *names: str) -> tuple[ssl.SSLContext, Path]:
    """Return a server's side of TLS for some names, and the file of the authority that vouches for it."""
    if not shutil.which("openssl"):
        missing("openssl", "install it to make certificates")
    key, certificate = folder / "key.pem", folder / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=tests"]
    alternatives = ",".join(f"DNS:{name}" for name in names)
    command += ["-addext", f"subjectAltName={alternatives}", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, capture_output=True, check=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context, certificate
