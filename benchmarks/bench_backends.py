"""What backends cost, against bare baselines measured in the same run.

    python benchmarks/bench_backends.py [--tasks N] [--status N] [--map N]

A task is ``sh -c true``, each in a directory of its own, with its record.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

SPEC = {
    "process": {"process_type": "string-interpolated-cmd", "cmd": "true"},
    "environment": {"environment_type": "localproc-env"},
    "publisher": {"publisher_type": "constant-pub", "publish": {"a": 1}},
}


def bare_pool(count: int) -> float:
    """Return tasks a second of a thread pool that runs the same subprocess."""
    with ThreadPoolExecutor(2) as pool:
        started = time.perf_counter()
        list(pool.map(lambda _: subprocess.run(["sh", "-c", "true"], check=True), range(count)))
        return count / (time.perf_counter() - started)


def states(folder: str, count: int) -> list[Any]:
    from packtivity.statecontexts import LocalFSState

    made = [LocalFSState([f"{folder}/{number}"]) for number in range(count)]
    for state in made:
        state.ensure()
    return made


def rate(backend: Any, count: int) -> float:
    """Return tasks a second of a backend."""
    with tempfile.TemporaryDirectory() as folder:
        places = states(folder, count)
        started = time.perf_counter()
        proxies = [backend.submit(SPEC, {}, state, {"name": "bench"}) for state in places]
        for proxy in proxies:
            backend.result(proxy)
        return count / (time.perf_counter() - started)


def multiproc(count: int) -> None:
    from packtivity.backendutils import backend_from_string

    _, backend = backend_from_string("multiproc:2")
    rate(backend, 50)
    ratios = []
    for _ in range(3):
        bare, ours = bare_pool(count), rate(backend, count)
        ratios.append(ours / bare)
        print(f"multiproc:2   bare {bare:7.0f}/s   ours {ours:7.0f}/s   ratio {ours / bare:4.2f}")
    backend.close()
    print(f"multiproc:2   best ratio {max(ratios):4.2f} (wanted: 0.50)")


def status(count: int) -> None:
    """Time to ask for many detached tasks that are over, and that wait."""
    from packtivity.backends.local import LocalBackend, LocalProxy
    from packtivity.backends.spool import DONE
    from packtivity.files import write_json

    backend = LocalBackend(1)
    spool = backend._spool()
    spool.prepare()
    names = [f"bench-{number:06d}" for number in range(count)]
    for name in names:
        write_json(spool.path(DONE, name), {"status": "succeeded", "result": {}, "error": None})
    proxies = [LocalProxy(name, spool.host) for name in names]
    started = time.perf_counter()
    backend.ask_many(proxies)
    print(f"status of {count} detached tasks: {time.perf_counter() - started:5.2f} s (wanted: below 2)")


def sweep(count: int) -> None:
    """Cost and memory of ``packtivity map``."""
    import resource

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "spec.yml").write_text(__import__("json").dumps(SPEC), encoding="utf-8")
        command = str(Path(sys.executable).parent / "packtivity")
        for size in (max(1, count // 10), count):
            started = time.perf_counter()
            argv = [command, "map", "-q", "spec.yml", "-p", f"x=1..{size}", "-w", f"out{size}", "-b", "multiproc:2"]
            subprocess.run(argv, cwd=folder, check=True)
            seconds = time.perf_counter() - started
            peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
            print(
                f"map over {size:6}: {seconds / size * 1e3:6.2f} ms a task, peak memory {peak:5.0f} MB (wanted: below 300)"
            )


def main() -> None:
    """Print everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=1000, help="trivial tasks for the rate (1000)")
    parser.add_argument("--status", type=int, default=10000, help="detached tasks to ask for (10000)")
    parser.add_argument("--map", type=int, default=2000, help="parameter sets (2000)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ["PACKTIVITY_STATE_DIR"] = home
        os.environ["PACKTIVITY_LOGGING_STREAM_LEVEL"] = "CRITICAL"
        multiproc(given.tasks)
        status(given.status)
        sweep(given.map)


if __name__ == "__main__":
    main()
