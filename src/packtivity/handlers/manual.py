"""The dialogue with a person who carries out a step by hand: show what to do, wait for the answer, check it.

Everything goes through an :class:`Interaction`, so that a program or a test can stand in for the terminal.
Prompts never go to standard output, which carries results.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, Protocol

from packtivity.errors import EnvironmentUnavailable, PublishError, TaskFailed
from packtivity.printable import escaped

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TextIO

    from packtivity.types import JSON, State

_DONE = frozenset({"y", "yes", "done"})
_FAILED = frozenset({"f", "fail", "failed"})


class Interaction(Protocol):
    """A person, or what stands in for one."""

    def available(self) -> bool:
        """Return whether there is a person who reads and answers."""

    def show(self, text: str) -> None:
        """Show lines of text."""

    def ask(self, prompt: str) -> str:
        """Return the line that is typed, without its newline; raise ``EOFError`` when there will be none."""


class Terminal:
    """The terminal this program was started from.

    Reads standard input, also when it is a pipe; shows on standard error, or on standard output when only that
    is a terminal.
    """

    def available(self) -> bool:
        """Return whether a person can both see what is shown and answer."""
        return _is_terminal(sys.stdin) and _is_terminal(self._screen())

    def show(self, text: str) -> None:
        """Show lines of text; control characters are made visible, so that a document cannot drive the terminal."""
        screen = self._screen()
        screen.write(f"{escaped(text)}\n")
        screen.flush()

    def ask(self, prompt: str) -> str:
        """Return the line that is typed."""
        screen = self._screen()
        screen.write(prompt)
        screen.flush()
        line = sys.stdin.readline() if sys.stdin is not None else ""
        if not line:
            raise EOFError
        return line.rstrip("\r\n")

    def _screen(self) -> TextIO:
        return sys.stdout if _is_terminal(sys.stdout) and not _is_terminal(sys.stderr) else sys.stderr


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and not stream.closed and stream.isatty()


def carry_out(
    job: Mapping[str, Any] | None,
    environment: Mapping[str, Any] | None,
    state: State | None,
    interaction: Interaction | None = None,
) -> None:
    """Show a person what to do and wait for the answer that it is done.

    :param job: as rendered; for a manual process ``{"instructions", "parameters"}``.
    :raises EnvironmentUnavailable: there is nobody to ask.
    :raises TaskFailed: the person reports a failure; the message is theirs.
    """
    person = Terminal() if interaction is None else interaction
    if not person.available():
        raise EnvironmentUnavailable(
            "this step is carried out by a person, and there is no terminal to ask one at",
            hint="Run it at a terminal, with standard input and standard error neither piped nor redirected.",
        )
    person.show("\n".join(_description(job or {}, environment or {}, state)))
    try:
        _wait(person)
    except EOFError:
        raise EnvironmentUnavailable(
            "the terminal was closed before anybody said that the step is done", hint="Run the step again."
        ) from None


def _description(job: Mapping[str, Any], environment: Mapping[str, Any], state: State | None) -> list[str]:
    parts = ["This step is carried out by hand.", ""]
    parts += [document["instructions"] for document in (environment, job) if "instructions" in document]
    parts += [f"\n{key}:\n{job[key]}" for key in ("command", "script") if key in job]
    if "script" in job:
        parts.append(f"\ninterpreter: {job.get('interpreter', 'sh')}")
    if "parameters" in job:
        parts.append(f"\nparameters:\n{_shown(job['parameters'])}")
    if state is not None:
        parts += ["", f"directories to write in: {', '.join(state.readwrite) or 'none'}"]
        parts += [f"directories to read from: {', '.join(state.readonly)}"] if state.readonly else []
    return [*parts, ""]


def _wait(person: Interaction) -> None:
    while (answer := person.ask("Type y when it is done, f if it failed: ").strip().lower()) not in _DONE:
        if answer in _FAILED:
            reason = person.ask("What went wrong? ").strip()
            raise TaskFailed(
                f"the person who carried out the step reports a failure: {reason or 'no reason given'}",
                returncode=1,
                command=["manual"],
                output=reason,
                hint="Mend the cause and run the step again.",
            )


def ask_for_json(instructions: str, interaction: Interaction | None = None) -> JSON:
    """Show instructions and return the JSON document that a person types and confirms.

    A document may go over several lines. What is not JSON (RFC 8259) is asked for again, with its position. Standard
    input may be a pipe with the same answers in it, a document and then ``y``, as with upstream 0.17.1.

    :raises EnvironmentUnavailable: there is no terminal and standard input is empty.
    :raises PublishError: the input ended before a document was confirmed.
    """
    person = Terminal() if interaction is None else interaction
    person.show(instructions)
    anything = person.available()
    try:
        while True:
            text = person.ask("Enter JSON data to publish: ")
            anything = True
            document = _read_document(text, person)
            if document:
                person.show(f"got:\n{_shown(document[0])}")
                if person.ask("publish? (y/N) ").strip().lower() in {"y", "yes"}:
                    return document[0]
    except EOFError:
        if anything:
            raise PublishError(
                "the input ended before a JSON document to publish was typed and confirmed",
                hint="Run it again, type the document and answer y.",
            ) from None
        raise EnvironmentUnavailable(
            "a person types what this step publishes, and there is no terminal to ask one at",
            hint="Run it at a terminal, or pipe the JSON document and a line `y` into standard input.",
        ) from None


def _read_document(text: str, person: Interaction) -> tuple[JSON] | None:
    """Read lines until they are JSON, or cannot become JSON any more, or one is empty.

    :param text: the first line.
    :returns: the document in a tuple, because it may be null; None after it was shown what is wrong.
    """
    while True:
        try:
            return (json.loads(text, parse_constant=_refuse_constant),)
        except json.JSONDecodeError as error:
            unfinished = text.strip() and error.pos >= len(text.rstrip())
            if unfinished and (line := person.ask("... ")).strip():
                text = f"{text}\n{line}"
                continue
            shown, caret = error.doc.split("\n")[error.lineno - 1], " " * (error.colno - 1) + "^"
            wrong = f"is not JSON: line {error.lineno}, column {error.colno}: {error.msg}\n  {shown}\n  {caret}\nPlease"
        except ValueError as error:
            wrong = f"is not JSON: {error}. Please"
        except RecursionError:
            wrong = "document is nested too deeply. Please"
        person.show(f"This {wrong} type it again.")
        return None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON value")


def _shown(document: JSON) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False, default=str)
