"""The straight line: parameters, state, job, environment, run, publish. The same code on every backend.

A task is spec, parameters, state, metadata and configuration. As one JSON document it is the only thing that ever
crosses a process boundary; a worker gives that document to :func:`run_task`. Function names and arguments up to
:func:`run_packtivity` are those of upstream 0.17.1, because REANA and yadage call them one by one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from packtivity import notes
from packtivity.checks import check_outputs, check_publishable, may_pass
from packtivity.errors import ConfigurationError, PacktivityError
from packtivity.files import is_id

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from packtivity.handlers.config import ExecutionConfig, packconfig
    from packtivity.record import RecordWriter
    from packtivity.runtimes.process import Cancellation
    from packtivity.types import JSON, Execution, Parameters

VERSION = 1
"""Version of the task document; a reader refuses what is newer."""

SYNC_NAME = "packtivity_syncbackend"
"""Name of log files when a task runs here and now and the caller gives none."""

ASYNC_NAME = "packtivity"
"""The same, for tasks on an asynchronous backend."""

_RUNS_NOTHING = frozenset({"noop-env", "test-env"})


def load_packtivity(
    spec: str, toplevel: str | None = None, schemasource: Any = None, validate: bool = True
) -> dict[str, Any]:
    """Load and validate a spec; see :func:`packtivity.spec.load`.

    :param toplevel: directory or remote source that ``spec`` is relative to, by default the current directory.
    """
    from packtivity.spec import load

    return load(spec, toplevel, schemasource=schemasource, validate=validate)


# --- the steps -------------------------------------------------------------------------------------------------


def build_job(process: Mapping[str, Any], parameters: Any, state: Any, pack_config: packconfig) -> JSON:
    """Render a process: ``{"command"}`` or ``{"script", "interpreter"}``.

    :raises ParameterError: the template and the parameters do not go together.
    """
    from packtivity.handlers.process_handlers import process as registry

    kind = process["process_type"]
    return registry.find(kind, pack_config.get_impl("process", kind))(process, parameters, state)


def build_env(environment: Mapping[str, Any], parameters: Any, state: Any, pack_config: packconfig) -> JSON:
    """Return the environment with everything filled in that depends on parameters and state."""
    from packtivity.handlers.environment_handlers import find

    kind = environment["environment_type"]
    return find(kind, pack_config.get_impl("environment", kind))(environment, parameters, state)


def run_in_env(
    job: JSON,
    environment: Mapping[str, Any],
    state: Any,
    metadata: Any,
    pack_config: packconfig,
    exec_config: ExecutionConfig,
) -> Any:
    """Run a rendered job in its environment, and return when it has succeeded.

    :raises TaskFailed: it failed.
    """
    from packtivity.handlers.execution_handlers import executor as registry

    kind = environment["environment_type"]
    return registry.find(kind, pack_config.get_impl("executor", kind))(exec_config, environment, state, job, metadata)


def publish(
    publisher: Mapping[str, Any], parameters: Any, state: Any, pack_config: packconfig, datamodel: Any = None
) -> Parameters:
    """Return the result that a publisher makes of parameters (plain data will do) and state.

    :raises PublishError: it cannot be made.
    """
    from packtivity.handlers.publisher_handlers import publisher as registry

    create, model = _create(datamodel), state.datamodel if state else None
    kind = publisher["publisher_type"]
    handler = registry.find(kind, pack_config.get_impl("publisher", kind))
    if not hasattr(parameters, "typed"):
        parameters = create(parameters, model)
    published: Parameters = create(handler(publisher, parameters, state), model)
    return published


def finalize_inputs(parameters: Any, state: Any, datamodel: Any = None) -> tuple[Any, Any]:
    """Return the parameters with the state's directories put in, and the state; doing it twice changes nothing."""
    if not state:
        return _create(datamodel)(parameters, None), state
    return state.model(_create(datamodel)(parameters, state.datamodel)), state


def finalize_outputs(pubdata: Any) -> Any:
    """Return the result as it is; a place to hold on to, which upstream 0.17.1 has."""
    return pubdata


def _create(datamodel: Any) -> Any:
    if datamodel is None:
        from packtivity import datamodel
    return datamodel.create


def prepublish(spec: Mapping[str, Any], parameters: Any, state: Any, pack_config: packconfig) -> Parameters | None:
    """Return the result before anything runs where the publisher allows it, else None."""
    from packtivity.handlers.publisher_handlers import can_prepublish

    publisher = spec["publisher"]
    if not can_prepublish(publisher, state):
        return None
    parameters, state = finalize_inputs(parameters, state)
    return publish(publisher, parameters, state, pack_config)


def acquire_job_env(
    spec: Mapping[str, Any],
    parameters: Any,
    state: Any,
    metadata: Any,  # noqa: ARG001 - callers give it by position
    config: packconfig,
) -> tuple[JSON, JSON]:
    """Return job and environment ready to run; ``(None, None)`` for a spec that only publishes."""
    if spec["process"] and spec["environment"]:
        job = build_job(spec["process"], parameters, state, config)
        return job, build_env(spec["environment"], parameters, state, config)
    return None, None


# --- all of them -----------------------------------------------------------------------------------------------


def run_packtivity(
    spec: Mapping[str, Any],
    parameters: Any,
    state: Any,
    metadata: Any,
    pack_config: packconfig,
    exec_config: ExecutionConfig,
) -> Any:
    """Run a task and return its result.

    :param metadata: ``{"name": …}`` names the log files.
    :raises TaskFailed: what the spec runs failed.
    :raises MissingParameter: process or publisher uses a parameter that was not given; nothing has run then.
    :raises MissingOutput: under strict, a published path is not there.
    """
    from packtivity.record import open_record

    writer = open_record(spec, parameters, state, metadata, exec_config)
    try:
        if writer is not None:
            writer.check_attempts()
        result = _attempts(
            lambda: _run(spec, parameters, state, metadata, pack_config, exec_config), writer, exec_config
        )
        if writer is not None:
            writer.succeeded(result.json())
    except BaseException as error:
        if writer is not None:
            writer.failed(error)
        raise
    finally:
        if writer is not None:
            writer.close()
    return result


def _attempts(run: Callable[[], Any], writer: RecordWriter | None, exec_config: ExecutionConfig) -> Any:
    """Run until it has succeeded, failed for a reason that will not pass, or failed too often."""
    for left in range(exec_config.retries, -1, -1):
        try:
            return run()
        except PacktivityError as error:
            if not left or not may_pass(error):
                raise
        if writer is not None:
            writer.again()
    raise AssertionError


def _run(
    spec: Mapping[str, Any],
    parameters: Any,
    state: Any,
    metadata: Any,
    pack_config: packconfig,
    exec_config: ExecutionConfig,
) -> Any:
    from packtivity.tasklog import step_log

    with step_log(exec_config, metadata, state) as log:
        try:
            parameters, state = finalize_inputs(parameters, state)
            job, env = acquire_job_env(spec, parameters, state, metadata, pack_config)
            notes.current().job = job
            ran = False
            if job and env:
                check_publishable(spec["publisher"], parameters, pack_config)
                run_in_env(job, env, state, metadata, pack_config, exec_config)
                ran = env["environment_type"] not in _RUNS_NOTHING and not exec_config.dry_run()
            result = _published(spec, parameters, state, pack_config, dry=bool(job) and exec_config.dry_run())
            log.info("publishing data: %s", result)
            if ran:
                check_outputs(spec["publisher"], result, state, exec_config, log)
        except BaseException as error:
            _log_failure(log, error)
            raise
        return result


def _published(spec: Mapping[str, Any], parameters: Any, state: Any, pack_config: packconfig, *, dry: bool) -> Any:
    """Publish; after a dry run only what is known without one."""
    if dry:
        known = prepublish(spec, parameters, state, pack_config)
        return _create(None)({}, state.datamodel if state else None) if known is None else known
    return finalize_outputs(publish(spec["publisher"], parameters, state, pack_config))


def _log_failure(log: Any, error: BaseException) -> None:
    """Write to the step log what went wrong; when that cannot be written either, ``error`` stays what is raised."""
    try:
        if isinstance(error, PacktivityError):
            log.error("%s: %s", type(error).__name__, error)
        elif isinstance(error, Exception):
            log.error("the task raised an error", exc_info=error)
        else:
            log.error("interrupted: %s", type(error).__name__)
    except Exception as second:  # noqa: BLE001 - a log handler of somebody else's may raise anything
        error.add_note(f"{type(second).__name__}: {second}")


# --- the document ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Task:
    """Everything needed to run a task anywhere, as plain data.

    :ivar state: ``state.json()``; None for a task that only publishes.
    :ivar datamodel: leaf types, where the state has them; classes by name, ``module:Class``.
    :ivar config: as a backend takes it: ``{"exec": {…}, category: {type: implementation}}``.
    :ivar id: what a backend calls it; two submissions of the same task have different ones.
    """

    spec: JSON
    parameters: JSON
    state: JSON = None
    metadata: JSON = field(default_factory=lambda: {"name": ASYNC_NAME})
    config: JSON = field(default_factory=dict)
    datamodel: JSON = None
    id: str | None = None

    @classmethod
    def of(
        cls, spec: Any, parameters: Any, state: Any, metadata: Any = None, config: Any = None, id: str | None = None
    ) -> Task:
        """Make a task of live objects."""
        return cls(
            spec=spec,
            parameters=parameters.json() if hasattr(parameters, "json") else parameters,
            state=state.json() if state else None,
            metadata=metadata or {"name": ASYNC_NAME},
            config=config or {},
            datamodel=_portable(getattr(state, "datamodel", None)),
            id=id,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the task document."""
        document = {name: getattr(self, name) for name in self.__slots__ if name != "id" or self.id is not None}
        return {"version": VERSION, **document}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Task:
        """Read a task document.

        :raises ConfigurationError: it is none, or from a newer version.
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
        made.check()
        return made

    def load_state(self) -> Any:
        """Return the state; None for a task without one.

        :raises PacktivityError: it cannot be used.
        """
        from packtivity.statecontexts import load_state

        state = load_state(self.state) if self.state else None
        if state is not None and self.datamodel is not None:
            state.datamodel = self.datamodel
        return state

    def check(self) -> None:
        """Look at the form of what may have come from anywhere.

        :raises ConfigurationError: something has not the form it must have.
        """
        forms = (("spec", dict), ("metadata", dict), ("config", dict), ("datamodel", (dict, type(None))))
        for name, form in forms:
            if not isinstance(getattr(self, name), form):
                raise ConfigurationError(f"task document: {name} is not a mapping")
        if self.id is not None and not is_id(self.id):
            raise ConfigurationError(f"task document: id {self.id!r} is none: letters, digits, - and _, at most 64")
        if not isinstance(self.config.get("exec") or {}, dict):
            raise ConfigurationError("task document: config.exec is not a mapping")


def _portable(model: Mapping[str, Any] | None) -> JSON:
    """Return a leaf model in which classes stand by name."""
    if not model or not any(isinstance(each, type) for each in model.get("types", {}).values()):
        return model
    types = {
        name: f"{each.__module__}:{each.__qualname__}" if isinstance(each, type) else each
        for name, each in model["types"].items()
    }
    return {**model, "types": types}


def configure(config: Mapping[str, Any] | None) -> tuple[packconfig, ExecutionConfig]:
    """Make the two configurations of the one that backends take; ``config`` stays as it is."""
    from packtivity.handlers.config import ExecutionConfig, packconfig

    rest = dict(config or {})
    execution = rest.pop("exec", None)
    return packconfig(**rest), execution if isinstance(execution, ExecutionConfig) else ExecutionConfig(execution)


def run_task(document: Task | Mapping[str, Any], cancel: Cancellation | None = None, state: Any = None) -> Any:
    """Run a task that arrived as a document and return its result; what a worker does.

    :param state: the state of the document, by one who has loaded it already.
    :raises PacktivityError: as :func:`run_packtivity`.
    """
    task = document if isinstance(document, Task) else Task.from_json(document)
    state = task.load_state() if state is None else state
    config = dict(task.config)
    config["exec"] = {**(config.get("exec") or {}), "task_id": task.id}
    pack_config, exec_config = configure(config)
    exec_config.cancel = cancel
    return run_packtivity(task.spec, task.parameters, state, task.metadata, pack_config, exec_config)


def plan_task(
    spec: Mapping[str, Any],
    parameters: Any,
    state: Any,
    metadata: Any,
    pack_config: packconfig,
    exec_config: ExecutionConfig,
) -> Execution | None:
    """Return exactly what running the task would run; None when it would start no process.

    :raises EnvironmentUnavailable: the environment is not there.
    :raises ParameterError: the template and the parameters do not go together.
    """
    from packtivity.handlers.execution_handlers import plan

    parameters, state = finalize_inputs(parameters, state)
    job, env = acquire_job_env(spec, parameters, state, metadata, pack_config)
    if not (job and env) or pack_config.get_impl("executor", env["environment_type"]) != "default":
        return None
    return plan(exec_config, env, state, job)
