"""Programs of one environment, each a copy of a process that has imported what they need: that takes most of their time."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PROGRAM = Path(__file__).resolve().parent.parent / "oracles" / "forks.py"


class Forks:
    """A process of an interpreter that has imported some modules, and makes copies of itself.

    :param environment: of that process; a copy has its own.
    """

    def __init__(self, interpreter: str, *modules: str, **environment: str) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PACKTIVITY_")}
        argv = [interpreter, "-W", "ignore", str(PROGRAM), *modules]
        self._process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**kept, **environment}, text=True
        )

    def run(
        self, argv: Sequence[str], cwd: Path, env: Mapping[str, str], *, code: str = "", log: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a script of the environment, or code, to its end.

        :param log: where its output and errors go together, in place of the result.
        """
        with tempfile.TemporaryDirectory() as folder:
            out, err = (log, log) if log else (Path(folder, "out"), Path(folder, "err"))
            order = {
                "argv": list(argv),
                "code": code,
                "cwd": str(cwd),
                "env": dict(env),
                "out": str(out),
                "err": str(err),
            }
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            print(json.dumps(order), file=self._process.stdin, flush=True)
            code_of_end = int(self._process.stdout.readline())
            texts = [path.read_text("utf-8", "surrogateescape") for path in (out, err)]
        return subprocess.CompletedProcess(list(argv), code_of_end, *texts)

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=30)
