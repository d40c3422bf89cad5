"""Ctrl-C at any moment: code 130 and no traceback, whatever a command is doing."""

from __future__ import annotations

import signal
import sys
from typing import Any

import pytest

OUT = ["-p", "outputfile=o"]

# Starts a command as its installed program does; the interrupt comes when a certain module is looked for.
PROGRAM = """
import os, signal, sys

class Looking:
    def find_spec(name, path=None, target=None):
        if not wanted:
            os.write(2, f"looking for {name}\\n".encode())
        if name == wanted and Looking in sys.meta_path:
            sys.meta_path.remove(Looking)
            os.kill(os.getpid(), signal.SIGINT)

wanted, entry = sys.argv[1:3]
del sys.argv[1:3]
from packtivity.cli import start
sys.meta_path.insert(0, Looking)
getattr(start, entry)()
"""
CALLS: dict[str, list[str]] = {
    "run": ["spec.yml", *OUT],
    "validate": ["spec.yml", *OUT],
    "util": ["pubtest", "spec.yml", *OUT],
    "checkproxy": ["nothing.json"],
    "worker": ["nothing.json"],
    "main": ["describe", "spec.yml"],
}


def started(commands: Any, wanted: str, entry: str, *arguments: str) -> Any:
    return commands.run([sys.executable, "-c", PROGRAM, wanted, entry, *arguments])


def looked_for(commands: Any, entry: str, *arguments: str) -> list[str]:
    said = started(commands, "", entry, *arguments).stderr.splitlines()
    return [line.removeprefix("looking for ") for line in said if line.startswith("looking for ")]


@pytest.mark.parametrize(
    ("entry", "every"), [*((entry, 0) for entry in CALLS), *(pytest.param(e, 1, marks=pytest.mark.soak) for e in CALLS)]
)
def test_an_interrupt_at_any_import_is_no_traceback(commands: Any, entry: str, every: int) -> None:
    commands.spec("'true'")
    modules = looked_for(commands, entry, *CALLS[entry])
    assert "click" in modules
    assert len(modules) > 40
    for module in modules[1 :: every or len(modules) // 4]:
        done = started(commands, module, entry, *CALLS[entry])
        assert (module, done.returncode) == (module, 130)
        assert "Traceback" not in done.stderr
        assert "Exception ignored" not in done.stderr


def test_an_interrupt_before_anything_has_begun_says_nothing(commands: Any) -> None:
    commands.spec("'true'")
    for entry, module in (
        ("run", "click"),
        ("run", "yaml"),
        ("main", "packtivity.cli.declarations"),
        ("main", "click"),
    ):
        done = started(commands, module, entry, "spec.yml" if entry == "run" else "--help")
        assert (done.returncode, done.stderr) == (130, "")


def test_an_ignored_interrupt_stays_ignored(commands: Any) -> None:
    commands.spec("'true'")
    ignoring = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)}
    argv = [sys.executable, "-c", PROGRAM, "click", "run", "spec.yml", *OUT]
    assert commands.run(argv, **ignoring).returncode == 0


def test_a_program_that_calls_a_command_keeps_its_signals(commands: Any) -> None:
    commands.spec("'true'")
    code = (
        "import signal\nfrom packtivity.cli import runcli\n"
        f"try:\n  runcli(['spec.yml', *{OUT!r}])\nexcept SystemExit as end:\n  assert not end.code\n"
        "assert signal.getsignal(signal.SIGINT) is signal.default_int_handler\n"
    )
    done = commands.run([sys.executable, "-c", code])
    assert (done.returncode, done.stderr) == (0, "")
