"""Talking to the person who carries out a step, also on a real pseudo-terminal."""

from __future__ import annotations

import io
import json
import os
import pty
import select
import subprocess
import sys
from typing import Any

import pytest

from packtivity.errors import EnvironmentUnavailable, PublishError, TaskFailed
from packtivity.handlers import manual
from packtivity.statecontexts import LocalFSState


class Scripted:
    """Stands in for a person: gives answers in turn and keeps what was shown."""

    def __init__(self, *answers: str, there: bool = True) -> None:
        self.answers = list(answers)
        self.shown = ""
        self.there = there

    def available(self) -> bool:
        return self.there

    def show(self, text: str) -> None:
        self.shown += text + "\n"

    def ask(self, prompt: str) -> str:
        self.shown += prompt
        if not self.answers:
            raise EOFError
        return self.answers.pop(0)


class TestCarryingOut:
    def test_instructions_parameters_and_directories_are_shown(self) -> None:
        person = Scripted("y")
        job = {"instructions": "Turn the knob.", "parameters": {"angle": "é"}}
        manual.carry_out(job, {"instructions": "In the lab."}, LocalFSState(["/w"], ["/r"]), person)
        for part in ("Turn the knob.", "In the lab.", '"angle": "é"', "write in: /w", "read from: /r"):
            assert part in person.shown

    @pytest.mark.parametrize(
        ("job", "parts"),
        [({"command": "run it"}, ["run it"]), ({"script": "do\n", "interpreter": "bash"}, ["do", "interpreter: bash"])],
    )
    def test_what_is_to_be_run_by_hand_is_shown(self, job: Any, parts: list[str]) -> None:
        person = Scripted("done")
        manual.carry_out(job, {"instructions": "Log in first."}, None, person)
        assert all(part in person.shown for part in parts)

    def test_it_waits_until_there_is_an_answer(self) -> None:
        person = Scripted("", "what?", " YES ")
        manual.carry_out(None, None, LocalFSState(), person)
        assert person.answers == []
        assert "write in: none" in person.shown

    def test_a_reported_failure_is_a_failed_task(self) -> None:
        with pytest.raises(TaskFailed, match="reports a failure: it broke") as caught:
            manual.carry_out({}, {}, None, Scripted("f", " it broke "))
        assert caught.value.returncode == 1

    def test_a_failure_needs_no_reason(self) -> None:
        with pytest.raises(TaskFailed, match="no reason given"):
            manual.carry_out({}, {}, None, Scripted("failed", ""))

    def test_without_a_terminal_there_is_nobody_to_ask(self) -> None:
        person = Scripted("y", there=False)
        with pytest.raises(EnvironmentUnavailable, match="no terminal"):
            manual.carry_out({}, {}, None, person)
        assert person.shown == ""

    def test_a_terminal_that_is_closed_is_told(self) -> None:
        with pytest.raises(EnvironmentUnavailable, match="closed"):
            manual.carry_out({}, {}, None, Scripted())


class TestAskingForJson:
    def test_a_document_is_shown_and_confirmed(self) -> None:
        person = Scripted('{"a": [1]}', "y")
        assert manual.ask_for_json("Look at the plot.", person) == {"a": [1]}
        assert person.shown.startswith("Look at the plot.\n")
        assert '"a": [\n    1' in person.shown

    def test_null_is_a_document(self) -> None:
        assert manual.ask_for_json("", Scripted("null", "yes")) is None

    def test_what_is_not_confirmed_is_asked_for_again(self) -> None:
        assert manual.ask_for_json("", Scripted("1", "n", "2", "", "3", "y")) == 3

    def test_a_document_may_take_several_lines(self) -> None:
        assert manual.ask_for_json("", Scripted('{"a":', "[1,", "2]}", "y")) == {"a": [1, 2]}

    def test_an_empty_line_gives_up_an_unfinished_document(self) -> None:
        person = Scripted('{"a":', "", '{"b": 1}', "y")
        assert manual.ask_for_json("", person) == {"b": 1}
        assert "line 1, column 6: Expecting value" in person.shown

    @pytest.mark.parametrize(
        ("typed", "said"),
        [
            ("{'a': 1}", "line 1, column 2: Expecting property name"),
            ('{"a": nope}', 'line 1, column 7: Expecting value\n  {"a": nope}\n        ^'),
            ("", "line 1, column 1: Expecting value"),
            ("NaN", "NaN is no JSON value"),
            ("[" * 100_000, "nested too deeply"),
        ],
    )
    def test_what_is_not_json_is_asked_for_again_with_the_position(self, typed: str, said: str) -> None:
        person = Scripted(typed, '"ok"', "y")
        assert manual.ask_for_json("", person) == "ok"
        assert said in person.shown

    def test_nobody_there_at_all(self) -> None:
        with pytest.raises(EnvironmentUnavailable, match="no terminal"):
            manual.ask_for_json("", Scripted(there=False))

    @pytest.mark.parametrize(("answers", "there"), [((), True), (("1",), True), (("1",), False)])
    def test_an_input_that_ends_too_early(self, answers: tuple[str, ...], there: bool) -> None:
        with pytest.raises(PublishError, match="ended before"):
            manual.ask_for_json("", Scripted(*answers, there=there))


class TestTerminal:
    def test_piped_input_is_no_person_but_can_be_read(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(sys, "stdin", io.StringIO('{"a": 1}\r\ny\n'))
        assert not manual.Terminal().available()
        assert manual.ask_for_json("Look.") == {"a": 1}
        written = capsys.readouterr()
        assert written.out == ""
        assert "Look." in written.err

    @pytest.mark.parametrize("stdin", [None, io.StringIO()])
    def test_without_any_input(self, stdin: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stdin", stdin)
        with pytest.raises(EnvironmentUnavailable):
            manual.ask_for_json("Look.")
        with pytest.raises(EnvironmentUnavailable):
            manual.carry_out({}, {}, None)

    def test_a_document_cannot_drive_the_terminal(self, capsys: pytest.CaptureFixture[str]) -> None:
        manual.Terminal().show("a\x1b[2Jb\tc\nd é")
        assert capsys.readouterr().err == "a\\x1b[2Jb\tc\nd é\n"


def on_terminal(code: str, typed: list[tuple[str, str]], *, outputs: str = "both") -> tuple[str, str, int]:
    """Run code at a pseudo-terminal; type each answer when its prompt has been shown.

    :param outputs: which of its outputs are the terminal.
    """
    leader, follower = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=follower,
        stdout=follower if outputs == "stdout" else subprocess.PIPE,
        stderr=subprocess.PIPE if outputs == "stdout" else follower,
    )
    os.close(follower)
    screen = ""
    for prompt, answer in typed:
        seen = len(screen)
        while prompt not in screen[seen:]:
            assert select.select([leader], [], [], 20)[0], f"no {prompt!r} in {screen!r}"
            screen += os.read(leader, 4096).decode()
        os.write(leader, answer.encode() + b"\n")
    out, err = child.communicate(timeout=20)
    os.close(leader)
    return screen, (out or err or b"").decode(), child.returncode


PUBLISH = """
import json
from packtivity.handlers.publisher_handlers import publisher
found = publisher.find("manual-instructions-pub")({"instructions": "Read the meter."}, None, None)
print(json.dumps(found))
"""


def test_a_person_at_a_terminal_publishes() -> None:
    answers = [("publish: ", "{1"), ("publish: ", '{"meter":'), ("... ", "12}"), ("(y/N)", "y")]
    screen, out, code = on_terminal(PUBLISH, answers)
    assert "Read the meter." in screen
    assert "line 1, column 2" in screen
    assert (json.loads(out), code) == ({"meter": 12}, 0)


CARRY_OUT = """
from packtivity.handlers import manual
manual.carry_out({"command": "ls"}, {"instructions": "By hand."}, None)
"""


@pytest.mark.parametrize("outputs", ["stdout", "stderr"])
def test_one_output_at_the_terminal_is_enough(outputs: str) -> None:
    screen, _, code = on_terminal(CARRY_OUT, [("failed: ", "y")], outputs=outputs)
    assert "By hand." in screen
    assert code == 0


def test_a_person_at_a_terminal_reports_a_failure() -> None:
    _screen, _, code = on_terminal(CARRY_OUT, [("failed: ", "f"), ("wrong? ", "smoke")])
    assert code == 1
