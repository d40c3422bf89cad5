from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import types
import venv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from packtivity import errors, plugins
from packtivity.plugins import enable_plugins
from packtivity.registry import Registry

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "plugin"


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """Two modules that count how often they are imported."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv("PACKTIVITY_PLUGINS", raising=False)
    monkeypatch.setattr(plugins, "enabled", [])
    names = ["plug_one", "plug_two"]
    for name in names:
        (tmp_path / f"{name}.py").write_text(f"with open({str(tmp_path / 'seen')!r}, 'a') as f: f.write('{name} ')")
    yield lambda: (tmp_path / "seen").read_text().split() if (tmp_path / "seen").exists() else []
    for name in names:
        sys.modules.pop(name, None)


def test_modules_are_imported_once_and_the_list_stays_the_callers(modules, monkeypatch):
    monkeypatch.setenv("PACKTIVITY_PLUGINS", "plug_two, plug_one,")
    given = ["plug_one"]
    enable_plugins(given)
    enable_plugins(given)
    assert modules() == ["plug_one", "plug_two"]
    assert given == ["plug_one"]


def test_no_plug_ins_are_fine(modules):
    enable_plugins()
    enable_plugins([])
    enable_plugins(())
    assert modules() == []


@pytest.mark.parametrize("where", ["plug-in", "PACKTIVITY_PLUGINS"])
def test_a_module_that_is_not_there_is_named_with_who_named_it(where, monkeypatch):
    monkeypatch.setenv("PACKTIVITY_PLUGINS", "no_such_module" if where == "PACKTIVITY_PLUGINS" else "")
    with pytest.raises(errors.ConfigurationError, match=f"{where}: module 'no_such_module' cannot be imported"):
        enable_plugins(["no_such_module"] if where == "plug-in" else None)


def test_a_module_that_ends_the_program_is_named(tmp_path, monkeypatch):
    (tmp_path / "plug_that_exits.py").write_text("raise SystemExit(3)")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(errors.ConfigurationError, match="'plug_that_exits' cannot be imported: SystemExit: 3"):
        enable_plugins(["plug_that_exits"])


# --- entry points ----------------------------------------------------------------------------------------------


@pytest.fixture
def entry_point(tmp_path, monkeypatch):
    """Return a registry, and what makes a package whose entry point of its group is ``plug_in:function`` of some source."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(source):
        (tmp_path / "plug_in.py").write_text(source)
        about = tmp_path / "plug_in-1.dist-info"
        about.mkdir()
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: plug-in\nVersion: 1\n")
        (about / "entry_points.txt").write_text("[packtivity.test]\nmine = plug_in:function\n")
        return Registry("thing", "packtivity.test")

    yield make
    sys.modules.pop("plug_in", None)


def test_a_broken_plug_in_says_what_is_wrong_at_each_look_up(entry_point):
    registry = entry_point("import no_such_module")
    for _ in range(2):
        with pytest.raises(errors.ConfigurationError, match="'plug_in' cannot be imported: .*no_such_module"):
            registry.find("mine")
    for _ in range(2):
        with pytest.raises(errors.ConfigurationError, match="unknown thing 'other'"):
            registry.find("other")


GATED = """
from plug_in_gates import begun, gate
begun.set()
assert gate.wait(60)
def function(): return "mine"
"""


def test_two_threads_that_look_a_plug_in_up_for_the_first_time_both_find_it(entry_point, monkeypatch):
    registry, begun, gate = entry_point(GATED), threading.Event(), threading.Event()
    gates = types.ModuleType("plug_in_gates")
    gates.begun, gates.gate = begun, gate
    monkeypatch.setitem(sys.modules, "plug_in_gates", gates)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(registry.find, "mine")
        assert begun.wait(60)  # it is being imported
        second = pool.submit(registry.find, "mine")
        with pytest.raises(TimeoutError):
            second.result(0.2)
        gate.set()
        assert [found.result()() for found in (first, second)] == ["mine", "mine"]


# --- the example package ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Where the example package is installed, as a user would install it."""
    source, target = tmp_path_factory.mktemp("plugin") / "source", tmp_path_factory.mktemp("installed")
    subprocess.run(["cp", "-r", str(EXAMPLE), str(source)], check=True)
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-index", "--no-deps"]
    done = subprocess.run(
        [*pip, "--no-build-isolation", "--target", str(target), str(source)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return target


def use(installed, code: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(installed), "PACKTIVITY_LOGGING_STREAM_LEVEL": "CRITICAL"}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


RUN = """
import sys, packtivity
spec = packtivity.load("spec.yml", {example!r}, validate=False)
print(packtivity.run(spec, {{"venv": {venv!r}}}, workdir={workdir!r}).json())
"""


def test_a_package_that_is_only_installed_adds_a_publisher_and_an_environment(installed, tmp_path):
    where = tmp_path / "my venv"
    venv.create(where, with_pip=False, symlinks=True)
    done = use(installed, RUN.format(example=str(EXAMPLE), venv=str(where), workdir=str(tmp_path / "work")))
    assert done.stderr == ""
    content = (tmp_path / "work" / "version.txt").read_bytes()
    assert content.startswith(b"Python 3.")
    assert done.stdout == f"{ {'checksums': {'version.txt': hashlib.sha256(content).hexdigest()}} }\n"


def test_an_error_of_the_package_arrives_as_one_of_ours(installed, tmp_path):
    done = use(installed, RUN.format(example=str(EXAMPLE), venv="/nowhere", workdir=str(tmp_path)))
    assert done.returncode == 1
    assert "EnvironmentUnavailable: venv-env: there is no virtual environment at /nowhere" in done.stderr


def test_without_the_package_its_names_are_unknown(tmp_path):
    done = use(tmp_path, RUN.format(example=str(EXAMPLE), venv="/nowhere", workdir=str(tmp_path)))
    assert "unknown executor for environment 'venv-env'" in done.stderr
