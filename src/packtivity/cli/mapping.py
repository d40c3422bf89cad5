"""What ``packtivity map`` does: one directory a parameter set, as many tasks at once as the backend takes."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from packtivity import errors, record
from packtivity.cli import start
from packtivity.cli.asking import by_verbs
from packtivity.cli.errors import FAILED, warn
from packtivity.cli.inputs import find_backend, is_strict, load_spec, start_logging, tell_doubts
from packtivity.cli.printing import say
from packtivity.cli.progress import Progress
from packtivity.files import read_json, write_json
from packtivity.printable import printable
from packtivity.statecontexts.posixfs_context import METADIR, LocalFSState

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from packtivity.backends.status import TaskStatus
    from packtivity.cli.sets import Sets

NAME = "packtivity"
_PROXY = "map.proxy.json"
_NOTE = "map.outcome.json"
"""What a backend has said that leaves no record of this very task."""

_WINDOW = 256
"""Tasks that an engine has at once; it costs memory here and patience there."""

_POLL = (0.005, 0.5)
_LISTED = 10
"""Failures that are listed at the end."""


class Item:
    """One parameter set, by its number; everything else is made when it is needed."""

    __slots__ = ("backend", "number", "proxy", "state")

    def __init__(self, number: int) -> None:
        self.number = number
        self.state: Any = None
        self.proxy: Any = None
        self.backend: Any = None


class Sweep:
    """All parameter sets of a task.

    :param rows: what differs from set to set.
    :param common: what does not.
    """

    def __init__(
        self,
        spec: dict[str, Any],
        common: dict[str, Any],
        rows: list[dict[str, Any]],
        root: str,
        readonly: list[str],
        backend: Any,
    ) -> None:
        self.spec, self.common, self.rows = spec, common, rows
        self.root, self.readonly, self.backend = root, readonly, backend
        self._width = max(4, len(str(len(rows) - 1)))
        self.failed: dict[int, str] = {}
        self._others: dict[str, Any] = {}

    def folder(self, number: int) -> str:
        """Return the work directory of a set."""
        return f"{self.root}/{number:0{self._width}d}"

    def parameters(self, number: int) -> dict[str, Any]:
        """Return the parameters of a set."""
        return {**self.common, **self.rows[number]}

    def state(self, number: int) -> Any:
        """Return the state of a set."""
        return LocalFSState([self.folder(number)], self.readonly)

    def check(self, sets: Sets, *, strict: bool) -> None:
        """Find out before anything is run what is wrong with the sets, once for all that give the same parameters.

        :raises ParameterError: one lacks a parameter, or under strict, something is doubtful.
        """
        repeated = sets.repeated()
        if repeated:
            number, before = repeated[0]
            problem = f"{sets.where(number)}: the same parameter set as {sets.where(before)}"
            if strict:
                raise errors.ParameterError(problem)
            warn(f"{problem}; each of {len(repeated)} such sets is run again")
        seen: set[frozenset[str]] = set()
        for number, row in enumerate(self.rows):
            if frozenset(row) not in seen:
                seen.add(frozenset(row))
                tell_doubts(self.spec, self.parameters(number), self.state(number), strict=strict)
                self._render(number, sets.where(number))

    def _render(self, number: int, where: str) -> None:
        from packtivity import datamodel, task
        from packtivity.checks import check_publishable

        config = getattr(self.backend, "pack_config", None) or task.configure({})[0]
        try:
            parameters, state = task.finalize_inputs(datamodel.create(self.parameters(number)), self.state(number))
            job, _ = task.acquire_job_env(self.spec, parameters, state, {"name": NAME}, config)
            if job:
                check_publishable(self.spec["publisher"], parameters, config)
        except errors.MissingParameter as error:
            raise errors.ParameterError(f"{where}: {error.message}", hint=error.hint) from None

    def outcome(self, number: int) -> Any:
        """Return the record of a set, or what a backend without records has said; None when there is none of it."""
        metadir = f"{self.folder(number)}/{METADIR}"
        note = record.read_outcome(f"{metadir}/{_NOTE}")
        found = record.read_outcome(record.record_path(metadir, {"name": NAME}))
        if note is None and found is None:
            return None
        key = self._key(number)
        if note is not None and note.get("key") == key:
            return note
        return found if found is not None and found.get("key") in (key, None) else None

    def _key(self, number: int, state: Any = None) -> str:
        return record.task_key(self.spec, self.parameters(number), state or self.state(number))

    def run(self, progress: Progress) -> None:
        """Run what has not succeeded yet."""
        from threading import Event

        todo, flying, over = self._todo(), list[Item](), 0
        room, pause, idle, empty = _room(self.backend), _POLL[0], Event(), False
        while not empty or flying:
            while not empty and len(flying) < room:
                item = next(todo, None)
                if item is None:
                    empty = True
                elif item.state is None or not self._submit(item):
                    over += 1
                else:
                    flying.append(item)
            landed = self._landed(flying)
            over += len(landed)
            flying = [item for item in flying if item not in landed]
            progress.show(over, len(self.failed))
            pause = _POLL[0] if landed else min(pause * 1.5, _POLL[1])
            if flying and not landed:
                idle.wait(pause)

    def _todo(self) -> Iterator[Item]:
        """Give every set in turn; one without a state has succeeded before."""
        for number in range(len(self.rows)):
            item = Item(number)
            if not self._has_succeeded(number):
                item.state = self.state(number)
                item.state.ensure()
            yield item

    def _has_succeeded(self, number: int) -> bool:
        return (self.outcome(number) or {}).get("status") == "succeeded"

    def _submit(self, item: Item) -> bool:
        """Give a task away, unless an engine has it from before; false when it has succeeded meanwhile."""
        path = f"{item.state.metadir}/{_PROXY}"
        item.proxy, item.backend = self._still_running(path, item.number)
        if item.proxy is None:
            if self._has_succeeded(item.number):
                return False
            from packtivity import datamodel

            document = datamodel.create(self.parameters(item.number), item.state.datamodel)
            with suppress(FileNotFoundError):
                os.unlink(f"{item.state.metadir}/{_NOTE}")
            item.proxy = self.backend.submit(self.spec, document, item.state, metadata={"name": NAME})
            item.backend = self.backend
            write_json(path, {**item.proxy.json(), "key": self._key(item.number, item.state)})
        return True

    def _still_running(self, path: str, number: int) -> tuple[Any, Any]:
        """Return the proxy of a task that an earlier command has submitted and an engine still has, and whom to ask.

        :raises StateError: it is another one, and would be in the way of this one.
        """
        document = read_json(path)
        if not isinstance(document, dict) or self.outcome(number) is not None:
            return None, None
        (proxy, backend), wanted = self._held(document), document.get("key") == self._key(number)
        if proxy is not None and not wanted:
            raise errors.StateError(
                f"{self.folder(number)}: a task of another spec, or with other parameters, still runs in it",
                hint=f"Wait for it, take another --write, or end it: packtivity-checkproxy --cancel {path}",
            )
        return proxy, backend

    def _held(self, document: dict[str, Any]) -> tuple[Any, Any]:
        """Return the proxy in a document, and the backend that has its task, if it is not over; else None and None."""
        from packtivity.backends.registry import load_proxy

        try:
            proxy = load_proxy(document, best_effort_backend=False)
            if proxy is not None:
                other = self._other(document)
                if _has(self.backend if other is None else other, proxy, is_other=other is not None):
                    return proxy, other or self.backend
        except (errors.PacktivityError, AttributeError, TypeError):
            pass  # nobody knows it any more
        return None, None

    def _other(self, document: dict[str, Any]) -> Any:
        """Return the backend that a proxy is of; None when it is ours, which a plug-in may be that has proxies of another's kind."""
        from packtivity.backends.registry import load_proxy

        if not type(self.backend).__module__.startswith("packtivity."):
            return None
        name = document["proxyname"]
        if name not in self._others:
            self._others[name] = load_proxy(document)[1]
        found = self._others[name]
        return None if isinstance(self.backend, type(found)) else found

    def _landed(self, flying: list[Item]) -> set[Item]:
        over = set[Item]()
        for backend in {id(item.backend): item.backend for item in flying}.values():
            over |= self._landed_at(backend, [item for item in flying if item.backend is backend])
        return over

    def _landed_at(self, backend: Any, flying: list[Item]) -> set[Item]:
        many = getattr(backend, "statuses", None)
        if many is not None:
            told = many([item.proxy for item in flying])
            _raise_if_away(told)
            over = {
                item: _failure(answer)
                for item, answer in zip(flying, told, strict=True)
                if isinstance(answer, errors.PacktivityError) or answer.is_over
            }
        else:
            over = {item: self._noted(item) for item in flying if backend.ready(item.proxy)}
        self.failed.update({item.number: message for item, message in over.items() if message is not None})
        return set(over)

    def _noted(self, item: Item) -> str | None:
        """Return why a task failed, None when it has not, and see that the next command and the table know."""
        answer = by_verbs(item.backend, item.proxy)
        if (self.outcome(item.number) or {}).get("status") != answer.status:
            note = {"status": answer.status, "result": answer.result, "error": answer.error}
            write_json(f"{item.state.metadir}/{_NOTE}", {**note, "key": self._key(item.number)})
        return _failure(answer)


def _has(backend: Any, proxy: Any, *, is_other: bool) -> bool:
    """Return whether a backend has a task that is not over; another one than ours has to be there, too."""
    if not is_other:
        return not backend.ready(proxy)
    many = getattr(backend, "statuses", None)
    answer = many([proxy])[0] if many is not None else None
    return getattr(answer, "status", None) in ("waiting", "running", "lost")


def _raise_if_away(answers: Sequence[TaskStatus | errors.PacktivityError]) -> None:
    """Raise what says that the engine has been away for too long."""
    for answer in answers:
        if isinstance(answer, errors.BackendError):
            raise answer


def _failure(answer: TaskStatus | errors.PacktivityError) -> str | None:
    """Return why a task failed; None when it has not."""
    if isinstance(answer, errors.PacktivityError):
        return str(answer)
    return None if answer.status == "succeeded" else str((answer.error or {}).get("message") or answer.status)


def _room(backend: Any) -> int:
    size = getattr(backend, "poolsize", None)
    return 4 * size + 4 if isinstance(size, int) else _WINDOW


def run_map(given: Mapping[str, Any]) -> int:
    """Carry out ``packtivity map`` and return its exit code.

    :raises PacktivityError: it cannot begin, or a task cannot be submitted.
    """
    from packtivity.cli.parameters import getinit_data
    from packtivity.cli.results import write_table
    from packtivity.cli.running import check_writable
    from packtivity.cli.sets import parameter_sets
    from packtivity.cli.signals import like_interrupts

    start_logging(given["verbosity"])
    sets = parameter_sets(given["over"], given["parameter"])
    spec = load_spec(given)
    synchronous, backend = find_backend(given["backend"])
    if synchronous:
        _, backend = find_backend("foregroundasync")
    _configure(backend, given)
    root = os.path.realpath(given["write"])
    common = getinit_data(given["parfiles"], sets.plain)
    sweep = Sweep(spec, common, sets.rows, root, [os.path.realpath(path) for path in given["read"]], backend)
    sweep.check(sets, strict=is_strict(given["strict"]))
    table = given["table"] or f"{root}/results.csv"
    if given["table"] or os.path.lexists(table):
        check_writable(table)
    start.hand_over()
    with like_interrupts(), Progress(len(sets.rows), "tasks") as progress:
        try:
            sweep.run(progress)
        except KeyboardInterrupt as interrupt:
            _note(interrupt, backend)
            raise
    write_table(sweep, table)
    if not given["quiet"]:
        say(f"{len(sets.rows) - len(sweep.failed)} of {len(sets.rows)} tasks succeeded; table: {table}")
    _tell_failures(sweep)
    return FAILED if sweep.failed else 0


def _note(interrupt: BaseException, backend: Any) -> None:
    """Say what becomes of the tasks."""
    from packtivity.cli.running import ended_here

    if ended_here(backend):
        interrupt.add_note("Tasks that were running are ended; the same command goes on where this one stopped.")
    elif not getattr(interrupt, "__notes__", None):
        interrupt.add_note("Tasks that were submitted go on; the same command waits for them and runs the others.")


def _tell_failures(sweep: Sweep) -> None:
    """List the tasks that failed, the first few of them; the table has all."""
    count = len(sweep.failed)
    if not count:
        return
    listed = sorted(sweep.failed.items())[:_LISTED]
    lines = [f"{sweep.folder(number)}: {printable(message.partition(chr(10))[0])}" for number, message in listed]
    if count > _LISTED:
        lines.append(f"and {count - _LISTED} more")
    warn("\n  ".join([f"{count} task{'s' if count > 1 else ''} failed:", *lines]))


def _configure(backend: Any, given: Mapping[str, Any]) -> None:
    from packtivity.cli.running import configurable
    from packtivity.handlers.config import ExecutionConfig

    backend = configurable(backend)
    config = getattr(backend, "exec_config", None)
    if not isinstance(config, ExecutionConfig):
        return
    wanted = {"timeout": given["timeout"], "retries": given["retries"], "strict": given["strict"]}
    changes = {name: value for name, value in wanted.items() if value}
    backend.exec_config = ExecutionConfig({"logging_level": "CRITICAL", **config.config}, **changes)
