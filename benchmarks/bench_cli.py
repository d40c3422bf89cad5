"""What a command costs in CPU, against a bare interpreter measured in the same run.

    python benchmarks/bench_cli.py [--rounds N]

CPU is user plus system time of the whole process tree (``wait4``), the median over rounds in which every command
runs once, so that the machine's other work meets all of them alike. Ratios are to ``python -c pass`` of the same
environment. Where the environment ``.oracle`` is there, packtivity 0.17.1 runs the same task in both of its data models.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from statistics import median

from task import BIN

ORACLE = Path(__file__).resolve().parent.parent / ".oracle" / "bin"

SPEC = """\
process:
  process_type: string-interpolated-cmd
  cmd: echo hello {name} > {outputfile}
environment:
  environment_type: localproc-env
publisher:
  publisher_type: frompar-pub
  outputmap:
    output: outputfile
"""

Call = tuple[list[str], dict[str, str]]


def calls(directory: str) -> dict[str, Call]:
    """Name what is measured; the first is the yardstick."""
    task = ["spec.yml", "-p", "name=x", "-p", 'outputfile="{workdir}/o"', "-w", directory]
    completion = {"_PACKTIVITY_RUN_COMPLETE": "bash_complete", "COMP_WORDS": "packtivity-run --as", "COMP_CWORD": "1"}
    made: dict[str, Call] = {
        "python -c pass": ([sys.executable, "-c", "pass"], {}),
        "python -c 'import click'": ([sys.executable, "-c", "import click"], {}),
        "packtivity --help": ([str(BIN / "packtivity"), "--help"], {}),
        "packtivity-run --help": ([str(BIN / "packtivity-run"), "--help"], {}),
        "packtivity-run, completion": ([str(BIN / "packtivity-run")], completion),
        "packtivity-run, echo": ([str(BIN / "packtivity-run"), *task], {}),
        "packtivity-validate": ([str(BIN / "packtivity-validate"), "spec.yml"], {}),
    }
    if ORACLE.exists():
        original = [str(ORACLE / "packtivity-run"), *task]
        made["0.17.1 packtivity-run, echo"] = (original, {})
        made["0.17.1 packtivity-run, echo, purejson"] = (original, {"PACKTIVITY_DATAMODEL_IMPL": "purejson"})
    return made


def cpu(call: Call) -> float:
    """Run a command and return its CPU seconds."""
    argv, more = call
    unwanted = ("PACKTIVITY_", "PYTHONDONTWRITEBYTECODE")  # installed packages have their bytecode, so shall we
    environment = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    silence = [(os.POSIX_SPAWN_OPEN, stream, os.devnull, os.O_WRONLY, 0) for stream in (1, 2)]
    pid = os.posix_spawn(argv[0], argv, {**environment, **more}, file_actions=silence)
    _, status, usage = os.wait4(pid, 0)
    if status:
        raise SystemExit(f"failed with status {status}: {' '.join(argv)}")
    return usage.ru_utime + usage.ru_stime


def measure(rounds: int) -> dict[str, float]:
    """Return the median CPU seconds of each command."""
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        Path("spec.yml").write_text(SPEC, encoding="utf-8")
        wanted = calls(directory)
        taken: dict[str, list[float]] = {name: [] for name in wanted}
        for number in range(rounds + 1):
            for name, call in wanted.items():
                seconds = cpu(call)
                if number:  # the first round warms the caches
                    taken[name].append(seconds)
        os.chdir("/")
    return {name: median(seconds) for name, seconds in taken.items()}


TARGETS = {
    "packtivity --help": 4.5,
    "packtivity-run --help": 4.5,
    "packtivity-run, completion": 4.5,
    "packtivity-run, echo": 8.5,
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=31)
    found = measure(parser.parse_args().rounds)
    bare = found["python -c pass"]
    for name, seconds in found.items():
        target = f"   at most {TARGETS[name]}" if name in TARGETS else ""
        print(f"{seconds * 1e3:8.1f} ms {seconds / bare:7.2f} x   {name}{target}")
    for name, seconds in found.items():
        if name.startswith("0.17.1"):
            print(f"{seconds / found['packtivity-run, echo']:19.2f} x   {name} against ours   at least 2.7")


if __name__ == "__main__":
    main()
