"""A spec chooses the registry, and the registry where it leads: neither gets the user's login for another, nor reaches inside."""

from __future__ import annotations

import base64
import json
import os
import time
from typing import TYPE_CHECKING, Any

import pytest
from webs import Web, certified, endless, serve

from packtivity.runtimes.oci_registry import describe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from webs import Handler, Internet

LOGIN = base64.b64encode(b"ada:word").decode()
BASIC = f"Basic {LOGIN}"
DIGEST, CONFIG, LAYER = (f"sha256:{letter * 64}" for letter in "abc")
PUBLIC, ELSEWHERE = "93.184.216.34", "93.184.216.35"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Write the logins that a container tool keeps, and ``~/.netrc``."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "NETRC"):
        monkeypatch.delenv(name, raising=False)

    def write(*registries: str, netrc: str = "") -> None:
        (tmp_path / ".docker").mkdir(exist_ok=True)
        kept = {"auths": {registry: {"auth": LOGIN} for registry in registries}}
        (tmp_path / ".docker" / "config.json").write_text(json.dumps(kept))
        (tmp_path / ".netrc").write_text(f"machine {netrc} login ada password other\n" if netrc else "")
        (tmp_path / ".netrc").chmod(0o600)

    return write


NAMES = ("registry.example", "thief.example", "registry.gitlab.com", "gitlab.com", "public.example")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return certified(tmp_path_factory.mktemp("tls"), *NAMES)


@pytest.fixture
def secure(authority: Any, internet: Internet, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    """A server with TLS, at public addresses under all of the names."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority[1]))
    for name in NAMES:
        internet.names[name] = [PUBLIC]
    yield from serve(authority[0])


@pytest.fixture
def thief(authority: Any, secure: Web) -> Iterator[Web]:
    """Another such server, which would like to have logins."""
    for web in serve(authority[0]):
        token = json.dumps({"token": "of-the-thief"}).encode()
        web.routes["/token?service=r"] = token
        yield web


@pytest.fixture
def registry() -> Iterator[Web]:
    """A registry on this machine, which is spoken to without TLS."""
    yield from serve()


def image(web: Web, host: str = "127.0.0.1") -> str:
    return f"{host}:{web.port}/me/image:1"


def holds_image(web: Web, allowed: Callable[[str], bool] = lambda _: True, challenge: str = "", **more: Any) -> None:
    """Let a server have ``me/image:1`` for those whose ``Authorization`` is good enough."""

    def guarded(body: bytes, **headers: str) -> Any:
        def reply(handler: Handler) -> None:
            if allowed(handler.headers.get("Authorization") or ""):
                handler.answer(200, body, **headers)
            else:
                handler.answer(401, b"{}", WWW_Authenticate=challenge)

        return reply

    manifest = {"config": {"digest": CONFIG}, **more}
    web.routes["/v2/me/image/manifests/1"] = guarded(json.dumps(manifest).encode(), Docker_Content_Digest=DIGEST)
    web.routes[f"/v2/me/image/blobs/{CONFIG}"] = guarded(json.dumps({"config": {"WorkingDir": "/work"}}).encode())


# --- logins ------------------------------------------------------------------------------------------------------


def facts(reference: str) -> tuple[str, str] | None:
    found = describe(reference)
    return found and (found.digest, found.workdir)


def test_a_realm_elsewhere_gets_no_login(registry: Web, thief: Web, home: Callable[..., None]) -> None:
    home(f"127.0.0.1:{registry.port}")
    realm = f"{thief.at('thief.example')}/token"
    holds_image(registry, bool, f'Bearer realm="{realm}",service="r"')
    assert facts(image(registry)) == (DIGEST, "/work")
    assert thief.logins() == [None]
    assert registry.logins() == [None, "Bearer of-the-thief", "Bearer of-the-thief"]


@pytest.mark.parametrize("scheme", ["basic", "bearer"])
def test_who_a_registry_redirects_to_cannot_ask_for_its_login(
    registry: Web, thief: Web, home: Callable[..., None], scheme: str
) -> None:
    home(f"127.0.0.1:{registry.port}")
    there = thief.at("thief.example")
    registry.routes["/v2/me/image/manifests/1"] = lambda handler: handler.answer(302, b"", Location=f"{there}/blob")
    challenge = 'Basic realm="x"' if scheme == "basic" else f'Bearer realm="{there}/token",service="r"'
    thief.routes["/blob"] = lambda handler: handler.answer(401, b"{}", WWW_Authenticate=challenge)
    assert describe(image(registry)) is None
    assert thief.paths() == ["/blob"]
    assert BASIC not in [*thief.logins(), *registry.logins()]


def test_a_redirect_does_not_take_the_login_along(registry: Web, thief: Web, home: Callable[..., None]) -> None:
    home(f"127.0.0.1:{registry.port}", netrc="thief.example")
    holds_image(registry, lambda login: login == BASIC, 'Basic realm="x"')
    there = thief.at("thief.example")
    registry.routes[f"/v2/me/image/blobs/{CONFIG}"] = lambda handler: handler.answer(307, b"", Location=f"{there}/blob")
    thief.routes["/blob"] = b'{"config": {"WorkingDir": "/there"}}'
    assert facts(image(registry)) == (DIGEST, "/there")
    assert thief.logins() == [None]


def test_the_registry_itself_gets_its_login_as_the_realm_too(registry: Web, home: Callable[..., None]) -> None:
    home(f"127.0.0.1:{registry.port}")
    registry.routes["/token?service=r&scope=repository%3Ame%2Fimage%3Apull"] = b'{"access_token": "good"}'
    scope = 'service="r",scope="repository:me/image:pull"'
    holds_image(registry, lambda login: login == "Bearer good", f'Bearer realm="{registry.url}/token",{scope}')
    assert facts(image(registry)) == (DIGEST, "/work")
    assert registry.logins() == [None, BASIC, "Bearer good", "Bearer good"]


def test_a_token_service_that_the_user_names_gets_the_login(
    registry: Web, thief: Web, home: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    home(f"127.0.0.1:{registry.port}")
    holds_image(registry, bool, f'Bearer realm="{thief.at("thief.example")}/token",service="r"')
    for other in (f"other:1=thief.example:{thief.port}", f"127.0.0.1:{registry.port}=thief.example"):
        monkeypatch.setenv("PACKTIVITY_REGISTRY_LOGINS", other)
        describe(image(registry))
    assert thief.logins() == [None, None]
    monkeypatch.setenv("PACKTIVITY_REGISTRY_LOGINS", f"x=y, 127.0.0.1:{registry.port}=thief.example:{thief.port}")
    describe(image(registry))
    assert thief.logins()[2:] == [BASIC]


def test_a_token_service_that_is_known_to_be_the_registrys_gets_the_login(
    secure: Web, thief: Web, internet: Internet, home: Callable[..., None]
) -> None:
    home("registry.gitlab.com")
    internet.names["gitlab.com"] = [ELSEWHERE]
    holds_image(secure, bool, 'Bearer realm="https://gitlab.com/token",service="r"')
    _at_443(internet, {PUBLIC: secure, ELSEWHERE: thief})
    assert facts("registry.gitlab.com/me/image:1") == (DIGEST, "/work")
    assert thief.logins() == [BASIC]


def _at_443(internet: Internet, webs: dict[str, Web]) -> None:
    connect = internet.connect

    def by_address(sock: Any, address: Any) -> None:
        internet.ports = {443: webs[address[0]].port} if address[0] in webs else {}
        connect(sock, address)

    internet.connect = by_address  # type: ignore[method-assign]


def test_netrc_is_not_for_the_registry_that_a_spec_names(registry: Web, home: Callable[..., None]) -> None:
    home(netrc="127.0.0.1")
    holds_image(registry)
    assert facts(image(registry)) == (DIGEST, "/work")
    assert registry.logins() == [None, None]


# --- addresses ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["redirect", "realm", "redirect of the realm"])
def test_a_public_registry_does_not_lead_into_the_private_network(
    secure: Web, thief: Web, internet: Internet, home: Callable[..., None], how: str
) -> None:
    home()
    internet.names["thief.example"] = ["10.1.2.3"]
    inside = f"{thief.at('thief.example')}/token"
    if how == "redirect":
        secure.routes["/v2/me/image/manifests/1"] = lambda handler: handler.answer(302, b"", Location=inside)
    else:
        realm = inside if how == "realm" else f"{secure.at('public.example')}/token"
        holds_image(secure, bool, f'Bearer realm="{realm}",service="r"')
        secure.routes["/token?service=r"] = lambda handler: handler.answer(302, b"", Location=f"{inside}?service=r")
    assert describe(image(secure, "registry.example")) is None
    assert thief.seen == []
    assert set(internet.connected) == {PUBLIC}


def test_a_public_registry_does_not_lead_out_of_tls(secure: Web, registry: Web, home: Callable[..., None]) -> None:
    home()
    holds_image(registry)
    there = f"http://public.example:{registry.port}/v2/me/image/manifests/1"
    secure.routes["/v2/me/image/manifests/1"] = lambda handler: handler.answer(302, b"", Location=there)
    assert describe(image(secure, "registry.example")) is None
    assert registry.seen == []


def test_a_registry_in_the_private_network_keeps_its_layers_there(
    secure: Web, thief: Web, internet: Internet, home: Callable[..., None]
) -> None:
    home()
    internet.names["registry.example"], internet.names["thief.example"] = ["10.1.2.3"], ["10.1.2.4"]
    holds_image(secure)
    there = f"{thief.at('thief.example')}/layer"
    secure.routes[f"/v2/me/image/blobs/{CONFIG}"] = lambda handler: handler.answer(302, b"", Location=there)
    thief.routes["/layer"] = b'{"config": {"WorkingDir": "/there"}}'
    assert facts(image(secure, "registry.example")) == (DIGEST, "/there")


# --- what a registry tells ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "told", ["../../other/private", f"{CONFIG}/../../../../other", f"{CONFIG}?x", "sha256:short", "", " --flag", None]
)
def test_what_is_no_digest_becomes_no_part_of_an_address_or_a_command(
    registry: Web, home: Callable[..., None], told: Any
) -> None:
    home()
    holds_image(registry, config={"digest": told})
    assert describe(image(registry)) is None
    assert registry.paths() == ["/v2/me/image/manifests/1"]
    holds_image(registry)
    body = json.dumps({"config": {"digest": CONFIG}}).encode()
    header = {"Docker_Content_Digest": str(told)}
    registry.routes["/v2/me/image/manifests/1"] = lambda handler: handler.answer(200, body, **header)
    assert describe(image(registry)) is None
    inner = {"digest": told, "platform": {"os": "linux", "architecture": _architecture()}}
    holds_image(registry, manifests=[inner])
    registry.seen.clear()
    assert describe(image(registry)) is None
    assert registry.paths() == ["/v2/me/image/manifests/1"]


def _architecture() -> str:
    machine = os.uname().machine
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


def test_a_registry_that_sends_without_end_is_cut_off(registry: Web, home: Callable[..., None]) -> None:
    home()
    registry.routes["/v2/me/image/manifests/1"], sent = endless(b"[" * 10_000, 10_000)
    assert describe(image(registry)) is None
    assert sum(sent) < 50_000_000


@pytest.mark.parametrize("part", ["headers", "body"])
def test_a_registry_that_trickles_is_cut_off(
    registry: Web, home: Callable[..., None], monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    home()
    monkeypatch.setenv("PACKTIVITY_DOWNLOAD_TIMEOUT", "0.5")

    def trickle(handler: Handler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + (b"" if part == "headers" else b"\r\n"))
        for _ in range(60):
            handler.wfile.write(b"X: y\r\n" if part == "headers" else b" ")
            time.sleep(0.1)

    registry.routes["/v2/me/image/manifests/1"] = trickle
    began = time.monotonic()
    assert describe(image(registry)) is None
    assert time.monotonic() - began < 4
