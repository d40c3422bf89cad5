"""What a yadage workflow costs on this packtivity and on 0.17.1, in both of its data models, in the same run.

    python benchmarks/bench_yadage.py [--steps 500] [--backend foregroundasync] [--rounds 1]

The workflow is a map with a reduce at its end; each step is one shell command that writes a file. The engine is the
same release in both environments: the world ``yadage`` (tools/worlds.py) and ``.oracle`` (make oracle).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORLD = ROOT / ".worlds" / f"yadage-{sys.version_info.major}.{sys.version_info.minor}"
ORACLE = ROOT / ".oracle"
WORKFLOW = ROOT / "tests" / "workflows" / "mapreduce"
WANTED = 3.0


def contestants() -> dict[str, tuple[Path, str]]:
    """Return name, environment and data model of everybody who takes part."""
    subprocess.run([sys.executable, str(ROOT / "tools" / "worlds.py"), "yadage"], check=True)
    if not (ORACLE / "bin" / "yadage-run").exists():
        sys.exit("packtivity 0.17.1 with its workflow engine is not here: make oracle")
    return {
        "packtivity 1.0": (WORLD, "typedleafs"),
        "0.17.1 purejson": (ORACLE, "purejson"),
        "0.17.1 typedleafs": (ORACLE, "typedleafs"),
    }


def run(environment: Path, impl: str, steps: int, backend: str) -> tuple[float, float]:
    """Run the workflow and return seconds of wall and of processor time."""
    with tempfile.TemporaryDirectory() as place:
        parameters = Path(place) / "parameters.json"
        parameters.write_text(json.dumps({"numbers": list(range(1, steps))}))
        command = [str(environment / "bin" / "yadage-run"), "run", "workflow.yml", str(parameters)]
        before, started = os.times(), time.perf_counter()
        subprocess.run(
            [*command, "-t", str(WORKFLOW), "-b", backend, "-v", "ERROR"],
            cwd=place,
            env={**os.environ, "PACKTIVITY_DATAMODEL_IMPL": impl, "PACKTIVITY_LOGGING_STREAM_LEVEL": "CRITICAL"},
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        seconds, after = time.perf_counter() - started, os.times()
        squares = sum(number * number for number in range(1, steps))
        found = float((Path(place) / "run" / "reduce" / "total.txt").read_text())
        if abs(found - squares) > 1e-5 * squares:
            sys.exit(f"the workflow computed {found}, and not {squares}")
        cpu = after.children_user + after.children_system - before.children_user - before.children_system
        return seconds, cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--backend", default="foregroundasync")
    parser.add_argument("--rounds", type=int, default=1, help="the best of so many counts")
    options = parser.parse_args()
    print(f"a yadage workflow of {options.steps} steps on {options.backend}")
    best: dict[str, float] = {}
    for name, (environment, impl) in contestants().items():
        timed = [run(environment, impl, options.steps, options.backend) for _ in range(options.rounds)]
        best[name], cpu = min(timed)
        ratio = best[name] / best["packtivity 1.0"]
        print(f"  {name:20} wall {best[name]:8.2f} s   processor {cpu:8.2f} s   ratio {ratio:6.2f}", flush=True)
    slowest = best["0.17.1 typedleafs"] / best["packtivity 1.0"]
    print(f"  {slowest:.1f} times faster than 0.17.1 as it is installed; wanted: {WANTED:g}")
    if slowest < WANTED:
        sys.exit(1)


if __name__ == "__main__":
    main()
