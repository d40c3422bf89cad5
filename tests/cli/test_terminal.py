"""What a person at a terminal sees: a live line, then the result as a table."""

from __future__ import annotations

import io
import os
import pty
import re
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packtivity.cli import terminal
from packtivity.types import Completed, Execution

OUT = ["-p", 'outputfile="{workdir}/o"']
CHATTY = 'for i in 1 2 3; do echo event $i; sleep 0.3; done; touch "{outputfile}"'
UNWANTED = {"NO_COLOR", "COLUMNS", "PYTHONDONTWRITEBYTECODE"}


def on_terminal(
    commands: Any, *arguments: str, columns: int = 80, stdout: Any = None, **environment: str
) -> tuple[str, int]:
    """Run packtivity-run on a terminal of its own; return everything it wrote there, and its exit code."""
    import fcntl
    import termios

    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    kept = {k: v for k, v in os.environ.items() if k not in UNWANTED and not k.startswith("PACKTIVITY_")}
    running = subprocess.Popen(
        [str(Path(sys.executable).with_name("packtivity-run")), *arguments],
        cwd=commands.directory,
        env={**kept, "TERM": "xterm", "PYTHONUTF8": "1", **environment},
        stdin=slave,
        stdout=slave if stdout is None else stdout,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    written = b""
    while True:
        try:
            chunk = os.read(master, 65536)
        except OSError:  # Linux says EIO when the last writer has gone
            break
        if not chunk:
            break
        written += chunk
    os.close(master)
    return written.decode("utf-8", "replace"), running.wait(timeout=20)


def screen(written: str, columns: int = 80) -> list[str]:
    """Return the lines that stand on the terminal at the end."""
    pyte = pytest.importorskip("pyte")
    shown = pyte.Screen(columns, 200)  # so high that nothing scrolls away, however long the directory's name is
    pyte.Stream(shown).feed(written)
    return [line.rstrip() for line in shown.display if line.strip()]


def test_live_line_shows_time_and_tail_and_is_gone_at_the_end(commands: Any) -> None:
    commands.spec(CHATTY)
    written, code = on_terminal(commands, "spec.yml", *OUT)
    assert code == 0
    assert re.search(r"running \d\.\d s  event 1", written)
    assert re.search(r"running \d\.\d s  event 3", written)
    directory = commands.directory
    expected = ["published:", f"  output  {directory}/o", f"logs: {directory}/_packtivity"]
    assert "".join(screen(written)).replace(" ", "") == "".join(expected).replace(" ", "")


@pytest.mark.parametrize("columns", [8, 20, 40])
def test_live_line_never_wraps(commands: Any, columns: int) -> None:
    commands.spec(
        "printf 'a very long line with ☃ 漢字漢字 and no end of it at all'; sleep 0.3; touch \"{outputfile}\""
    )
    written, _ = on_terminal(commands, "spec.yml", *OUT, columns=columns)
    drawn = [part for part in written.split("\r\x1b[K") if "published" not in part]
    assert drawn
    assert max(len(part) for part in drawn) < columns
    pytest.importorskip("pyte")
    assert screen(written, columns)[0] == "published:"[:columns]


def test_result_is_coloured_unless_no_color(commands: Any) -> None:
    commands.spec('touch "{outputfile}"')
    coloured, _ = on_terminal(commands, "spec.yml", *OUT)
    plain, _ = on_terminal(commands, "spec.yml", *OUT, NO_COLOR="1")
    assert "\x1b[1moutput\x1b[0m" in coloured
    assert "\x1b[1m" not in plain
    assert "  output  " in plain


def test_a_dumb_terminal_gets_no_escape_sequences(commands: Any) -> None:
    commands.spec('touch "{outputfile}"')
    written, _ = on_terminal(commands, "spec.yml", *OUT, TERM="dumb")
    assert "\x1b" not in written
    assert "published:" in written


def test_a_terminal_without_utf8_gets_ascii(commands: Any) -> None:
    commands.spec("printf 'snow ☃'; sleep 0.3; touch \"{outputfile}\"")
    written, code = on_terminal(commands, "spec.yml", *OUT, PYTHONUTF8="0", PYTHONIOENCODING="latin-1")
    assert code == 0
    assert re.search(r"[|/\\-] running \d\.\d s  snow \?", written)


def test_quiet_shows_nothing(commands: Any) -> None:
    commands.spec('sleep 0.3; touch "{outputfile}"')
    assert on_terminal(commands, "-q", "spec.yml", *OUT) == ("", 0)


def test_a_failed_task_leaves_the_message_and_no_live_line(commands: Any) -> None:
    commands.spec("echo oh no; sleep 0.2; exit 3")
    written, code = on_terminal(commands, "spec.yml", "-p", "outputfile=o")
    assert code == 6
    lines = screen(written)
    assert lines[0].startswith("error: the task failed with exit code 3")
    assert "running" not in "".join(lines)
    assert any("oh no" in line for line in lines)


def test_lines_for_programs_when_only_standard_output_is_piped(commands: Any, tmp_path: Path) -> None:
    commands.spec(CHATTY)
    with (tmp_path / "out").open("wb") as out:
        written, _ = on_terminal(commands, "spec.yml", *OUT, stdout=out)
    assert "event 2" in written
    assert "published" not in written
    printed = f"<TypedLeafs: {{'output': '{commands.directory}/o'}}>"
    assert (tmp_path / "out").read_text() == f"{printed} (prepublished)\n{printed} (post-run)\n"


def test_log_lines_stand_apart_from_the_live_line(commands: Any) -> None:
    commands.spec('sleep 0.3; touch "{outputfile}"')
    written, _ = on_terminal(commands, "-v", "INFO", "spec.yml", *OUT, columns=200)
    logged = [line for line in screen(written, 200) if "|" in line and "INFO" in line]
    assert logged
    assert all(re.match(r"\d{4}-\d\d-\d\d ", line) for line in logged)


# --- parts -----------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    """A terminal in memory."""

    encoding = "utf-8"  # type: ignore[assignment]

    def isatty(self) -> bool:
        return True


def test_output_is_remembered_in_bounded_memory_and_drawn_at_ticks_only() -> None:
    stream = Terminal()
    line = terminal.LiveLine(stream, "running")
    line.started(Execution(("true",)))
    before = stream.getvalue()
    for number in range(1000):
        line.output(b"x" * 4096 + b"\nline %d\n" % number)
    assert stream.getvalue() == before
    line.tick()
    assert stream.getvalue().endswith("line 999")
    line.ended(Completed(0, 0.0, 1.0))
    assert stream.getvalue().endswith("\r\x1b[K")


def test_a_terminal_that_goes_away_does_not_end_the_task() -> None:
    stream = Terminal()
    line = terminal.LiveLine(stream, "running")
    stream.close()
    line.started(Execution(("true",)))
    line.tick()
    assert line.interval is None


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", ""),
        (b"one\ntwo\n\n", "two"),
        (b"10 %\r20 %\r", "20 %"),
        (b"\x1b[31mred\x1b[0m\n", "red"),
        (b"\x1b]0;title\x07text", "text"),
        (b"a\tb\x00c\x07", "a bc"),
        (b"\xff\xfe", "��"),
    ],
)
def test_last_line_of_output(data: bytes, expected: str) -> None:
    assert terminal.last_line(data) == expected


@given(st.binary(max_size=200))
def test_nothing_in_output_can_steer_the_terminal(data: bytes) -> None:
    assert terminal.last_line(data).isprintable()


@given(st.text(max_size=40), st.integers(min_value=-1, max_value=30))
def test_fitted_text_is_a_beginning_that_fits(text: str, width: int) -> None:
    found = terminal.fitted(text, width)
    assert text.startswith(found)
    assert len(found) <= max(width, 0) or any(not c.isascii() for c in found)
    assert terminal.fitted(found, width) == found


def test_wide_characters_take_two_cells() -> None:
    assert terminal.fitted("漢字漢字", 5) == "漢字"
    assert terminal.fitted("é" + "e\u0301" * 3, 4) == "é" + "e\u0301" * 3


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (12.4, "12 s"), (185, "3 min 05 s"), (7620, "2 h 07 min")],
)
def test_durations_are_written_for_people(seconds: float, expected: str) -> None:
    assert terminal.duration(seconds) == expected


def test_table_names_every_leaf_and_cuts_no_value() -> None:
    result = {"a": "x" * 200, "deep": {"list": ["1", {"y": None}]}, "empty": [], "odd\x1b[2J": "line\nbreak"}
    assert terminal.table(result) == [
        "  a               " + "x" * 200,
        "  deep.list[0]    1",
        "  deep.list[1].y  null",
        "  empty           []",
        '  odd             "line\\nbreak"',
    ]
    assert terminal.table({}) == ["  (nothing was published)"]


def test_columns_are_what_the_caller_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "33")
    assert terminal.columns() == 33
    monkeypatch.setenv("COLUMNS", "wide")
    assert terminal.columns(io.StringIO()) == 80
