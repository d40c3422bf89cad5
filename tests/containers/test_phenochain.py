"""The example chain publishes the same in a container, whose image a script makes from packages, as it does here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from needs import need_engine

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "phenochain"
ARCHIVE = Path("/var/lib/packtivity-engines/phenochain.tar")
EVENTS = "40"


def chain(folder: Path, env: dict[str, str]) -> dict[str, str]:
    env = {**os.environ, **env, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run([str(EXAMPLE / "run.sh"), str(folder), EVENTS], env=env, check=True, timeout=300)
    return {file.name: file.read_text().replace(str(folder), "OUT") for file in sorted(folder.glob("*.json"))}


@pytest.mark.xdist_group("podman-caller")
def test_in_a_container_as_here(caller: Any, lab_folder: Path) -> None:
    pytest.importorskip("chromo")
    need_engine(shutil.which("mmdebstrap"), "mmdebstrap")
    if os.getuid() != 0:
        pytest.skip("only root can make the image")
    sources = [EXAMPLE / "container" / "build.sh", EXAMPLE / "container" / "requirements.txt"]
    if not ARCHIVE.exists() or ARCHIVE.stat().st_mtime < max(source.stat().st_mtime for source in sources):
        subprocess.run([str(sources[0]), str(ARCHIVE)], env={**os.environ, "PYTHON": sys.executable}, check=True)
    subprocess.run(["podman", "load", "-q", "-i", str(ARCHIVE)], env=caller.env, check=True)
    choice = {"PACKTIVITY_CONTAINER_RUNTIME": "podman", "PACKTIVITY_NETWORK": "none"}
    inside = chain(lab_folder / "inside", {**caller.env, **choice, "PHENOCHAIN_SPECS": "container"})
    here = chain(lab_folder / "here", {})
    assert inside == here
    assert set(here) == {"generate.json", "cluster.json", "histogram.json"}
    pictures = [sorted(p.name for p in (lab_folder / which).rglob("*.png")) for which in ("inside", "here")]
    assert pictures[0] == pictures[1]
