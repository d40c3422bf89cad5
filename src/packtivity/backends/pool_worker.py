"""The process behind a pool: orders come in as lines of JSON on standard input, answers go out on standard output.

Orders are ``{"task": document}``, also while another one runs; ``{"cancel": id}`` and ``{"return": id}``, of which
either gives back a task that has not begun, and the first ends one that is running; ``{"plugins": [module, …]}``.
The end of the input says that the pool's process has died: the running task is ended, and none is begun any more.
An answer is what :func:`packtivity.worker.answer` gives, with the task's ``id``.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
from collections import deque
from typing import Any

from packtivity.errors import PacktivityError
from packtivity.plugins import enable_plugins
from packtivity.runtimes.cancellation import Cancellation, Why
from packtivity.signals import reset
from packtivity.worker import answer, unwritten

_CHUNK = 1 << 20


class Orders(Cancellation):
    """What comes in, and as such what can end a task: see :class:`packtivity.runtimes.cancellation.Cancellation`.

    :param orders: descriptor to read from.
    :param answers: descriptor to write to.
    """

    def __init__(self, orders: int, answers: int) -> None:
        self._orders, self._answers = orders, answers
        self._poller = select.poll()
        self._poller.register(orders, select.POLLIN)
        self._line = b""
        self._tasks: deque[Any] = deque()
        self._running: str | None = None
        self._end_it = self._over = False

    def fileno(self) -> int:
        """Return the descriptor, readable when something has come in; :meth:`why` tells what."""
        return self._orders

    def why(self) -> Why | None:
        """Return why the running task is to end: its end was asked for, or the pool's process has died."""
        self._take_in()
        return "cancelled" if self._end_it else "abandoned" if self._over else None

    def cancel(self) -> None:
        """Do nothing: it is for the pool to say."""

    close = __del__ = cancel

    def next(self) -> Any:
        """Return the next task, waiting for it; None at the end."""
        self._running, self._end_it = None, False
        self._take_in()
        while not self._tasks and not self._over:
            self._receive()
        if self._over:
            return None
        document = self._tasks.popleft()
        self._running = document.get("id")
        return document

    def _take_in(self) -> None:
        while not self._over and self._poller.poll(0):
            self._receive()

    def _receive(self) -> None:
        chunk = os.read(self._orders, _CHUNK)
        *lines, self._line = (self._line + chunk).split(b"\n")
        self._over = not chunk
        for line in lines:
            self._obey(json.loads(line))

    def _obey(self, order: Any) -> None:
        if "task" in order:
            self._tasks.append(order["task"])
        elif "plugins" in order:
            enable_plugins(order["plugins"])
        elif order.get("cancel", self) == self._running:
            self._end_it = True
        else:
            self._give_back(order.get("cancel") or order.get("return"))

    def _give_back(self, task_id: str) -> None:
        for document in self._tasks:
            if document["id"] == task_id:
                self._tasks.remove(document)
                self.put({"id": task_id, "status": "returned"})
                return

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
    reset()
    answers = os.dup(1)
    os.dup2(2, 1)  # what a plug-in prints must not get into the conversation
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    orders = Orders(os.dup(0), answers)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    gc.freeze()
    gc.set_threshold(10_000, 50)  # what a task leaves behind is little, and looking for it costs more than it does
    while (document := orders.next()) is not None:
        orders.put({**_answer(document, orders), "id": document["id"]})


def _answer(document: Any, orders: Orders) -> dict[str, Any]:
    try:
        return answer(document, orders)
    except PacktivityError as error:
        return unwritten(error)


if __name__ == "__main__":
    main()
