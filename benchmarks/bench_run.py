"""What running a task costs, against bare baselines measured in the same run.

    python benchmarks/bench_run.py [--output MEGABYTES]

Everything is done by this packtivity and, where the environment ``.oracle`` is there, by packtivity 0.17.1 in both of
its data models. Each number is the best of several rounds, because the machine's other work only ever adds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ORACLE = Path(__file__).resolve().parent.parent / ".oracle" / "bin" / "python"

# Runs under both versions: only what both have is imported.
TASKS = """
import json, subprocess, sys, tempfile, time
from packtivity.statecontexts import LocalFSState
from packtivity.syncbackends import defaultsyncbackend

rounds, count = int(sys.argv[1]), int(sys.argv[2])
state = LocalFSState([tempfile.mkdtemp()])
state.ensure()
spec = {
    "process": {"process_type": "string-interpolated-cmd", "cmd": "true {events} {seed} {output}"},
    "environment": {"environment_type": "localproc-env"},
    "publisher": {"publisher_type": "frompar-pub", "outputmap": {"hepmc": "output"}},
}
parameters = {"events": 1000, "seed": 7, "output": "{workdir}/out.hepmc", "tags": ["a", "b"]}
backend = defaultsyncbackend()

def milliseconds(function, times):
    started = time.perf_counter()
    for _ in range(times):
        function()
    return (time.perf_counter() - started) / times * 1e3

best = {}
for _ in range(rounds):
    for name, function, times in (
        ("bare", lambda: subprocess.run(["sh", "-c", "true"]), count),
        ("task", lambda: backend.run(spec, parameters, state), count),
        ("prepublish", lambda: backend.prepublish(spec, parameters, state), count),
    ):
        best[name] = min(best.get(name, 1e9), milliseconds(function, times))
print(json.dumps(best))
"""

OUTPUT = """
import json, re, sys, tempfile, time
command = sys.argv[1]
from packtivity.statecontexts import LocalFSState
from packtivity.syncbackends import ExecutionConfig, packconfig, run_in_env
state = LocalFSState([tempfile.mkdtemp(dir=sys.argv[2])])
state.ensure()
started = time.perf_counter()
try:
    from packtivity.handlers.execution_handlers import execute_and_tail_subprocess
except ImportError:
    environment = {"environment_type": "localproc-env"}
    run_in_env({"command": command}, environment, state, {"name": "bench"}, packconfig(), ExecutionConfig())
else:
    import logging, shlex
    quoted = "sh -c " + shlex.quote(command)
    log = logging.getLogger("bench")
    execute_and_tail_subprocess(ExecutionConfig(), {"name": "bench"}, state, log, quoted, logging_topic="run")
seconds = time.perf_counter() - started
peak = int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1]) * 1024
cpu = time.process_time()
print(json.dumps({"seconds": seconds, "peak": peak, "cpu": cpu}))
"""

LINE = "event 123456: 4 jets, leading pt 312.77 GeV, missing et 45.1 GeV, weight 1.00"


def ask(python: str, code: str, *arguments: object, impl: str = "typedleafs") -> dict[str, float]:
    """Run a piece of benchmark code and return what it printed."""
    environment = {**os.environ, "PACKTIVITY_DATAMODEL_IMPL": impl}
    done = subprocess.run(
        [python, "-c", code, *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    answer: dict[str, float] = json.loads(done.stdout)
    return answer


def contestants() -> list[tuple[str, str, str]]:
    """Return name, interpreter and data model of everybody who takes part."""
    ours = [("packtivity 1.0", sys.executable, "typedleafs")]
    if not ORACLE.exists():
        print("packtivity 0.17.1 is not here (make oracle): no comparison")
        return ours
    original = [(f"0.17.1 {impl}", str(ORACLE), impl) for impl in ("typedleafs", "purejson")]
    return ours + original


def tasks() -> None:
    """One task in process, and prepublishing."""
    print("one task of localproc-env in this process, against subprocess.run(['sh', '-c', 'true'])")
    for name, python, impl in contestants():
        ours = python == sys.executable
        found = ask(python, TASKS, 5 if ours else 3, 100 if ours else 20, impl=impl)
        extra = found["task"] - found["bare"]
        print(
            f"  {name:20} bare {found['bare']:6.2f} ms   task {found['task']:6.2f} ms   "
            f"extra {extra:6.2f} ms   ratio {found['task'] / found['bare']:5.1f}   "
            f"prepublish {found['prepublish'] * 1e3:7.0f} µs"
        )


def output(megabytes: int) -> None:
    """Output of a task into its log."""
    for title, source in (("lines", f"yes '{LINE}' | head -c"), ("one line", "head -c")):
        for name, python, impl in contestants():
            if impl == "purejson":
                continue
            size = megabytes if python == sys.executable else min(megabytes, 20)
            command = f"{source} {size}000000" + (" /dev/zero | tr '\\0' x" if title == "one line" else "")
            with tempfile.TemporaryDirectory() as folder:
                bare = bare_seconds(command, folder)
                found = ask(python, OUTPUT, command, folder, impl=impl)
            print(
                f"output, {title:8}  {name:20} {size:5} MB   {size / found['seconds']:7.1f} MB/s   "
                f"CPU of the runner {found['cpu']:5.1f} s   "
                f"peak memory {found['peak'] / 1e6:6.1f} MB   "
                f"ratio to `sh -c '… > file'` {found['seconds'] / bare:5.1f}"
            )


def bare_seconds(command: str, folder: str) -> float:
    """Return how long the same output takes into a file, without anybody looking at it."""
    import time

    started = time.perf_counter()
    subprocess.run(["sh", "-c", f"{command} > '{folder}/bare'"], check=True)
    return time.perf_counter() - started


def imports() -> None:
    """CPU time of importing the package."""
    for name, python, _ in contestants()[:2]:
        bare, full = (cpu(python, code) for code in ("pass", "import packtivity"))
        print(
            f"import packtivity  {name:20} {full:6.1f} ms   `python -c pass` {bare:6.1f} ms   ratio {full / bare:5.2f}"
        )


def cpu(python: str, code: str, rounds: int = 7) -> float:
    """Return the least CPU time of an interpreter that runs ``code``, in milliseconds."""
    import resource

    def used() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    best = float("inf")
    for _ in range(rounds):
        before = used()
        subprocess.run([python, "-c", code], check=True)
        best = min(best, used() - before)
    return best * 1e3


def main() -> None:
    """Print everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=int, default=1000, metavar="MEGABYTES", help="size of the output (1000)")
    size = parser.parse_args().output
    imports()
    tasks()
    output(size)


if __name__ == "__main__":
    main()
