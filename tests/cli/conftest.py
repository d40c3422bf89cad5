"""Commands as a user runs them: real processes, piped or on a terminal of their own."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    import click

BIN = Path(sys.executable).parent

ECHO = """\
process:
  process_type: string-interpolated-cmd
  cmd: {cmd}
environment:
  environment_type: localproc-env
publisher:
  publisher_type: frompar-pub
  outputmap:
    output: outputfile
"""


def clean_environment(**more: str) -> dict[str, str]:
    """Our environment without what would change how commands behave."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PACKTIVITY_", "_PACKTIVITY", "COLUMNS", "LINES"))}
    # Commands that compile themselves anew each time would double the time these tests take.
    for name in ("NO_COLOR", "PYTHONDONTWRITEBYTECODE"):
        kept.pop(name, None)
    return {**kept, "TERM": "xterm", "PYTHONUTF8": "0", **more}


class Commands:
    """Runs our commands and those of 0.17.1 in one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.started: list[subprocess.Popen[str]] = []

    def write(self, name: str, text: str) -> str:
        """Write a file into the directory."""
        (self.directory / name).write_text(text, encoding="utf-8")
        return name

    def spec(self, cmd: str, name: str = "spec.yml") -> str:
        """Write a spec that runs ``cmd`` (YAML) and publishes the parameter ``outputfile``."""
        return self.write(name, ECHO.format(cmd=cmd))

    def __call__(self, program: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run one of our commands to its end; ``env`` adds to the environment."""
        return self.run([str(BIN / program), *arguments], **options)

    @property
    def environment(self) -> dict[str, str]:
        """Environment that commands get."""
        return clean_environment()

    def run(self, argv: list[str], env: dict[str, str] | None = None, **options: Any) -> Any:
        """Run any command to its end, with nothing on standard input."""
        given = {"stdin": subprocess.DEVNULL} if "input" not in options else {}
        return subprocess.run(
            argv,
            cwd=options.pop("cwd", self.directory),
            env=clean_environment(**(env or {})),
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=60,
            check=False,
            **given,
            **options,
        )

    def inside(self, program: str, *arguments: str, **options: Any) -> Any:
        """Run one of our commands in this process, which saves the time of starting one."""
        from packtivity.cli import checkproxy, runcli, utilcli, validatecli
        from packtivity.cli.declarations import main

        known: dict[str | None, click.Command] = {
            command.name: command for command in (checkproxy, runcli, utilcli, validatecli, main)
        }
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            for name, value in (options.get("env") or {}).items():
                patch.setenv(name, value)
            patch.setattr("sys.stdin", io.StringIO(options.get("input", "")))
            patch.chdir(self.directory)
            with pytest.raises(SystemExit) as end:
                known[program].main(list(arguments), prog_name=program)
        said = [stream.buffer.getvalue().decode() for stream in (out, err)]
        return subprocess.CompletedProcess([program, *arguments], int(end.value.code or 0), *said)

    def start(
        self, program: str, *arguments: str, env: dict[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[str]:
        """Start one of our commands; ``env`` adds to the environment."""
        running = subprocess.Popen(
            [str(BIN / program), *arguments],
            cwd=self.directory,
            env=clean_environment(**(env or {})),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            **options,
        )
        self.started.append(running)
        return running

    def close(self) -> None:
        """End what was started and is still running."""
        for running in self.started:
            with running:
                if running.poll() is None:
                    running.kill()


@pytest.fixture
def commands(tmp_path: Path) -> Iterator[Commands]:
    """Commands in an empty directory, whose name needs quoting."""
    directory = tmp_path / "a place"
    directory.mkdir()
    made = Commands(directory)
    yield made
    made.close()


class Quick(Commands):
    """The same in this process, for what does not depend on there being another."""

    def __call__(self, program: str, *arguments: str, **options: Any) -> Any:
        """Run one of our commands to its end."""
        return self.inside(program, *arguments, **options)


@pytest.fixture
def quick(commands: Commands) -> Quick:
    """Commands in this process, in the same directory as ``commands``."""
    return Quick(commands.directory)
