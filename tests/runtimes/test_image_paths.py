"""Images that are places on this machine: below CVMFS a document may name them, elsewhere only by the caller's word."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packtivity.errors import ConfigurationError, EnvironmentUnavailable, PacktivityError, ParameterError
from packtivity.handlers.config import ExecutionConfig, container_config
from packtivity.runtimes import image_store, images
from packtivity.runtimes.base import Host
from packtivity.runtimes.choose import TOOLS as CLASSES
from packtivity.runtimes.containers import plan_container
from packtivity.runtimes.shell_lines import container_line
from packtivity.spec.image_names import archive_path, full_image
from packtivity.statecontexts import LocalFSState

if TYPE_CHECKING:
    from pathlib import Path

HOST = Host(0, 0, "root")
TOOLS = sorted(CLASSES)

PLACES = [
    "/", "/etc", "/home", "/root/.ssh", "//", "/./", "/cvmfs/..", "/cvmfs/../etc", "/cvmfs/x/../../etc/ssl",
    "./", "../", "./x", "../../../../../../etc", "-x.sif", "--rootfs.sif", "x.sif", "/tmp/x.simg", "/proc/self/root",
    "oci:/etc", "oci:/etc:tag", "oci-archive:/etc/passwd", "docker-archive:/home/ada/x.tar", "docker-archive:///etc/x.tar",
    "oci:/cvmfs/../etc:x", "instance://x.sif", "https://host.example/x.sif", "docker-archive:/x.sif",
]  # fmt: skip
"""Places whose content would be the task's."""

TRANSPORTS = [
    "dir:x", "dir:5000/x", "dir:5000/x:tag", "oci:x", "oci:5000/home/x:1", "oci-archive:x.tar", "docker-archive:x.tar",
    "docker-daemon:x", "containers-storage:x", "sif:x", "ostree:x", "tarball:x.tar", "oci://home/ada/layout", "oci:////etc",
]  # fmt: skip
"""Names that Podman takes for a place, mostly below where packtivity is called."""

NONE_AT_ALL = [
    "dir:/",
    "docker-daemon:x:1",
    "containers-storage:[overlay@/x]y",
    "instance://x",
    "http://h/x",
    "file:///x",
]


@pytest.fixture
def cvmfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let CVMFS be somewhere else; there is an image on it, a link to that image, and a link to the outside."""
    top = tmp_path / "real" / "cvmfs"
    (top / "u" / ".flat" / "1").mkdir(parents=True)
    (top / "u" / "image:1").symlink_to(top / "u" / ".flat" / "1")
    (top / "u" / "out:1").symlink_to("/")
    (top / "u" / "up:1").symlink_to("../../..")
    (tmp_path / "real" / "cvmfs-not").mkdir()
    (tmp_path / "cvmfs").symlink_to(top)
    monkeypatch.setattr(images, "CVMFS", str(tmp_path / "cvmfs"))
    monkeypatch.delenv("PACKTIVITY_IMAGE_DIRS", raising=False)
    return tmp_path / "cvmfs"


def planned(image: str, config: ExecutionConfig | None = None, **more: Any) -> Any:
    environment = {"environment_type": "docker-encapsulated", "image": image, "imagetag": "latest", **more}
    return plan_container({"command": "true"}, environment, LocalFSState(["/w"]), config or ExecutionConfig())


@pytest.mark.parametrize("image", PLACES)
@pytest.mark.parametrize("tool", TOOLS)
def test_no_tool_is_given_a_place_that_the_caller_has_not_named(tool: str, image: str) -> None:
    with pytest.raises(EnvironmentUnavailable) as caught:
        container_line(CLASSES[tool](HOST), planned(image))
    assert image in caught.value.message
    assert "a place on this machine" in caught.value.message
    assert "--image-dir" in caught.value.hint
    assert "PACKTIVITY_IMAGE_DIRS" in caught.value.hint


@pytest.mark.parametrize("image", TRANSPORTS)
def test_a_name_that_podman_takes_for_a_place_is_refused(image: str) -> None:
    for tool in TOOLS:
        with pytest.raises(ParameterError, match=r"(would be a place on this machine|no absolute path)"):
            container_line(CLASSES[tool](HOST), planned(image))


@pytest.mark.parametrize("image", NONE_AT_ALL)
def test_what_is_no_image(image: str) -> None:
    with pytest.raises(ParameterError):
        planned(image)


@pytest.mark.parametrize(
    ("image", "full"),
    [
        ("docker:dind", "docker.io/library/docker:dind"),
        ("docker:20.10", "docker.io/library/docker:20.10"),
        ("ocis/oci:1", "docker.io/ocis/oci:1"),
        ("docker.io/library/oci:1", "docker.io/library/oci:1"),
        ("dir/x", "docker.io/dir/x:latest"),
        ("localhost:5000/dir:1", "localhost:5000/dir:1"),
    ],
)
def test_names_in_registries_stay_names(image: str, full: str) -> None:
    assert f" {full} " in container_line(CLASSES["podman"](HOST), planned(image))
    assert f" {image}{'' if ':' in image else ':latest'} " in container_line(CLASSES["docker"](HOST), planned(image))


def test_a_tag_does_not_lead_out(cvmfs: Path) -> None:
    for tag in ("/../../../etc", "x/../../..", "1/../../../../../.."):
        with pytest.raises(PacktivityError):
            container_line(CLASSES["podman"](HOST), planned(f"{cvmfs}/u/image", imagetag=tag))


def test_below_cvmfs_links_may_lead_to_cvmfs_only(cvmfs: Path) -> None:
    podman, target = CLASSES["podman"](HOST), os.path.realpath(cvmfs / "u" / ".flat" / "1")
    for image in (f"{cvmfs}/u/image:1", f"{cvmfs}/u/../u/image:1", target):
        found = image_store.local_image(podman, image, unpacked=False)
        assert found is not None
        assert found.run == target  # what was looked at, and not what a link leads to by then
    for image in (f"{cvmfs}/u/out:1", f"{cvmfs}/u/out:1/etc", f"{cvmfs}/u/up:1", str(cvmfs), f"{cvmfs}-not"):
        with pytest.raises(EnvironmentUnavailable, match="a place on this machine"):
            image_store.local_image(podman, image, unpacked=False)
    with pytest.raises(EnvironmentUnavailable, match="is not here"):
        image_store.local_image(podman, f"{cvmfs}/u/absent:1", unpacked=False)


def test_an_unpacked_copy_that_leads_elsewhere_is_not_preferred(
    cvmfs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("packtivity.runtimes.images.UNPACKED", str(cvmfs / "u"))
    (cvmfs / "u" / "r.example").mkdir()
    (cvmfs / "u" / "r.example" / "out:1").symlink_to("/")
    (cvmfs / "u" / "r.example" / "in:1").symlink_to("../.flat/1")
    podman = CLASSES["podman"](HOST)
    assert image_store.local_image(podman, "r.example/out:1", unpacked=True) is None
    found = image_store.local_image(podman, "r.example/in:1", unpacked=True)
    assert found is not None
    assert found.run == os.path.realpath(cvmfs / "u" / ".flat" / "1")


def test_what_the_caller_names_may_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, file = tmp_path / "images" / "x", tmp_path / "y.sif"
    folder.mkdir(parents=True)
    file.write_text("")
    apptainer = CLASSES["apptainer"](HOST)
    config = ExecutionConfig({"containers": {"image_dir": [str(tmp_path / "images"), str(file)]}})
    assert f" {folder} " in container_line(apptainer, planned(str(folder), config))
    assert f" {file} " in container_line(apptainer, planned(str(file), config))
    monkeypatch.setenv("PACKTIVITY_IMAGE_DIRS", f"/nowhere:{tmp_path}/images:")
    assert f" {folder} " in container_line(apptainer, planned(str(folder)))
    for image in (str(file), str(tmp_path), f"{tmp_path}/images/../y.sif", f"{tmp_path}/images-2"):
        with pytest.raises(EnvironmentUnavailable, match="a place on this machine"):
            container_line(apptainer, planned(image))
    archive = f"oci:{folder}:1"
    assert archive in container_line(apptainer, planned(archive))


def test_where_cvmfs_is_mounted_may_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").mkdir()
    monkeypatch.setenv("PACKTIVITY_CVMFS_LOCATION", str(tmp_path))
    assert f" {tmp_path}/x " in container_line(CLASSES["apptainer"](HOST), planned(f"{tmp_path}/x"))


def test_the_word_of_the_caller_travels_with_the_task() -> None:
    config = ExecutionConfig({"containers": {"image_dir": ["/images"]}})
    again = ExecutionConfig(json.loads(json.dumps(config.to_json())))
    assert again.container_config.image_dirs() == ("/images", "/cvmfs")
    for wrong in ("/images", [1]):
        with pytest.raises(ConfigurationError, match="image_dir"):
            container_config({"image_dir": wrong}).image_dirs()


@given(st.text("/.:-ax\\", max_size=12), st.sampled_from(["/", "./", "../", "oci:/", "docker-archive:", "/cvmfs/", ""]))
def test_nothing_outside_can_be_spelt(text: str, start: str) -> None:
    """Whatever a name is made of: no tool is given a place that is outside CVMFS."""
    try:
        execution = planned(start + text)
        place = archive_path(str(execution.image))
        found = image_store.local_image(CLASSES["podman"](HOST), str(execution.image), unpacked=False)
    except PacktivityError:
        return
    assert place is None or os.path.realpath(place).startswith("/cvmfs/")
    assert found is None or found.run.startswith("/cvmfs/")
    if found is None and place is None:
        assert not str(execution.image).startswith(("/", ".", "-"))
        assert full_image(str(execution.image), "latest") == execution.image
