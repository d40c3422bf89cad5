"""What ``packtivity-checkproxy`` does: read proxies, ask their backends, wait, follow, cancel, tell."""

from __future__ import annotations

import sys
from codecs import getincrementaldecoder
from typing import TYPE_CHECKING, Any

from packtivity import errors, record_fields
from packtivity.cli.errors import FAILED, STILL_RUNNING, warn
from packtivity.cli.printing import say, say_json
from packtivity.cli.terminal import is_terminal
from packtivity.files import open_to_read
from packtivity.printable import escaped, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from packtivity.backends.status import TaskStatus

_POLL = (0.01, 1.0)
"""Seconds between questions: at first, and at most."""


class Question:
    """One proxy file and what is known about its task.

    :ivar status: how it is; None for one that nobody knows.
    :ivar error: ``type`` and ``message`` of what has gone wrong with the task or with asking for it.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.proxy: Any = None
        self.backend: Any = None
        self.status: TaskStatus | None = None
        self.error: Mapping[str, Any] | None = None

    def load(self, backends: dict[str, Any]) -> None:
        """Read the file and find the backend, one for all proxies of a kind.

        :raises ProxyError: it is no proxy, or nobody knows its backend; the message names the file.
        """
        document = _read(self.name)
        try:
            self._find(document, backends)
        except errors.ProxyError as error:
            raise errors.ProxyError(f"proxy file {self.name}: {error.message}", hint=error.hint) from None

    def _find(self, document: dict[str, Any], backends: dict[str, Any]) -> None:
        from packtivity.backends.registry import load_proxy

        kind = document["proxyname"]
        if kind in backends:
            self.proxy = load_proxy(document, best_effort_backend=False, raise_on_unknown=True)
        else:
            self.proxy, backends[kind] = load_proxy(document, best_effort_backend=True, raise_on_unknown=True)
        self.backend = backends[kind]
        if self.backend is None:
            raise errors.ProxyError(
                f"nobody here knows the backend of a {type(self.proxy).__name__}",
                hint="Set PACKTIVITY_ASYNCBACKEND=module:backendclass:proxyclass as when the task was submitted.",
            )

    def is_open(self) -> bool:
        """Return whether there is something to wait for."""
        return self.status is not None and not self.status.is_over

    def is_asked(self) -> bool:
        """Return whether there may be something to be found out."""
        return self.proxy is not None and (self.status is None or not self.status.is_over)

    @property
    def word(self) -> str:
        """Return the status in one word."""
        return "unknown" if self.status is None else self.status.status

    def note(self, answer: TaskStatus | errors.PacktivityError) -> None:
        """Note how the task is, or that nobody knows it."""
        if isinstance(answer, errors.PacktivityError):
            self.status, self.error = None, {"type": type(answer).__name__, "message": str(answer)}
        else:
            self.status, self.error = answer, answer.error

    def log(self) -> str | None:
        """Return the path of the run log."""
        find = getattr(self.backend, "record_of", None)
        record = find(self.proxy) if find is not None and self.proxy is not None else None
        if not record:
            return None
        stem = record.removesuffix(".outcome.json")
        task_id = getattr(self.proxy, "task_id", None) or stem.rpartition(".")[2]
        return f"{stem.removesuffix(f'.{task_id}')}.run.log"


class Questions:
    """Several proxy files.

    :raises ProxyError: there is one file only, and it is none.
    """

    def __init__(self, names: Sequence[str]) -> None:
        from packtivity.plugins import enable_plugins

        enable_plugins()
        self._all = [Question(name) for name in names]
        backends: dict[str, Any] = {}
        for question in self._all:
            try:
                question.load(backends)
            except (errors.ProxyError, errors.ConfigurationError) as error:
                if len(self._all) == 1:
                    raise
                question.note(error)

    def ask(self) -> None:
        """Ask for every task that may not be over."""
        for questions in self._by_backend(lambda question: question.is_asked()):
            _ask(questions[0].backend, questions)

    def _by_backend(self, wanted: Callable[[Question], bool]) -> list[list[Question]]:
        """Return those that are wanted, each list for one backend."""
        found: dict[int, list[Question]] = {}
        for question in self._all:
            if wanted(question):
                found.setdefault(id(question.backend), []).append(question)
        return [*found.values()]

    def cancel(self) -> None:
        """Ask for the end of every task that is not over.

        :raises PacktivityError: that of one cannot be asked for.
        """
        self.ask()
        refused: list[errors.PacktivityError | None] = []
        for questions in self._by_backend(lambda question: question.is_open()):
            refused += _cancel(questions[0].backend, [question.proxy for question in questions])
        for error in filter(None, refused):  # of one task; the others are cancelled all the same
            raise error

    def wait(self, timeout: float | None) -> None:
        """Ask until all are over, or the time is."""
        from threading import Event
        from time import monotonic

        from packtivity.cli.progress import Progress

        deadline = None if timeout is None else monotonic() + timeout
        pause, idle = _POLL[0], Event()
        with Progress(len(self._all), "tasks") as progress:
            self.ask()
            while True:
                over = [question for question in self._all if not question.is_open()]
                failed = [question for question in over if question.word != "succeeded"]
                progress.show(len(over), len(failed))
                if len(over) == len(self._all) or (deadline is not None and monotonic() >= deadline):
                    return
                idle.wait(pause if deadline is None else max(0.0, min(pause, deadline - monotonic())))
                pause = min(pause * 1.3, _POLL[1])
                self.ask()

    def follow(self, timeout: float | None, stream: Any) -> None:
        """Print what the tasks print, one after the other, until they are over."""
        from time import monotonic

        deadline = None if timeout is None else monotonic() + timeout
        self.ask()
        for question in self._all:
            _follow(question, self.ask, deadline, stream)

    def tell(self, *, as_json: bool, logs: bool) -> None:
        """Print what is known."""
        if as_json:
            say_json([_document(question) for question in self._all], default=str)
            return
        for question in self._all:
            several = len(self._all) > 1
            if several:
                say(f"{printable(question.name)}:")
            _tell(question, f"{question.name}: " if several else "")
            if logs:
                _print_log(question)

    def exit_code(self) -> int:
        """Return what the command ends with."""
        found = {question.word for question in self._all}
        if "unknown" in found:
            return errors.ProxyError.exit_code
        if "unclear" in found:
            return errors.BackendError.exit_code
        if found & {"failed", "cancelled"}:
            return FAILED
        return 0 if found == {"succeeded"} else STILL_RUNNING


def _ask(backend: Any, questions: list[Question]) -> None:
    many = getattr(backend, "statuses", None)
    if many is not None:
        for question, answer in zip(questions, many([question.proxy for question in questions]), strict=True):
            question.note(answer)
        return
    for question in questions:
        try:
            question.note(by_verbs(backend, question.proxy))
        except errors.BackendError:
            raise
        except errors.PacktivityError as error:  # of this one task; the others are asked for all the same
            question.note(error)


def _cancel(backend: Any, proxies: list[Any]) -> list[errors.PacktivityError | None]:
    """Ask for the end of tasks; for each None, or why that cannot be done."""
    many = getattr(backend, "cancel_many", None)
    if many is not None:
        return list(many(proxies))
    end = getattr(backend, "cancel", None)
    if end is None:
        return [errors.BackendError(f"a {type(backend).__name__} cannot cancel tasks")]
    refused: list[errors.PacktivityError | None] = []
    for proxy in proxies:
        try:
            end(proxy)
        except errors.PacktivityError as error:
            refused.append(error)
    return refused


def by_verbs(backend: Any, proxy: Any) -> TaskStatus:
    """Ask a backend that has only the five verbs."""
    from packtivity.backends.status import TaskStatus

    if not backend.ready(proxy):
        return TaskStatus("running")
    if backend.successful(proxy):
        try:
            result = backend.result(proxy)
        except (errors.ProxyError, errors.BackendError):
            raise
        except errors.PacktivityError as error:  # the job went well, and what it left cannot be published
            return TaskStatus("failed", None, record_fields.failure(error))
        return TaskStatus("succeeded", result.json() if hasattr(result, "json") else result)
    reason = backend.fail_info(proxy)
    if isinstance(reason, tuple) and len(reason) > 1:
        return TaskStatus("failed", None, {"type": str(reason[0]), "message": str(reason[1])})
    return TaskStatus("failed", None, {"type": "TaskFailed", "message": str(reason)} if reason else None)


def _document(question: Question) -> dict[str, Any]:
    status = question.status
    found = {"file": question.name, "status": question.word, "result": None if status is None else status.result}
    verified = status.verified if status is not None and status.is_over else None
    return {**found, "error": question.error, "log": question.log(), "verified": verified}


def _tell(question: Question, where: str) -> None:
    import json

    status, error = question.status, question.error or {}
    if status is None:
        say("unknown: True")
    elif not status.is_over:
        say("ready: False")
    else:
        say("ready: True")
        say(f"successful: {status.status == 'succeeded'}")
    if status is not None and status.status == "succeeded":
        say(f"result: {json.dumps(status.result)}")
    elif error:
        what = "the task is not known" if status is None else "the task failed"
        text = f"{error.get('type', 'TaskFailed')}: {error.get('message', '')}"
        warn(f"{printable(where)}{what}: " + "\n  ".join(printable(line) for line in text.splitlines()))
    elif status is not None and status.status == "unclear":
        warn(f"{printable(where)}it is not known how the task is: {printable(status.reason)}")
    if status is not None and not status.verified:
        warn(f"{printable(where)}verified: False; who submitted the task can say whether its record was forged")


def _print_log(question: Question) -> None:
    if _print_from(question.log(), 0, sys.stdout) is None:
        warn(f"{question.name}: there is no run log that can be read")


def _follow(question: Question, ask: Any, deadline: float | None, stream: Any) -> None:
    from threading import Event
    from time import monotonic

    idle, place = Event(), 0
    as_written = question.is_open()  # what a task that is over has written is not for the terminal to obey
    while True:
        ask()
        is_over = not question.is_open()
        place = _print_from(question.log(), place, stream, as_written=as_written) or place
        if is_over or (deadline is not None and monotonic() >= deadline):
            return
        idle.wait(0.1)


def _print_from(path: str | None, place: int, stream: Any, *, as_written: bool = False) -> int | None:
    """Print a file from a place on and return where it ends; None when there is none that can be read.

    :param as_written: print its bytes also on a terminal, where they are escaped otherwise.
    """
    if path is None:
        return None
    try:
        # A task may have put a link in its place, a proxy may name a pipe, which would be waited for.
        descriptor = open_to_read(path)
    except OSError:
        return None
    raw = as_written or not is_terminal(stream)
    decoder = getincrementaldecoder("utf-8")("replace")
    with open(descriptor, "rb") as file:
        file.seek(place)
        while chunk := file.read(1 << 16):
            place += len(chunk)
            if stream is not None:  # it may be closed
                stream.buffer.write(chunk if raw else _for_terminal(decoder.decode(chunk), stream))
    if stream is not None:
        if not raw:
            stream.buffer.write(_for_terminal(decoder.decode(b"", True), stream))
        stream.buffer.flush()
    return place


def _for_terminal(text: str, stream: Any) -> bytes:
    return escaped(text).encode(stream.encoding or "ascii", "backslashreplace")


def _read(name: str) -> Any:
    import json

    hint = "Give the file that packtivity-run --async wrote (--proxyfile)."
    try:
        with open(name, encoding="utf-8") as file:
            found = json.load(file)
    except OSError as error:
        raise errors.ProxyError(f"proxy file {name}: {error.strerror}", hint=hint) from None
    except (ValueError, RecursionError) as error:
        raise errors.ProxyError(f"proxy file {name}: not JSON: {error}", hint=hint) from None
    if not (isinstance(found, dict) and isinstance(found.get("proxyname"), str)):
        raise errors.ProxyError(f"proxy file {name}: has no 'proxyname', so it is not a proxy", hint=hint)
    return found
