"""Images that are places on the machine, on real tools: nothing of the machine is seen by the caller's word only."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

STATE = Path("/var/lib/packtivity-engines")
OUT = {"out": "{workdir}/out"}
LOOK = "ls / > {out}; cat /etc/passwd >> {out}; cat /secret >> {out}"


@pytest.mark.parametrize(
    "image", ["/", "/etc/..", "/cvmfs/..", "oci:/etc", "docker-archive:/etc/passwd", "/proc/self/root"]
)
def test_the_machine_itself_is_no_image(lab: Any, image: str) -> None:
    workdir = lab.workdir()
    done = lab.run(lab.spec(LOOK, image=image, imagetag="latest"), OUT, workdir)
    assert (done.code, "a place on this machine" in done.err, "--image-dir" in done.err) == (10, True, True)
    assert not (workdir / "out").exists()


@pytest.mark.parametrize("image", ["dir:x", "oci:5000/x:1", "docker-archive:x.tar", "containers-storage:x"])
def test_names_that_a_tool_takes_for_places_are_refused(lab: Any, image: str) -> None:
    workdir = lab.workdir()
    done = lab.run(lab.spec(LOOK, image=image, imagetag="latest"), OUT, workdir)
    assert (done.code, "a place on this machine" in done.err) == (4, True)


def test_a_folder_that_the_caller_has_named_is_an_image(lab: Any) -> None:
    if lab.tool == "docker" or (lab.tool == "podman" and lab.person.uid != 0):
        pytest.skip("runs no folders")
    workdir, folder = lab.workdir(), lab.folder / "images" / "box"
    folder.mkdir(parents=True)
    subprocess.run(["tar", "-xf", STATE / "busybox.tar", "-C", folder], check=True)
    (folder / "secret").write_text("of the image\n")
    spec = lab.spec("cat /secret > {out}", image=str(folder), imagetag="latest")
    refused = lab.run(spec, OUT, workdir)
    assert (refused.code, str(folder) in refused.err) == (10, True)
    for more, options in ({}, ["--image-dir", str(folder.parent)]), ({"PACKTIVITY_IMAGE_DIRS": str(folder)}, []):
        done = lab.run(spec, OUT, workdir, *options, env=more)
        assert done.code == 0, done.err
        assert (workdir / "out").read_text() == "of the image\n"
        (workdir / "out").unlink()
