"""Completion as shells do it."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from needs import missing, need_engine

from packtivity.cli.completion import PROGRAMS, script

BIN = Path(sys.executable).parent
SHELLS = ("bash", "zsh", "fish")

BASH = """
source "$1"
complete_line() {
    COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
    function=$(complete -p "$1" | sed 's/.*-F \\([^ ]*\\).*/\\1/')
    $function "$1" "${COMP_WORDS[COMP_CWORD]}"
    printf '%s\\n' "${COMPREPLY[@]}"
    echo ==
}
compopt() { :; }
complete_line packtivity ''
complete_line packtivity va
complete_line packtivity util ''
complete_line packtivity-run --as
complete_line packtivity-run -v w
complete_line packtivity-run -b c
complete_line packtivity completion ''
"""


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_is_for_every_program_of_ours(commands: Any, shell: str) -> None:
    done = commands("packtivity", "completion", shell)
    assert done.returncode == 0
    assert done.stdout == script(shell) + "\n"
    for program in PROGRAMS:
        assert f"_{program.replace('-', '_').upper()}_COMPLETE={shell}_complete" in done.stdout


def test_programs_are_the_ones_installed() -> None:
    from importlib.metadata import entry_points

    installed = {point.name for point in entry_points(group="console_scripts") if point.value.startswith("packtivity.")}
    assert installed == set(PROGRAMS)


def installed_shell(name: str) -> str:
    found = shutil.which(name)
    need_engine(found, name)
    return str(found)


def test_bash_completes_commands_options_and_values(commands: Any) -> None:
    bash = shutil.which("bash") or missing("bash", "install it to try its completion")
    commands.write("completion.bash", script("bash"))
    path = {"PATH": f"{BIN}:{os.environ['PATH']}"}
    done = commands.run([bash, "--norc", "-c", BASH, "bash", "completion.bash"], env=path)
    assert done.stderr == ""
    top, validate, util, run, level, backend, shells = (part.split() for part in done.stdout.split("==\n")[:-1])
    assert {
        "run",
        "validate",
        "describe",
        "example",
        "checkproxy",
        "util",
        "completion",
        "doctor",
        "lock",
        "shell",
    } <= set(top)
    assert validate == ["validate"]
    assert util == ["pubtest", "shell"]
    assert set(run) == {"--asyncwait", "--async"}
    assert level == ["WARNING"]
    assert backend == ["celery"]
    assert set(shells) == set(SHELLS)


@pytest.mark.engines
def test_zsh_takes_the_script(commands: Any) -> None:
    zsh = installed_shell("zsh")
    commands.write("completion.zsh", script("zsh"))
    line = "autoload -U compinit; compinit -u -D; source ./completion.zsh; print ${_comps[packtivity-run]}"
    done = commands.run([zsh, "-f", "-c", line])
    assert (done.stderr, done.stdout.strip()) == ("", "_packtivity_run_completion")


@pytest.mark.engines
def test_fish_completes(commands: Any) -> None:
    fish = installed_shell("fish")
    commands.write("completion.fish", script("fish"))
    line = "source completion.fish; complete -C 'packtivity va'"
    path = {"PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(commands.directory)}
    assert commands.run([fish, "--no-config", "-c", line], env=path).stdout.split()[0] == "validate"


@pytest.mark.parametrize(
    ("words", "kind"),
    [("packtivity-run sp", "file"), ("packtivity-run -w di", "dir"), ("packtivity-run -o ou", "file")],
)
def test_files_and_directories_are_left_to_the_shell(commands: Any, words: str, kind: str) -> None:
    environment = {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    done = commands("packtivity-run", env={**environment, "_PACKTIVITY_RUN_COMPLETE": "bash_complete"})
    assert done.stdout == f"{kind},{words[-2:]}\n"
