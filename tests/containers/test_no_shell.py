"""Images that have no ``sh``: what commands and scripts are run by is missing, unless the image's entry point is one."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from homes import BUSYBOX, ROOT

OUT = {"out": "{workdir}/out"}


@pytest.fixture(scope="session")
def bare(engines: dict[str, str], lab_folder: Path) -> dict[str, str]:
    """Images with one program: one without an entry point, and one whose entry point can be a shell."""
    rootfs, names = lab_folder / "bare.tar", {}
    with tarfile.open(BUSYBOX) as old, tarfile.open(rootfs, "w", format=tarfile.USTAR_FORMAT) as new:
        for entry in old:
            if entry.isdir() or entry.name.removeprefix("./") in ("bin/busybox", "etc/passwd", "etc/group"):
                new.addfile(entry, old.extractfile(entry) if entry.isreg() else None)
    for name, more in {"bare": (), "bare-entry": ("--entrypoint=/bin/busybox",)}.items():
        archive = lab_folder / f"{name}.image.tar"
        names[name] = f"{engines['PACKTIVITY_TEST_REGISTRY']}/test/{name}:1.0"
        make = [sys.executable, str(ROOT / "tools" / "make_image.py"), str(rootfs), names[name], str(archive), *more]
        subprocess.run([*make, "sh"], check=True)
        copy = ["skopeo", "copy", "-q", "--dest-tls-verify=false", f"docker-archive:{archive}"]
        subprocess.run([*copy, f"docker://{names[name]}"], check=True)
    return names


@pytest.mark.parametrize("as_script", [False, True])
def test_an_image_without_a_shell_is_an_error_that_says_so(lab: Any, bare: dict[str, str], as_script: bool) -> None:
    lab.image = bare["bare"]
    script = {"process_type": "interpolated-script-cmd", "script": "echo > {out}", "interpreter": "sh"}
    done = lab.run(lab.spec(script if as_script else "echo > {out}"), OUT, lab.workdir())
    assert done.code == 10, done
    assert "could not start the container" in done.err
    assert "The image has no shell (sh), which commands and scripts are run by" in done.err
    assert lab.containers() == []


def test_a_shell_that_the_entry_point_gives_is_enough(lab: Any, bare: dict[str, str]) -> None:
    if lab.kind == "apptainer":
        pytest.skip("Apptainer leaves entry points out")
    lab.image, workdir = bare["bare-entry"], lab.workdir()
    done = lab.run(lab.spec("echo seen > {out}"), OUT, workdir)
    assert (done.code, done.err) == (0, ""), done
    assert (workdir / "out").read_text() == "seen\n"
    assert (workdir / "out").stat().st_uid == lab.person.uid
