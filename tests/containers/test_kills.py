"""Kills at random moments: nothing stays behind, and the next run works."""

from __future__ import annotations

import fcntl
import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

STATE = Path("/var/lib/packtivity-engines")
TOOLS = Path(__file__).resolve().parents[2] / "tools"
LONGEST = 10.0
"""Seconds after which nothing may be left."""

NAME = re.compile(rb"packtivity-[0-9a-f]{16}")


def left_processes(mark: str, folder: Path) -> list[str]:
    """Return processes that came from a killed run: by a variable they inherited, or a directory that they name."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            arguments = (entry / "cmdline").read_bytes()
            if os.fsencode(folder) in arguments or mark.encode() in (entry / "environ").read_bytes():
                found.append(f"{entry.name} {arguments[:200]!r}")
        except OSError:
            continue
    return found


HELPERS = {
    "docker": ("runc:[",),
    "podman": ("conmon", "runc:["),
    "apptainer": ("squashfuse", "mksquashfs", "starter", "appinit"),
}
"""Names of the processes that a tool starts for a container and that carry neither our variable nor its name."""


def helpers(lab: Any) -> set[str]:
    """Return such processes of one tool and one user; tests of other tools run beside this one."""
    owner, found = 0 if lab.kind == "docker" else lab.person.uid, set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                comm = (entry / "comm").read_text().strip()
                if comm.startswith(HELPERS[lab.kind]) and entry.stat().st_uid == owner:
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
        "helpers": sorted(helpers(lab) - before),
        "containers": lab.containers(),
        "processes": left_processes(mark, lab.folder),
        "folders": [str(path) for path in temporary.iterdir()],
        "locks": held_locks(Path(lab.person.env["PACKTIVITY_CACHE_DIR"])),
        "parts": [str(path) for path in lab.folder.rglob("*.part")],
    }
    return {kind: what for kind, what in found.items() if what}


@dataclass
class Run:
    """A run that is to be killed."""

    workdir: Path
    mark: str
    process: subprocess.Popen[bytes]


STAGES = ("pull", "create", "start", "run", "publish")
AIMS = ("pull", "create", "any", "start", "run", "publish")
"""What kills aim at, in turns: what is over first is aimed at first."""


def store_of(lab: Any) -> Path:
    """Return where a tool keeps its containers."""
    what = {"docker": "{{.DockerRootDir}}", "podman": "{{.Store.GraphRoot}}"}.get(lab.tool)
    return Path(lab.person.run([lab.tool, "info", "--format", what]).stdout.decode().strip()) if what else Path()


def exists_in(store: Path, lab: Any, name: bytes) -> bool:
    """Return whether a tool has made a container, by what is in its store; asking it takes too long."""
    podman = lab.tool == "podman"
    files = (
        [store / "overlay-containers" / "containers.json"]
        if podman
        else (store / "containers").glob("*/config.v2.json")
    )
    for path in files:
        with suppress(FileNotFoundError):
            if name in path.read_bytes():
                return True
    return False


def programs_of(run: Run) -> list[tuple[str, bytes]]:
    """Return name and arguments of every process below a run; Apptainer's have no variables to know them by."""
    found, waiting = [], children(run.process.pid)
    while waiting:
        pid = waiting.pop()
        waiting += children(pid)
        with suppress(OSError):
            found.append((Path(f"/proc/{pid}/comm").read_text().strip(), Path(f"/proc/{pid}/cmdline").read_bytes()))
    return found


def children(pid: int) -> list[int]:
    """Return the processes that a process has started, asked of the kernel: to go through all takes longer than some stages."""
    found = []
    with suppress(OSError):
        for path in Path(f"/proc/{pid}/task").glob("*/children"):
            with suppress(OSError):
                found += map(int, path.read_text().split())
    return found


def stage(lab: Any, run: Run, store: Path) -> str:
    """Say how far a run has come, by its processes, the tool's store and the files of its task: not by its word."""
    if run.process.poll() is not None or (run.workdir / "result.json").exists():
        return "ended"
    doing = what_the_tool_does(lab, programs_of(run), store)
    if (run.workdir / "finished").exists():
        return "end of run" if doing else "publish"
    return "run" if (run.workdir / "started").exists() else doing or "before"


def what_the_tool_does(lab: Any, programs: list[tuple[str, bytes]], store: Path) -> str:
    own = [arguments for comm, arguments in programs if comm == lab.tool]
    if any(b"\0pull\0" in arguments for arguments in own):
        return "pull"
    if any(comm.startswith("starter") or arguments.startswith(b"Apptainer") for comm, arguments in programs):
        return "start"
    for name in filter(None, map(NAME.search, own)):
        return "start" if lab.kind != "apptainer" and exists_in(store, lab, name[0]) else "create"
    return ""


def wait_until_clean(lab: Any, mark: str, temporary: Path, before: set[str]) -> dict[str, list[str]]:
    deadline = time.monotonic() + LONGEST
    while (found := remains(lab, mark, temporary, before)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return found


def forget_image(lab: Any) -> dict[str, str]:
    if lab.kind != "apptainer":
        lab.person.run([lab.tool, "rmi", "-f", lab.image])
    cache = lab.folder / f"cache-{lab.count}"
    return {"PACKTIVITY_CACHE_DIR": str(cache)}


ORDER = ("before", "pull", "create", "start", "run", "end of run", "publish", "ended")


def wait_for_stage(lab: Any, run: Run, aim: str, store: Path) -> None:
    """Wait until a run has come to a stage, or beyond."""
    deadline = time.monotonic() + 20
    while aim in ORDER and ORDER.index(stage(lab, run, store)) < ORDER.index(aim) and time.monotonic() < deadline:
        time.sleep(0.002)


def stage_lengths(lab: Any, run: Run, store: Path) -> dict[str, float]:
    """Let a run come to its end, and return the seconds that each of its stages took."""
    lasts, last = dict.fromkeys(STAGES, 0.0), time.monotonic()
    while (found := stage(lab, run, store)) != "ended":
        now = time.monotonic()
        lasts[found], last = lasts.get(found, 0.0) + now - last, now
        time.sleep(0.002)
    run.process.communicate()
    assert run.process.returncode == 0
    return lasts


# Publishing looks for each of many patterns among many files, so that there is time to be killed in.
FILES, PATTERNS = 3000, 100
COMMAND = (
    "echo > {workdir}/started; mkdir -p {workdir}/files; for i in $(seq "
    f"{FILES}"
    "); do : > {workdir}/files/f$i; done; sleep 0.3; echo complete > {out}; echo > {workdir}/finished"
)
PARAMETERS = {
    "out": "{workdir}/out",
    "workdir": "{workdir}",
    "found": [f"{{workdir}}/files/*f{number}" for number in range(1, PATTERNS + 1)],
}


def expected(workdir: Path) -> dict[str, Any]:
    found = [[f"{workdir}/files/f{number}"] for number in range(1, PATTERNS + 1)]
    return {"out": [f"{workdir}/out"], "found": found}


def whole_or_not_there(workdir: Path) -> None:
    """Hold result and record against what a complete run says."""
    result, outcome = workdir / "result.json", workdir / "_packtivity" / "packtivity_syncbackend.outcome.json"
    if result.exists():
        assert json.loads(result.read_text()) == expected(workdir)
        assert (workdir / "out").read_text() == "complete\n"
    if outcome.exists():
        record = json.loads(outcome.read_text())
        assert record["status"] in ("succeeded", "failed", "cancelled")
        assert record["status"] != "succeeded" or record["result"] == expected(workdir)
    for path in [*workdir.glob("*.tmp"), *workdir.glob("_packtivity/*.tmp")]:
        json.loads(path.read_text())


def kill_one(lab: Any, run: Run, aim: str, chance: random.Random, store: Path, lasts: dict[str, float]) -> str:
    """Kill a run at a random moment in one of the stages, or anywhere; return the stage it had come to, and how.

    It stands still while its stage is looked at.
    """
    wait_for_stage(lab, run, aim, store)
    time.sleep(chance.uniform(0, lasts.get(aim, sum(lasts.values()))))
    which = chance.choice([signal.SIGKILL, signal.SIGTERM])
    run.process.send_signal(signal.SIGSTOP)
    found = stage(lab, run, store)
    run.process.send_signal(which)
    run.process.send_signal(signal.SIGCONT)
    return f"{found} by {which.name}"


def kill_some(lab: Any, kills: int, at_once: int, seed: int) -> Counter[str]:
    """Kill ``kills`` runs, ``at_once`` at a time; assert after each batch that nothing is left and a run works."""
    chance, stages = random.Random(seed), Counter[str]()
    temporary, before, store = lab.workdir("tmp"), helpers(lab), store_of(lab)
    spec = lab.spec(
        COMMAND, {"publisher_type": "fromparjq-pub", "script": "{out, found}", "glob": True, "tryExact": False}
    )

    def start(mark: str, env: dict[str, str]) -> Run:
        workdir = lab.workdir()
        argv = lab.argv(spec, PARAMETERS, workdir, "-o", str(workdir / "result.json"))
        own = {**env, "PACKTIVITY_TEST_MARK": mark}
        return Run(workdir, mark, lab.person.popen(argv, env=own, stdout=subprocess.PIPE, stderr=subprocess.STDOUT))

    env = {**lab.person.env, "TMPDIR": str(temporary)}
    lasts = stage_lengths(lab, start("packtivity-mark-none", env | forget_image(lab)), store)
    for number in range(0, kills, at_once):
        mark = f"packtivity-mark-{os.urandom(6).hex()}"
        if number % (2 * at_once) == 0:
            env |= forget_image(lab)
        runs = [start(f"{mark}-{at}", env) for at in range(at_once)]
        # Two batches aim at every stage once; images are forgotten before the one that pulls.
        for at, run in enumerate(runs):
            stages[kill_one(lab, run, AIMS[(number + at) % len(AIMS)], chance, store, lasts)] += 1
        outputs = [run.process.communicate(timeout=60)[0] for run in runs]
        found = wait_until_clean(lab, mark, temporary, before)
        assert found == {}, (number, found, outputs)
        for run in runs:
            whole_or_not_there(run.workdir)
        again = lab.run(spec, PARAMETERS, runs[0].workdir, "-o", str(runs[0].workdir / "result.json"), env=env)
        assert again.code == 0, again.err
        assert json.loads((runs[0].workdir / "result.json").read_text()) == expected(runs[0].workdir)
    return stages


def report(lab: Any, stages: Counter[str]) -> None:
    print(f"\n{lab.tool} by {lab.person.name}: {stages.total()} kills, nothing left:")
    for where, count in sorted(stages.items()):
        print(f"  at {where}: {count}")


BALLAST = 24 << 20
"""Bytes that make an image large enough for its pull to be killed in."""


@pytest.fixture(scope="module")
def large(engines: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image that takes a while to be had."""
    folder = tmp_path_factory.mktemp("large")
    reference, archive = f"{engines['PACKTIVITY_TEST_REGISTRY']}/test/large:1.0", folder / "large.image.tar"
    shutil.copy(STATE / "busybox.tar", folder / "large.tar")
    with tarfile.open(folder / "large.tar", "a") as layer:
        ballast = tarfile.TarInfo("srv/ballast")
        ballast.size = BALLAST
        layer.addfile(ballast, io.BytesIO(random.Random(1).randbytes(BALLAST)))
    make = [sys.executable, str(TOOLS / "make_image.py"), str(folder / "large.tar"), reference, str(archive)]
    subprocess.run([*make, "--workdir", "/srv", "sh"], check=True)
    push = ["skopeo", "copy", "-q", "--dest-tls-verify=false", f"docker-archive:{archive}", f"docker://{reference}"]
    subprocess.run(push, check=True)
    return reference


def test_nothing_is_left_after_a_kill(lab: Any, large: str) -> None:
    lab.image = large
    if lab.person.uid != 0 and lab.tool != "podman":
        pytest.skip("by the caller for every tool; by the ordinary user for rootless Podman")
    report(lab, kill_some(lab, 6, 3, seed=1))


@pytest.mark.soak
def test_nothing_is_left_after_many_kills_in_every_stage(lab: Any, large: str) -> None:
    lab.image = large
    if lab.tool == "singularity":
        pytest.skip("the same program as apptainer")
    stages = kill_some(lab, 102 if lab.person.uid == os.getuid() else 60, 3, seed=3)
    report(lab, stages)
    assert {where.partition(" by ")[0] for where in stages} >= set(STAGES)
