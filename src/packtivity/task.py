"""The straight line: parameters, state, job, environment, run, publish. The same code on every backend.

A task is spec, parameters, state, metadata and configuration. As one JSON document it is the only thing that ever
crosses a process boundary; a worker gives that document to :func:`run_task`. Function names and arguments up to
:func:`run_packtivity` are those of upstream 0.17.1, because REANA and yadage call them one by one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from packtivity import datamodel as default_datamodel
from packtivity import notes
from packtivity.checks import check_outputs, check_publishable, may_pass
from packtivity.datamodel import as_given
from packtivity.errors import ConfigurationError, PacktivityError, TaskFailed
from packtivity.files import is_id
from packtivity.handlers import environment_handlers
from packtivity.handlers.config import ExecutionConfig, packconfig
from packtivity.handlers.execution_handlers import executor, plan
from packtivity.handlers.process_handlers import process as process_registry
from packtivity.handlers.publisher_handlers import can_prepublish
from packtivity.handlers.publisher_handlers import publisher as publisher_registry
from packtivity.handlers.unquoted import unquoted_values
from packtivity.record import open_record
from packtivity.spec import load
from packtivity.statecontexts import load_state
from packtivity.tasklog import log_failure, step_log

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from logging import Logger

    from packtivity.record import RecordWriter
    from packtivity.runtimes.cancellation import Cancellation
    from packtivity.types import (
        JSON,
        DataModel,
        Execution,
        Job,
        Metadata,
        Parameters,
        ParametersLike,
        Part,
        Spec,
        State,
    )

VERSION = 1
"""Version of the task document; a reader refuses what is newer."""

SYNC_NAME = "packtivity_syncbackend"
"""Name of log files when a task runs here and now and the caller gives none."""

ASYNC_NAME = "packtivity"
"""The same, for tasks on an asynchronous backend."""

_RUNS_NOTHING = frozenset({"noop-env", "test-env"})


def load_packtivity(
    spec: str, toplevel: str | None = None, schemasource: str | None = None, validate: bool = True
) -> dict[str, Any]:
    """Load and validate a spec; see :func:`packtivity.spec.load`."""
    return load(spec, toplevel, schemasource=schemasource, validate=validate)


# --- the steps -------------------------------------------------------------------------------------------------


def build_job(process: Part, parameters: ParametersLike, state: State | None, pack_config: packconfig) -> Job:
    """Render a process: ``{"command"}`` or ``{"script", "interpreter"}``.

    :raises ParameterError: the template and the parameters do not go together.
    """
    kind = process["process_type"]
    return process_registry.find(kind, pack_config.get_impl("process", kind))(process, parameters, state)


def build_env(environment: Part, parameters: ParametersLike, state: State | None, pack_config: packconfig) -> Part:
    """Return the environment with everything filled in that depends on parameters and state."""
    kind = environment["environment_type"]
    return environment_handlers.find(kind, pack_config.get_impl("environment", kind))(environment, parameters, state)


def run_in_env(
    job: Job,
    environment: Part,
    state: State | None,
    metadata: Metadata | None,
    pack_config: packconfig,
    exec_config: ExecutionConfig,
) -> Any:
    """Run a rendered job in its environment, and return when it has succeeded.

    :raises TaskFailed: it failed.
    """
    kind = environment["environment_type"]
    return executor.find(kind, pack_config.get_impl("executor", kind))(exec_config, environment, state, job, metadata)


def publish(
    publisher: Part,
    parameters: ParametersLike,
    state: State | None,
    pack_config: packconfig,
    datamodel: DataModel | None = None,
) -> Parameters:
    """Return the result that a publisher makes of parameters (plain data will do) and state.

    :raises PublishError: it cannot be made.
    """
    create, model = (datamodel or default_datamodel).create, state.datamodel if state else None
    kind = publisher["publisher_type"]
    handler = publisher_registry.find(kind, pack_config.get_impl("publisher", kind))
    if not hasattr(parameters, "typed"):
        parameters = create(parameters, model)
    return create(handler(publisher, parameters, state), model)


def finalize_inputs(
    parameters: ParametersLike, state: State | None, datamodel: DataModel | None = None
) -> tuple[Parameters, State | None]:
    """Return the parameters with the state's directories put in, and the state; doing it twice changes nothing."""
    create = (datamodel or default_datamodel).create
    if not state:
        return create(parameters, None), state
    return state.model(create(parameters, state.datamodel)), state


def finalize_outputs(pubdata: Parameters) -> Parameters:
    """Return the result as it is; a place to hold on to, which upstream 0.17.1 has."""
    return pubdata


def prepublish(
    spec: Spec, parameters: ParametersLike, state: State | None, pack_config: packconfig
) -> Parameters | None:
    """Return the result before anything runs where the publisher allows it, else None."""
    if not can_prepublish(spec["publisher"], state):
        return None
    parameters, state = finalize_inputs(parameters, state)
    return publish(spec["publisher"], parameters, state, pack_config)


def acquire_job_env(
    spec: Spec,
    parameters: ParametersLike,
    state: State | None,
    metadata: Metadata | None,  # noqa: ARG001 - callers give it by position
    config: packconfig,
) -> tuple[Any, Any]:
    """Return job and environment ready to run; ``(None, None)`` for a spec that only publishes."""
    if spec["process"] and spec["environment"]:
        job = build_job(spec["process"], parameters, state, config)
        return job, build_env(spec["environment"], parameters, state, config)
    return None, None


# --- all of them -----------------------------------------------------------------------------------------------


class Run(NamedTuple):
    """A task with live objects, its parameters as given until :meth:`bound`, what the caller chose, and how it is run."""

    spec: Spec
    parameters: ParametersLike
    state: State | None
    metadata: Metadata | None
    pack_config: packconfig
    exec_config: ExecutionConfig
    execute: Callable[..., Any] = run_in_env

    def bound(self) -> Run:
        """Return the run with the state's directories put into the parameters."""
        return self._replace(parameters=finalize_inputs(self.parameters, self.state)[0])

    def job_and_environment(self) -> tuple[Job, Part] | tuple[None, None]:
        """Return what is to be run, and in what; ``(None, None)`` for a spec that only publishes."""
        return acquire_job_env(self.spec, self.parameters, self.state, self.metadata, self.pack_config)

    def publish(self) -> Parameters:
        """Return the result."""
        return finalize_outputs(publish(self.spec["publisher"], self.parameters, self.state, self.pack_config))

    def plan(self) -> Execution | None:
        """Return exactly what running the task would run; None when it would start no process.

        :raises EnvironmentUnavailable: the environment is not available.
        :raises ParameterError: the template and the parameters do not go together.
        """
        job, environment = self.bound().job_and_environment()
        if not (job and environment):
            return None
        if self.pack_config.get_impl("executor", environment["environment_type"]) != "default":
            return None
        return plan(self.exec_config, environment, self.state, job)


def run_packtivity(
    spec: Spec,
    parameters: ParametersLike,
    state: State | None,
    metadata: Metadata | None,
    pack_config: packconfig,
    exec_config: ExecutionConfig,
) -> Parameters:
    """Run a task and return its result.

    :param metadata: ``{"name": …}`` names the log files.
    :raises TaskFailed: what the spec runs failed.
    :raises MissingParameter: process or publisher uses a parameter that was not given; nothing has run then.
    :raises MissingOutput: under strict, a published path is not there.
    """
    run = Run(spec, parameters, state, metadata, pack_config, exec_config)
    writer = open_record(spec, parameters, state, metadata, exec_config)
    if writer is None:
        return _attempts(run, None)
    try:
        result = _attempts(run._replace(exec_config=writer.begin(exec_config)), writer)
        writer.succeeded(result.json())
    except BaseException as error:
        writer.failed(error)
        raise
    finally:
        writer.close()
    return result


def _attempts(run: Run, writer: RecordWriter | None) -> Parameters:
    """Run until it has succeeded, failed for a reason that will not pass, or failed too often."""
    left = run.exec_config.retries
    while True:
        try:
            return attempt(run)
        except PacktivityError as error:
            if not left or not may_pass(error):
                raise
        left -= 1
        if writer is not None:
            writer.again()


def attempt(run: Run) -> Parameters:
    """Run once, with a step log."""
    with step_log(run.exec_config, run.metadata, run.state) as log:
        try:
            return walk(run.bound(), log)
        except BaseException as error:
            log_failure(log, error)
            raise


def walk(run: Run, log: Logger) -> Parameters:
    """Walk the straight line once."""
    publisher, dry, ran = run.spec["publisher"], False, False
    job, environment = run.job_and_environment()
    notes.current().job = job
    if job and environment:
        check_publishable(publisher, run.parameters, run.pack_config)
        try:
            run.execute(job, environment, run.state, run.metadata, run.pack_config, run.exec_config)
        except TaskFailed as error:
            if error.returncode in (1, 2, 126, 127):
                error.hint = unquoted_values(run.spec["process"], run.parameters, run.state) or error.hint
            raise
        dry = run.exec_config.dry_run()
        ran = environment["environment_type"] not in _RUNS_NOTHING and not dry
    known = not dry or can_prepublish(publisher, run.state)
    result = run.publish() if known else default_datamodel.create({}, run.state.datamodel if run.state else None)
    log.info("publishing data: %s", result)
    if ran:
        check_outputs(publisher, result, run.state, run.exec_config, log, (run.spec["process"], run.parameters))
    return result


# --- the document ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, repr=False)
class Task:
    """Everything needed to run a task anywhere, as plain data.

    :ivar state: ``state.json()``; None for a task that only publishes.
    :ivar datamodel: leaf types, where the state has them; classes by name, ``module:Class``.
    :ivar config: as a backend takes it: ``{"exec": {…}, category: {type: implementation}}``.
    :ivar id: what a backend calls it, different for each submission; ``seal``, the key of its record, no task may see.
    """

    spec: JSON
    parameters: JSON
    state: JSON = None
    metadata: JSON = field(default_factory=lambda: {"name": ASYNC_NAME})
    config: JSON = field(default_factory=dict)
    datamodel: JSON = None
    id: str | None = None
    seal: str | None = None

    @classmethod
    def of(
        cls,
        spec: Spec,
        parameters: ParametersLike,
        state: State | None,
        metadata: Metadata | None = None,
        config: Mapping[str, Any] | None = None,
        id: str | None = None,
    ) -> Task:
        """Make a task of live objects."""
        return cls(
            spec=spec,
            parameters=as_given(parameters),
            state=state.json() if state else None,
            metadata=metadata or {"name": ASYNC_NAME},
            config=config or {},
            datamodel=_portable(getattr(state, "datamodel", None)),
            id=id,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the task document."""
        given = {name: getattr(self, name) for name in self.__slots__}
        return {"version": VERSION} | {key: value for key, value in given.items() if value or key not in ("id", "seal")}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Task:
        """Read a task document.

        :raises ConfigurationError: it is not one, or from a newer version; it may have come from anywhere.
        """
        version = document.get("version") if isinstance(document, dict) else None
        if not isinstance(version, int) or version > VERSION:
            raise ConfigurationError(
                f"task document has version {version!r}, and this packtivity reads up to {VERSION}",
                hint="Install the same packtivity where tasks are submitted and where they run.",
            )
        missing = [name for name in ("spec", "parameters") if name not in document]
        if missing:
            raise ConfigurationError(f"task document has no {' and no '.join(missing)}")
        made = cls(**{name: document[name] for name in cls.__slots__ if name in document})
        forms = (("spec", dict), ("metadata", dict), ("config", dict), ("datamodel", (dict, type(None))))
        for name, form in forms:
            if not isinstance(getattr(made, name), form):
                raise ConfigurationError(f"task document: {name} is not a mapping")
        for name, given in (("id", made.id), ("seal", made.seal)):
            if given is not None and not is_id(given):
                raise ConfigurationError(f"task document: {name} is none: letters, digits, - and _, at most 64")
        if not isinstance(made.config.get("exec") or {}, dict):
            raise ConfigurationError("task document: config.exec is not a mapping")
        return made

    def load_state(self) -> State | None:
        """Return the state; None for a task without one.

        :raises PacktivityError: it cannot be used.
        """
        state: State | None = load_state(self.state) if self.state else None
        if state is not None and self.datamodel is not None:
            state.datamodel = self.datamodel
        return state

    def to_run(self, state: State | None = None, cancel: Cancellation | None = None) -> Run:
        """Return the task with live objects; ``state`` is that of the document, if it is loaded already."""
        config = {**self.config, "exec": {**(self.config.get("exec") or {}), "task_id": self.id}}
        pack_config, exec_config = configure(config)
        exec_config.cancel, exec_config.seal = cancel, self.seal
        state = self.load_state() if state is None else state
        return Run(self.spec, self.parameters, state, self.metadata, pack_config, exec_config)


def _portable(model: Mapping[str, Any] | None) -> JSON:
    """Return a leaf model with classes replaced by their names."""
    if not model or not any(isinstance(each, type) for each in model.get("types", {}).values()):
        return model
    types = {
        name: f"{each.__module__}:{each.__qualname__}" if isinstance(each, type) else each
        for name, each in model["types"].items()
    }
    return {**model, "types": types}


def configure(config: Mapping[str, Any] | None) -> tuple[packconfig, ExecutionConfig]:
    """Make the two configurations of the one that backends take; ``config`` stays as it is."""
    rest = dict(config or {})
    execution = rest.pop("exec", None)
    return packconfig(**rest), execution if isinstance(execution, ExecutionConfig) else ExecutionConfig(execution)


def run_task(
    document: Task | Mapping[str, Any], cancel: Cancellation | None = None, state: State | None = None
) -> Parameters:
    """Run a task that arrived as a document and return its result; what a worker does.

    :param state: the state of the document, if it is loaded already.
    :raises PacktivityError: as :func:`run_packtivity`.
    """
    task = document if isinstance(document, Task) else Task.from_json(document)
    run = task.to_run(state, cancel)
    return run_packtivity(task.spec, task.parameters, run.state, task.metadata, run.pack_config, run.exec_config)
