"""Logins that tools keep are read for their registry only; what no registry tells cannot be locked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import requests

from packtivity.errors import EnvironmentUnavailable
from packtivity.runtimes.apptainer import Apptainer
from packtivity.runtimes.base import Host
from packtivity.runtimes.images import Image, digest_of
from packtivity.runtimes.oci_registry import describe, find_login

if TYPE_CHECKING:
    from pathlib import Path

HOST = Host(1000, 100, "ada")


@pytest.mark.parametrize(
    ("place", "variables"),
    [
        (".apptainer/docker-config.json", {}),
        (".docker/config.json", {}),
        ("elsewhere/config.json", {"DOCKER_CONFIG": "{home}/elsewhere"}),
        ("auth.json", {"REGISTRY_AUTH_FILE": "{home}/auth.json"}),
        ("run/containers/auth.json", {"XDG_RUNTIME_DIR": "{home}/run"}),
    ],
)
def test_a_login_is_found_where_each_tool_keeps_it(tmp_path: Path, place: str, variables: dict[str, str]) -> None:
    caller = {"HOME": str(tmp_path), **{name: text.format(home=tmp_path) for name, text in variables.items()}}
    assert find_login("registry.example", caller) == ""
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    kept = {"registry.example": {"auth": "bWU6d29yZA=="}, "https://index.docker.io/v1/": {"auth": "eDp5"}, "empty": {}}
    (tmp_path / place).write_text(json.dumps({"auths": kept}))
    assert find_login("registry.example", caller) == "bWU6d29yZA=="
    assert find_login("docker.io", caller) == "eDp5"
    assert find_login("empty", caller) == find_login("other.example", caller) == ""


@pytest.mark.parametrize("content", ["", "[]", "null", '{"auths": []}', '{"auths": {"r.example": "x"}}'])
def test_a_broken_file_of_logins_is_no_login(tmp_path: Path, content: str) -> None:
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".docker" / "config.json").write_text(content)
    assert find_login("r.example", {"HOME": str(tmp_path)}) == ""


def test_an_image_without_a_digest_cannot_be_locked() -> None:
    runtime = Apptainer(HOST)
    with pytest.raises(EnvironmentUnavailable, match="does not tell its digest"):
        digest_of(Image("r.example/x:1", "/cache/x.sif", identifier="file:1:2"), runtime)
    assert digest_of(Image("/images/x.sif", "/images/x.sif", identifier="file:1:2"), runtime) == "file:1:2"
    assert digest_of(Image("r.example/x:1", "/cache/x.sif", digest="sha256:1"), runtime) == "sha256:1"


@pytest.mark.parametrize(
    "manifest", [{"manifests": [{"digest": "sha256:1", "platform": {"os": "plan9", "architecture": "amd64"}}]}, [], "x"]
)
def test_an_index_without_this_machine_or_nonsense_tells_nothing(
    monkeypatch: pytest.MonkeyPatch, manifest: object
) -> None:
    def get(*_: object, **__: object) -> Any:
        answer = requests.Response()
        answer.status_code, answer._content = 200, json.dumps(manifest).encode()
        answer.headers["Docker-Content-Digest"] = "sha256:2"
        return answer

    monkeypatch.setattr(requests.Session, "get", get)
    assert describe("r.example/x:1") is None
