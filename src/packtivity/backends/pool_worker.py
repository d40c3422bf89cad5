"""The process behind a pool: orders come in as lines of JSON on standard input, answers go out on standard output.

Orders are ``{"task": document}``, when none is running; ``{"cancel": id}``; ``{"plugins": [module, …]}``. The end of the
input says that the pool's process has died: the running task is ended, and none is begun any more. An answer is what
:func:`packtivity.worker.answer` gives.
"""

from __future__ import annotations

import json
import os
import select
import signal
from typing import Any

from packtivity.errors import PacktivityError
from packtivity.plugins import enable_plugins
from packtivity.runtimes.process import Cancellation
from packtivity.runtimes.process_group import claim_session
from packtivity.worker import answer, unwritten

_CHUNK = 1 << 20


class Orders(Cancellation):
    """What comes in, and as such what can end a task: see :class:`packtivity.runtimes.process.Cancellation`.

    :param orders: descriptor to read from.
    :param answers: descriptor to write to.
    """

    def __init__(self, orders: int, answers: int) -> None:
        self._orders, self._answers = orders, answers
        self._poller = select.poll()
        self._poller.register(orders, select.POLLIN)
        self._line = b""
        self._next: dict[str, Any] | None = None
        self._running = self._unwanted = ""
        self._over = False

    def fileno(self) -> int:
        """Return the descriptor, readable when something has come in; :attr:`cancelled` tells what."""
        return self._orders

    @property
    def cancelled(self) -> bool:  # type: ignore[override]
        """Whether the running task is to end."""
        while not self._over and self._poller.poll(0):
            self._receive()
        return self._over or self._unwanted == self._running

    @property
    def abandoned(self) -> bool:  # type: ignore[override]
        """Whether the pool's process has died: nobody has decided that the task should not be run."""
        return self.cancelled and self._unwanted != self._running

    def cancel(self) -> None:
        """Do nothing: it is for the pool to say."""

    close = __del__ = cancel

    def next(self) -> dict[str, Any] | None:
        """Return the next task, waiting for it; None at the end."""
        while self._next is None and not self._over:
            self._receive()
        document, self._next = self._next, None
        if document is None or self._over:
            return None
        self._running = document["id"]
        return document

    def _receive(self) -> None:
        chunk = os.read(self._orders, _CHUNK)
        *lines, self._line = (self._line + chunk).split(b"\n")
        self._over = not chunk
        for order in map(json.loads, lines):
            self._next = order.get("task", self._next)
            self._unwanted = order.get("cancel", self._unwanted)
            if "plugins" in order:
                enable_plugins(order["plugins"])

    def put(self, found: dict[str, Any]) -> None:
        """Write an answer."""
        view = memoryview(json.dumps(found, default=str).encode() + b"\n")
        try:
            while view:
                view = view[os.write(self._answers, view) :]
        except BrokenPipeError:  # the pool's process has died
            self._over = True


def main() -> None:
    """Answer until the input ends."""
    answers = os.dup(1)
    os.dup2(2, 1)  # what a plug-in prints must not get into the conversation
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    orders = Orders(os.dup(0), answers)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    claim_session()
    while (document := orders.next()) is not None:
        try:
            orders.put(answer(document, orders))
        except PacktivityError as error:
            orders.put(unwritten(error))


if __name__ == "__main__":
    main()
