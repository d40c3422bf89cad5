"""The command ``packtivity map``: one directory a parameter set, as many tasks at once as the backend takes."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING, Any

from packtivity import datamodel, errors, record, seal, task
from packtivity.backends.registry import load_proxy
from packtivity.checks import check_publishable
from packtivity.cli import start
from packtivity.cli.errors import FAILED, warn
from packtivity.cli.inputs import Target, Task, is_strict, load_spec, start_logging, warn_of_doubts
from packtivity.cli.map_table import write_table
from packtivity.cli.parameter_sets import Sets, parameter_sets
from packtivity.cli.parameters import getinit_data
from packtivity.cli.proxy_files import status_from_verbs
from packtivity.cli.run import check_writable
from packtivity.cli.terminal import Progress, say
from packtivity.files import read_json, write_json, write_whole
from packtivity.handlers.config import ExecutionConfig
from packtivity.printable import printable
from packtivity.statecontexts.posixfs_context import METADIR, LocalFSState

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from packtivity.backends.status import TaskStatus
    from packtivity.cli.declarations import MapOptions
    from packtivity.types import Backend

NAME = "packtivity"
_PROXY = "map.proxy.json"
_NOTE = "map.outcome.json"
"""What a backend has said that leaves no record of this very task."""

_WINDOW = 256
"""Tasks that an engine has at once; it costs memory here and patience there."""

_POLL = (0.005, 0.5)
_LISTED = 10
"""Failures that are listed at the end."""


@dataclass(frozen=True, eq=False, slots=True)
class Item:
    """The submitted task of one parameter set, by its number; everything else is made when it is needed."""

    number: int
    proxy: Any
    backend: Any


class Sweep:
    """All parameter sets of a task.

    :param sets: what differs from set to set.
    :ivar common: the parameters that do not.
    :ivar root: the directory with a work directory for each set.
    :ivar failed: why tasks failed, by their numbers.
    :ivar unverified: how many have a success in their record that cannot be verified, and are run again.
    """

    def __init__(self, options: MapOptions, sets: Sets, spec: dict[str, Any], backend: Any) -> None:
        self.spec, self.sets, self.backend = spec, sets, backend
        self.common = getinit_data(options.parfiles, sets.plain)
        self.root = os.path.realpath(options.write)
        self.readonly = [os.path.realpath(path) for path in options.read]
        self._width = max(4, len(str(len(sets.rows) - 1)))
        self.failed: dict[int, str] = {}
        self.unverified = 0
        self._others: dict[str, Any] = {}

    def folder(self, number: int) -> str:
        """Return the work directory of a set."""
        return f"{self.root}/{number:0{self._width}d}"

    def parameters(self, number: int) -> dict[str, Any]:
        """Return the parameters of a set."""
        return {**self.common, **self.sets.rows[number]}

    def state(self, number: int) -> LocalFSState:
        """Return the state of a set."""
        return LocalFSState([self.folder(number)], self.readonly)

    def check(self, *, strict: bool) -> None:
        """Check the sets before anything is run, once for all that give the same parameters.

        :raises ParameterError: one lacks a parameter, or under strict, something is doubtful.
        """
        sets = self.sets
        repeated = sets.repeated()
        if repeated:
            number, before = repeated[0]
            problem = f"{sets.where(number)}: the same parameter set as {sets.where(before)}"
            if strict:
                raise errors.ParameterError(problem)
            warn(f"{problem}; each of {len(repeated)} such sets is run again")
        seen: set[frozenset[str]] = set()
        for number, row in enumerate(sets.rows):
            if frozenset(row) not in seen:
                seen.add(frozenset(row))
                warn_of_doubts(Task(self.spec, self.parameters(number), self.state(number)), strict=strict)
                self._render(number, sets.where(number))

    def _render(self, number: int, where: str) -> None:
        config = getattr(self.backend, "pack_config", None) or task.configure({})[0]
        try:
            parameters, state = task.finalize_inputs(datamodel.create(self.parameters(number)), self.state(number))
            job, _ = task.acquire_job_env(self.spec, parameters, state, {"name": NAME}, config)
            if job:
                check_publishable(self.spec["publisher"], parameters, config)
        except errors.MissingParameter as error:
            raise errors.ParameterError(f"{where}: {error.message}", hint=error.hint) from None

    def outcome(self, number: int, *, verified: bool = False) -> dict[str, Any] | None:
        """Return the record of a set, or what a backend without records has answered; None if there is neither.

        :param verified: leave out one that a task may have forged.
        """
        folder = f"{self.folder(number)}/{METADIR}"
        key, places = "", ((f"{folder}/{_NOTE}", False), (record.record_path(folder, {"name": NAME}), True))
        for path, may_lack in places:
            found: dict[str, Any] | None = record.read_outcome(path)
            if found is None:
                continue
            key = key or self._key(number)
            if found.get("key") in ((key, None) if may_lack else (key,)):
                sealed_by = seal.record_key(str(found.get("id"))) if verified else None
                return found if not verified or (sealed_by and record.is_over(path, sealed_by)) else None
        return None

    def _key(self, number: int, state: LocalFSState | None = None) -> str:
        return record.task_key(self.spec, self.parameters(number), state or self.state(number))

    def run(self, progress: Progress) -> None:
        """Run what has not succeeded yet."""
        todo, running, over = iter(range(len(self.sets.rows))), list[Item](), 0
        room, pause, idle, is_empty = _room(self.backend), _POLL[0], Event(), False
        while running or not is_empty:
            while not is_empty and len(running) < room:
                number = next(todo, None)
                if number is None:
                    is_empty = True
                elif (item := self._submit(number)) is None:
                    over += 1
                else:
                    running.append(item)
            ended = self._ended(running)
            over += len(ended)
            running = [item for item in running if item not in ended]
            progress.show(over, len(self.failed))
            pause = _POLL[0] if ended else min(pause * 1.5, _POLL[1])
            if running and not ended:
                idle.wait(pause)

    def _has_succeeded(self, number: int) -> bool:
        return (self.outcome(number, verified=True) or {}).get("status") == "succeeded"

    def _submit(self, number: int) -> Item | None:
        """Submit a task, unless an engine has it already; None when it has succeeded."""
        if self._has_succeeded(number):
            return None
        self.unverified += (self.outcome(number) or {}).get("status") == "succeeded"
        state = self.state(number)
        state.ensure()
        path = f"{state.metadir}/{_PROXY}"
        proxy, backend = self._still_running(path, number)
        if proxy is not None:
            return Item(number, proxy, backend)
        if self._has_succeeded(number):  # meanwhile
            return None
        parameters = datamodel.create(self.parameters(number), state.datamodel)
        with suppress(FileNotFoundError):
            os.unlink(f"{state.metadir}/{_NOTE}")
        proxy = self.backend.submit(self.spec, parameters, state, metadata={"name": NAME})
        write_json(path, {**proxy.json(), "key": self._key(number, state)})
        return Item(number, proxy, self.backend)

    def entries(self) -> Iterator[dict[str, Any]]:
        """Give the lines of the table."""
        for number, row in enumerate(self.sets.rows):
            outcome = self.outcome(number) or {"status": "unknown"}
            yield {
                "number": number,
                "directory": self.folder(number),
                "status": outcome["status"],
                "parameters": row,
                "result": outcome.get("result"),
                "seconds": outcome.get("seconds"),
                "attempts": outcome.get("attempts"),
                "error": (outcome.get("error") or {}).get("message"),
            }

    def _still_running(self, path: str, number: int) -> tuple[Any, Any]:
        """Return the proxy of a task that an earlier command has submitted and an engine still has, and whom to ask.

        :raises StateError: it is another one, and would be in the way of this one.
        """
        document = read_json(path)
        if not isinstance(document, dict) or self.outcome(number, verified=True) is not None:
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
        if not type(self.backend).__module__.startswith("packtivity."):
            return None
        name = document["proxyname"]
        if name not in self._others:
            self._others[name] = load_proxy(document)[1]
        found = self._others[name]
        return None if isinstance(self.backend, type(found)) else found

    def _ended(self, running: list[Item]) -> set[Item]:
        ended = set[Item]()
        for backend in {id(item.backend): item.backend for item in running}.values():
            ended |= self._ended_at(backend, [item for item in running if item.backend is backend])
        return ended

    def _ended_at(self, backend: Backend, running: list[Item]) -> set[Item]:
        at_once = getattr(backend, "statuses", None)
        if at_once is not None:
            statuses = at_once([item.proxy for item in running])
            _raise_if_away(statuses)
            ended = {
                item: _failure(status)
                for item, status in zip(running, statuses, strict=True)
                if isinstance(status, errors.PacktivityError) or status.is_over
            }
        else:
            ended = {item: self._noted(item) for item in running if backend.ready(item.proxy)}
        self.failed.update({item.number: message for item, message in ended.items() if message is not None})
        return set(ended)

    def _noted(self, item: Item) -> str | None:
        """Return why a task failed, None when it has not, and see that the next command and the table know."""
        status = status_from_verbs(item.backend, item.proxy)
        if (self.outcome(item.number) or {}).get("status") != status.status:
            key = self._key(item.number)
            note = {"id": key, "key": key, "status": status.status, "result": status.result, "error": status.error}
            content = seal.sealed(json.dumps(note).encode(), seal.record_key(key, make=True))
            write_whole(f"{self.state(item.number).metadir}/{_NOTE}", content)
        return _failure(status)


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


def run_map(options: MapOptions) -> int:
    """Carry out ``packtivity map`` and return its exit code.

    :raises PacktivityError: it cannot begin, or a task cannot be submitted.
    """
    start_logging(options.verbosity)
    sets = parameter_sets(options.over, options.parameter)
    spec = load_spec(options)
    target = Target.named(options.backend)
    if target.synchronous:
        target = Target.named("foregroundasync")
    _configure(target, options)
    sweep = Sweep(options, sets, spec, target.backend)
    sweep.check(strict=is_strict(options.strict))
    table = options.table or f"{sweep.root}/results.csv"
    if options.table or os.path.lexists(table):
        check_writable(table)
    start.allow_interrupts()
    with start.like_interrupts(), Progress(len(sets.rows), "tasks") as progress:
        try:
            sweep.run(progress)
        except KeyboardInterrupt as interrupt:
            _note(interrupt, target)
            raise
    write_table(sweep.entries, sets.rows, table)
    if not options.quiet:
        say(f"{len(sets.rows) - len(sweep.failed)} of {len(sets.rows)} tasks succeeded; table: {table}")
    if sweep.unverified:
        count = f"{sweep.unverified} record{'s' if sweep.unverified > 1 else ''}"
        warn(f"run again: {count} that cannot be verified here (no seal, or another PACKTIVITY_STATE_DIR)")
    _warn_of_failures(sweep)
    return FAILED if sweep.failed else 0


def _note(interrupt: KeyboardInterrupt, target: Target) -> None:
    """Say what becomes of the tasks."""
    if target.cancel_all():
        interrupt.add_note("Tasks that were running are ended; the same command goes on where this one stopped.")
    elif not getattr(interrupt, "__notes__", None):
        interrupt.add_note("Tasks that were submitted go on; the same command waits for them and runs the others.")


def _warn_of_failures(sweep: Sweep) -> None:
    """List the tasks that failed, the first few of them; the table has all."""
    count = len(sweep.failed)
    if not count:
        return
    listed = sorted(sweep.failed.items())[:_LISTED]
    lines = [f"{sweep.folder(number)}: {printable(message.partition(chr(10))[0])}" for number, message in listed]
    if count > _LISTED:
        lines.append(f"and {count - _LISTED} more")
    warn("\n  ".join([f"{count} task{'s' if count > 1 else ''} failed:", *lines]))


def _configure(target: Target, options: MapOptions) -> None:
    if target.config is not None:
        changes = {name: value for name in ("timeout", "retries", "strict") if (value := getattr(options, name))}
        target.configure(ExecutionConfig({"logging_level": "CRITICAL", **target.config.config}, **changes))
