"""Finds tasks that a controller calls pending and that no engine will ever run.

A controller that is started anew with ``--restore`` takes over engines that are dead, and gives tasks to engines that
have not connected to it yet; either is lost without a word, and the engine counts as busy for ever. So whoever waits
for a task that does not begin looks where it is: engines that have tasks are sent a call that does nothing. One that
answers has read everything before it; one that does not is busy, or dead if its control channel is silent as well.
"""

from __future__ import annotations

import time
from itertools import cycle
from typing import TYPE_CHECKING, Any

from ipyparallel.serialize import PrePickled

if TYPE_CHECKING:
    from collections.abc import Mapping

_PING = 5.0
_NOTHING = PrePickled(int)


class Stranded:
    """What was found out so far.

    :ivar messages: those that no engine will run.
    """

    def __init__(self) -> None:
        self.messages: frozenset[str] = frozenset()
        self._dead: set[int] = set()
        self._calls: dict[int, tuple[Any, frozenset[str]]] = {}
        self._lost: dict[int, frozenset[str]] = {}
        self._turns = cycle((0,))

    def look(self, client: Any, queues: Mapping[str, Any]) -> None:
        """Look at the engines once more.

        :param queues: what the controller says about them.
        """
        engines = [engine for engine in client.ids if str(engine) in queues]
        given = {engine: frozenset(queues[str(engine)]["tasks"]) for engine in engines}
        unsure = [engine for engine in engines if engine not in self._dead and not self._called(client, engine, given)]
        self._dead |= _silent(client, unsure)
        self._lost.update({engine: given[engine] for engine in engines if engine in self._dead})
        self._lost = {engine: given[engine] & lost for engine, lost in self._lost.items() if engine in given}
        lost = frozenset[str]().union(*self._lost.values())
        kept = frozenset[str]().union(*(given[engine] - self._lost.get(engine, frozenset()) for engine in engines))
        stuck = bool(engines) and all(self._lost.get(engine) or engine in self._dead for engine in engines)
        self.messages = (lost - kept) | frozenset(queues.get("unassigned", ()) if stuck else ())
        self._turns = cycle(self._idle() or (0,))

    def _called(self, client: Any, engine: int, given: Mapping[int, frozenset[str]]) -> bool:
        """Call an engine or hear what became of the call; false when it has not answered since the last look."""
        call = self._calls.get(engine)
        if call is None:
            if given[engine]:
                self._calls[engine] = _call(client, engine), given[engine]
            return True
        if not call[0].done():
            return False
        self._lost[engine] = given[engine] & call[1]
        del self._calls[engine]
        return True

    def _idle(self) -> list[int]:
        return [engine for engine, lost in self._lost.items() if lost and engine not in self._dead]

    def idle(self) -> int | None:
        """Return an engine that has nothing to do although the controller calls it busy, each in turn."""
        return next(self._turns) if self._idle() else None


def _call(client: Any, engine: int) -> Any:
    return client.send_apply_request(client._mux_stream, _NOTHING, ident=client._engines[engine].encode())


def _silent(client: Any, engines: list[int]) -> set[int]:
    """Return which engines do not answer, nor their nannies; each is asked to forget a message that there is not."""
    ask, content = client._send, {"msg_ids": ["none"]}
    names = {engine: client._engines[engine].encode() for engine in engines}
    asked = {each: ask(client._control_stream, "abort_request", content=content, ident=names[each]) for each in names}
    deadline = time.monotonic() + _PING
    return {each for each, future in asked.items() if not future.wait(max(0.0, deadline - time.monotonic()))}
