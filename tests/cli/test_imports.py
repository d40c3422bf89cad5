"""Asking for help or completion imports click and nothing that running a task needs."""

from __future__ import annotations

import re
from typing import Any

import pytest

DEAR = {"yaml", "requests", "jsonschema", "jsonschema_rs", "jq", "logging", "subprocess", "jsonpath_ng", "rich"}
OURS = {"packtivity.settings", "packtivity.types", "packtivity.errors", "packtivity.spec", "packtivity.task"}
COMPLETION = {"_PACKTIVITY_RUN_COMPLETE": "bash_complete", "COMP_WORDS": "packtivity-run --", "COMP_CWORD": "1"}


def imported(commands: Any, program: str, *arguments: str, **env: str) -> set[str]:
    done = commands(program, *arguments, env={"PYTHONPROFILEIMPORTTIME": "1", **env})
    assert done.returncode == 0
    return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time")}


@pytest.mark.parametrize(
    "call",
    [("packtivity", "--help"), ("packtivity-run", "--help"), ("packtivity-util", "--help"), ("packtivity", "util")],
)
def test_help_imports_little(commands: Any, call: tuple[str, ...]) -> None:
    if call == ("packtivity", "util"):
        call = ("packtivity", "util", "--help")
    found = imported(commands, *call)
    assert "click.core" in found
    assert found & (DEAR | OURS) == set()


def test_completion_imports_little(commands: Any) -> None:
    assert imported(commands, "packtivity-run", **COMPLETION) & (DEAR | OURS) == set()


def test_help_of_the_group_imports_no_command(commands: Any) -> None:
    found = imported(commands, "packtivity", "--help")
    assert found & {"packtivity.cli.run", "packtivity.cli.validate", "packtivity.cli.describe"} == set()


def test_a_plain_run_imports_neither_http_nor_a_schema_library_nor_jq(commands: Any) -> None:
    commands.spec("echo {name}")
    found = imported(commands, "packtivity-run", "spec.yml", "-p", "name=x", "-p", "outputfile=o")
    assert "packtivity.task" in found
    dear = {"requests", "jsonschema", "jsonschema_rs", "jq", "jsonpath_ng", "jsonpointer", "importlib.metadata"}
    assert found & (dear | {"asyncio"}) == set()


LOGGING = """
import logging
from packtivity.handlers.process_handlers import process

@process("string-interpolated-cmd")
def talking(*arguments):
    log = logging.getLogger("somebody")
    log.info("quiet")
    log.warning("loud")
    return {"command": "true"}
"""


def test_verbosity_is_for_the_loggers_of_others_too(commands: Any) -> None:
    commands.write("plug.py", LOGGING)
    commands.spec("'true'")
    environment = {"PACKTIVITY_PLUGINS": "plug", "PYTHONPATH": str(commands.directory)}
    said = [
        commands("packtivity-run", "-q", "spec.yml", "-p", "outputfile=o", *more, env=environment).stderr
        for more in ((), ("-v", "WARNING"), ("-v", "INFO"))
    ]
    assert [re.findall("somebody:(quiet|loud)", text) for text in said] == [[], ["loud"], ["quiet", "loud"]]
