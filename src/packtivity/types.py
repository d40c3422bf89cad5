"""The vocabulary of packtivity as types. Read this first.

Plain dictionaries at the wire (clients index them), described here by ``TypedDict``; named tuples and a frozen
dataclass for what lives inside one run; ``Protocol`` at the seams where other people's classes come in. No behaviour lives here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias, TypedDict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jsonpointer import JsonPointer

JSON: TypeAlias = Any
"""Anything :func:`json.dumps` writes: dict, list, str, int, float, bool, None."""

JSONValue: TypeAlias = "bool | int | float | str | list[JSONValue] | dict[str, JSONValue] | None"
"""The same, spelled out: what code takes that looks into a document of unknown shape."""

Path: TypeAlias = tuple[str | int, ...]
"""Where a value stands inside a document: keys and list positions from the root."""

# --- documents -------------------------------------------------------------------------------------------------

Spec: TypeAlias = Mapping[str, Any]
"""A validated task document, defaults filled: ``process``, ``environment`` (both may be None) and ``publisher``, which are
described by ``spec/schema/*.json``."""

Part: TypeAlias = Mapping[str, Any]
"""The process, environment or publisher of a spec."""

Metadata: TypeAlias = Mapping[str, Any]
"""What the caller says about a run: ``name`` names its log files."""


class Job(TypedDict, total=False):
    """The rendered process; REANA reads ``command``, or ``script`` and ``interpreter``.

    ``interactive`` is the shell of ``packtivity-util shell``; ``instructions`` and ``parameters`` are for a person.
    """

    command: str
    script: str
    interpreter: str
    interactive: str
    instructions: str
    parameters: JSON


class ProxyDocument(TypedDict):
    """JSON handle of a submitted task."""

    proxyname: str
    proxydetails: Any


# --- diagnostics -----------------------------------------------------------------------------------------------

Severity = Literal["error", "warning", "advice"]


class Position(NamedTuple):
    """A place in a text file; ``line`` and ``column`` count from 1, columns in characters."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class Diagnostic(NamedTuple):
    """One mistake in a spec or parameter document, told once.

    :ivar severity: ``error`` stops the run, ``warning`` stops it only under ``--strict``, ``advice`` never does.
    :ivar code: stable name such as ``unknown-key``; every code is listed in the reference.
    :ivar message: what is wrong.
    :ivar path: where in the document, keys and list positions from the root.
    :ivar position: where in which file, when the text is at hand.
    :ivar excerpt: the offending source line, without its newline; the caret stands under ``position.column``.
    :ivar expected: what was expected, or the nearest correct name; empty when nothing is near.
    :ivar hint: what to do now.
    """

    severity: Severity
    code: str
    message: str
    path: Path = ()
    position: Position | None = None
    excerpt: str = ""
    expected: str = ""
    hint: str = ""


# --- one run ---------------------------------------------------------------------------------------------------


class Mount(NamedTuple):
    """One bind mount of an execution: ``source`` here appears at ``destination`` inside."""

    source: str
    destination: str
    readonly: bool = False
    kind: Literal["bind", "volume"] = "bind"
    propagation: str | None = None


class Limits(NamedTuple):
    """What a container may use at most; ``None`` is no limit.

    :ivar cpus: CPUs, fractions allowed.
    :ivar memory: bytes; swap is not given on top.
    :ivar gpus: ``all``, a number, or a comma-separated list of device names; ``None`` is no GPU.
    """

    cpus: float | None = None
    memory: int | None = None
    gpus: str | None = None


NO_LIMITS = Limits()


@dataclass(frozen=True, repr=False)
class Execution:
    """A fully planned run: nothing is decided after this.

    :ivar argv: program and arguments, never joined or split again.
    :ivar stdin: what is fed to standard input; ``None`` is an empty input.
    :ivar workdir: absolute directory the program starts in, or ``None`` for the runtime's own.
    :ivar env: variables added to (or, for a clean environment, all of) the program's environment.
    :ivar inherit_env: whether the caller's environment is passed on.
    :ivar image: container image reference, ``None`` for a plain process.
    :ivar mounts: directories visible inside a container.
    :ivar timeout: seconds until the run is ended, ``None`` for no limit.
    :ivar pass_env: names of the caller's variables that a container gets with their values.
    :ivar files: files to write before the start: absolute path and content.
    :ivar user: ``UID[:GID]`` inside a container, ``caller``, or ``image`` and ``None`` for the image's own.
    :ivar group: a group that the image's own user is in as well, by its id on this machine.
    :ivar network: ``none``, ``host`` or another network of the container tool, ``None`` for its default.
    :ivar limits: what a container may use.
    :ivar tty: whether a person sits at a terminal; the program then has the terminal as input and output.
    :ivar unpacked: whether an unpacked copy of the image on CVMFS is to be preferred.
    :ivar options: further arguments for the container tool.
    :ivar image_dirs: folders and files besides CVMFS that may be the image; ``None`` for those of the setting.
    """

    argv: tuple[str, ...]
    stdin: bytes | None = None
    workdir: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    inherit_env: bool = True
    image: str | None = None
    mounts: tuple[Mount, ...] = ()
    timeout: float | None = None
    pass_env: tuple[str, ...] = ()
    files: tuple[tuple[str, bytes], ...] = ()
    user: str | None = None
    group: int | None = None
    network: str | None = None
    limits: Limits = NO_LIMITS
    tty: bool = False
    unpacked: bool = False
    options: tuple[str, ...] = ()
    image_dirs: tuple[str, ...] | None = None

    @property
    def as_image_says(self) -> bool:
        """Whether a container runs as the image's own user, with that user's home."""
        return self.user in (None, "image")


class Completed(NamedTuple):
    """How an execution ended.

    :ivar returncode: exit code, negative for a signal, as in :mod:`subprocess`.
    :ivar started, ended: seconds since the epoch.
    :ivar cpu: user plus system CPU seconds of the process and its waited-for children.
    :ivar max_rss: peak resident memory of the largest process, bytes; None where nobody knows.
    :ivar output_bytes: how many bytes it wrote to standard output and error.
    :ivar tail: the last bytes of that output, for messages.
    :ivar timed_out: whether it was ended because its time was over.
    :ivar read_bytes, written_bytes: what went to and from block devices, as far as the kernel counts it for processes.
    """

    returncode: int
    started: float
    ended: float
    cpu: float = 0.0
    max_rss: int | None = None
    output_bytes: int = 0
    tail: bytes = b""
    timed_out: bool = False
    read_bytes: int = 0
    written_bytes: int = 0


# --- seams -----------------------------------------------------------------------------------------------------


class Parameters(Protocol):
    """A parameter or result document: ``TypedLeafs`` or ``PureJsonModel``."""

    def __getitem__(self, key: str) -> Any: ...
    def json(self) -> JSON: ...
    def typed(self) -> Any: ...
    def copy(self) -> Parameters: ...
    def leafs(self) -> Iterator[tuple[JsonPointer, Any]]: ...
    def replace(self, path: JsonPointer, value: object) -> None: ...
    def jq(self, program: str, *args: Any, **kwargs: Any) -> Parameters: ...


ParametersLike: TypeAlias = "Parameters | Mapping[str, Any] | Sequence[Any] | str | float | None"
"""A parameter document as callers give it: with upstream's methods, or plain JSON."""


class DataModel(Protocol):
    """What makes parameter documents; the module :mod:`packtivity.datamodel` is one."""

    def create(self, data: Any, model: Mapping[str, Any] | None = None) -> Parameters: ...


class State(Protocol):
    """Where a task's data live. ``readwrite[0]`` is the work directory wherever there is one."""

    datamodel: Any

    @property
    def readwrite(self) -> list[str]: ...
    @property
    def readonly(self) -> list[str]: ...
    @property
    def metadir(self) -> str | None: ...
    def identifier(self) -> str: ...
    def ensure(self) -> None: ...
    def contextualize_value(self, value: object) -> Any: ...
    def model(self, data: Parameters) -> Any: ...
    def json(self) -> JSON: ...


class RunLog(Protocol):
    """Where a task's output goes: bytes of any kind, in pieces of any size."""

    path: str | None

    def write(self, chunk: bytes) -> None: ...
    def note(self, message: str) -> None: ...


class LogConfig(Protocol):
    """What the logs of a task ask of its configuration; ``ExecutionConfig`` has it."""

    def disable_logging(self) -> bool: ...
    def custom_logging_handler(self) -> str | None: ...
    def stream_loglevel(self) -> str: ...


class ContainerConfig(Protocol):
    """How containers are to be run; ``container_config`` has it."""

    def workdir_location(self) -> str | None: ...
    def limits(self, spec: Limits | None = None) -> Limits: ...
    def network(self) -> str | None: ...
    def user(self) -> str | None: ...
    def image_dirs(self) -> tuple[str, ...]: ...
    def cvmfs_repos(self) -> list[str]: ...
    def cvmfs_location(self) -> str: ...
    def cvmfs_propagation(self) -> str | None: ...
    def cvmfs_source(self) -> str: ...
    def container_runtime_modifier(self) -> str: ...
    def auth_location(self) -> str: ...
    def auth_targetdir(self) -> str: ...


class RunConfig(Protocol):
    """What planning asks of a task's configuration; ``ExecutionConfig`` has it."""

    timeout: float | None
    clean_env: bool
    pass_env: tuple[str, ...]

    @property
    def container_config(self) -> ContainerConfig: ...


class Reporter(Protocol):
    """Who watches a run. Methods are called from the thread that runs the task and must return at once.

    :ivar interval: seconds between calls of :meth:`tick` while the task runs; ``None`` for no ticks.
    """

    interval: float | None

    def started(self, execution: Execution) -> None: ...
    def output(self, chunk: bytes) -> None: ...
    def tick(self) -> None: ...
    def ended(self, completed: Completed) -> None: ...


class SyncBackend(Protocol):
    """Runs a task here and now."""

    def prepublish(self, spec: Any, parameters: Any, state: Any) -> Any: ...
    def run(self, spec: Any, parameters: Any, state: Any, metadata: Any = ...) -> Any: ...


class Backend(Protocol):
    """Runs tasks elsewhere. Any class with these methods is a backend; nothing needs inheriting."""

    def submit(self, spec: Any, parameters: Any, state: Any, metadata: Any = ...) -> Any: ...
    def ready(self, resultproxy: Any) -> bool: ...
    def successful(self, resultproxy: Any) -> Any: ...
    def result(self, resultproxy: Any) -> Any: ...
    def fail_info(self, resultproxy: Any) -> Any: ...
