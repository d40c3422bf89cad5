"""Finds tasks that a controller calls pending and that no engine will ever run.

A controller that is started anew takes over engines that are dead, gives tasks to engines that have not connected to it
yet, or has a scheduler that has never heard of an engine. Such tasks are lost without a word, and such an engine gets
no more. So whoever waits for a task that does not begin looks where it is: engines are sent a call that does nothing.
One that answers has read what came before it; one that does not is busy, or dead if its control channel is silent too.
"""

from __future__ import annotations

import time
from itertools import cycle
from typing import TYPE_CHECKING, Any

from ipyparallel.serialize import PrePickled

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Messages = frozenset[str]

_PING = 5.0
_NOTHING = PrePickled(int)


class Stranded:
    """What was found out so far; engines are called by their UUIDs here.

    :ivar messages: those that no engine will run.
    :ivar listed: those of which the controller says where they are; others that it calls pending are nowhere.
    """

    def __init__(self) -> None:
        self.messages: Messages = frozenset()
        self.listed: Messages = frozenset()
        self._dead: set[str] = set()
        self._calls: dict[str, tuple[Any, Messages]] = {}
        self._lost: dict[str, Messages] = {}
        self._idle: set[str] = set()
        self._turns = cycle(("",))

    def look(self, client: Any, engines: Mapping[str, str], queues: Mapping[str, Any]) -> None:
        """Look at the engines once more.

        :param engines: UUIDs by number.
        :param queues: what the controller says about them.
        """
        lists = {number: _listed(each) for number, each in queues.items() if isinstance(each, dict)}
        given = {uuid: lists.get(number, frozenset()) for number, uuid in engines.items()}
        # What an engine had that is gone waits again, which the controller does not say.
        gone = (messages for number, messages in lists.items() if number not in engines)
        unassigned = frozenset(queues.get("unassigned", ())).union(*gone) - frozenset[str]().union(*given.values())
        self.listed = unassigned.union(*lists.values())
        silent = [uuid for uuid in given if uuid not in self._dead and not self._has_answered(uuid, given[uuid])]
        self._dead |= _silent(client, silent)
        for uuid, messages in given.items():
            if uuid in self._dead:
                self._lost[uuid] = messages
            elif uuid not in self._calls and (messages or unassigned):
                self._calls[uuid] = _call(client, uuid), messages
        self._conclude(given, unassigned)

    def _has_answered(self, uuid: str, given: Messages) -> bool:
        """Hear what became of the call of an engine; false when it has not answered since the last look.

        It is idle when it has answered, and everything that it is said to have it was said to have before the call.
        """
        call = self._calls.get(uuid)
        if call is None:
            return True
        answered: bool = call[0].done()
        self._lost[uuid] = given & call[1] if answered else frozenset()
        self._idle.discard(uuid)
        if answered:
            del self._calls[uuid]
            if given == self._lost[uuid]:
                self._idle.add(uuid)
        return answered

    def _conclude(self, given: Mapping[str, Messages], unassigned: Messages) -> None:
        none: Messages = frozenset()
        lost = none.union(*(self._lost.get(uuid, none) for uuid in given))
        kept = none.union(*(given[uuid] - self._lost.get(uuid, none) for uuid in given))
        idle = [uuid for uuid in given if uuid in self._idle and uuid not in self._dead]
        stuck = bool(idle) and all(uuid in self._idle or uuid in self._dead for uuid in given)
        self.messages = (lost - kept) | (unassigned if stuck else none)
        self._turns = cycle(idle or ("",))

    def living(self, engines: Iterable[str]) -> list[str]:
        """Return those engines that are not known to be dead."""
        return [uuid for uuid in engines if uuid not in self._dead]

    def idle(self) -> str | None:
        """Return an engine that is not given anything although there is something to do, each in turn; None for none."""
        return next(self._turns) or None


def _listed(queue: Mapping[str, Any]) -> Messages:
    return frozenset((*queue.get("tasks", ()), *queue.get("queue", ())))


def _call(client: Any, uuid: str) -> Any:
    return client.send_apply_request(client._mux_stream, _NOTHING, ident=uuid.encode())


def _silent(client: Any, engines: Iterable[str]) -> set[str]:
    """Return which engines do not answer, nor their nannies; each is asked to forget a message that there is not."""
    ask, content = client._send, {"msg_ids": ["none"]}
    asked = {
        uuid: ask(client._control_stream, "abort_request", content=content, ident=uuid.encode()) for uuid in engines
    }
    deadline = time.monotonic() + _PING
    return {uuid for uuid, future in asked.items() if not future.wait(max(0.0, deadline - time.monotonic()))}
