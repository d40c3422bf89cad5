"""A server on loopback that plays GitHub's raw host and GitLab's files API."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from packtivity.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

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

    def paths(self) -> list[str]:
        return [one.path for one in self.seen]

    def tokens(self) -> list[str | None]:
        return [one.headers.get("private-token") for one in self.seen]


def _serve() -> Iterator[Web]:
    server = Server(("127.0.0.1", 0), Handler)
    web = Web(f"http://127.0.0.1:{server.server_port}")
    server.web = web
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield web
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def web() -> Iterator[Web]:
    """A server that can be GitHub, GitLab or anything else."""
    yield from _serve()


@pytest.fixture
def other_web() -> Iterator[Web]:
    """A second server: another port is another host as far as tokens are concerned."""
    yield from _serve()


@pytest.fixture
def remote(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Settings]:
    """Settings under which ``web`` is both GitHub and GitLab, and the cache is this test's own."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)

    def settings(**changes: object) -> Settings:
        given = {"github_raw_host": web.url, "gitlab_host": web.url, "cache_dir": str(tmp_path / "cache")}
        return Settings(**{**given, "download_timeout": 5.0, **changes})  # type: ignore[arg-type]

    return settings


@pytest.fixture(scope="session")
def upstream(converse: Callable[[str], Callable[[dict[str, str]], Any]]) -> Callable[[dict[str, str]], Any]:
    """Ask packtivity 0.17.1's loader; see ``tests/oracles/loading.py``."""
    return converse("loading.py")
