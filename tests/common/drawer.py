"""An engine that keeps what it is given until somebody runs it, for tests of what is known of tasks meanwhile."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from specs import command_spec, constant

from packtivity.backends.document import DocumentBackend
from packtivity.backends.engine import Engine, Limits, Native
from packtivity.backends.proxies import TaskProxy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from packtivity.backends.engine import Envelope, Submission
    from packtivity.errors import BackendError


class Drawer(Engine):
    """Keeps what it is given until a test runs it."""

    name, interval = "drawer", 0.0
    limits = Limits(arrival=0.0, lag=0.05, begin=0.2)

    def __init__(self) -> None:
        self.said = Native("waiting")
        self.given: list[dict[str, Any]] = []

    def place(self) -> str:
        return "here"

    def submit(self, envelopes: Sequence[Envelope]) -> list[str | BackendError]:
        self.given += [json.loads(json.dumps(each.to_json())) for each in envelopes]
        return [""] * len(envelopes)

    def look(self, submissions: Sequence[Submission]) -> list[Native]:
        return [self.said] * len(submissions)

    def kill(self, submissions: Sequence[Submission]) -> None:
        """Do nothing: nothing runs."""


class Proxy(TaskProxy):
    name, place_name = "DrawerProxy", "where"


class Backend(DocumentBackend[Proxy]):
    proxy_class = Proxy


def spec(cmd: str = "echo >> ran") -> dict[str, Any]:
    """Return a spec that publishes ``{"o": "real"}``."""
    return command_spec(cmd, constant({"o": "real"}))


def again(proxy: Proxy) -> Proxy:
    """Return the same proxy in another program."""
    return Proxy.fromJSON(json.loads(json.dumps(proxy.json())))
