"""What backends cost, against bare baselines measured in the same run.

    python benchmarks/bench_backends.py [--tasks N] [--status N] [--map N]

A task is ``sh -c true``, each in a directory of its own, with its record.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from task import SPEC


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


def rate(backend: Any, count: int, folder: str) -> float:
    """Return tasks a second of a backend."""
    places = states(folder, count)
    started = time.perf_counter()
    proxies = [backend.submit(SPEC, {}, state, {"name": "bench"}) for state in places]
    for proxy in proxies:
        backend.result(proxy)
    return count / (time.perf_counter() - started)


def new_files(folder: str, count: int = 500) -> float:
    """Return what it takes to make an empty file, in microseconds; a task makes three."""
    os.mkdir(folder)
    started = time.perf_counter()
    for number in range(count):
        os.close(os.open(f"{folder}/{number}", os.O_WRONLY | os.O_CREAT))
    return (time.perf_counter() - started) / count * 1e6


def multiproc(count: int, folder: str) -> None:
    """Compare rates; directories stay until all is over, because ext4 can make files slowly after many were removed."""
    from packtivity.backendutils import backend_from_string

    print(f"multiproc:2   a new file takes {new_files(f'{folder}/files'):.0f} us here")

    _, backend = backend_from_string("multiproc:2")
    rate(backend, 50, f"{folder}/warm")
    bare_pool(50)
    ratios = []
    for turn in range(5):
        bare, ours = bare_pool(count), rate(backend, count, f"{folder}/{turn}")
        ratios.append(ours / bare)
        print(f"multiproc:2   bare {bare:7.0f}/s   ours {ours:7.0f}/s   ratio {ours / bare:4.2f}", flush=True)
    backend.close()
    print(f"multiproc:2   median ratio {sorted(ratios)[2]:4.2f} (wanted: 0.50)")


def spent() -> float:
    """Return the CPU seconds of this process and of those that it has waited for."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in usage)


def status(count: int, folder: str) -> None:
    """CPU to submit, list, ask for and cancel detached tasks: half of them over, the others waiting behind one that runs.

    What ``packtivity-checkproxy`` is given are the files of all of them, and of no others.
    """
    from packtivity.backends.engines.local import LocalBackend, LocalProxy
    from packtivity.backends.status import TaskStatus
    from packtivity.backends.task_files import TaskFiles
    from packtivity.files import write_json
    from packtivity.statecontexts import LocalFSState

    backend, files = LocalBackend(1), TaskFiles()
    slow = {**SPEC, "process": {**SPEC["process"], "cmd": "sleep 3600"}}
    waiting = [(slow, {}, LocalFSState([f"{folder}/{number}"]), {"name": "bench"}) for number in range(count // 2)]
    before = spent()
    proxies = backend.batch_submit(waiting)
    print(
        f"local            submitting {len(waiting)} tasks in one go: {(spent() - before) / len(waiting) * 1e6:4.0f} us CPU a task"
    )
    over = [backend.entry(SPEC, {}, LocalFSState([f"{folder}/over"]), {"name": "bench"}) for _ in range(count // 2)]
    files.write(over, sync=False)
    for entry in over:
        files.retire(entry, TaskStatus("succeeded", {}))
    proxies += [LocalProxy(entry.id, entry.place, entry.record) for entry in over]
    documents = [f"{folder}/{number}.json" for number in range(len(proxies))]
    for file, proxy in zip(documents, proxies, strict=True):
        write_json(file, proxy.json())
    here = str(Path(sys.executable).parent)
    asking = {"packtivity ps -a": [f"{here}/packtivity", "ps", "-a"], "checkproxy": [f"{here}/packtivity-checkproxy"]}
    asking["checkproxy"] += documents
    for title, argv in asking.items():
        started, before = time.perf_counter(), spent()
        done = subprocess.run(argv, stdout=subprocess.PIPE, check=False)
        seconds, cpu = time.perf_counter() - started, (spent() - before) / len(documents) * 1e6
        lines = done.stdout.count(b"\n")
        print(f"{title:16} {len(documents)} tasks: {seconds:5.2f} s, {cpu:4.0f} us CPU a task, {lines} lines")
    proxies += one_by_one(backend, slow, folder, count // 2)
    started = time.perf_counter()
    backend.cancel_many(proxies)
    seconds = time.perf_counter() - started
    print(f"local            cancelling {len(waiting) + count // 2} tasks in one go: {seconds:5.2f} s")


def one_by_one(backend: Any, spec: Any, folder: str, count: int) -> list[Any]:
    """Time to submit detached tasks one after the other while all of them wait: the first tenth, and the last."""
    from packtivity.statecontexts import LocalFSState

    times, proxies = [], []
    for number in range(count):
        before = spent()
        proxies.append(backend.submit(spec, {}, LocalFSState([f"{folder}/one{number}"]), {"name": "bench"}))
        times.append(spent() - before)
    tenth = max(1, count // 10)
    first, last = sum(times[:tenth]) / tenth * 1e6, sum(times[-tenth:]) / tenth * 1e6
    print(
        f"local            submitting {count} tasks one by one, us CPU: first tenth {first:4.0f}, last {last:4.0f} (the same)"
    )
    return proxies


def sweep(count: int, folder: str) -> None:
    """Cost and memory of ``packtivity map``."""
    import json

    (Path(folder) / "spec.yml").write_text(json.dumps(SPEC), encoding="utf-8")
    command = str(Path(sys.executable).parent / "packtivity")
    started = time.perf_counter()
    argv = [command, "map", "-q", "spec.yml", "-p", f"x=1..{count}", "-w", "out", "-b", "multiproc:2"]
    subprocess.run(argv, cwd=folder, check=True, stderr=subprocess.DEVNULL)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"map over {count}: {seconds / count * 1e3:5.2f} ms a task, peak memory {peak:4.0f} MB (wanted: below 300)")
    records = (Path(folder) / "out").glob("*/_packtivity/packtivity.outcome.json")
    ended = sorted(path.stat().st_mtime for path in records)
    part = count // 10
    first, last = ((group[-1] - group[0]) / part * 1e3 for group in (ended[:part], ended[-part:]))
    print(f"map over {count}: first {part} {first:5.2f} ms a task, last {part} {last:5.2f} ms (wanted: the same)")
    started = time.perf_counter()
    subprocess.run(argv, cwd=folder, check=True, stderr=subprocess.DEVNULL)
    print(f"map over {count}: {(time.perf_counter() - started) / count * 1e3:5.2f} ms a task when all were done before")


def main() -> None:
    """Print everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=1000, help="trivial tasks for the rate (1000)")
    parser.add_argument("--status", type=int, default=10000, help="detached tasks to ask for (10000)")
    parser.add_argument("--map", type=int, default=10000, help="parameter sets (10000)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ["PACKTIVITY_STATE_DIR"] = f"{home}/state"
        os.environ["PACKTIVITY_LOGGING_STREAM_LEVEL"] = "CRITICAL"
        for part, size in ((multiproc, given.tasks), (status, given.status), (sweep, given.map)):
            folder = f"{home}/{part.__name__}"
            os.mkdir(folder)
            part(size, folder)


if __name__ == "__main__":
    main()
