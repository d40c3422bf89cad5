"""The controller of an ipyparallel cluster: finding it, asking it, and telling when it or an engine is gone.

ipyparallel waits for answers without end, forgets everything when its controller is started anew, and does not notice
that a scheduler has died, nor that an engine which a new controller has taken over from an old one is not there any
more. So every question here has a time-out, ports are tried, and engines are asked whether they live.

ipyparallel is imported with this module only.
"""

from __future__ import annotations

import atexit
import os
import socket
import time
from contextlib import suppress
from threading import Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ipyparallel import Client
from ipyparallel.serialize import PrePickled

from packtivity import folders
from packtivity.backends.engine_run import RUN
from packtivity.backends.stranded import Stranded
from packtivity.errors import BackendError
from packtivity.files import read_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ANSWER = 10.0
"""Seconds that the controller has for an answer."""

ARRIVAL = 5.0
"""Seconds that a task may be on its way before a controller that does not know it never got it."""

PATIENCE = 30.0
"""Seconds that a controller may be gone to which there was a connection: somebody may be starting it again."""

_PING, _FAREWELL = 5.0, 5.0
_STRANDED = 8.0
_HINT = "Start one, ipcluster start -n 4, or name yours (profile, cluster_id) in PACKTIVITY_ASYNCBACKEND_OPTS."


class Cluster:
    """A controller, and a client that talks to it.

    :param options: for the client, such as ``profile`` or ``cluster_id``.
    :param client: one that is there already; then a controller at another address is not looked for.
    """

    def __init__(self, options: Mapping[str, Any], client: Any = None) -> None:
        self._options, self._client, self._given = dict(options), client, client is not None
        self._file: tuple[str, int] | None = None
        self._name: str | None = None
        self._seen = 0.0
        self._lost: float | None = None
        self._unsure: Any = None
        self._looked, self._stranded = 0.0, Stranded()
        self._empty: float | None = None
        self._run = PrePickled(RUN)

    @property
    def name(self) -> str | None:
        """Which cluster it is: the file by which it is found; None where it was not looked for."""
        if self._name is None and not self._given and "connection_info" not in self._options:
            self._name = _connection_file(self._options)
        return self._name

    @property
    def client(self) -> Any:
        """The client, connected when it is first needed, and again when the controller has got other addresses.

        :raises BackendError: there is no controller.
        """
        if not self._given and self._client is not None and (self._client._closed or self._has_moved()):
            self.close()
        if self._client is None:
            self._client = self._connected()
        return self._client

    def _has_moved(self) -> bool:
        return self._file is not None and _stamp(self._file[0]) not in (None, self._file)

    def _connected(self) -> Any:
        options = dict(self._options)
        if "connection_info" not in options:
            path = options["connection_info"] = _connection_file(self._options)
            for name in ("profile", "profile_dir", "cluster_id", "ipython_dir"):
                options.pop(name, None)
            self._file = _stamp(path)
            _check(path, self._options)
            _listening(_addresses(path))
        try:
            client = Client(**options)
        except (OSError, TimeoutError, ValueError, KeyError) as error:
            raise BackendError(f"no ipyparallel cluster can be reached: {error}", hint=_HINT) from error
        atexit.register(self.close)
        return client

    def close(self) -> None:
        """See that what was sent has arrived, and end the connection; the next question makes a new one."""
        client, self._client = self._client, None
        self._looked, self._stranded = 0.0, Stranded()
        if client is None or self._given:
            self._client = client
            return
        atexit.unregister(self.close)
        last, self._unsure = self._unsure, None
        if last is not None and not last.done() and self._lost is None and not client._closed:
            with suppress(BackendError):
                _listening({} if client._ssh else client._config)
                _settle(client, last.msg_id)
        client.close(linger=0)

    # --- giving tasks away ---

    def give(self, texts: Sequence[str], retries: int) -> list[Any]:
        """Give tasks to the engines and return ipyparallel's futures; an error is a result of theirs.

        A view would do the same, and take twice the time.

        :param retries: how often another engine is to get a task whose engine died.
        :raises BackendError: there is no controller.
        """
        client = self.client
        wanted: dict[str, Any] = {"after": [], "follow": [], "timeout": None, "targets": [], "retries": retries}
        futures = [self._sent(client._task_stream, text, metadata=dict(wanted)) for text in texts]
        self._unsure = futures[-1] if futures else self._unsure
        return futures

    def give_again(self, text: str, retries: int) -> Any:
        """Give a task away again: to an idle engine where the scheduler calls all of them busy."""
        engine = self._stranded.idle()
        if engine is None:
            return self.give([text], retries)[0]
        return self._sent(self.client._mux_stream, text, ident=engine.encode())

    def _sent(self, stream: Any, text: str, **how: Any) -> Any:
        try:
            return self.client.send_apply_request(stream, self._run, (text,), **how)
        except (OSError, RuntimeError) as error:
            raise BackendError(f"the ipyparallel cluster was shut down: {error}", hint=_HINT) from error

    # --- asking ---

    def known(self, messages: Sequence[str]) -> dict[str, str]:
        """Return of the messages that the controller knows whether each is ``pending`` or ``completed``.

        :raises BackendError: it cannot be reached.
        """
        try:
            client = self.client
            _listening({} if client._ssh else client._config)
            found = _known(client, messages)
        except BackendError:
            self._lost = self._lost or time.monotonic()
            raise
        self._seen, self._lost = time.monotonic(), None
        if self._unsure is not None and self._unsure.msg_id in messages:
            self._unsure = None  # the one who asks judges what it means that it is not known
        return found

    def may_come_back(self) -> bool:
        """Return whether a controller that cannot be reached was there not long ago."""
        return bool(self._seen) and self._lost is not None and time.monotonic() - self._lost < PATIENCE

    def fetched(self, message: str) -> Any:
        """Return what came back for a message that the controller calls completed, or the error.

        :raises BackendError: it cannot be had.
        """
        from concurrent.futures import Future

        found: Future[Any] = Future()
        client = self.client

        def fetch() -> None:
            try:
                found.set_result(client.get_result(message, owner=False).get(ANSWER))
            except Exception as error:  # noqa: BLE001 - what came back may be any error
                found.set_result(error)

        Thread(target=fetch, name="packtivity-ipyparallel", daemon=True).start()
        try:
            answer = found.result(2 * ANSWER)
        except TimeoutError:
            answer = TimeoutError("no answer")
        if isinstance(answer, (TimeoutError, OSError)) or getattr(answer, "ename", "") == "KeyError":
            raise BackendError(f"the ipyparallel controller does not give the result: {answer}")
        return answer

    def is_empty(self) -> bool:
        """Return whether there has been no engine for a while.

        :raises BackendError: the controller cannot be reached.
        """
        engines = _question(self.client, "connection_request", {})["engines"]
        if self._stranded.living(engines.values()):
            self._empty = None
        elif self._empty is None:
            self._empty = time.monotonic()
        return self._empty is not None and time.monotonic() - self._empty > PATIENCE

    def is_stranded(self, message: str, age: float) -> bool:
        """Return whether no engine will ever run a message, which nobody has noticed.

        :param age: for how many seconds it has been sent.
        """
        if time.monotonic() - self._looked > _STRANDED:
            client = self.client
            engines = _question(client, "connection_request", {})["engines"]
            queues = _question(client, "queue_request", {"targets": None, "verbose": True})
            self._stranded.look(client, engines, queues)
            self._looked = time.monotonic()
        was_there = time.monotonic() - self._looked < age - ARRIVAL
        return message in self._stranded.messages or (was_there and message not in self._stranded.listed)


def _settle(client: Any, message: str) -> None:
    """Wait until the controller knows a message; a program that has ended sends nothing any more."""
    from threading import Event

    deadline, idle = time.monotonic() + _FAREWELL, Event()
    while time.monotonic() < deadline and not _known(client, [message]):
        idle.wait(0.01)


def _question(client: Any, kind: str, content: Mapping[str, Any]) -> Any:
    """Return the controller's answer.

    :raises BackendError: there is none in time, or no connection.
    """
    try:
        future = client._send(client._query_stream, kind, content=content)
    except OSError as error:
        raise BackendError(f"the ipyparallel cluster was shut down: {error}", hint=_HINT) from error
    if not future.wait(ANSWER):
        raise BackendError(f"the ipyparallel controller has not answered for {ANSWER:.0f} seconds", hint=_HINT)
    return future.result()["content"]


def _known(client: Any, messages: Sequence[str]) -> dict[str, str]:
    said = _question(client, "result_request", {"msg_ids": list(messages), "status_only": True})
    if said["status"] == "ok":
        return {message: status for status in ("pending", "completed") for message in said[status]}
    if said.get("ename") != "KeyError":
        raise BackendError(f"the ipyparallel controller cannot answer: {said.get('ename')}: {said.get('evalue')}")
    found: dict[str, str] = {}
    for message in messages if len(messages) > 1 else ():  # one that is not known spoils the answer for all
        found.update(_known(client, [message]))
    return found


def _listening(addresses: Mapping[str, Any]) -> None:
    """See that controller and task scheduler are there.

    :param addresses: of both, as URLs; others than of TCP cannot be tried.
    :raises BackendError: one of them is not.
    """
    for key, what in (("registration", "controller"), ("task", "task scheduler")):
        address = urlsplit(str(addresses.get(key)))
        if address.scheme != "tcp":
            continue
        try:
            socket.create_connection((address.hostname or "", address.port or 0), timeout=_PING).close()
        except (OSError, ValueError) as error:
            hint = "Stop what is left of it and start it again: ipcluster stop; ipcluster start."
            raise BackendError(f"the {what} of the ipyparallel cluster is gone: {error}", hint=hint) from error


def _addresses(path: str) -> dict[str, str]:
    """Return the addresses in the file of a controller on this machine; nothing is known of others."""
    found, interface = read_json(path, follow=True), "tcp://127.0.0.1"
    if not isinstance(found, dict) or found.get("ssh"):
        return {}
    if (found.get("interface"), found.get("location")) != (interface, socket.gethostname()):
        return {}
    return {key: f"{interface}:{found.get(key)}" for key in ("registration", "task")}


# --- finding it ------------------------------------------------------------------------------------------------


def _profile(options: Mapping[str, Any]) -> str:
    from IPython.paths import get_ipython_dir

    if options.get("profile_dir"):
        return str(options["profile_dir"])
    return f"{options.get('ipython_dir') or get_ipython_dir()}/profile_{options.get('profile') or 'default'}"


def _connection_file(options: Mapping[str, Any]) -> str:
    cluster = options.get("cluster_id")
    name = f"ipcontroller-{cluster}-client.json" if cluster else "ipcontroller-client.json"
    return os.path.abspath(f"{_profile(options)}/security/{name}")


def _check(path: str, options: Mapping[str, Any]) -> None:
    """See that there is a file by which a controller is found.

    :raises BackendError: there is none, because of the profile or because no controller runs.
    :raises UnsafeDirectory: another user of the machine can have written the file.
    """
    if os.path.exists(path):
        # What the controller that the file names says is run here.
        folders.check_file(path, "Take a profile of your own (profile, profile_dir), and start the cluster again.")
        return
    profile = _profile(options)
    if not os.path.isdir(profile):
        named = options.get("profile") or options.get("profile_dir")
        what = f"there is no profile {named!r}" if named else "there is no profile"
        raise BackendError(f"no ipyparallel cluster can be reached: {what} ({profile})", hint=_HINT)
    raise BackendError(f"no ipyparallel cluster can be reached: no controller has written {path}", hint=_HINT)


def _stamp(path: str) -> tuple[str, int] | None:
    try:
        return path, os.stat(path).st_mtime_ns
    except OSError:
        return None
