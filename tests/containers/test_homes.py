"""An image's own user and home: what a task of an old spec could do with packtivity 0.17.1 on Docker, it can do here."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

import matrix
import pytest
from homes import IMAGES, push

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SCRIPT = """
exec > {out}
try() {{ name=$1; shift; if "$@" 2>/dev/null; then echo "$name yes"; else echo "$name no"; fi; }}
echo "uid $(id -u)"
echo "home $HOME"
echo "entered ${{ENTERED:-no}}"
echo "here $(pwd)"
try home-read cat ~/.software
try home-write sh -c 'echo x > ~/written'
try software-read cat /analysis/fit
try software-write sh -c 'echo x > /analysis/out/tmp'
try tmp-write sh -c 'echo x > /tmp/written'
try here-write sh -c 'echo x > ./written'
cd {workdir}
try work-write sh -c 'mkdir -p deep/er; echo x > deep/er/file; echo y >> old; mkdir junk; touch junk/x'
try work-rm sh -c 'rm -rf junk/*'
try work-chmod chmod -R u+rwX deep
try work-chown chown -R "$(id -u)" deep
"""


@pytest.fixture(scope="session")
def homes(engines: dict[str, str], lab_folder: Path) -> dict[str, str]:
    """The family of images, by name."""
    folder = lab_folder / "homes"
    folder.mkdir()
    return push(engines["PACKTIVITY_TEST_REGISTRY"], folder)


TRIED = [line.split()[1] for line in SCRIPT.splitlines() if line.startswith("try ")]


def column(lab: Any) -> str:
    """Return how the table calls a tool in somebody's hands."""
    return f"{lab.tool} by {'root' if lab.person.uid == 0 else 'a user'}"


def said(text: str) -> dict[str, str]:
    """Return what the script wrote, by name."""
    return dict(line.split(" ", 1) for line in text.splitlines() if " " in line)


def reference(lab: Any, image: str, workdir: Path) -> dict[str, str]:
    """Run the script as packtivity 0.17.1 does: ``docker run --rm -i -v WORKDIR:WORKDIR:rw IMAGE sh``, the script as input."""
    script = SCRIPT.format(out=f"{workdir}/out", workdir=workdir)
    argv = ["docker", "run", "--rm", "-i", "--network", "none", "-v", f"{workdir}:{workdir}:rw", image, "sh"]
    process = lab.person.popen(argv, stdin=-1, stdout=-1, stderr=-1)
    process.communicate(script.encode(), timeout=60)
    return said((workdir / "out").read_text()) if process.returncode == 0 else {}


def task(lab: Any, image: str, workdir: Path, *options: str) -> tuple[Any, dict[str, str]]:
    (workdir / "old").write_text("x\n")
    os.chown(workdir / "old", lab.person.uid, lab.person.gid)
    lab.image = image
    process = {"process_type": "interpolated-script-cmd", "script": SCRIPT, "interpreter": "sh"}
    done = lab.run(lab.spec(process), {"out": "{workdir}/out", "workdir": "{workdir}"}, workdir, *options)
    return done, said((workdir / "out").read_text()) if (workdir / "out").exists() else {}


def owners(workdir: Path) -> set[int]:
    return {path.lstat().st_uid for path in (workdir, *workdir.rglob("*"))}


def test_the_original_s_own_call_cannot_write_as_a_user_of_the_image(lab: Any, homes: dict[str, str]) -> None:
    """Hold what the list of differences says, where Docker lets it show."""
    if lab.kind != "docker" or lab.person.uid == 0:
        pytest.skip("Docker by an ordinary user; root's work directory is root's anyway")
    assert "work-write" not in reference(lab, homes["atlas"], lab.workdir())
    made = lab.workdir()
    assert reference(lab, homes["root"], made)["work-write"] == "yes"
    assert owners(made) == {0, lab.person.uid}


@pytest.mark.parametrize("name", IMAGES)
def test_a_task_is_the_images_own_user(
    lab: Any, homes: dict[str, str], name: str, record_property: Callable[[str, object], None]
) -> None:
    workdir, image = lab.workdir(), IMAGES[name]
    done, found = task(lab, homes[name], workdir)
    assert (done.code, done.err) == (0, ""), done
    record_property(matrix.CELL, [name, column(lab), matrix.cell(found, TRIED)])
    assert owners(workdir) == {lab.person.uid}
    if lab.kind == "docker":
        wanted = reference(lab, homes[name], lab.workdir())
        assert {name: found.get(name) for name in wanted} == wanted
    if lab.kind == "apptainer" and lab.person.uid == 0 and image.uid == 0:
        assert {found[name] for name in TRIED} == {"yes"}  # root is root
    if lab.kind == "apptainer":
        expected = image.home if image.home == "/opt/home" else None  # others are closed to the caller
        assert expected in (None, found["home"])
    else:
        homes_of_nobody = {"/", image.workdir} if lab.kind == "podman" and name == "number" else {image.home}
        assert found["uid"] == str(image.uid)
        assert found["home"] in homes_of_nobody  # a user without an entry: Podman makes one, with the work directory


def test_apptainer_is_root_of_the_image_on_request(lab: Any, homes: dict[str, str]) -> None:
    if lab.kind != "apptainer":
        pytest.skip("the others are the image's user already")
    workdir = lab.workdir()
    done, found = task(lab, homes["root"], workdir, "--user", "image")
    assert (done.code, done.err) == (0, "")
    assert set(found.items()) >= {("uid", "0"), ("home-read", "yes"), ("home-write", "yes"), ("software-write", "yes")}
    assert owners(workdir) == {lab.person.uid}


def test_an_image_without_a_shell_is_said_to_have_none(
    lab: Any, homes: dict[str, str], record_property: Callable[[str, object], None]
) -> None:
    workdir = lab.workdir()
    done, found = task(lab, homes["no-shell"], workdir)
    assert (done.code, found) == (10, {})
    assert "has no shell (sh)" in done.err
    assert owners(workdir) == {lab.person.uid}
    assert lab.containers() == []
    record_property(matrix.CELL, ["no-shell", column(lab), "said, exit 10"])


@pytest.mark.parametrize("user", ["image's own", "caller"])
def test_a_script_that_cannot_read_its_home_is_told_why(lab: Any, homes: dict[str, str], user: str) -> None:
    lab.image = homes["atlas"]  # whose home is closed to others
    spec = lab.spec("cat ~/.software > {out} && cat /not/there")
    options = ("--user", "caller") if user == "caller" else ()
    done = lab.run(spec, {"out": "{workdir}/out"}, lab.workdir(), *options)
    assert done.code == 6
    reasons = re.findall(r"~ is not readable here because (.*); try --user image", done.err)
    if user == "caller":
        assert reasons == [
            f"the task runs as you, with {'an empty home' if lab.kind == 'apptainer' else '/tmp for a home'}"
        ]
    elif lab.kind == "apptainer" and lab.person.uid != 0:
        assert reasons == [f"{lab.tool} runs tasks as you, who may not read the home of the image's user"]
    else:
        assert reasons == []


def test_files_of_colleagues_stay_theirs(lab: Any, homes: dict[str, str]) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can make files of others")
    workdir = lab.workdir()
    (workdir / "colleague").touch()
    os.chown(workdir / "colleague", 1000, 1000)  # the image's user is a real person here
    done, _ = task(lab, homes["atlas"], workdir)
    assert (done.code, done.err) == (0, "")
    assert (workdir / "colleague").stat().st_uid == 1000
    assert owners(workdir) == {lab.person.uid, 1000}


def test_files_that_root_of_a_container_took_from_colleagues_are_theirs_again(lab: Any, homes: dict[str, str]) -> None:
    if os.getuid() != 0 or lab.kind != "docker" or lab.person.uid == 0:
        pytest.skip("Docker by an ordinary user, with files of others")
    workdir, lab.image = lab.workdir(), homes["root"]
    (workdir / "colleague").touch()
    os.chown(workdir / "colleague", 1000, 1000)
    spec, parameters = lab.spec("touch {out} && chown -R 0:0 {dir}"), {"out": "{workdir}/out", "dir": "{workdir}"}
    done = lab.run(spec, parameters, workdir)
    assert (done.code, done.err) == (0, "")
    found = {path.name: path.stat().st_uid for path in (workdir / "colleague", workdir / "out", workdir)}
    assert found == {"colleague": 1000, "out": lab.person.uid, workdir.name: lab.person.uid}


def test_what_is_not_given_back_is_said_to_the_user(lab: Any, homes: dict[str, str]) -> None:
    if lab.kind != "docker" or lab.person.uid == 0:
        pytest.skip("Docker by an ordinary user")
    workdir, lab.image = lab.workdir(), homes["atlas"]
    workdir.chmod(0o777)
    done = lab.run(lab.spec("touch {out}"), {"out": "{workdir}/out"}, workdir)
    assert done.code == 0
    assert f"warning[files-not-given-back]: 1 files still belong to others ({workdir}/out)" in done.err
    assert (workdir / "out").stat().st_uid == 1000
