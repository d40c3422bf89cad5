"""UTF-8 in every locale: commands, scripts, names and logs are the same bytes, and the task's locale is the caller's."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping

BIN = Path(sys.executable).parent
LATIN = "en_US.ISO-8859-1"

SPEC = """\
process:
  process_type: {process}
  {key}: |
    printf '%s\\n' "é ☃ {{name}}" > "{{outputfile}}"; echo "to the log: ñ {{name}}"
environment:
  environment_type: localproc-env
publisher:
  publisher_type: frompar-pub
  outputmap:
    output: outputfile
"""
KINDS = {"command": ("string-interpolated-cmd", "cmd"), "script": ("interpolated-script-cmd", "script")}


@pytest.fixture(scope="module")
def locales(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """Environments by the name of their locale; a Latin-1 one is made here, where the system has what it is made of."""
    folder = tmp_path_factory.mktemp("locales")
    made = {
        "UTF-8": {"LC_ALL": "C.UTF-8"},
        "C": {"LC_ALL": "C"},
        "POSIX": {"LANG": "POSIX", "LC_CTYPE": "POSIX"},
        "none": {},
    }
    compiler = shutil.which("localedef")
    argv = [str(compiler), "-i", "en_US", "-f", "ISO-8859-1", str(folder / LATIN)]
    if compiler and subprocess.run(argv, capture_output=True, check=False).returncode == 0:
        made["Latin-1"] = {"LOCPATH": str(folder), "LC_ALL": LATIN}
    return made


def run(commands: Any, environment: Mapping[str, str], *argv: str) -> bytes:
    """Run a command in an environment that has nothing else of a locale, and return what it prints."""
    own = {name: os.environ[name] for name in ("HOME", "PATH") if name in os.environ}
    own["XDG_STATE_HOME"] = str(commands.directory / "state")
    program = str(BIN / argv[0])
    done = subprocess.run(
        [os.fsencode(word) if isinstance(word, str) else word for word in (program, *argv[1:])],
        cwd=commands.directory,
        env={**own, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")
    return done.stdout


def traces(commands: Any, environment: Mapping[str, str], *argv: str) -> dict[bytes, bytes]:
    """Run a task, and return all that it printed and left, by the bytes of each name; all numbers are 0."""
    work = commands.directory / "wörk"
    found = {b"(printed)": run(commands, environment, *argv)}
    for folder, _, names in os.walk(os.fsencode(work)):
        for name in names:
            if b"_packtivity" in folder and not name.endswith(b".log"):
                continue  # records hold resources; what they quote is in the logs, too
            with open(os.path.join(folder, name), "rb") as file:
                found[name] = re.sub(rb"[0-9a-f]*\d[0-9a-f]*", b"0", file.read())
    shutil.rmtree(work)
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", ["defaultsync", "multiproc:1", "local"])
def test_a_task_is_the_same_bytes_in_every_locale(
    commands: Any, locales: dict[str, dict[str, str]], kind: str, backend: str
) -> None:
    process, key = KINDS[kind]
    commands.write("spéc.yml", SPEC.format(process=process, key=key))
    commands.write("par.yml", "name: Zoë\n")
    parameters = ["spéc.yml", "par.yml", "-p", 'outputfile="{workdir}/fée"', "-w", "wörk"]
    expected = traces(commands, locales["UTF-8"], "packtivity-run", "-b", backend, *parameters)
    assert expected["fée".encode()] == "é ☃ Zoë\n".encode()
    assert "to the log: ñ Zoë\n".encode() in b"".join(expected.values())
    for name, environment in locales.items():
        assert traces(commands, environment, "packtivity-run", "-b", backend, *parameters) == expected, name


@pytest.mark.parametrize("option", ["--print-command", "--dry-run"])
def test_what_would_run_is_the_same_bytes_in_every_locale(
    commands: Any, locales: dict[str, dict[str, str]], option: str
) -> None:
    commands.write("spec.yml", SPEC.format(process=KINDS["script"][0], key="script"))
    argv = ["packtivity-run", option, "spec.yml", "-p", "name=Zoë", "-p", 'outputfile="{workdir}/fée"']
    expected = run(commands, locales["UTF-8"], *argv)
    assert "Zoë".encode() in expected
    for name, environment in locales.items():
        assert run(commands, environment, *argv) == expected, name


@pytest.mark.parametrize("backend", ["defaultsync", "multiproc:1"])
def test_the_locale_of_a_task_is_the_callers(commands: Any, locales: dict[str, dict[str, str]], backend: str) -> None:
    """Python sets LC_CTYPE as it starts in the locale C, and the UTF-8 mode is a variable for who wants it to be one."""
    commands.spec("env | grep -aE '^(LANG|LC_|PYTHONUTF8|PYTHONCOERCECLOCALE)' | sort > \"{outputfile}\"; true")
    for name, environment in locales.items():
        arguments = ["spec.yml", "-p", 'outputfile="{workdir}/o"', "-w", "work"]
        run(commands, environment, "packtivity-run", "-b", backend, *arguments)
        given = sorted(
            f"{key}={value}" for key, value in environment.items() if key.startswith("L") and key != "LOCPATH"
        )
        assert (commands.directory / "work" / "o").read_text().splitlines() == given, name


def test_a_latin_name_given_as_bytes_is_kept(commands: Any, locales: dict[str, dict[str, str]]) -> None:
    """A directory whose name is no UTF-8 is reached and made by exactly its bytes."""
    commands.spec("pwd > {outputfile}")
    folder = b"caf\xe9"
    for name, environment in locales.items():
        argv = ["packtivity-run", "spec.yml", "-p", "outputfile=o", "-w", os.fsdecode(folder)]
        run(commands, environment, *argv)
        place = os.path.join(os.fsencode(commands.directory), folder)
        with open(os.path.join(place, b"o"), "rb") as file:
            assert file.read() == place + b"\n", name
        shutil.rmtree(place)
