"""The command ``packtivity map``: one directory a parameter set, as many tasks at once as the backend takes."""

from __future__ import annotations

import csv
import json
import os
from contextlib import suppress
from functools import cached_property
from threading import Event
from typing import TYPE_CHECKING, Any

from packtivity import datamodel, errors, record, seal, task
from packtivity.backends.registry import load_proxy
from packtivity.checks import check_publishable
from packtivity.cli import start
from packtivity.cli.errors import FAILED, CannotWrite, warn
from packtivity.cli.inputs import (
    Target,
    Task,
    directories,
    is_strict,
    load_spec,
    start_logging,
    telling_what_is_missing,
    warn_of_doubts,
)
from packtivity.cli.parameter_sets import Sets, parameter_sets
from packtivity.cli.parameters import Parameters
from packtivity.cli.proxy_files import load_with, statuses
from packtivity.cli.run import check_writable
from packtivity.cli.terminal import Progress, named_leaves, say
from packtivity.files import read_json, replacing, write_json, write_whole
from packtivity.printable import printable
from packtivity.spec.diagnostics import locate
from packtivity.spec.resources import findings
from packtivity.statecontexts.posixfs_context import METADIR, LocalFSState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from packtivity.backends.status import TaskStatus
    from packtivity.cli.declarations import MapOptions

NAME = "packtivity"

_WINDOW = 256
"""Tasks that an engine has at once; it costs memory here and patience there."""

_POLL = (0.005, 0.5)
_LISTED = 10
"""Failures that are listed at the end."""

_ENDED = "Tasks that were running are ended; the same command goes on where this one stopped."
_GO_ON = "Tasks that were submitted go on; the same command waits for them and runs the others."


class Item:
    """One parameter set: its directory, and once it is submitted, its proxy and who has it.

    :param where: what errors about the set begin with.
    """

    proxy: Any = None
    backend: Any = None

    def __init__(self, sweep: Sweep, number: int) -> None:
        self.number, self._spec = number, sweep.spec
        self.row = sweep.sets.rows[number]
        self.where = sweep.sets.where(number)
        self.parameters = {**sweep.common, **self.row}
        self.folder = f"{sweep.root}/{number:0{sweep.width}d}"
        self.state = LocalFSState([self.folder], sweep.readonly)
        self._metadir = f"{self.folder}/{METADIR}"
        self.proxy_path = f"{self._metadir}/map.proxy.json"
        # What a backend says that leaves no record of this very task.
        self._note_path = f"{self._metadir}/map.outcome.json"

    @cached_property
    def key(self) -> str:
        """What is the same for the same task only."""
        return record.task_key(self._spec, self.parameters, self.state)

    def outcome(self, *, verified: bool = False) -> dict[str, Any]:
        """Return the record, or what a backend without records has answered; empty if there is neither.

        :param verified: leave out one that a task may have forged.
        """
        record_path = record.record_path(self._metadir, {"name": NAME})
        for path, keys in ((self._note_path, (self.key,)), (record_path, (self.key, None))):
            found: dict[str, Any] | None = record.read_outcome(path)
            if found is None or found.get("key") not in keys:
                continue
            sealed_by = seal.record_key(str(found.get("id"))) if verified else None
            return found if not verified or (sealed_by and record.is_over(path, sealed_by)) else {}
        return {}

    def has_succeeded(self, *, verified: bool = True) -> bool:
        """Return whether there is nothing to run."""
        return self.outcome(verified=verified).get("status") == "succeeded"

    def submit(self, backend: Any) -> None:
        """Give the task to a backend."""
        with suppress(FileNotFoundError):
            os.unlink(self._note_path)
        parameters = datamodel.create(self.parameters, self.state.datamodel)
        self.proxy = backend.submit(self._spec, parameters, self.state, metadata={"name": NAME})
        self.backend = backend
        write_json(self.proxy_path, {**self.proxy.json(), "key": self.key})

    def note(self, status: TaskStatus) -> None:
        """See that the next command and the table know how a task has ended that leaves no record."""
        if self.outcome().get("status") == status.status:
            return
        note: dict[str, Any] = {"id": self.key, "key": self.key, "status": status.status}
        note |= {"result": status.result, "error": status.error}
        content = seal.sealed(json.dumps(note).encode(), seal.record_key(self.key, make=True))
        write_whole(self._note_path, content)


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
        common = Parameters(options.parfiles, sets.plain)
        self.common, self._problems = common.data, sets.problems + common.problems
        (self.root,) = directories([options.write], "--write")
        self.readonly = directories(options.read, "--read")
        self.width = max(4, len(str(len(sets.rows) - 1)))
        self.failed: dict[int, str] = {}
        self.unverified = 0
        self._backends: dict[str, Any] = {}

    def items(self) -> Iterator[Item]:
        """Give each parameter set."""
        return (Item(self, number) for number in range(len(self.sets.rows)))

    def check(self, options: MapOptions) -> None:
        """Check the sets before anything is run, once for all that give the same parameters.

        :raises ParameterError: one lacks a parameter, or under strict, something is doubtful.
        """
        sets, strict = self.sets, is_strict(options.strict)
        repeated = sets.repeated()
        if repeated:
            number, before = repeated[0]
            problem = f"{sets.where(number)}: the same parameter set as {sets.where(before)}"
            if strict:
                raise errors.ParameterError(problem)
            warn(f"{problem}; each of {len(repeated)} such sets is run again")
        config = getattr(self.backend, "pack_config", None) or task.configure({})[0]
        first: dict[frozenset[str], int] = {}
        for number, row in enumerate(sets.rows):
            first.setdefault(frozenset(row), number)
        resources = (self.spec["environment"] or {}).get("resources")
        # Tasks that run elsewhere say this in their logs only.
        unread = findings(resources) if isinstance(resources, list) else ()
        problems = (*self._problems, *(locate(finding, None) for finding in unread))
        for item in (Item(self, number) for number in first.values()):
            given = Task(self.spec, item.parameters, item.state)
            warn_of_doubts(given, problems, strict=strict)
            problems = ()
            try:
                with telling_what_is_missing(given, options):
                    parameters, state = task.finalize_inputs(datamodel.create(item.parameters), item.state)
                    job, _ = task.acquire_job_env(self.spec, parameters, state, {"name": NAME}, config)
                    if job:
                        check_publishable(self.spec["publisher"], parameters, config)
            except errors.MissingParameter as error:
                raise errors.ParameterError(f"{item.where}: {error.message}", hint=error.hint) from None

    def run(self, progress: Progress) -> None:
        """Run what has not succeeded yet."""
        todo, running, over = self.items(), list[Item](), 0
        size = getattr(self.backend, "poolsize", None)
        room = 4 * size + 4 if isinstance(size, int) else _WINDOW
        pause, idle, is_empty = _POLL[0], Event(), False
        while running or not is_empty:
            while not is_empty and len(running) < room:
                item = next(todo, None)
                if item is None:
                    is_empty = True
                elif self._submit(item):
                    running.append(item)
                else:
                    over += 1
            ended = self._ended(running)
            over += len(ended)
            running = [item for item in running if item not in ended]
            progress.show(over, len(self.failed))
            pause = _POLL[0] if ended else min(pause * 1.5, _POLL[1])
            if running and not ended:
                idle.wait(pause)

    def _submit(self, item: Item) -> bool:
        """Submit a task, unless an engine has it already; false when it has succeeded."""
        if item.has_succeeded():
            return False
        self.unverified += item.has_succeeded(verified=False)
        item.state.ensure()
        if self._is_held(item):
            return True
        if item.has_succeeded():  # meanwhile
            return False
        item.submit(self.backend)
        return True

    def _is_held(self, item: Item) -> bool:
        """Return whether an engine still has the task, which an earlier command has submitted.

        :raises StateError: it is another one, and would be in the way of this one.
        """
        document = read_json(item.proxy_path)
        if not isinstance(document, dict) or item.outcome(verified=True):
            return False
        try:
            if not type(self.backend).__module__.startswith("packtivity."):  # it may have proxies of another's kind
                proxy, backend = load_proxy(document, best_effort_backend=False), self.backend
            else:
                proxy, backend = load_with(self._backends, document)
                if backend is None or isinstance(self.backend, type(backend)):
                    backend = self.backend
            (status,) = statuses(backend, [proxy])
        except (errors.PacktivityError, AttributeError, TypeError):
            return False  # nobody knows it any more
        if isinstance(status, errors.PacktivityError) or status.is_over:
            return False
        if status.status == "unclear" and backend is not self.backend:
            return False
        if document.get("key") != item.key:
            raise errors.StateError(
                f"{item.folder}: a task of another spec, or with other parameters, still runs in it",
                hint=f"Wait for it, take another --write, or end it: packtivity-checkproxy --cancel {item.proxy_path}",
            )
        item.proxy, item.backend = proxy, backend
        return True

    def _ended(self, running: list[Item]) -> set[Item]:
        """Return the items whose tasks are over.

        :raises BackendError: an engine has been away for too long.
        """
        ended = set[Item]()
        for backend in {id(item.backend): item.backend for item in running}.values():
            items = [item for item in running if item.backend is backend]
            for item, status in zip(items, statuses(backend, [item.proxy for item in items]), strict=True):
                if isinstance(status, errors.BackendError):
                    raise status
                if isinstance(status, errors.PacktivityError):
                    self.failed[item.number] = str(status)
                elif not status.is_over:
                    continue
                else:
                    if status.status != "succeeded":
                        self.failed[item.number] = str((status.error or {}).get("message") or status.status)
                    if not hasattr(backend, "statuses"):
                        item.note(status)
                ended.add(item)
        return ended


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
    how = {name: value for name in ("timeout", "retries", "strict") if (value := getattr(options, name))}
    target.configure({"logging_level": "CRITICAL"}, **how)
    sweep = Sweep(options, sets, spec, target.backend)
    sweep.check(options)
    table = options.table or f"{sweep.root}/results.csv"
    if options.table or os.path.lexists(table):
        check_writable(table)
    start.allow_interrupts()
    with start.like_interrupts(), Progress(len(sets.rows), "tasks") as progress:
        try:
            sweep.run(progress)
        except KeyboardInterrupt as interrupt:
            if target.cancel_all():
                interrupt.add_note(_ENDED)
            elif not getattr(interrupt, "__notes__", None):
                interrupt.add_note(_GO_ON)
            raise
    write_table(sweep, table)
    if not options.quiet:
        say(f"{len(sets.rows) - len(sweep.failed)} of {len(sets.rows)} tasks succeeded; table: {table}")
    if sweep.unverified:
        records = f"{sweep.unverified} record{'s' if sweep.unverified > 1 else ''}"
        warn(f"run again: {records} that cannot be verified here (no seal, or another PACKTIVITY_STATE_DIR)")
    if sweep.failed:
        _warn_of_failures(sweep)
    return FAILED if sweep.failed else 0


def _warn_of_failures(sweep: Sweep) -> None:
    """List the tasks that failed, the first few of them; the table has all."""
    count = len(sweep.failed)
    listed = [(Item(sweep, number).folder, sweep.failed[number]) for number in sorted(sweep.failed)[:_LISTED]]
    lines = [f"{folder}: {printable(message.partition(chr(10))[0])}" for folder, message in listed]
    if count > _LISTED:
        lines.append(f"and {count - _LISTED} more")
    warn("\n  ".join([f"{count} task{'s' if count > 1 else ''} failed:", *lines]))


# --- the table of results --------------------------------------------------------------------------------------

_FIRST = ("number", "directory", "status")
_LAST = ("seconds", "attempts", "error")


def write_table(sweep: Sweep, path: str) -> None:
    """Write the table as JSON when the name says so, else as CSV; an older one stays until it is complete.

    :raises CannotWrite: it cannot be written.
    """
    try:
        # A file's name need not be UTF-8; JSON writes what is not as an escape, and so does the CSV.
        how: dict[str, Any] = {"encoding": "utf-8", "errors": "backslashreplace", "newline": ""}
        with replacing(path) as temporary, open(temporary, "x", **how) as file:
            if path.lower().endswith(".json"):
                file.write("[")
                file.writelines(("\n", ",\n")[item.number > 0] + json.dumps(_entry(item)) for item in sweep.items())
                file.write("\n]\n")
                return
            given = {name for row in sweep.sets.rows for name, _ in named_leaves(row)}
            columns: dict[str, None] = {}  # only known after the last record, so all are read twice
            for item in sweep.items():
                columns.update(dict.fromkeys(_cells(_entry(item), given)))
            writer = csv.DictWriter(file, [*_FIRST, *columns, *_LAST])
            writer.writeheader()
            for entry in map(_entry, sweep.items()):
                writer.writerow({**{name: entry[name] for name in (*_FIRST, *_LAST)}, **_cells(entry, given)})
    except errors.PacktivityError:
        raise  # a record cannot be read
    except OSError as error:
        raise CannotWrite.of(error, f"{path} cannot be written: {error.strerror}") from None


def _entry(item: Item) -> dict[str, Any]:
    outcome = item.outcome()
    return {
        "number": item.number,
        "directory": item.folder,
        "status": outcome.get("status", "unknown"),
        "parameters": item.row,
        "result": outcome.get("result"),
        "seconds": outcome.get("seconds"),
        "attempts": outcome.get("attempts"),
        "error": (outcome.get("error") or {}).get("message"),
    }


def _cells(entry: dict[str, Any], given: set[str]) -> dict[str, str]:
    """Return parameters and result as cells, each in a column of its own in all lines.

    A result is ``result.NAME`` where a parameter of any set has its name, and a parameter ``parameter.NAME`` where a
    column of every table has it.
    """
    ours, cells = {*_FIRST, *_LAST, ""}, dict[str, object]()
    for name, value in named_leaves(entry["parameters"]) if entry["parameters"] else ():
        cells[f"parameter.{name}" if name in ours else name] = value
    for name, value in named_leaves(entry["result"]) if entry["result"] not in (None, {}) else ():
        cells[f"result.{name}" if name in ours | given else name] = value
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in cells.items()}
