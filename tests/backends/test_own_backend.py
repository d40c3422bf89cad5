"""The example of a backend of one's own: used as a plug-in, from the command line, by another process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from specs import command_spec, from_parameters
from waiting import until

BIN = Path(sys.executable).parent
SOURCE = Path(__file__).resolve().parent.parent.parent / "examples" / "backend" / "src"

PLUGIN = """
from packtivity.backendutils import backend, proxyloader
from packtivity_example_backend import load_folder_proxy, make_backend
backend("folder")(make_backend)
proxyloader("FolderProxy")(load_folder_proxy)
"""

SPEC = command_spec("echo {x} > {out}; exit {x}", from_parameters({"o": "out"}))


def run(tmp_path, *arguments, **extra):
    (tmp_path / "registers_it.py").write_text(PLUGIN)
    path = f"{tmp_path}:{SOURCE}"
    environment = {**os.environ, "PYTHONPATH": path, "PACKTIVITY_PLUGINS": "registers_it"}
    environment |= {"PATH": f"{BIN}:{environment['PATH']}", **extra}
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


SLOW = {
    **SPEC,
    "process": {"process_type": "string-interpolated-cmd", "cmd": "touch {workdir}/begun; sleep 60; echo > {out}"},
}
FROM_CLASS = "packtivity_example_backend:FolderBackend"


def begin(tmp_path, *how, **environment):
    """Submit a task that takes long, and return its proxy file when it has begun."""
    (tmp_path / "slow.yml").write_text(json.dumps(SLOW))
    begun = tmp_path / "slow" / "begun"
    begun.unlink(missing_ok=True)
    given = ("-p", 'out="{workdir}/o"', "-p", f'workdir="{tmp_path}/slow"', "-w", "slow")
    done = run(tmp_path, "packtivity-run", *how, "--async", *given, "slow.yml", **environment)
    assert done.returncode == 0, done.stderr
    until(begun.exists)
    return tmp_path / "proxy.json"


def state_of(proxy):
    return json.loads(proxy.read_text())["proxydetails"]


@pytest.mark.parametrize(
    ("how", "environment"),
    [
        (("-b", "folder"), {}),
        (("-b", "fromenv"), {"PACKTIVITY_ASYNCBACKEND": "packtivity_example_backend:FolderBackend:FolderProxy"}),
        (("-b", f"py:{FROM_CLASS}"), {}),
    ],
    ids=["plug-in", "fromenv", "py"],
)
def test_a_task_of_the_example_is_cancelled_by_another_process(tmp_path, how, environment):
    proxy = begin(tmp_path, *how, **environment)
    cancelled = run(
        tmp_path, "packtivity-checkproxy", "--cancel", "--wait", "--timeout", "20", "proxy.json", **environment
    )
    assert cancelled.returncode == 6, cancelled.stderr
    assert json.loads(Path(state_of(proxy)["record"]).read_text())["status"] == "cancelled"
    assert not (tmp_path / "slow" / "o").exists()


def test_the_example_tells_of_killed_workers_and_unknown_tasks(tmp_path):
    proxy = begin(tmp_path, "-b", "folder")
    os.killpg(state_of(proxy)["worker"]["pid"], signal.SIGKILL)
    told = run(tmp_path, "packtivity-checkproxy", "proxy.json")
    assert told.returncode == 6
    assert "WorkerLost" in told.stderr
    document = json.loads(proxy.read_text())
    document["proxydetails"].update(task="/nowhere/x.task.json", record="/nowhere/x.outcome.json")
    proxy.write_text(json.dumps(document))
    told = run(tmp_path, "packtivity-checkproxy", "proxy.json")
    assert (told.returncode, told.stdout) == (12, "unknown: True\n")
    end_what_runs_in(tmp_path)


def end_what_runs_in(folder):
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            if os.readlink(f"/proc/{name}/cwd").startswith(str(folder)):
                os.kill(int(name), signal.SIGKILL)


@pytest.mark.parametrize("name", ["externalasync:default", "multiproc:1"])
def test_a_task_in_a_pool_is_cancelled_by_another_process_and_unknown_ids_are_told(tmp_path, name):
    (tmp_path / "slow.yml").write_text(json.dumps(SLOW))
    given = ("-p", 'out="{workdir}/o"', "-p", f'workdir="{tmp_path}/slow"', "-w", "slow")
    environment = {**os.environ, "PACKTIVITY_STATE_DIR": str(tmp_path / "state")}
    client = subprocess.Popen(
        [str(BIN / "packtivity-run"), "-b", name, "--async", *given, "slow.yml"], cwd=tmp_path, env=environment
    )
    asked = {"PACKTIVITY_STATE_DIR": str(tmp_path / "state")}
    until((tmp_path / "slow" / "begun").exists)
    proxy = tmp_path / "proxy.json"
    task_id = (state_of(proxy).get("jobproxy") or state_of(proxy))["task_id"]
    unknown = tmp_path / "unknown.json"
    unknown.write_text(proxy.read_text().replace(task_id, "0123456789abcdef-0000000000"))
    told = run(tmp_path, "packtivity-checkproxy", "unknown.json", **asked)
    assert (told.returncode, told.stdout) == (12, "unknown: True\n")
    run(tmp_path, "packtivity-checkproxy", "--cancel", "proxy.json", **asked)
    assert client.wait(20) == 0
    told = run(tmp_path, "packtivity-checkproxy", "proxy.json", **asked)
    assert told.returncode == 6
    assert "TaskCancelled" in told.stderr
    assert not (tmp_path / "slow" / "o").exists()


@pytest.mark.parametrize("name", ["externalasync:default", "multiproc:1"])
def test_the_truth_is_told_of_tasks_whose_pool_was_killed(tmp_path, name):
    quick = {**SPEC, "process": {"process_type": "string-interpolated-cmd", "cmd": "echo > {out}"}}
    (tmp_path / "quick.yml").write_text(json.dumps(quick))
    asked = {"PACKTIVITY_STATE_DIR": str(tmp_path / "state")}
    given = ("-p", 'out="{workdir}/o"', "-w", "quick", "-x", "quick.json")
    assert run(tmp_path, "packtivity-run", "-b", name, "--async", *given, "quick.yml", **asked).returncode == 0
    (tmp_path / "slow.yml").write_text(json.dumps(SLOW))
    argv = (
        "-b",
        name,
        "--async",
        "-p",
        'out="{workdir}/o"',
        "-p",
        f'workdir="{tmp_path}/slow"',
        "-w",
        "slow",
        "slow.yml",
    )
    client = subprocess.Popen([str(BIN / "packtivity-run"), *argv], cwd=tmp_path, env={**os.environ, **asked})
    until((tmp_path / "slow" / "begun").exists)
    until((tmp_path / "proxy.json").exists)
    client.kill()
    client.wait()
    end_what_runs_in(tmp_path)
    told = run(tmp_path, "packtivity-checkproxy", "--format", "json", "--wait", "quick.json", "proxy.json", **asked)
    assert [each["status"] for each in json.loads(told.stdout)] == ["succeeded", "failed"], told.stderr
    assert json.loads(told.stdout)[1]["error"]["type"] == "WorkerLost"
