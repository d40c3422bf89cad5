"""The controller of an ipyparallel cluster: finding it, asking it, and telling when it or an engine is gone.

ipyparallel waits for answers without end, forgets everything when its controller is started anew, and does not notice
that a scheduler has died, nor that an engine which a new controller has taken over from an old one is not there any
more. So every question here has a time-out, ports are tried, and engines are asked whether they live.
"""

from __future__ import annotations

import atexit
import os
import socket
import time
from concurrent.futures import Future, wait
from contextlib import suppress
from itertools import cycle
from queue import SimpleQueue
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from ipyparallel import Client
from ipyparallel.error import KernelError, RemoteError
from ipyparallel.serialize import PrePickled

from packtivity import folders
from packtivity.errors import BackendError
from packtivity.files import read_json
from packtivity.record import ATTEMPTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    Questions = SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None]
    T = TypeVar("T")

ARRIVAL = 5.0
"""Seconds that a task may be on its way before a controller that does not know it never got it."""

ANSWER = 10.0
"""Seconds that the controller has for an answer."""

_FAREWELL, _PING, _STRANDED = 5.0, 5.0, 8.0
_IDLE, _PINGS = 1.0, 4
"""Seconds in which an idle engine answers; calls that wait at an engine before it is not sent another one."""

_NOTHING = PrePickled(int)
_HINT = "Start one, ipcluster start -n 4, or name yours (profile, cluster_id) in PACKTIVITY_ASYNCBACKEND_OPTS."


class Cluster:
    """A controller, and a client that talks to it.

    :param options: for the client, such as ``profile`` or ``cluster_id``.
    :param client: one that is there already; then a controller at another address is not looked for.
    :ivar name: the file by which it is found; None where it was not looked for.
    """

    def __init__(self, options: Mapping[str, Any], client: Client | None = None) -> None:
        self._options, self._client, self._given = dict(options), client, client is not None
        self.name = None if self._given or "connection_info" in options else _connection_file(options)
        self._written = 0.0
        self._questions: Questions | None = None
        self._unsure: str | None = None
        self._looked, self._doubt = float("-inf"), frozenset[object]()
        self._lost: frozenset[str] = frozenset()
        self._listed: frozenset[str] | None = None
        self._idle: Iterator[int] = iter(())

    @property
    def client(self) -> Client:
        """The client, connected when it is first needed, and again when the controller has got other addresses.

        :raises BackendError: there is no controller.
        """
        written = os.path.getmtime(self.name) if self.name is not None and os.path.exists(self.name) else self._written
        if written != self._written:
            self._drop()  # whoever wrote that is another controller
        if self._client is None:
            options = dict(self._options)
            if self.name is not None:
                _check(self.name, options)
                _listening(self.name)
                self._written = os.path.getmtime(self.name)
                own = ("profile", "profile_dir", "cluster_id", "ipython_dir")
                options = {**{key: options[key] for key in options if key not in own}, "connection_info": self.name}
            try:
                self._client = Client(**options)
            except (OSError, TimeoutError, ValueError, KeyError) as error:
                raise BackendError.of(error, f"no ipyparallel cluster can be reached: {error}", hint=_HINT) from error
            self._asker()  # no thread can be started when the program ends
            atexit.register(self.close)
        return self._client

    def close(self) -> None:
        """See that what was sent has arrived, and end the connection; the next question makes a new one."""
        last, self._unsure, deadline = self._unsure, None, time.monotonic() + _FAREWELL
        with suppress(BackendError, RuntimeError):
            _listening(self.name if last is not None else None)
            while last is not None and self._client is not None and time.monotonic() < deadline:
                last = None if self._known([last]) else last
                Event().wait(0.0 if last is None else 0.01)
        self._drop()

    def _drop(self) -> None:
        if self._client is not None and not self._given:
            client, self._client, self._unsure = self._client, None, None
            atexit.unregister(self.close)
            client.close(linger=0)

    def give(self, run: Callable[[str], str], texts: Sequence[str]) -> list[str]:
        """Let the engines call ``run`` with texts, and return the messages that say so.

        They go to engines that are idle where the scheduler does not know that, else to the scheduler.

        :raises BackendError: there is no controller.
        """
        client, code = self.client, PrePickled(run)
        view = client.load_balanced_view(retries=ATTEMPTS - 1)
        is_stuck = self._lost and time.monotonic() - self._looked < 2 * _STRANDED
        engines = [next(self._idle, None) if is_stuck else None for _ in texts]
        try:
            views = [client.direct_view(engine) if engine in client.ids else view for engine in engines]
            sent = [each.apply_async(code, text) for each, text in zip(views, texts, strict=True)]
        except (OSError, RuntimeError) as error:
            self._drop()
            raise BackendError.of(error, f"the ipyparallel cluster was shut down: {error}", hint=_HINT) from error
        messages = [str(each.msg_ids[0]) for each in sent]
        self._unsure = messages[-1]
        return messages

    def ask(self, question: Callable[[], T]) -> T:
        """Return what a call gives that may wait for ever, as every question of ipyparallel's.

        :raises BackendError: there is no answer in time, or no connection.
        """
        found: Future[T] = Future()
        asker = self._asker()
        asker.put((question, found))
        try:
            return found.result(ANSWER)
        except TimeoutError as error:
            asker.put(None)
            self._questions = None
            raise BackendError.of(
                error, f"the ipyparallel controller has not answered for {ANSWER:.0f} seconds", hint=_HINT
            ) from error
        except OSError as error:
            self._drop()
            raise BackendError.of(error, f"the ipyparallel cluster was shut down: {error}", hint=_HINT) from error

    def _asker(self) -> Questions:
        if self._questions is None:
            self._questions = SimpleQueue()
            Thread(target=_serve, args=(self._questions,), name="packtivity-ipyparallel", daemon=True).start()
        return self._questions

    def known(self, messages: Sequence[str]) -> dict[str, str]:
        """Return of the messages that the controller knows whether each is ``pending`` or ``completed``.

        :raises BackendError: it cannot be reached.
        """
        self.client  # noqa: B018 - that it connects
        _listening(self.name)
        found = self._known(list(messages))
        if self._unsure in messages:
            self._unsure = None  # the one who asks judges what it means that it is not known
        return found

    def _known(self, messages: list[str]) -> dict[str, str]:
        client: Any = self._client
        try:
            said = self.ask(lambda: client.result_status(messages)) if messages else {"pending": (), "completed": ()}
        except RemoteError as error:
            if error.ename != "KeyError":
                raise BackendError(
                    f"the ipyparallel controller cannot answer: {error.ename}: {error.evalue}"
                ) from error
            half = len(messages) // 2  # one that is not known spoils the answer for all
            return {**self._known(messages[:half]), **self._known(messages[half:])} if half else {}
        return {message: status for status in ("pending", "completed") for message in said[status]}

    def is_stranded(self, message: str, age: float) -> bool:
        """Return whether a message is lost that the controller calls pending: no engine will ever run it.

        A controller that is started anew takes over engines that are dead, gives tasks to engines that have not connected
        to it yet, or has a scheduler that has never heard of an engine.

        :param age: for how many seconds it has been sent.
        """
        if age > ARRIVAL and time.monotonic() - self._looked > _STRANDED:
            self._lost, self._listed = frozenset(), None
            with suppress(BackendError, KernelError, LookupError, OSError, RuntimeError):  # next time, then
                self._look(self.client)
            self._looked = time.monotonic()
        was_there = time.monotonic() - self._looked < age - ARRIVAL
        return message in self._lost or (self._listed is not None and was_there and message not in self._listed)

    def _look(self, client: Client) -> None:
        """Look which engines are idle, or dead, although the controller has given them something.

        Each is sent a call that does nothing. One that answers has read what came before it; one that does not is busy, or
        dead if its control channel is silent too.
        """
        before = self.ask(lambda: client.queue_status(verbose=True))
        known = {*client.ids} & {*before}
        few = [number for number in known if len(before[number]["queue"]) < _PINGS]
        idle = _answered({number: client.direct_view(number).apply_async(_NOTHING) for number in few}, _IDLE)
        busy = known - idle  # or dead; an engine whose nanny alone has died answers nothing while it is busy
        silent = busy - _answered({n: client.abort(["none"], targets=n, block=False) for n in busy}, _PING)
        doubt, last = frozenset(silent | ({*before} - {"unassigned"} ^ {*client.ids})), self._doubt
        self._doubt = doubt
        if doubt - last:  # a new controller may have given the numbers to other engines
            self._drop()
            return
        after = self.ask(lambda: client.queue_status(verbose=True))
        if living := known - silent:  # else there is nobody who could run anything
            stuck = {*silent, *idle, *({*before} - known if idle == living else ())}
            self._lost = frozenset[str]().union(*(_listed(before, each) & _listed(after, each) for each in stuck))
            self._listed = frozenset[str]().union(*(_listed(before, each) for each in before))
            self._idle = cycle(idle) if idle else iter(())


def _listed(queues: Mapping[Any, Any], number: object) -> frozenset[str]:
    found = queues.get(number, ())
    return frozenset((*found["tasks"], *found["queue"]) if isinstance(found, dict) else found)


def _answered(asked: Mapping[int, Any], seconds: float) -> set[int]:
    done = wait(asked.values(), seconds).done
    return {number for number, future in asked.items() if future in done}


def _serve(questions: Questions) -> None:
    while (given := questions.get()) is not None:
        question, found = given
        try:
            found.set_result(question())
        except BaseException as error:  # noqa: BLE001 - it is raised where the question was asked
            found.set_exception(error)


def _listening(path: str | None) -> None:
    """See that controller and task scheduler are there; those of another machine cannot be tried.

    :raises BackendError: one of them is not.
    """
    for what, url in _addresses(path).items() if path is not None else ():
        address = urlsplit(url)
        try:
            socket.create_connection((address.hostname or "", address.port or 0), timeout=_PING).close()
        except (OSError, ValueError) as error:
            hint = "Stop what is left of it and start it again: ipcluster stop; ipcluster start."
            raise BackendError.of(
                error, f"the {what} of the ipyparallel cluster is gone: {error}", hint=hint
            ) from error


def _addresses(path: str) -> dict[str, str]:
    """Return the addresses in the file of a controller on this machine; nothing is known of others."""
    found, interface = read_json(path, follow=True), "tcp://127.0.0.1"
    if not isinstance(found, dict) or found.get("ssh"):
        return {}
    if (found.get("interface"), found.get("location")) != (interface, socket.gethostname()):
        return {}
    parts = (("registration", "controller"), ("task", "task scheduler"))
    return {what: f"{interface}:{found.get(key)}" for key, what in parts}


def _connection_file(options: Mapping[str, Any]) -> str:
    from IPython.paths import get_ipython_dir

    of_user = f"{options.get('ipython_dir') or get_ipython_dir()}/profile_{options.get('profile') or 'default'}"
    cluster = f"-{options['cluster_id']}" if options.get("cluster_id") else ""
    return os.path.abspath(f"{options.get('profile_dir') or of_user}/security/ipcontroller{cluster}-client.json")


def _check(path: str, options: Mapping[str, Any]) -> None:
    """See that there is a file by which a controller is found.

    :raises BackendError: there is none, because of the profile or because no controller runs.
    :raises UnsafeDirectory: another user of the machine can have written the file.
    """
    if os.path.exists(path):  # what the controller that it names says is run here
        folders.check_file(path, "Take a profile of your own (profile, profile_dir), and start the cluster again.")
        return
    why, named = f"no controller has written {path}", options.get("profile") or options.get("profile_dir")
    profile = os.path.dirname(os.path.dirname(path))
    if not os.path.isdir(profile):
        why = f"there is no profile {repr(named) + ' ' if named else ''}({profile})"
    raise BackendError(f"no ipyparallel cluster can be reached: {why}", hint=_HINT)
