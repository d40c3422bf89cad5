from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from packtivity import errors, plugins
from packtivity.plugins import enable_plugins

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
