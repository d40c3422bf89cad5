"""The process behind a pool: tasks come in as lines of JSON on standard input, answers go out on standard output.

While a task runs, anything that comes in, or the end of the input because the pool's process has died, ends the task.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
from typing import Any

from packtivity.errors import PacktivityError
from packtivity.runtimes.process import Cancellation

_CHUNK = 1 << 20


class Orders(Cancellation):
    """Standard input as what can end a task: see :class:`packtivity.runtimes.process.Cancellation`."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._buffer = b""
        self._poller = select.poll()
        self._poller.register(descriptor, select.POLLIN)

    def fileno(self) -> int:
        """Return the descriptor, readable when there is something that ends the task."""
        return self._descriptor

    @property
    def cancelled(self) -> bool:  # type: ignore[override]
        """Whether there is something that ends the task."""
        return bool(self._buffer) or bool(self._poller.poll(0))

    @property
    def abandoned(self) -> bool:  # type: ignore[override]
        """Whether the pool's process has died: nobody has decided that the task should not be run."""
        if not self._buffer and self._poller.poll(0):
            chunk = os.read(self._descriptor, _CHUNK)
            self._buffer = chunk
            return not chunk
        return False

    def cancel(self) -> None:
        """Do nothing: it is for the pool to say."""

    close = __del__ = cancel

    def next(self) -> Any:
        """Return the next order; None at the end."""
        while b"\n" not in self._buffer:
            chunk = os.read(self._descriptor, _CHUNK)
            if not chunk:
                return None
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        return json.loads(line)


def main() -> None:
    """Answer until the input ends."""
    from packtivity.plugins import enable_plugins

    answers = os.dup(1)
    os.dup2(2, 1)  # what a plug-in prints must not get into the conversation
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    orders = Orders(os.dup(0))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    gc.freeze()
    while (order := orders.next()) is not None:
        if "plugins" in order:
            enable_plugins(order["plugins"])
        if "task" in order:
            _put(answers, _answer(order["task"], orders))


def _answer(document: Any, orders: Orders) -> dict[str, Any]:
    from packtivity import outcome
    from packtivity.worker import answer

    try:
        return answer(document, orders)
    except PacktivityError as error:
        return {"status": "failed", "result": None, "error": outcome.failure(error), "record": None}


def _put(descriptor: int, answer: dict[str, Any]) -> None:
    view = memoryview(json.dumps(answer, default=str).encode() + b"\n")
    while view:
        view = view[os.write(descriptor, view) :]


if __name__ == "__main__":
    main()
