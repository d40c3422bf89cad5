"""Hostile names and values in directories, variables, parameters and images: none of them reaches a shell."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from packtivity.errors import PacktivityError
from packtivity.runtimes.choose import named
from packtivity.runtimes.image_store import local_image
from packtivity.spec.image_names import full_image, is_path

NAMES = [
    "a b", " lead", "trail ", "a'b", 'a"b', "a:b", "a,b", "$(touch pwned)", "`touch pwned`", "a\nb", "-rf", "--privileged",
    "é漢字", "a\\b", "a;touch pwned", "a&touch pwned", "a|b", "*", "a=b", "~", "#a", "!a", "a\tb", "readonly", "${HOME}",
    "a\\,b", '"', "'", "'$(touch pwned)'", "\x1b[31m",
]  # fmt: skip
"""Names of directories; each holds a file that says which it is."""

VALUES = [*NAMES, "", "a\r\nb", "\\", "a\n\n", "$", '"; touch pwned; "']
"""Values of variables and parameters."""

IMAGES = [
    "a b", "a;touch pwned", "$(touch pwned)", "`touch pwned`", "--privileged", "-v", "a\nb", "a'b", 'a"b', "a|b", "a&b",
    "é", "../../no/such/folder", "a:b:c", "a@b",
]  # fmt: skip


def test_cases_are_many() -> None:
    assert len(NAMES) + 2 * len(VALUES) + len(IMAGES) >= 60


def no_trace_of_a_shell(lab: Any) -> bool:
    return not any(Path(folder, "pwned").exists() for folder in ("/", "/tmp", os.getcwd(), lab.folder))


def test_directories(lab: Any) -> None:
    workdir = lab.workdir(" w'x\"y,z:$(touch pwned)")
    top = lab.workdir()
    folders = []
    for number, name in enumerate(NAMES):
        folder = top / name
        folder.mkdir()
        (folder / "which").write_text(f"{number}\n")
        folders += ["-r", str(folder)]
    variables = {f"D{number}": str(top / name) for number, name in enumerate(NAMES)}
    script = "".join(f'cat "$D{number}/which"\n' for number in range(len(NAMES))) + "echo end > result\n"
    process = {"process_type": "interpolated-script-cmd", "interpreter": "sh -e", "script": script}
    publisher = {"publisher_type": "fromglob-pub", "globexpression": "resul*", "outputkey": "found"}
    spec = lab.spec(process, publisher, env=variables, workdir="{workdir}")
    done = lab.run(spec, {}, workdir, "-o", str(top / "result.json"), *folders)
    assert done.code == 0, done.err
    assert done.lines() == [str(number) for number in range(len(NAMES))]
    assert json.loads((top / "result.json").read_text()) == {"found": [f"{workdir}/result"]}
    assert no_trace_of_a_shell(lab)
    assert not list(lab.folder.rglob("pwned"))


def test_variables_and_parameters(lab: Any) -> None:
    workdir = lab.workdir()
    variables = {f"V{number}": value for number, value in enumerate(VALUES)}
    script = "".join(f'printf "%s\\001" "$V{number}" >> {{out}}\n' for number in range(len(VALUES)))
    mounts = [
        {"jqscript": f".values[{number}]", "mountpath": f"/conf/{number} $(touch pwned)"}
        for number in range(len(VALUES))
    ]
    script += "".join(
        f"cat '/conf/{number} $(touch pwned)' >> {{out}}; printf '\\001' >> {{out}}\n" for number in range(len(VALUES))
    )
    process = {"process_type": "interpolated-script-cmd", "interpreter": "sh -e", "script": script}
    escaped = [value.replace("{", "{{").replace("}", "}}") for value in VALUES]
    done = lab.run(
        lab.spec(process, env=variables, par_mounts=mounts), {"out": "{workdir}/out", "values": escaped}, workdir
    )
    assert done.code == 0, done.err
    seen = (workdir / "out").read_bytes().decode().split("\1")
    assert seen[: len(VALUES)] == VALUES
    assert [json.loads(text) for text in seen[len(VALUES) : -1]] == VALUES
    assert no_trace_of_a_shell(lab)


@pytest.mark.parametrize("image", IMAGES)
def test_images(
    caller: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engines: dict[str, str], image: str
) -> None:
    monkeypatch.chdir(tmp_path)  # deep enough for ../../etc not to be /etc
    with pytest.raises(PacktivityError) as caught:
        find(image, caller.env)
    assert repr(image)[1:-1] in str(caught.value)


def find(image: str, env: dict[str, str]) -> None:
    if is_path(full_image(image, "latest")):
        local_image(named("podman", env), image, unpacked=False)


def test_a_path_that_no_tool_can_mount_is_refused_by_name(lab: Any) -> None:
    workdir = lab.workdir("a\r\nb")
    done = lab.run(lab.spec("true"), {"out": "x"}, workdir)
    assert (done.code, "a\\r\\nb" in done.err) == (4, True)
    assert lab.containers() == []


def test_a_directory_to_be_read_that_is_not_there_is_told_and_not_made(lab: Any) -> None:
    workdir, absent = lab.workdir(), lab.folder / "absent"
    done = lab.run(lab.spec("true"), {"out": "x"}, workdir, "-r", str(absent))
    assert (done.code, str(absent) in done.err) == (0, True)
    assert not absent.exists()
