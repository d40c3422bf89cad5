"""How long credentials live, and what of them gets into a container."""

from __future__ import annotations

import base64
import json
import shutil
import struct
import subprocess
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from needs import missing

from packtivity.errors import EnvironmentUnavailable
from packtivity.runtimes.credentials import find, kerberos_end, proxy_end, token_end, with_credentials
from packtivity.runtimes.resources import Resources, not_applied, understand
from packtivity.types import Diagnostic, Execution, Limits, Mount

if TYPE_CHECKING:
    from pathlib import Path

NOW = 1_800_000_000


def counted(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def principal(*parts: bytes) -> bytes:
    return struct.pack(">II", 1, len(parts) - 1) + b"".join(map(counted, parts))


def credential(server: bytes, ends: int) -> bytes:
    return (
        principal(b"CERN.CH", b"ada")
        + principal(b"CERN.CH", *server.split(b"/"))
        + struct.pack(">H", 18)
        + counted(b"k" * 32)
        + struct.pack(">IIII", NOW, NOW, ends, 0)
        + b"\0"
        + struct.pack(">I", 0)
        + struct.pack(">I", 1)
        + struct.pack(">H", 2)
        + counted(b"address")
        + struct.pack(">I", 0)
        + counted(b"ticket")
        + counted(b"")
    )


def cache(*credentials: bytes) -> bytes:
    return b"\x05\x04" + struct.pack(">H", 12) + b"\0" * 12 + principal(b"CERN.CH", b"ada") + b"".join(credentials)


def test_the_end_of_a_kerberos_ticket() -> None:
    tickets = credential(b"host/lxplus", NOW + 1), credential(b"krbtgt/CERN.CH", NOW + 2)
    assert kerberos_end(cache(*tickets)) == NOW + 2
    assert kerberos_end(cache(tickets[0])) is None
    assert kerberos_end(b"") is None


@pytest.mark.parametrize("part", [b"krbtgt", b"CERN.CH\0\x12", b"k" * 32])
def test_a_damaged_cache_has_no_end(part: bytes) -> None:
    damaged = bytearray(cache(credential(b"krbtgt/CERN.CH", NOW + 2)))
    at = damaged.rindex(part) - 4
    damaged[at : at + 4] = b"\xff" * 4  # how long the name or key is
    assert kerberos_end(bytes(damaged)) is None


@given(st.binary(max_size=300))
def test_no_cache_makes_reading_fail(junk: bytes) -> None:
    kerberos_end(b"\x05\x04" + junk)
    kerberos_end(cache() + junk)
    proxy_end(b"-----BEGIN CERTIFICATE-----\n" + base64.b64encode(junk) + b"\n-----END CERTIFICATE-----\n")
    token_end(f"a.{base64.urlsafe_b64encode(junk).decode()}.c")


def test_the_end_of_a_proxy_is_that_of_its_first_certificate_to_expire(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        missing("openssl", "install it to make certificates")
    texts, ends = [], []
    for number, days in enumerate((30, 2)):
        file = tmp_path / f"{number}.pem"
        subject = [
            "-subj",
            f"/CN=ada {number}",
            "-days",
            str(days),
            "-keyout",
            str(tmp_path / "key"),
            "-out",
            str(file),
        ]
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject], check=True, capture_output=True
        )
        told = subprocess.run(
            ["openssl", "x509", "-enddate", "-noout", "-in", str(file)], capture_output=True, check=True
        )
        ends.append(
            time.mktime(time.strptime(told.stdout.decode().strip(), "notAfter=%b %d %H:%M:%S %Y GMT")) - time.timezone
        )
        texts.append(file.read_bytes())
    assert proxy_end(b"".join(texts)) == min(ends)


def token(ends: float) -> str:
    return "h." + base64.urlsafe_b64encode(json.dumps({"exp": ends}).encode()).decode().rstrip("=") + ".s"


def test_the_end_of_a_token() -> None:
    assert token_end(token(NOW)) == NOW
    assert token_end("opaque") is None
    assert token_end("a." + base64.urlsafe_b64encode(b"[]").decode() + ".c") is None


def test_what_is_here_is_found(tmp_path: Path) -> None:
    proxy = tmp_path / "proxy"
    proxy.write_text("")
    bearer = tmp_path / "bt_u7"
    bearer.write_text(token(NOW))
    found = find({"X509_USER_PROXY": str(proxy), "KRB5CCNAME": "KEYRING:x", "XDG_RUNTIME_DIR": str(tmp_path)}, 7)
    assert {kind: (c.path, c.ends) for kind, c in found.items()} == {
        "voms_proxy": (str(proxy), None),
        "token": (str(bearer), NOW),
    }
    assert found["token"].state(NOW - 720) == "expires in 12 minutes"
    assert found["token"].state(NOW) == "has expired"


def test_credentials_go_in_when_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = tmp_path / "proxy"
    proxy.write_text("")
    monkeypatch.setenv("X509_USER_PROXY", str(proxy))
    monkeypatch.setenv("BEARER_TOKEN", token(time.time() + 60))
    warned: list[Diagnostic] = []
    execution = with_credentials(Execution(("true",)), Resources(rucio=True), warned.append)
    inside = "/packtivity-credentials/x509_user_proxy"
    assert execution.mounts == (Mount(str(proxy), inside, readonly=True),)
    assert (execution.env, execution.pass_env) == ({"X509_USER_PROXY": inside}, ("BEARER_TOKEN",))
    assert [diagnostic.code for diagnostic in warned] == ["credential-expires"]
    assert with_credentials(Execution(("true",)), Resources()) == Execution(("true",))
    own = Execution(("true",), env={"X509_USER_PROXY": "/mine"})
    assert with_credentials(own, Resources(voms_proxy=True)).env == {"X509_USER_PROXY": "/mine"}


def test_an_expired_credential_stops_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEARER_TOKEN", token(1))
    with pytest.raises(EnvironmentUnavailable, match="bearer token that the task asks for has expired"):
        with_credentials(Execution(("true",)), Resources(kerberos=True))


@pytest.mark.parametrize(
    ("one", "other"), [(["KRB5Auth"], [{"kerberos": True}])],
)  # fmt: skip
def test_both_dialects_mean_the_same(one: list[object], other: list[object]) -> None:
    assert understand(one) == understand(other)


def test_resources_of_others_are_left_alone() -> None:
    assert understand(["Unknown", {"htcondor_max_runtime": "espresso"}, {"kerberos": False}, 3]) == Resources()
    grid = Resources(voms_proxy=True, authentication=True, uid=500, unpacked=True)
    assert understand(["GRIDProxy", {"kubernetes_uid": 500}, {"unpacked_img": True}]) == grid


def test_limits_for_kubernetes_are_told_where_they_are_not_set() -> None:
    resources = understand([{"kubernetes_memory_limit": "64Mi"}, {"kubernetes_cpu_limit": "500m"}])
    assert resources.limits == Limits(cpus=0.5, memory=64 << 20)
    warning = not_applied(resources, Execution(("true",), limits=Limits(memory=1 << 30)))
    assert warning is not None
    assert (warning.code, warning.hint) == ("limit-not-applied", "To set it here as well: --cpus spec")
    assert not_applied(resources, Execution(("true",), limits=resources.limits)) is None
    assert not_applied(understand([{"kubernetes_memory_request": "64Mi"}]), Execution(("true",))) is None
