"""A place to kill processes in: what runs there is known, and what is said of its tasks is held against what they left."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections import Counter
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from packtivity import record
from packtivity.backendutils import load_proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

BIN = Path(sys.executable).parent
MARK = "PACKTIVITY_TEST_ARENA"

# The lock goes with the process, so what finds it taken runs beside another run of the same task. A run also writes its
# name every 50 ms while it lives, so that who reads these afterwards sees runs side by side even where the lock failed.
TASK = {
    "process": {
        "process_type": "interpolated-script-cmd",
        "script": "read -r run < /proc/sys/kernel/random/uuid; echo $run >> ticks\n"
        "exec 9>busy; flock -n 9 || {{ echo >> twice; exit 42; }}\n"
        "sleep {seconds} &\nwhile kill -0 $! 2> /dev/null; do echo $run >> ticks; sleep 0.05; done\n"
        "echo $run >> ticks\necho {n} > {out}\n",
        "interpreter": "sh",
    },
    "environment": {"environment_type": "localproc-env"},
    "publisher": {"publisher_type": "frompar-pub", "outputmap": {"o": "out"}},
}

SUBMIT = """
import json, os, random, sys
from packtivity.backendutils import backend_from_string
from packtivity.statecontexts import LocalFSState
name, root, numbers, spec = sys.argv[1], sys.argv[2], sys.argv[3].split("-"), json.loads(sys.argv[4])
longest, notes = float(sys.argv[5]), sys.argv[6]
_, backend = backend_from_string(name)
for n in range(*map(int, numbers)):
    state = LocalFSState([f"{root}/{n}"])
    state.ensure()
    given = {"seconds": round(random.Random(n).uniform(0.02, longest), 3), "n": n, "out": "{workdir}/out"}
    proxy = backend.submit(spec, given, state, {"name": "task"})
    with open(f"{notes}/{n}.new", "w") as file:
        json.dump(proxy.json(), file)
    os.rename(f"{notes}/{n}.new", f"{notes}/{n}.proxy")
print("submitted", flush=True)
"""


class Arena:
    """A folder, and an environment by which everything that was started in it is found."""

    def __init__(self, folder: Path, seed: object, **environment: str) -> None:
        self.root = folder / "tasks"
        self.root.mkdir()
        self.mark = uuid.uuid4().hex
        self.random = random.Random(str(seed))
        self.killed: Counter[tuple[str, str]] = Counter()
        self.started: list[subprocess.Popen[bytes]] = []
        self.environment = {
            **os.environ,
            MARK: self.mark,
            "PACKTIVITY_STATE_DIR": str(folder / "state"),
            "PACKTIVITY_LOGGING_STREAM_LEVEL": "CRITICAL",
            **environment,
        }

    def start(self, *argv: str, folder: Path | None = None) -> subprocess.Popen[bytes]:
        with (self.root.parent / "log").open("ab") as log:
            process = subprocess.Popen(
                argv,
                cwd=folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.started.append(process)
        return process

    def submitter(
        self,
        backend: str,
        count: int,
        first: int = 0,
        longest: float = 0.25,
        spec: Mapping[str, object] = TASK,
        notes: Path | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a client that submits tasks which sleep for up to ``longest`` seconds, and notes their proxies.

        A task of the same number is the same task, whoever submits it.
        """
        given = (str(self.root), f"{first}-{first + count}", json.dumps(spec), str(longest), str(notes or self.root))
        return self.start(sys.executable, "-c", SUBMIT, backend, *given)

    def processes(self) -> dict[int, str]:
        """Every living process of the arena that can be told by its environment, with its command line."""
        found = {}
        for name in filter(str.isdigit, os.listdir("/proc")):
            with suppress(OSError):
                if self.mark.encode() in Path(f"/proc/{name}/environ").read_bytes():
                    found[int(name)] = Path(f"/proc/{name}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        return found

    def having(self, *words: str) -> list[int]:
        """Every process whose command line has one of these words in it."""
        return [pid for pid, line in self.processes().items() if any(word in line for word in words)]

    def kill_one(self, *kinds: str) -> None:
        """Kill a process whose command line has one of these words in it."""
        victims = self.having(*kinds)
        if victims:
            self.kill(self.random.choice(victims), kinds[0])

    def kill(self, pid: int, what: str, when: str = "") -> None:
        """Kill a process, and count it under what it was and when that was."""
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            self.killed[what, when] += 1

    @property
    def kills(self) -> int:
        return self.killed.total()

    def report(self, name: str, told: dict[str, int]) -> None:
        """Print what was killed when, and what became of the tasks."""
        print(f"\n{name}: {self.kills} kills, {sum(told.values())} tasks: {told}")
        for (what, when), count in sorted(self.killed.items()):
            print(f"  {count:4} x {what} {when}")

    def kill_all(self) -> None:
        for _ in range(50):
            living = self.processes()
            for process in self.started:
                process.poll()
            if not living and all(process.returncode is not None for process in self.started):
                return
            for pid in living:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        raise AssertionError(self.processes())

    def proxies(self) -> dict[int, dict[str, object]]:
        return {int(path.stem): json.loads(path.read_text()) for path in self.root.glob("*.proxy")}

    def unfinished(self) -> list[int]:
        """Tasks that were submitted and have no result file."""
        return [number for number in self.proxies() if not (self.root / str(number) / "out").exists()]

    def judge(self, number: int, status: str, error: object) -> None:
        """Hold what is said of a task against what it left."""
        folder = self.root / str(number)
        assert not (folder / "twice").exists(), f"task {number} ran beside itself"
        assert not overlap(folder / "ticks"), f"runs of task {number} wrote in turns"
        assert status in ("succeeded", "failed")
        if status == "succeeded":
            assert (folder / "out").read_text() == f"{number}\n"
            found = record.read_outcome(str(folder / "_packtivity" / "task.outcome.json"))
            assert found["status"] == "succeeded"
        else:
            # a child that has not yet become the task's shell looks like the worker it comes from, and is hit as well
            assert error["type"] == "WorkerLost" or error.get("returncode") == -9, error  # type: ignore[index,attr-defined]


def overlap(ticks: Path) -> bool:
    """Return whether of two runs that wrote into a file each wrote after the other had."""
    runs = [run for run, _ in groupby(ticks.read_text().splitlines())] if ticks.exists() else []
    return len(runs) != len(set(runs))


def settle(arena: Arena, seconds: float = 90.0, tend: Callable[[], object] = bool) -> dict[str, int]:
    """Ask until every task that was submitted is over, and judge each; how many there were of each status."""
    told: dict[str, int] = {}
    deadline = time.monotonic() + seconds
    waiting = {n: load_proxy(document) for n, document in arena.proxies().items()}
    while waiting:
        tend()
        for number, (proxy, backend) in list(waiting.items()):
            if not backend.ready(proxy):
                continue
            answer = backend.status(proxy)
            arena.judge(number, answer.status, answer.error)
            told[answer.status] = told.get(answer.status, 0) + 1
            del waiting[number]
        assert time.monotonic() < deadline, f"{len(waiting)} tasks hang"
        time.sleep(0.05)
    return told


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
