"""What running a container through packtivity costs over the container tool's own command, in one run.

    tools/setup-engines.sh; eval "$(tools/setup-engines.sh env)"; python benchmarks/bench_containers.py [TOOL...]

For each tool: the median of single runs, ours and bare, taken in turns; then 50 tasks on the same image, two at a
time, against a shell loop (xargs) of the same container commands two at a time.
"""

from __future__ import annotations

import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from packtivity.handlers.config import ExecutionConfig, packconfig
from packtivity.runtimes.choose import named
from packtivity.runtimes.containers import plan_container
from packtivity.runtimes.shell_lines import container_line
from packtivity.statecontexts import LocalFSState
from packtivity.task import run_packtivity

if TYPE_CHECKING:
    from collections.abc import Callable

REGISTRY = os.environ.get("PACKTIVITY_TEST_REGISTRY", "127.0.0.1:5077")
ENVIRONMENT = {
    "environment_type": "docker-encapsulated",
    "image": f"{REGISTRY}/test/busybox",
    "imagetag": "1.0",
    "resources": [],
    "envscript": "",
    "env": {},
    "workdir": None,
    "par_mounts": [],
}
SPEC = {
    "process": {"process_type": "string-interpolated-cmd", "cmd": "true"},
    "environment": ENVIRONMENT,
    "publisher": {"publisher_type": "constant-pub", "publish": {}},
}
SINGLE = int(os.environ.get("BENCH_RUNS", "15"))
MANY = 50
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))


def configuration(tool: str) -> ExecutionConfig:
    return ExecutionConfig({"logging_level": "ERROR", "containers": {"runtime": tool, "network": "host"}})


def ours(tool: str, folder: str) -> float:
    began = time.perf_counter()
    run_packtivity(SPEC, {}, LocalFSState([folder]), {"name": "bench"}, packconfig(), configuration(tool))
    return time.perf_counter() - began


def bare_argv(tool: str, folder: str) -> list[str]:
    """Return the very command that packtivity runs, as a person would type it."""
    execution = plan_container({"command": "true"}, ENVIRONMENT, LocalFSState([folder]), configuration(tool))
    line = container_line(named(tool), execution).removesuffix(" </dev/null")
    return shlex.split(line.replace('"$(mktemp -d)"', shlex.quote(tempfile.mkdtemp(dir=folder))))


def bare(argv: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return time.perf_counter() - began


def single(tool: str, folder: str) -> None:
    argv = bare_argv(tool, folder)
    pairs = [(ours(tool, folder), bare(argv)) for _ in range(SINGLE)]
    mine, theirs = ([value * 1000 for value in column] for column in zip(*pairs, strict=True))
    middle = statistics.median(mine) - statistics.median(theirs)
    print(
        f"{tool:10} one run: bare {statistics.median(theirs):6.1f} ms, packtivity {statistics.median(mine):6.1f} ms, "
        f"overhead {middle:+6.1f} ms (at most 25); between the fastest {min(mine) - min(theirs):+6.1f} ms"
    )


def many(tool: str, folder: str) -> None:
    folders = [f"{folder}/{number}" for number in range(MANY)]
    for path in folders:
        os.mkdir(path)
    commands = "\n".join(
        shlex.join(["sh", "-c", f"exec {shlex.join(bare_argv(tool, path))} </dev/null"]) for path in folders
    )

    def loop() -> None:
        argv = ["xargs", "-P2", "-L1", "sh", "-c", 'exec "$@"', "sh"]
        subprocess.run(argv, input=commands.encode(), check=True)

    def tasks() -> None:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda path: ours(tool, path), folders))

    pairs = [timed(tasks, loop) if turn % 2 else timed(loop, tasks)[::-1] for turn in range(ROUNDS)]
    mine, theirs = zip(*pairs, strict=True)
    middle = statistics.median(one / other for one, other in pairs)
    print(
        f"{tool:10} {MANY} tasks, 2 at a time, {ROUNDS} rounds in turns: loop {min(theirs):6.2f} s, "
        f"packtivity {min(mine):6.2f} s, ratio {min(mine) / min(theirs):.2f}, median of pairs {middle:.2f} (at most 1.1)"
    )


def timed(*actions: Callable[[], None]) -> tuple[float, ...]:
    """Return how long each took, one after the other."""
    times = []
    for action in actions:
        began = time.perf_counter()
        action()
        times.append(time.perf_counter() - began)
    return tuple(times)


def main() -> None:
    tools = sys.argv[1:] or [tool for tool in ("docker", "podman", "apptainer") if shutil.which(tool)]
    for tool in tools:
        folder = tempfile.mkdtemp(prefix="packtivity-bench-")
        try:
            ours(tool, folder)  # pulls the image
            single(tool, folder)
            many(tool, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
