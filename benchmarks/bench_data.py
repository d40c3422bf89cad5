"""What parameters and globs cost, as ratios against a bare baseline in the same run.

    python benchmarks/bench_data.py [--files 100000] [--repeat 5]

Leaves: making a document, contextualising it and mapping its leaves as a publisher does, against ``json.loads`` of
``json.dumps`` of the same document. Globs: ``**`` and ``*`` patterns against ``os.walk`` over the same tree, which is
made in a temporary directory. Each figure is the best of several runs.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from typing import TYPE_CHECKING, Any

from packtivity.datamodel import create, map_leaves
from packtivity.globs import glob
from packtivity.interpolate import interpolate
from packtivity.statecontexts import LocalFSState

if TYPE_CHECKING:
    from collections.abc import Callable


def best(function: Callable[[], Any], repeat: int) -> float:
    """Return the shortest of several runs, in seconds."""
    times = []
    for _ in range(repeat):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return min(times)


def parameters(leaves: int) -> dict[str, Any]:
    """Return a document as real ones are: lists of files, some numbers, a little nesting."""
    files = [f"{{workdir}}/run_{number}/events.root" for number in range(leaves // 2)]
    plain = {f"cut_{number:06d}": number / 7 for number in range(leaves // 4)}
    nested = [{"name": f"sample {number}", "files": ["{workdir}/x"]} for number in range(leaves // 8)]
    return {"inputs": files, "cuts": plain, "samples": nested}


def contextualise_and_publish(data: Any, state: LocalFSState) -> Any:
    """Do to a document what a task does before it runs and an interpolated-pub after it."""
    model = state.model(create(data))
    names = {"workdir": state.readwrite[0]}
    published = map_leaves(data, lambda leaf: interpolate(leaf, (), names) if isinstance(leaf, str) else leaf)
    return create(published), model


def bench_leaves(repeat: int) -> None:
    state = LocalFSState(["/data/work"])
    print(f"{'leaves':>8} {'contextualise+publish':>22} {'json round trip':>16} {'ratio':>6} {'growth':>7}")
    before = None
    for leaves in (1_000, 10_000, 100_000):
        data = parameters(leaves)
        ours = best(lambda data=data: contextualise_and_publish(data, state), repeat)
        bare = best(lambda data=data: json.loads(json.dumps(data)), repeat)
        growth = f"{ours / before:6.1f}x" if before else ""
        print(f"{leaves:>8} {ours * 1e3:>19.1f} ms {bare * 1e3:>13.1f} ms {ours / bare:>5.1f}x {growth:>7}")
        before = ours


def bench_small(repeat: int) -> None:
    """Time the document of a typical step, which yadage makes and contextualises for every node on every tick."""
    state = LocalFSState(["/data/work"], ["/data/in"])
    data = {"input": "{readdir0}/in.root", "output": "{workdir}/out.root", "events": 1000, "flags": ["-a", "-b"]}
    rounds = 1000
    ours = best(lambda: [state.model(create(data)) for _ in range(rounds)], repeat) / rounds
    print(f"create and contextualise the parameters of one step: {ours * 1e6:.0f} µs (prepublish may take 300)")


def plant(root: str, files: int) -> None:
    for number in range(files // 100):
        folder = os.path.join(root, f"run_{number // 50:03d}", f"job_{number:05d}")
        os.makedirs(folder)
        for name in range(100):
            with open(os.path.join(folder, f"events_{name:03d}.{'root' if name % 2 else 'log'}"), "w"):
                pass


def walk(root: str) -> int:
    return sum(len(names) for _, _, names in os.walk(root))


def bench_globs(files: int, repeat: int) -> None:
    with tempfile.TemporaryDirectory() as root:
        plant(root, files)
        bare = best(lambda: walk(root), repeat)
        print(f"os.walk over {walk(root)} files: {bare * 1e3:.0f} ms")
        for pattern in ("**", "**/*.root", "*/*/*.root", "*/*/*"):
            ours = best(lambda pattern=pattern: glob(f"{root}/{pattern}"), repeat)
            print(
                f"  {pattern:<12} {len(glob(f'{root}/{pattern}')):>7} found {ours * 1e3:>7.0f} ms {ours / bare:>5.2f}x"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=100_000, help="files in the tree")
    parser.add_argument("--repeat", type=int, default=5, help="runs of which the best counts")
    options = parser.parse_args()
    bench_leaves(options.repeat)
    bench_small(options.repeat)
    bench_globs(options.files, options.repeat)


if __name__ == "__main__":
    main()
