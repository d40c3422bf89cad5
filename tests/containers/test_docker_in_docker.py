"""packtivity inside a container that speaks to the daemon outside, where directories have other names."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

PARAMETERS = {"out": "{workdir}/out", "given": "{readdir0}/given"}


@pytest.fixture
def daemon(engines: dict[str, str]) -> str:
    return engines["DOCKER_HOST"].removeprefix("unix://")


@pytest.mark.parametrize("lab", ["docker-caller"], indirect=True)
def test_a_task_writes_and_reads_in_directories_that_are_called_otherwise_outside(lab: Any, daemon: str) -> None:
    if f"{sys.version_info.major}.{sys.version_info.minor}" != "3.11":
        pytest.skip("the image has Python 3.11, and packages are taken from here")
    outside = lab.workdir("outside")
    for name in ("work", "input"):
        (outside / name).mkdir()
    (outside / "input" / "given").write_text("from outside\n")
    mounts = [{"jqscript": ".given", "mountpath": "/conf"}]
    spec = lab.spec("cat {given} /conf > {out}; ! touch {given}", par_mounts=mounts)
    (outside / "spec.json").write_text(json.dumps(spec))
    (outside / "parameters.json").write_text(json.dumps(PARAMETERS))
    client = Path(str(shutil.which("docker", path=lab.person.env["PATH"]))).resolve()
    packages = [path for path in sys.path if path.endswith(("site-packages", "/src"))]
    source = str(Path(__file__).resolve().parents[2] / "src")
    binds = [f"{outside}:/inside", f"{client}:/usr/bin/docker:ro", f"{daemon}:/var/run/docker.sock"]
    binds += [f"{path}:{path}:ro" for path in {*packages, source}]
    variables = {
        "PYTHONPATH": os.pathsep.join([source, *packages]),
        "PACKTIVITY_WORKDIR_LOCATION": f"/inside:{outside}",
        "PACKTIVITY_NETWORK": "none",
        "HOME": "/tmp",
    }
    options = [word for bind in binds for word in ("-v", bind)]
    options += [word for name, value in variables.items() for word in ("-e", f"{name}={value}")]
    code = "from packtivity.cli import runcli; runcli()"
    command = ["python3", "-c", code, "-w", "/inside/work", "-r", "/inside/input", "-o", "/inside/result.json"]
    assert lab.person.run(["docker", "pull", "--quiet", lab.python_image]).returncode == 0
    done = lab.person.run(
        ["docker", "run", "--rm", "--network=none", *options, lab.python_image, *command,
         "/inside/spec.json", "/inside/parameters.json"]
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads((outside / "result.json").read_text()) == {"out": "/inside/work/out"}
    assert (outside / "work" / "out").read_text() == 'from outside\n"/inside/input/given"'
    assert lab.containers() == []
