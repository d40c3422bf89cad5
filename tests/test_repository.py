"""What the project promises about its own files."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "src").rglob("*.py"))
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))

APART = "runtimes/parent.py"
"""A program of its own, which is one process and imports nothing of ours."""


def relative(path: Path) -> str:
    return path.relative_to(ROOT / "src" / "packtivity").as_posix()


def calls_and_names(path: Path) -> set[str]:
    """Every dotted name that a module uses: ``os.environ``, ``subprocess.Popen`` …"""
    tree = ast.parse(path.read_text("utf-8"))
    return {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute | ast.Name)}


def users(*names: str) -> set[str]:
    return {relative(path) for path in SOURCES if calls_and_names(path) & set(names)}


def test_only_the_settings_read_the_environment() -> None:
    found = users("os.environ", "os.getenv", "os.environb", "environ", "getenv")
    assert found - {"settings.py", APART} == set()


def test_one_module_starts_tasks_and_one_helpers_of_our_own() -> None:
    starters = users("subprocess.Popen", "Popen", "subprocess.run", "os.system", "os.popen")
    assert starters == {"runtimes/process.py", "runtimes/python_workers.py"}


def test_nothing_sleeps_pickles_or_changes_the_directory() -> None:
    assert users("time.sleep", "os.chdir", "pickle.loads", "pickle.dumps") - {APART} == set()


def test_no_module_is_longer_than_400_lines() -> None:
    lengths = {relative(path): len(path.read_text("utf-8").splitlines()) for path in SOURCES}
    assert {name: length for name, length in lengths.items() if length > 400} == {}


def test_no_function_is_longer_than_60_lines() -> None:
    long = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                if length > 60:
                    long.append(f"{relative(path)}:{node.lineno} {node.name}: {length} lines")
    assert long == []


def test_importing_the_package_imports_nothing_dear() -> None:
    dear = ["requests", "jsonschema", "jsonschema_rs", "click", "jq", "yaml", "subprocess", "logging", "inspect"]
    program = f"import sys, packtivity; print([name for name in {dear} if name in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"


PATH_IN_TABLE = re.compile(r"`((?:src|tests|docs|examples|benchmarks|tools)/[^`\s]*)`")


@pytest.mark.parametrize("document", ["CONTRIBUTING.md", "README.md", "CHANGELOG.md"])
def test_every_path_a_document_names_is_there(document: str) -> None:
    named = PATH_IN_TABLE.findall((ROOT / document).read_text("utf-8"))
    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("document", ["CONTRIBUTING.md", "README.md"])
def test_every_make_target_a_document_names_is_there(document: str) -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    named = set(re.findall(r"`make\s([a-z-]+)", (ROOT / document).read_text("utf-8")))
    assert named - targets == set()
    assert named


def test_the_newcomers_table_names_something_in_every_row() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| a") and "I want" not in line]
    assert len(rows) >= 10
    assert all(PATH_IN_TABLE.search(row) for row in rows)


def test_lower_bounds_are_the_ones_that_are_tested() -> None:
    """``nox -s oldest`` installs the constraints; they have to be the bounds that pyproject.toml states."""
    bounds = dict(requirement.split(">=") for requirement in PYPROJECT["project"]["dependencies"])
    text = (ROOT / "tests" / "oldest-constraints.txt").read_text("utf-8")
    pinned = dict(line.split("==") for line in text.splitlines() if "==" in line and not line.startswith("#"))
    assert {name: pinned[name].split(".")[:2] for name in bounds} == {
        name: [*bound.split("."), "0"][:2] for name, bound in bounds.items()
    }


def test_the_version_is_the_same_everywhere() -> None:
    version = PYPROJECT["project"]["version"]
    assert f'VERSION = "{version}"' in (ROOT / "src" / "packtivity" / "version.py").read_text("utf-8")
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text("utf-8")
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_finding_a_python_says_what_to_install_when_there_is_none(tmp_path: Path) -> None:
    fake = tmp_path / "python3"
    fake.write_text('#!/bin/sh\ncase "$2" in *version_info*) exit 1;; esac\n', encoding="utf-8")
    fake.chmod(0o755)
    found = subprocess.run(
        ["/bin/sh", str(ROOT / "tools" / "find-python.sh")],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 1
    assert "too old: python3" in found.stderr
    assert "apt-get install python3 python3-venv" in found.stderr


def test_coverage_below_its_threshold_fails(tmp_path: Path) -> None:
    def report(covered: int) -> Path:
        summary = {
            "covered_lines": covered,
            "num_statements": 100,
            "covered_branches": 0,
            "num_branches": 0,
            "percent_covered": covered,
        }
        paths = [f"src/packtivity/{path}x.py" for path in PYPROJECT["tool"]["packtivity"]["coverage"]]
        files = {path: {"summary": summary, "missing_lines": [1]} for path in paths}
        import json

        (tmp_path / "coverage.json").write_text(json.dumps({"files": files}), encoding="utf-8")
        return tmp_path / "coverage.json"

    check = [sys.executable, str(ROOT / "tools" / "check_coverage.py")]
    assert subprocess.run([*check, report(95)], check=False, stdout=subprocess.DEVNULL).returncode == 0
    assert subprocess.run([*check, report(94)], check=False, stdout=subprocess.DEVNULL).returncode == 1
