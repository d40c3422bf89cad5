"""The caller's credentials in the hands of a task, whoever it is in its container, and in nobody else's."""

from __future__ import annotations

import os
import struct
import time
from typing import TYPE_CHECKING, Any

import pytest
from homes import IMAGES, push

from packtivity.runtimes.credentials import default_cache

if TYPE_CHECKING:
    from pathlib import Path

OUT = {"out": "{workdir}/out"}
LOOK = """
if [ -O "$X509_USER_PROXY" ]; then echo own; else echo "of another"; fi > {out}
ls -l "$X509_USER_PROXY" | cut -c 1-10 >> {out}
cat "$X509_USER_PROXY" >> {out}
"""


@pytest.fixture(scope="session")
def homes(engines: dict[str, str], lab_folder: Path) -> dict[str, str]:
    """The family of images, by name."""
    folder = lab_folder / "homes-credentials"
    folder.mkdir()
    return push(engines["PACKTIVITY_TEST_REGISTRY"], folder)


def private(lab: Any, path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    path.chmod(0o600)
    os.chown(path, lab.person.uid, lab.person.gid)
    return path


def ticket(ends: float) -> bytes:
    """Return a credential cache of version 4 with a ticket-granting ticket of nobody's."""

    def counted(data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + data

    def principal(*parts: bytes) -> bytes:
        return struct.pack(">II", 1, len(parts) - 1) + b"".join(map(counted, parts))

    who = principal(b"CERN.CH", b"ada")
    key = struct.pack(">H", 18) + counted(b"k" * 32)
    times = struct.pack(">IIII", int(time.time()), int(time.time()), int(ends), 0)
    rest = b"\0" + struct.pack(">III", 0, 0, 0) + counted(b"ticket") + counted(b"")
    return (
        b"\x05\x04"
        + struct.pack(">H", 0)
        + who
        + who
        + principal(b"CERN.CH", b"krbtgt", b"CERN.CH")
        + key
        + times
        + rest
    )


@pytest.mark.parametrize("name", [name for name in IMAGES if name in ("root", "atlas", "number")])
def test_a_proxy_is_the_task_s_own_and_closed_to_others(lab: Any, homes: dict[str, str], name: str) -> None:
    workdir = lab.workdir()
    proxy = private(lab, lab.folder / f"proxy-{name}", b"a proxy\n")
    lab.image = homes[name]
    spec = lab.spec(LOOK, resources=[{"voms_proxy": True}])
    done = lab.run(spec, OUT, workdir, env={"X509_USER_PROXY": str(proxy)})
    assert (done.code, done.err) == (0, ""), done
    assert (workdir / "out").read_text() == "own\n-rw-------\na proxy\n"
    status = proxy.stat()
    assert (status.st_uid, status.st_mode & 0o777) == (lab.person.uid, 0o600)


@pytest.mark.parametrize("name", ["root", "atlas"])
def test_tickets_in_a_cache_that_is_no_file_are_in_one_for_the_task(lab: Any, homes: dict[str, str], name: str) -> None:
    if default_cache() == "":
        pytest.skip("there is no Kerberos library here")
    workdir = lab.workdir()
    folder = lab.workdir("-tickets")
    folder.chmod(0o700)
    private(lab, folder / "primary", b"tkt\n")
    private(lab, folder / "tkt", ticket(time.time() + 7200))
    lab.image = homes[name]
    spec = lab.spec('cat "${{KRB5CCNAME#FILE:}}" > {out}', resources=["KRB5Auth"])
    env = {"KRB5CCNAME": f"DIR:{folder}", "PACKTIVITY_AUTH_LOCATION": "/nowhere"}
    done = lab.run(spec, OUT, workdir, env=env)
    assert (done.code, done.err) == (0, ""), done
    assert b"krbtgt" in (workdir / "out").read_bytes()
    printed = lab.run(spec, OUT, workdir, "--print-command", env=env)
    assert (printed.code, printed.err, "KRB5CCNAME=" in printed.out) == (0, "", False)


def test_the_directory_of_credentials_is_read_only(lab: Any) -> None:
    workdir, folder = lab.workdir(), lab.workdir("-auth")
    private(lab, folder / "getkrb.sh", b"echo set up\n")
    spec = lab.spec('sh "$KRB_SETUP_SCRIPT" > {out}; ! touch /recast_auth/x', resources=["KRB5Auth"])
    done = lab.run(spec, OUT, workdir, env={"PACKTIVITY_AUTH_LOCATION": str(folder), "KRB5CCNAME": "/nowhere"})
    assert (done.code, done.err) == (0, "")
    assert (workdir / "out").read_text() == "set up\n"
