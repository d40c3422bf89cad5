"""The command ``packtivity-checkproxy``: read proxy files, ask their backends, wait, follow, cancel, report.

Not called checkproxy, because ``packtivity.cli.checkproxy`` is the command itself, as in upstream 0.17.1.
"""

from __future__ import annotations

import json
import sys
from codecs import getincrementaldecoder
from math import inf
from threading import Event
from time import monotonic
from typing import TYPE_CHECKING, Any, TextIO

from packtivity import errors, record_fields
from packtivity.backends.registry import load_proxy
from packtivity.backends.status import TaskStatus
from packtivity.cli import start
from packtivity.cli.errors import FAILED, STILL_RUNNING, warn
from packtivity.cli.inputs import read_json
from packtivity.cli.terminal import Progress, is_terminal, plain, say, say_json
from packtivity.files import open_to_read
from packtivity.plugins import enable_plugins
from packtivity.printable import escaped, printable
from packtivity.tasklog import BEGINNING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from packtivity.cli.declarations import CheckOptions
    from packtivity.types import Backend

_POLL = (0.01, 1.0)
"""Seconds between questions: at first, and at most."""


def check(options: CheckOptions) -> int:
    """Carry out ``packtivity-checkproxy`` and return its exit code.

    :raises PacktivityError: the only file is no proxy, a task cannot be cancelled, or an engine is away.
    """
    as_json = options.format == "json"
    start.allow_interrupts()
    files = ProxyFiles(options.jsonfiles)
    if options.cancel:
        files.cancel()
    if options.follow:
        files.follow(options.timeout, sys.stderr if as_json else sys.stdout)
    elif options.wait or options.timeout is not None:
        files.wait(options.timeout)
    files.update()
    files.report(as_json=as_json, logs=options.logs)
    return files.exit_code()


class ProxyFile:
    """One proxy file and what is known about its task.

    :ivar status: its status; None for a task that is not known.
    :ivar error: ``type`` and ``message`` of what has gone wrong with the task or with asking for it.
    """

    proxy: Any = None
    backend: Any = None
    status: TaskStatus | None = None
    error: Mapping[str, Any] | None = None

    def __init__(self, name: str) -> None:
        self.name = name

    def load(self, backends: dict[str, Any]) -> None:
        """Read the file and find the backend, one for all proxies of a kind.

        :raises ProxyError: it is no proxy, or nobody knows its backend; the message names the file.
        """
        document = read_json(self.name, self._no_proxy)
        if not (isinstance(document, dict) and isinstance(document.get("proxyname"), str)):
            raise self._no_proxy("has no 'proxyname', so it is not a proxy")
        try:
            self.proxy, self.backend = load_with(backends, document)
        except errors.ProxyError as error:
            raise self._no_proxy(error.message, error.hint) from None
        if self.backend is None:
            raise self._no_proxy(
                f"nobody here knows the backend of a {type(self.proxy).__name__}",
                "Set PACKTIVITY_ASYNCBACKEND=module:backendclass:proxyclass as when the task was submitted.",
            )

    def _no_proxy(
        self, what: str, hint: str = "Give the file that packtivity-run --async wrote (--proxyfile)."
    ) -> errors.ProxyError:
        return errors.ProxyError(f"proxy file {self.name}: {what}", hint=hint)

    def is_pending(self) -> bool:
        """Return whether there is something to wait for."""
        return self.status is not None and not self.status.is_over

    @property
    def word(self) -> str:
        """Return the status in one word."""
        return "unknown" if self.status is None else self.status.status

    def set_status(self, status: TaskStatus | errors.PacktivityError) -> None:
        """Keep the status, or why it is not known."""
        if isinstance(status, errors.PacktivityError):
            self.status, self.error = None, {"type": type(status).__name__, "message": str(status)}
        else:
            self.status, self.error = status, status.error

    def log(self) -> str | None:
        """Return the path of the run log."""
        find = getattr(self.backend, "record_of", None)
        record = find(self.proxy) if find is not None and self.proxy is not None else None
        if not record:
            return None
        stem = record.removesuffix(".outcome.json")
        task_id = getattr(self.proxy, "task_id", None) or stem.rpartition(".")[2]
        return f"{stem.removesuffix(f'.{task_id}')}.run.log"

    def as_json(self) -> dict[str, Any]:
        """Return what ``--format json`` prints."""
        result = None if self.status is None else self.status.result
        verified = self.status.verified if self.status is not None and self.status.is_over else None
        document = {"file": self.name, "status": self.word, "result": result, "error": self.error, "log": self.log()}
        return {**document, "verified": verified}

    def report(self, where: str) -> None:
        """Print the status.

        :param where: what warnings begin with.
        """
        status, error, where = self.status, self.error or {}, printable(where)
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
            warn(f"{where}{what}: " + "\n  ".join(printable(line) for line in text.splitlines()))
        elif status is not None and status.status == "unclear":
            warn(f"{where}it is not known how the task is: {printable(status.reason)}")
        if status is not None and not status.verified:
            warn(f"{where}verified: False; who submitted the task can say whether its record was forged")


class ProxyFiles:
    """Several proxy files.

    :raises ProxyError: there is one file only, and it is none.
    """

    def __init__(self, names: Sequence[str]) -> None:
        enable_plugins()
        self._all = [ProxyFile(name) for name in names]
        backends: dict[str, Any] = {}
        for file in self._all:
            try:
                file.load(backends)
            except (errors.ProxyError, errors.ConfigurationError) as error:
                if len(self._all) == 1:
                    raise
                file.set_status(error)

    def update(self) -> None:
        """Ask for the status of every task that may not be over."""
        for files in self._by_backend(lambda file: file.proxy is not None and (not file.status or file.is_pending())):
            found = statuses(files[0].backend, [file.proxy for file in files])
            for file, status in zip(files, found, strict=True):
                file.set_status(status)

    def _by_backend(self, wanted: Callable[[ProxyFile], bool]) -> Iterable[list[ProxyFile]]:
        """Return those that are wanted, each list for one backend."""
        groups: dict[int, list[ProxyFile]] = {}
        for file in filter(wanted, self._all):
            groups.setdefault(id(file.backend), []).append(file)
        return groups.values()

    def cancel(self) -> None:
        """Ask for the end of every task that is not over.

        :raises PacktivityError: that of one cannot be asked for; the others are cancelled all the same.
        """
        self.update()
        refused: list[errors.PacktivityError] = []
        for files in self._by_backend(ProxyFile.is_pending):
            backend, proxies = files[0].backend, [file.proxy for file in files]
            if hasattr(backend, "cancel_many"):
                refused += filter(None, backend.cancel_many(proxies))
            elif not hasattr(backend, "cancel"):
                refused.append(errors.BackendError(f"a {type(backend).__name__} cannot cancel tasks"))
            else:
                for proxy in proxies:
                    try:
                        backend.cancel(proxy)
                    except errors.PacktivityError as error:
                        refused.append(error)
        if refused:
            raise refused[0]

    def wait(self, timeout: float | None) -> None:
        """Ask until all are over, or the time is."""
        deadline = inf if timeout is None else monotonic() + timeout
        pause, idle = _POLL[0], Event()
        with Progress(len(self._all), "tasks") as progress:
            while True:
                self.update()
                over = [file for file in self._all if not file.is_pending()]
                progress.show(len(over), sum(file.word != "succeeded" for file in over))
                left = deadline - monotonic()
                if len(over) == len(self._all) or left <= 0:
                    return
                idle.wait(min(pause, left))
                pause = min(pause * 1.3, _POLL[1])

    def follow(self, timeout: float | None, stream: TextIO | None) -> None:
        """Print what the tasks print, one after the other, until they are over, or the time is."""
        deadline = inf if timeout is None else monotonic() + timeout
        self.update()
        for file in self._all:
            idle, place = Event(), 0
            as_written = file.is_pending()  # what a task that is over has written is not for the terminal to obey
            while True:
                self.update()
                is_over = not file.is_pending()
                place = print_from(file.log(), place, stream, as_written=as_written) or place
                if is_over or monotonic() >= deadline:
                    break
                idle.wait(0.1)

    def report(self, *, as_json: bool, logs: bool) -> None:
        """Print what is known."""
        if as_json:
            say_json([file.as_json() for file in self._all], default=str)
            return
        several = len(self._all) > 1
        for file in self._all:
            if several:
                say(f"{printable(file.name)}:")
            file.report(f"{file.name}: " if several else "")
            if logs and print_from(file.log(), 0, sys.stdout) is None:
                warn(f"{file.name}: there is no run log that can be read")

    def exit_code(self) -> int:
        """Return what the command ends with."""
        words = {file.word for file in self._all}
        if "unknown" in words:
            return errors.ProxyError.exit_code
        if "unclear" in words:
            return errors.BackendError.exit_code
        if words & {"failed", "cancelled"}:
            return FAILED
        return 0 if words == {"succeeded"} else STILL_RUNNING


def load_with(backends: dict[str, Any], document: dict[str, Any]) -> tuple[Any, Any]:
    """Return the proxy in a document and its backend, None where nobody knows it.

    :param backends: those by the name of their proxies that were found before; one is for all proxies of a kind.
    :raises ProxyError: nobody knows the proxy.
    """
    kind = document["proxyname"]
    if kind in backends:
        return load_proxy(document, best_effort_backend=False, raise_on_unknown=True), backends[kind]
    proxy, backends[kind] = load_proxy(document, raise_on_unknown=True)
    return proxy, backends[kind]


def statuses(backend: Any, proxies: list[Any]) -> list[TaskStatus | errors.PacktivityError]:
    """Return the status of each task, or why it is not known.

    :raises BackendError: the engine is away.
    """
    if hasattr(backend, "statuses"):
        return list(backend.statuses(proxies))
    found: list[TaskStatus | errors.PacktivityError] = []
    for proxy in proxies:
        try:
            found.append(_status_from_verbs(backend, proxy))
        except errors.BackendError:
            raise
        except errors.PacktivityError as error:  # of this one task; the others are asked for all the same
            found.append(error)
    return found


def _status_from_verbs(backend: Backend, proxy: object) -> TaskStatus:
    """Return the status of a task at a backend that has only the five verbs."""
    if not backend.ready(proxy):
        return TaskStatus("running")
    if backend.successful(proxy):
        try:
            return TaskStatus("succeeded", plain(backend.result(proxy)))
        except (errors.ProxyError, errors.BackendError):
            raise
        except errors.PacktivityError as error:  # the job went well, and what it left cannot be published
            return TaskStatus("failed", None, record_fields.failure(error))
    reason = backend.fail_info(proxy)
    if isinstance(reason, tuple) and len(reason) > 1:
        return TaskStatus("failed", None, {"type": str(reason[0]), "message": str(reason[1])})
    return TaskStatus("failed", None, {"type": "TaskFailed", "message": str(reason)} if reason else None)


def print_from(path: str | None, place: int, stream: TextIO | None, *, as_written: bool = False) -> int | None:
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
        if not place and BEGINNING.encode() in (first := file.readline(1 << 10)):
            place = len(first)  # it is not the task that has written it
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


def _for_terminal(text: str, stream: TextIO) -> bytes:
    return escaped(text).encode(stream.encoding or "ascii", "backslashreplace")
