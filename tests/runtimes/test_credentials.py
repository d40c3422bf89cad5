"""How long credentials live, and what of them gets into a container."""

from __future__ import annotations

import base64
import json
import shutil
import struct
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from needs import missing

from packtivity.errors import EnvironmentUnavailable
from packtivity.runtimes.credentials import (
    copied,
    copy_cache,
    default_cache,
    find,
    kerberos_end,
    proxy_end,
    token_end,
    with_credentials,
    without_caches,
)
from packtivity.runtimes.resources import Resources, not_applied, understand
from packtivity.types import Diagnostic, Execution, Limits, Mount

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
    found = find(
        {"X509_USER_PROXY": str(proxy), "KRB5CCNAME": "KEYRING:none-of-that-name", "XDG_RUNTIME_DIR": str(tmp_path)}, 7
    )
    assert {kind: (c.source, c.ends) for kind, c in found.items()} == {
        "voms_proxy": (str(proxy), None),
        "token": (str(bearer), NOW),
    }
    assert found["token"].state(NOW - 720) == "expires in 12 minutes"
    assert found["token"].state(NOW) == "has expired"


DIRECTORY = Mount("/home/recast/recast_auth", "/recast_auth", readonly=True)


@pytest.fixture
def nothing_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the caller have no credential at all."""
    for variable in ("BEARER_TOKEN", "BEARER_TOKEN_FILE"):
        monkeypatch.delenv(variable, raising=False)
    for variable in ("KRB5CCNAME", "X509_USER_PROXY"):
        monkeypatch.setenv(variable, str(tmp_path / "none"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


def given_to(
    resources: Resources, mounts: tuple[Mount, ...] = (), env: dict[str, str] | None = None
) -> tuple[Execution, list[str]]:
    """Return what a task would get, and the codes of the warnings."""
    warned: list[Diagnostic] = []
    execution = with_credentials(
        Execution(("true",), env=env or {}, mounts=mounts), resources, DIRECTORY, warned.append
    )
    return execution, [diagnostic.code for diagnostic in warned]


def ticket(path: Path, ends: float) -> Path:
    path.write_bytes(cache(credential(b"krbtgt/CERN.CH", int(ends))))
    return path


def test_credentials_go_in_when_asked_for(nothing_here: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = tmp_path / "proxy"
    proxy.write_text("")
    monkeypatch.setenv("X509_USER_PROXY", str(proxy))
    monkeypatch.setenv("BEARER_TOKEN", token(time.time() + 60))
    execution, warned = given_to(Resources(rucio=True))
    inside = "/packtivity-credentials/x509_user_proxy"
    assert execution.mounts == (Mount(str(proxy), inside, readonly=True),)
    assert (execution.env, execution.pass_env) == ({"X509_USER_PROXY": inside}, ("BEARER_TOKEN",))
    assert warned == ["credential-expires"]
    assert given_to(Resources()) == (Execution(("true",)), [])
    own, _ = given_to(Resources(voms_proxy=True), env={"X509_USER_PROXY": "/mine"})
    assert own.env == {"X509_USER_PROXY": "/mine"}


KERBEROS = Resources(kerberos=True, authentication=True)


def test_a_ticket_is_enough_without_the_directory(
    nothing_here: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KRB5CCNAME", f"FILE:{ticket(tmp_path / 'cc', time.time() + 7200)}")
    execution, warned = given_to(KERBEROS)
    assert warned == []
    assert execution.env == {"KRB5CCNAME": "FILE:/packtivity-credentials/krb5ccname"}


def test_the_directory_is_enough_beside_an_expired_ticket(
    nothing_here: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KRB5CCNAME", str(ticket(tmp_path / "cc", 1)))
    assert given_to(KERBEROS, (DIRECTORY,)) == (Execution(("true",), mounts=(DIRECTORY,)), ["credential-expired"])


def test_without_a_usable_one_the_task_runs_and_what_was_looked_for_is_said(
    nothing_here: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert given_to(KERBEROS) == (Execution(("true",)), ["credential-missing"])
    monkeypatch.setenv("BEARER_TOKEN", token(1))
    assert given_to(KERBEROS)[1] == ["credential-expired", "credential-missing"]
    warned: list[Diagnostic] = []
    with_credentials(Execution(("true",)), replace(KERBEROS, voms_proxy=True), DIRECTORY, warned.append)
    assert warned[-1].message == (
        "the task asks for credentials, and there is no Kerberos ticket or grid proxy that can be used, "
        "nor /home/recast/recast_auth"
    )
    assert warned[-1].hint.startswith("Get one with kinit or voms-proxy-init, or ")


def test_a_ticket_cache_that_is_no_file_is_copied_for_the_task(
    nothing_here: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if default_cache() == "":
        missing("libkrb5", "install the Kerberos library")
    (tmp_path / "dir").mkdir(mode=0o700)
    (tmp_path / "dir" / "primary").write_text("tkt\n")
    ticket(tmp_path / "dir" / "tkt", time.time() + 7200)
    name = f"DIR:{tmp_path}/dir"
    monkeypatch.setenv("KRB5CCNAME", name)
    execution, warned = given_to(KERBEROS)
    assert (execution.mounts[0].source, warned) == (name, [])
    assert without_caches(execution) == Execution(("true",))  # a command line has nothing to mount
    (tmp_path / "private").mkdir()
    ready, copies = copied(execution, str(tmp_path / "private"), every=False)
    assert ready.mounts == (execution.mounts[0]._replace(source=copies[0]),)
    content = Path(copies[0]).read_bytes()
    assert abs((kerberos_end(content) or 0) - time.time() - 7200) < 60
    assert Path(copies[0]).stat().st_mode & 0o777 == 0o600
    shutil.rmtree(tmp_path / "dir")
    with pytest.raises(EnvironmentUnavailable, match="DIR:"):
        copy_cache(name, str(tmp_path / "gone"))
    assert given_to(KERBEROS)[1] == ["credential-missing"]


def test_files_are_copied_only_for_another_user(
    nothing_here: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("X509_USER_PROXY", str(ticket(tmp_path / "proxy", 0)))
    execution, _ = given_to(Resources(voms_proxy=True))
    assert copied(execution, str(tmp_path), every=False) == (execution, [])
    ready, copies = copied(execution, str(tmp_path), every=True)
    assert copies == [f"{tmp_path}/x509_user_proxy"] == [mount.source for mount in ready.mounts]
    assert Path(copies[0]).read_bytes() == (tmp_path / "proxy").read_bytes()


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
