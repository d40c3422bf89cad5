"""Kills at random moments: nothing stays behind, and the next run works."""

from __future__ import annotations

import fcntl
import json
import os
import random
import re
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

LONGEST = 10.0
"""Seconds after which nothing may be left."""

NAME = re.compile(rb"packtivity-[0-9a-f]{16}")


def left_processes(mark: str) -> list[str]:
    """Return processes that came from a killed run: by a variable they inherited, or a container's name."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            arguments = (entry / "cmdline").read_bytes()
            if mark.encode() in (entry / "environ").read_bytes() or (arguments and NAME.search(arguments)):
                found.append(f"{entry.name} {arguments[:200]!r}")
        except OSError:
            continue
    return found


def helpers() -> set[str]:
    """Return processes that tools start for a container and that carry neither our variable nor its name."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                comm = (entry / "comm").read_text().strip()
            except OSError:
                continue
            if comm.startswith(("runc:[", "squashfuse", "conmon", "mksquashfs", "starter", "appinit")):
                found.add(f"{entry.name} {comm}")
    return found


def held_locks(cache: Path) -> list[str]:
    held = []
    for path in cache.rglob("*.lock"):
        with path.open("r+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                held.append(str(path))
    return held


def remains(lab: Any, mark: str, temporary: Path, before: set[str]) -> dict[str, list[str]]:
    found = {
        "helpers": sorted(helpers() - before),
        "containers": lab.containers(),
        "processes": left_processes(mark),
        "folders": [str(path) for path in temporary.iterdir()],
        "locks": held_locks(Path(lab.person.env["PACKTIVITY_CACHE_DIR"])),
        "parts": [str(path) for path in lab.folder.rglob("*.part")],
    }
    return {kind: what for kind, what in found.items() if what}


def stage(workdir: Path) -> str:
    """Say how far a run had come."""
    step = workdir / "_packtivity" / "packtivity_syncbackend.step.log"
    text = step.read_text() if step.exists() else ""
    if (workdir / "result.json").exists():
        return "ended"
    if "exit code" in text:
        return "publish"
    if (workdir / "out").exists():
        return "end of run"
    if (workdir / "started").exists():
        return "run"
    pull = workdir / "_packtivity" / "packtivity_syncbackend.pull.log"
    if pull.exists():
        return "pull, create or start"
    return "create or start" if "running" in text else "before"


def wait_until_clean(lab: Any, mark: str, temporary: Path, before: set[str]) -> dict[str, list[str]]:
    deadline = time.monotonic() + LONGEST
    while (found := remains(lab, mark, temporary, before)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return found


def forget_image(lab: Any) -> dict[str, str]:
    if lab.tool != "apptainer":
        lab.person.run([lab.tool, "rmi", "-f", lab.image])
    cache = lab.folder / f"cache-{lab.count}"
    return {"PACKTIVITY_CACHE_DIR": str(cache)}


def wait_for_stage(workdir: Path, chance: random.Random) -> None:
    """Wait for a random moment: of the whole run, after the start of pull or container, or of the task itself."""
    step, started = workdir / "_packtivity" / "packtivity_syncbackend.step.log", workdir / "started"
    ready = chance.choice(
        [
            lambda: True,
            lambda: step.exists() and ("pulling" in step.read_text() or "running" in step.read_text()),
            lambda: step.exists() and "running" in step.read_text(),
            started.exists,
        ]
    )
    deadline = time.monotonic() + 8
    while not ready() and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(chance.uniform(0, 0.9))


def kill_some(lab: Any, kills: int, at_once: int, seed: int) -> Counter[tuple[str, str]]:
    """Kill ``kills`` runs, ``at_once`` at a time; assert after each batch that nothing is left and a run works."""
    chance, stages = random.Random(seed), Counter[tuple[str, str]]()
    temporary, before = lab.workdir("tmp"), helpers()
    spec = lab.spec("echo > {workdir}/started; sleep 0.5; echo complete > {out}")
    parameters = {"out": "{workdir}/out", "workdir": "{workdir}"}
    for number in range(0, kills, at_once):
        mark = f"packtivity-mark-{os.urandom(6).hex()}"
        env = {**lab.person.env, "PACKTIVITY_TEST_MARK": mark, "TMPDIR": str(temporary)}
        if number % (3 * at_once) == 0:
            env |= forget_image(lab)
        runs = []
        for _ in range(at_once):
            workdir = lab.workdir()
            argv = lab.argv(spec, parameters, workdir, "-o", str(workdir / "result.json"))
            runs.append((workdir, lab.person.popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)))
        for workdir, process in runs:
            wait_for_stage(workdir, chance)
            which = chance.choice([signal.SIGKILL, signal.SIGTERM])
            stages[which.name, stage(workdir)] += 1
            process.send_signal(which)
        outputs = [process.communicate(timeout=60)[0] for _, process in runs]
        found = wait_until_clean(lab, mark, temporary, before)
        assert found == {}, (number, found, outputs)
        for workdir, _ in runs:
            result = workdir / "result.json"
            assert not result.exists() or json.loads(result.read_text()) == {"out": f"{workdir}/out"}
            assert not list(workdir.glob("result.json.*")) or not result.exists()
            if result.exists():
                assert (workdir / "out").read_text() == "complete\n"
        again = lab.run(spec, parameters, runs[0][0], "-o", str(runs[0][0] / "result.json"), env=env)
        assert again.code == 0, again.err
    return stages


def report(lab: Any, stages: Counter[tuple[str, str]]) -> None:
    print(f"\n{lab.tool} by {lab.person.name}: {stages.total()} kills, nothing left:")
    for (which, where), count in sorted(stages.items()):
        print(f"  {which} at {where}: {count}")


def test_nothing_is_left_after_a_kill(lab: Any) -> None:
    if lab.person.uid != 0 and lab.tool != "podman":
        pytest.skip("by the caller for every tool; by the ordinary user for rootless Podman")
    report(lab, kill_some(lab, 6, 3, seed=1))


@pytest.mark.soak
def test_nothing_is_left_after_many_kills(lab: Any) -> None:
    report(lab, kill_some(lab, 102 if lab.person.uid == os.getuid() else 30, 3, seed=3))
