"""What the documentation shows is what happens."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("[a-z]*/*.md"))]
BLOCK = re.compile(
    r"^<!-- (?P<what>run|file)(?:: (?P<value>\S+))? -->\n+```\w+\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Step:
    """A command from a page, what it prints, and the exit code of the last command in its block."""

    command: str
    printed: str
    code: int


def steps(text: str, code: int) -> list[Step]:
    """Split a console block at its prompts."""
    parts = re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]
    pairs = [part.split("\n", 1) for part in parts]
    last = len(pairs) - 1
    return [Step(command, printed, code if at == last else 0) for at, (command, printed) in enumerate(pairs)]


def assert_printed(expected: str, actual: str) -> None:
    """Compare; ``...`` stands for anything."""
    if not expected:
        return
    pattern = ".*".join(re.escape(part) for part in expected.rstrip("\n").split("..."))
    assert re.fullmatch(pattern, actual.rstrip("\n"), re.DOTALL), f"expected\n{expected}\nbut it printed\n{actual}"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the examples, with the environment of these tests as its ``.venv``."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    activate = tmp_path / ".venv" / "bin" / "activate"
    activate.write_text(f'export PATH="{Path(sys.executable).parent}:$PATH"\n', encoding="utf-8")
    return tmp_path


def run(step: Step, directory: Path) -> None:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", step.command],
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == step.code, f"{step.command}\n{done.stdout}"
    assert_printed(step.printed, done.stdout)


PAGES_WITH_COMMANDS = [page for page in PAGES if BLOCK.search(page.read_text("utf-8"))]


@pytest.mark.parametrize("page", PAGES_WITH_COMMANDS, ids=lambda page: page.stem)
def test_commands_marked_as_runnable_print_what_the_page_says(page: Path, checkout: Path) -> None:
    for block in BLOCK.finditer(page.read_text("utf-8")):
        if block["what"] == "file":
            (checkout / block["value"]).write_text(block["text"], encoding="utf-8")
            continue
        for step in steps(block["text"], int(block["value"] or 0)):
            run(step, checkout)


def test_readme_and_tutorial_have_runnable_commands() -> None:
    assert {page.stem for page in PAGES_WITH_COMMANDS} >= {"README", "first-task"}


def test_the_readmes_first_spec_is_the_example() -> None:
    first = re.search(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    assert first is not None
    assert first[1] == (ROOT / "examples" / "hello" / "hello.yml").read_text("utf-8")
    assert first[1].count("\n") == 10


def yaml_blocks() -> list[Any]:
    import yaml

    found = []
    for page in PAGES:
        for number, block in enumerate(re.findall(r"```yaml\n(.*?)```", page.read_text("utf-8"), re.DOTALL)):
            data = yaml.safe_load(block)
            if not isinstance(data, dict) or any(isinstance(part, dict) and "$ref" in part for part in data.values()):
                continue  # refers to a file that the page does not show
            if {"process", "environment", "publisher"} & set(data):
                found.append(pytest.param(data, id=f"{page.stem}-{number}"))
    return found


@pytest.mark.parametrize("data", yaml_blocks())
def test_every_spec_shown_is_valid(data: dict[str, Any], tmp_path: Path) -> None:
    import json

    from packtivity import spec

    whole = {"process": None, "environment": None, "publisher": {"publisher_type": "constant-pub", "publish": {}}}
    (tmp_path / "spec.yml").write_text(json.dumps({**whole, **data}), encoding="utf-8")
    spec.load("spec.yml", str(tmp_path))


# --- the reference ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    """The module that makes pages from the code."""
    from importlib.util import module_from_spec, spec_from_file_location

    found = spec_from_file_location("generated_reference", DOCS / "_ext" / "generated_reference.py")
    assert found is not None
    assert found.loader is not None
    module = module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_every_setting_is_in_the_reference_once(reference: ModuleType) -> None:
    from packtivity.settings import SETTINGS

    table = reference.settings()
    assert {s.name: table.count(f"| `{s.variable}` |") for s in SETTINGS} == {s.name: 1 for s in SETTINGS}


def test_a_token_is_not_in_the_reference_but_its_variable_is(reference: ModuleType) -> None:
    assert "`YADAGE_SCHEMA_LOAD_TOKEN`" in reference.settings()


def test_every_diagnostic_code_is_in_the_reference_once(reference: ModuleType) -> None:
    from packtivity.spec.diagnostics import CODES

    table = reference.diagnostics()
    assert {code: table.count(f"| `{code}` |") for code in CODES} == dict.fromkeys(CODES, 1)


def test_every_error_class_has_its_exit_code_in_the_reference(reference: ModuleType) -> None:
    from packtivity import errors

    table = reference.exit_codes()
    for name in errors.__all__:
        error = getattr(errors, name)
        assert f"| {error.exit_code} | `{name}` |" in table


def test_every_option_of_every_command_is_in_the_reference(reference: ModuleType) -> None:
    page = reference.commands()
    for name, where in reference.COMMANDS.items():
        for context in reference.walk(name, reference.load(where)):
            assert f"## {context.command_path}\n" in page
            for parameter in context.command.get_params(context):
                if isinstance(parameter, click.Option) and not parameter.hidden:
                    assert max(parameter.opts, key=len) in page
                    assert parameter.help, f"{context.command_path} {parameter.opts} has no help"


def test_every_installed_command_is_in_the_reference(reference: ModuleType) -> None:
    import tomllib

    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["scripts"]
    assert set(reference.COMMANDS) == set(scripts)


def test_every_page_is_in_a_table_of_contents() -> None:
    listed = set(re.findall(r"^([a-z-]+/[a-z-]+)$", (DOCS / "index.md").read_text("utf-8"), re.MULTILINE))
    there = {str(page.relative_to(DOCS).with_suffix("")) for page in DOCS.glob("[a-z]*/*.md")}
    assert listed == there


def test_every_link_between_pages_leads_somewhere() -> None:
    pages = [*PAGES, DOCS / "index.md", ROOT / "CONTRIBUTING.md"]
    links = [(page, link) for page in pages for link in re.findall(r"\]\(([^)#:\s]+\.md)", page.read_text("utf-8"))]
    assert [f"{page.name}: {link}" for page, link in links if not (page.parent / link).exists()] == []
