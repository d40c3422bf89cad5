"""``packtivity map`` over many trivial sets, the whole command with its records, against others that start as many shells.

    python benchmarks/bench_league.py [--tasks N] [--rounds N]

A task is ``sh -c true``, two at a time. All take turns in the same run; the baseline is ``xargs -P2``. HyperQueue, Dask and
Snakemake take part where they are installed beside this interpreter; none of them keeps a record of a task. The CPU of a
task is user plus system time of all its processes, where they are children of the command that is measured.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from task import BIN, SPEC

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WANTED = 0.4
DASK = """
import subprocess, sys
from distributed import Client, LocalCluster
if __name__ == "__main__":
    with LocalCluster(2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        client.gather(client.map(lambda n: subprocess.run(["sh", "-c", "true"], check=True).returncode, range(int(sys.argv[1]))))
"""
SNAKEMAKE = """
rule all:
    input: expand("{{n}}.done", n=range({tasks}))
rule one:
    output: touch("{{n}}.done")
    shell: "true"
"""


def run(*argv: str | Path, stdin: str = "", folder: str | None = None) -> None:
    """Run a command that has to succeed, and keep what it prints to itself."""
    subprocess.run(argv, input=stdin, cwd=folder, text=True, check=True, capture_output=True)


def xargs(tasks: int, _: str) -> None:
    """Start a shell for each line."""
    run("xargs", "-P2", "-I{}", "sh", "-c", "true", stdin="\n".join(map(str, range(tasks))))


def ours(tasks: int, folder: str) -> None:
    """Run ``packtivity map``."""
    (Path(folder) / "spec.yml").write_text(json.dumps(SPEC), encoding="utf-8")
    run(
        BIN / "packtivity",
        "map",
        "-q",
        "spec.yml",
        "-p",
        f"x=1..{tasks}",
        "-w",
        "out",
        "-b",
        "multiproc:2",
        folder=folder,
    )
    found = len(list(Path(folder).glob("out/*/_packtivity/packtivity.outcome.json")))
    if found != tasks:
        raise SystemExit(f"{found} of {tasks} tasks have a record")


def dask(tasks: int, folder: str) -> None:
    """Map over a cluster of two workers that is started for it."""
    (Path(folder) / "run.py").write_text(DASK, encoding="utf-8")
    run(sys.executable, "run.py", str(tasks), folder=folder)


def snakemake(tasks: int, folder: str) -> None:
    """Run a workflow of independent jobs."""
    (Path(folder) / "Snakefile").write_text(SNAKEMAKE.format(tasks=tasks), encoding="utf-8")
    run(BIN / "snakemake", "--cores", "2", "--quiet", folder=folder)


def hyperqueue(tasks: int, folder: str) -> None:
    """Submit an array to a server that is there, and wait for it."""
    output = ("--stdout=none", "--stderr=none")
    run(BIN / "hq", "submit", "--wait", f"--array=1-{tasks}", *output, "sh", "-c", "true", folder=folder)


@contextmanager
def hyperqueue_server() -> Iterator[None]:
    """Let there be a HyperQueue server with a worker of two processors inside the block, where it is installed."""
    if not (BIN / "hq").exists():
        yield
        return
    with tempfile.TemporaryDirectory() as home:
        os.environ["HQ_SERVER_DIR"] = home
        server = subprocess.Popen([BIN / "hq", "server", "start"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not any(Path(home).rglob("access.json")):
            time.sleep(0.05)
        argv = [BIN / "hq", "worker", "start", "--cpus=2"]
        worker = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield
        finally:
            for process in (worker, server):
                process.terminate()
                process.wait()


def measured(contestant: Callable[[int, str], None], tasks: int) -> tuple[float, float]:
    """Return tasks a second, and the CPU of a task in milliseconds."""
    with tempfile.TemporaryDirectory() as folder:
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        contestant(tasks, folder)
        seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return tasks / seconds, cpu / tasks * 1e3


def main() -> None:
    """Let all run in turn, and print their medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    contestants: dict[str, Callable[[int, str], None]] = {"xargs -P2": xargs, "packtivity map": ours}
    if (BIN / "hq").exists():
        contestants["HyperQueue"] = hyperqueue
    if importlib.util.find_spec("distributed"):
        contestants["Dask"] = dask
    if (BIN / "snakemake").exists():
        contestants["Snakemake"] = snakemake
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    with hyperqueue_server():
        for _ in range(options.rounds):
            for name, contestant in contestants.items():
                found[name].append(measured(contestant, options.tasks))
    for name, figures in found.items():
        rate, cpu = (statistics.median(column) for column in zip(*figures, strict=True))
        ratios = [each / base for (each, _), (base, _) in zip(figures, found["xargs -P2"], strict=True)]
        wanted = f"   (wanted: {WANTED})" if name == "packtivity map" else ""
        print(f"{name:15} {rate:6.0f}/s   CPU of a task {cpu:5.2f} ms   ratio {statistics.median(ratios):4.2f}{wanted}")


if __name__ == "__main__":
    main()
