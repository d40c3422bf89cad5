"""Tasks in containers whose directory is on a disk that is full: a real one, on each tool, at several stages."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from room import Room, only_root

if TYPE_CHECKING:
    from collections.abc import Iterator

PUBLISH = {"publisher_type": "frompar-pub", "outputmap": {"o": "out", "n": "n"}}
ENDS = {5, 6, 73, 74}
"""Exit codes for what cannot be written: the task's directories, the task itself, a file for the caller, the rest."""

COMMANDS = {
    "writes little": "echo x > {out}",
    "fills the disk": "cat /dev/zero > {out} 2>/dev/null; true",
    "fails on the full disk": "head -c 9000 /dev/zero > {out}",
    "talks": "echo x > {out}; head -c 200000 /dev/zero | tr '\\0' x",
}


@pytest.fixture
def room(lab: Any) -> Iterator[Room]:
    only_root()
    made = Room(lab.folder / "room", 1 << 20)
    os.chown(made.folder, lab.person.uid, lab.person.gid)
    look_again(lab)
    yield made
    made.close()
    look_again(lab)


def look_again(lab: Any) -> None:
    """Let rootless Podman see what is mounted: a process of its own keeps the mounts of when it was started."""
    if lab.tool == "podman" and lab.person.uid != 0:
        assert lab.person.run(["podman", "system", "migrate"]).returncode == 0


@pytest.mark.parametrize("kind", COMMANDS)
@pytest.mark.parametrize(
    "pages", [0, 2, *(pytest.param(n, marks=pytest.mark.soak) for n in (1, 3, 4, 5, 6, 8, 10, 12))]
)
def test_a_container_on_a_full_disk_says_so_and_loses_nothing(lab: Any, room: Room, pages: int, kind: str) -> None:
    if lab.person.uid != os.getuid() and pages:
        pytest.skip("by the caller at every stage; by the ordinary user at one")
    work, result = room.folder / "work", room.folder / "result.json"
    work.mkdir()
    os.chown(work, lab.person.uid, lab.person.gid)

    def run(command: str, n: int) -> Any:
        return lab.run(lab.spec(command, PUBLISH), {"out": "{workdir}/out", "n": n}, work, "-o", str(result))

    first = run(COMMANDS["writes little"], 1)
    assert first.code == 0, first.err
    before = lab.record(work)
    names = sorted(path.name for path in work.rglob("*"))
    room.leave(pages)
    done = run(COMMANDS[kind], 2)
    after, told = lab.record(work), json.loads(result.read_text())
    if done.code == 0:
        assert (after["status"], after["result"]["n"], told["n"]) == ("succeeded", 2, 2)
    else:
        assert done.code in ENDS
        assert "No space left on device" in done.err + (done.log() if done.code == 6 else "")
        assert "Traceback" not in done.err
        assert "internal error" not in done.err
        assert told["n"] == 1 or done.code == 73
        assert after == before or (after["parameters"]["n"] == 2 and (after["status"] == "failed" or done.code == 73))
    assert sorted(path.name for path in work.rglob("*")) == names
    assert lab.containers() == []
    room.ballast.unlink()
    (work / "out").unlink(missing_ok=True)
    again = run(COMMANDS["writes little"], 3)
    assert again.code == 0, again.err
    assert json.loads(result.read_text())["n"] == 3
