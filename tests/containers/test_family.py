"""Tasks of the family on Docker, with this package and with packtivity 0.17.1's own call: the same results and files.

What differs on purpose stands in ``tests/family/differences.json`` at the stage ``engine``, with what comes out here.
"""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from family import differences, members
from needs import need_engine

ROOT = Path(__file__).resolve().parents[2]
BUSYBOX = Path("/var/lib/packtivity-engines/busybox.tar")
PROGRAM = ROOT / "tests" / "oracles" / "family.py"
PASSWD = "root:x:0:0:root:/root:/bin/sh\nanalyst:x:500:500:analyst:/home/analyst:/bin/sh\n"
# What images have for the tasks of `specs/images.yml`: name, text, mode, owner.
HOME = (
    ("root/calibration.txt", "jet energy scale\n", 0o644, 0),
    ("root/.bashrc", "export GENERATOR=lund\n", 0o644, 0),
    ("release_setup.sh", "export RELEASE=21.2\n", 0o644, 0),
    ("analysis/select.sh", '#!/bin/sh\necho "selected above $1" > selected.txt\n', 0o755, 0),
)
ANALYST = (
    ("etc/passwd", PASSWD, 0o644, 0),
    ("home/analyst/release_setup.sh", "export RELEASE=22.0\n", 0o644, 500),
)
# The original leaves a task to the image's user, who may not write into a work directory of the caller's.
FAIL = {"fails_in_a_container", "user_of_the_image"}
ENGINE = [name for name, member in members().items() if member.engine]


def with_files(out: Path, added: tuple[tuple[str, str, int, int], ...]) -> None:
    """Write the root file system of the test image again, with more files, in folders that belong to their owners."""
    folders = {str(Path(name).parent): owner for name, _, _, owner in added if name.count("/") and "etc" not in name}
    replaced = {name for name, *_ in added} | set(folders)  # an image with two entries of one name is refused
    with tarfile.open(BUSYBOX) as old, tarfile.open(out, "w", format=tarfile.USTAR_FORMAT) as new:
        for entry in old:
            if entry.name.removeprefix("./") not in replaced:
                new.addfile(entry, old.extractfile(entry) if entry.isreg() else None)
        for name, owner in folders.items():
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode, folder.uid, folder.gid = tarfile.DIRTYPE, 0o755, owner, owner
            new.addfile(folder)
        for name, text, mode, owner in added:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.uid, entry.gid = len(text), mode, owner, owner
            new.addfile(entry, io.BytesIO(text.encode()))


@pytest.fixture(scope="module")
def images(engines: dict[str, str], lab_folder: Path) -> dict[str, str]:
    """Images by their names in specs; those with a home of their own are made here."""
    need_engine(shutil.which("docker"), "docker")
    registry = engines["PACKTIVITY_TEST_REGISTRY"]
    for name, added, user in (("family-home", HOME, ""), ("family-analyst", ANALYST, "analyst")):
        rootfs, archive, tag = (
            lab_folder / f"{name}.tar",
            lab_folder / f"{name}.image.tar",
            f"{registry}/test/{name}:1.0",
        )
        with_files(rootfs, added)
        make = [sys.executable, str(ROOT / "tools" / "make_image.py"), str(rootfs), tag, str(archive)]
        subprocess.run([*make, "--workdir", "/srv", "--user", user, "sh"], check=True)
        copy = ["skopeo", "copy", "-q", "--dest-tls-verify=false", f"docker-archive:{archive}", f"docker://{tag}"]
        subprocess.run(copy, check=True)
    return {
        "test/busybox:1.0": f"{registry}/test/busybox:1.0",
        "test/python:1.0": f"{registry}/test/python:1.0",
        "physics/home:1.0": f"{registry}/test/family-home:1.0",
        "physics/analyst:1.0": f"{registry}/test/family-analyst:1.0",
    }


def outcomes(python: str, caller: Any, images: dict[str, str], folder: Path) -> dict[str, Any]:
    """Run all tasks with one package, in one process."""
    env = {**caller.env, "PACKTIVITY_CONTAINER_RUNTIME": "docker", "PACKTIVITY_LOGGING_STREAM_LEVEL": "CRITICAL"}
    folder.mkdir()
    argv = [python, "-I", str(PROGRAM), str(folder)]
    done = subprocess.run(argv, input=json.dumps(images).encode(), stdout=subprocess.PIPE, env=env, cwd="/", check=True)
    return dict(json.loads(line) for line in done.stdout.splitlines())


@pytest.fixture(scope="module")
def theirs(oracle: str, caller: Any, images: dict[str, str], lab_folder: Path) -> dict[str, Any]:
    """What becomes of the tasks with the original."""
    return outcomes(oracle, caller, images, lab_folder / "family-theirs")


@pytest.fixture(scope="module")
def ours(caller: Any, images: dict[str, str], lab_folder: Path) -> dict[str, Any]:
    """What becomes of the tasks here."""
    return outcomes(sys.executable, caller, images, lab_folder / "family-ours")


@pytest.mark.parametrize("name", ENGINE)
def test_a_task_does_on_docker_what_it_did_with_the_original(theirs: Any, ours: Any, name: str) -> None:
    listed = differences().get(name, {}).get("engine")
    assert ("error" in theirs[name]["published"]) == (name in FAIL), theirs[name]
    shown = f"{theirs[name]} there, {ours[name]} here"
    assert agree(theirs[name], ours[name]) == (listed is None), shown
    assert listed is None or briefly(ours[name]) == listed, shown


def agree(theirs: dict[str, Any], ours: dict[str, Any]) -> bool:
    """Tell whether files and results are the same, or the error one that who catches the original's catches, too."""
    wanted, found = theirs["published"], ours["published"]
    caught = "error" in wanted and "error" in found and wanted["error"][0] in found["error"]
    return (caught or found == wanted) and theirs["files"] == ours["files"]


def briefly(outcome: dict[str, Any]) -> dict[str, Any]:
    published = outcome["published"]
    return {**outcome, "published": {"error": published["error"][:1]} if "error" in published else published}
