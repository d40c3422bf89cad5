"""A registry that wants a name and a password: one logs in with the tool itself, and nothing else changes."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from needs import need_engine

if TYPE_CHECKING:
    from collections.abc import Iterator

PASSWORD = "secret word"
ENCRYPTED = "me:$2a$05$puDD1ZFgluH2j/BWCAvj1ecyaSqninT.CT/ens99995SOhbbKQGye\n"
OUT = {"out": "{workdir}/out"}
ARCHIVE = Path("/var/lib/packtivity-engines/busybox.image.tar")


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


@pytest.fixture
def private(lab: Any, tmp_path: Path) -> Iterator[str]:
    """A registry with one image, that only ``me`` may have."""
    for program in ("docker-registry", "skopeo"):
        need_engine(shutil.which(program), program)
    address = f"127.0.0.1:{free_port()}"
    (tmp_path / "passwords").write_text(ENCRYPTED)
    settings = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(tmp_path / "data")}},
        "http": {"addr": address, "secret": "x"},
        "auth": {"htpasswd": {"realm": "test", "path": str(tmp_path / "passwords")}},
    }
    (tmp_path / "settings.yml").write_text(json.dumps(settings))
    server = subprocess.Popen(["docker-registry", "serve", tmp_path / "settings.yml"], stderr=subprocess.DEVNULL)
    try:
        push = ["skopeo", "copy", "-q", "--dest-tls-verify=false", "--dest-creds", f"me:{PASSWORD}"]
        target = [f"docker-archive:{ARCHIVE}", f"docker://{address}/of/mine:1.0"]
        deadline = time.monotonic() + 20
        while subprocess.run([*push, *target], check=False).returncode and time.monotonic() < deadline:
            time.sleep(0.2)
        yield address
    finally:
        lab.person.run([lab.tool, "rmi", "-f", f"{address}/of/mine:1.0"]) if lab.kind != "apptainer" else None
        server.kill()
        server.wait()


def at_home(lab: Any, address: str) -> dict[str, str]:
    """Give somebody a home with nobody's logins, and a Podman that speaks to the registry without encryption."""
    home = lab.workdir("home")
    registries = home / "registries.conf"
    registries.write_text(f'[[registry]]\nlocation = "{address}"\ninsecure = true\n')
    found = {
        "HOME": str(home),
        "XDG_RUNTIME_DIR": lab.person.env.get("XDG_RUNTIME_DIR", str(home)),
        "CONTAINERS_REGISTRIES_CONF": str(registries),
        "PACKTIVITY_CACHE_DIR": str(home / "cache"),
    }
    if lab.tool == "podman" and lab.person.uid != 0:
        # Its images lie at home, where the file system can hold them; only logins are to be nobody's.
        logins = home / "auth.json"
        logins.write_text("{}")
        os.chown(logins, lab.person.uid, lab.person.gid)
        found |= {"HOME": lab.person.env["HOME"], "REGISTRY_AUTH_FILE": str(logins)}
    return found


def log_in(lab: Any, address: str, env: dict[str, str]) -> None:
    words, where = {
        "docker": (["docker", "login"], address),
        "podman": (["podman", "login", "--tls-verify=false"], address),
        "apptainer": (["apptainer", "registry", "login"], f"docker://{address}"),
    }[lab.kind]
    whom = ["--username", "me", "--password", PASSWORD]
    done = lab.person.run([*words, *whom, where], env={**lab.person.env, **env})
    assert done.returncode == 0, done.stderr


def test_a_private_image_is_had_after_logging_in_with_the_tool(lab: Any, private: str) -> None:
    lab.extra = at_home(lab, private)
    workdir, lock = lab.workdir(), str(lab.folder / "packtivity.lock")
    spec = lab.spec("echo mine > {out}", image=f"{private}/of/mine")
    refused = lab.run(spec, OUT, workdir)
    assert refused.code == 10
    assert f"{lab.tool} " in refused.err
    words = "registry login docker://REGISTRY" if lab.kind == "apptainer" else "login REGISTRY"
    assert f"log in with the tool itself: {lab.tool} {words}\n" in refused.err
    log_in(lab, private, lab.extra)
    done = lab.run(spec, OUT, workdir)
    assert (done.code, done.err) == (0, "")
    assert (workdir / "out").read_text() == "mine\n"
    assert done.note["digest"].startswith("sha256:")
    spec_file = lab.folder / "spec.json"
    spec_file.write_text(json.dumps(spec))
    code = "from packtivity.cli.declarations import lock; lock()"
    written = lab.program(code, "--runtime", lab.tool, "--lockfile", lock, str(spec_file))
    assert written.returncode == 0, written.stderr
    assert lab.run(spec, OUT, workdir, "--locked", "--lockfile", lock).code == 0
    for path in [*workdir.rglob("*"), lab.folder / "packtivity.lock"]:
        assert not path.is_file() or PASSWORD not in path.read_text(errors="replace"), os.fspath(path)
