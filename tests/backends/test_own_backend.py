"""The example of a backend of one's own: used as a plug-in, from the command line, by another process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

BIN = Path(sys.executable).parent
SOURCE = Path(__file__).resolve().parent.parent.parent / "examples" / "backend" / "src"

PLUGIN = """
from packtivity.backendutils import backend, proxyloader
from packtivity_example_backend import load_folder_proxy, make_backend
backend("folder")(make_backend)
proxyloader("FolderProxy")(load_folder_proxy)
"""

SPEC = {
    "process": {"process_type": "string-interpolated-cmd", "cmd": "echo {x} > {out}; exit {x}"},
    "environment": {"environment_type": "localproc-env"},
    "publisher": {"publisher_type": "frompar-pub", "outputmap": {"o": "out"}},
}


def run(tmp_path, *arguments):
    path = f"{tmp_path}:{SOURCE}"
    environment = {**os.environ, "PYTHONPATH": path, "PACKTIVITY_PLUGINS": "registers_it"}
    environment["PATH"] = f"{BIN}:{environment['PATH']}"
    return subprocess.run(
        [str(BIN / arguments[0]), *arguments[1:]],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_example_runs_tasks_and_tells_another_process(tmp_path):
    (tmp_path / "registers_it.py").write_text(PLUGIN)
    (tmp_path / "spec.yml").write_text(json.dumps(SPEC))
    for code in (0, 3):
        given = ("-p", f"x={code}", "-p", 'out="{workdir}/o"', "-w", f"w{code}")
        done = run(tmp_path, "packtivity-run", "-b", "folder", "--async", *given, "spec.yml")
        assert done.returncode == 0, done.stderr
        asked = run(tmp_path, "packtivity-checkproxy", "--wait", "--timeout", "40", "proxy.json")
        assert asked.returncode == (6 if code else 0), asked.stderr
        assert f"successful: {code == 0}" in asked.stdout
    waited = run(tmp_path, "packtivity-run", "-b", "folder", "-p", "x=0", "-p", 'out="{workdir}/o"', "spec.yml")
    assert waited.returncode == 0, waited.stderr
    assert "'o': " in waited.stdout
