"""Every setting in one table: name, environment variable, default, what it does.

The only module that reads ``os.environ``. A setting is read when it is asked for, because it belongs to the machine the
task runs on and to the moment it starts, and so that a broken variable is an error only where it matters. The
documentation's table is made from :data:`SETTINGS`.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Mapping
from typing import Any, Generic, Self, TypeVar, overload

from packtivity.errors import ConfigurationError
from packtivity.setting_values import (
    DEFAULT_CVMFS_REPOS,
    boolean,
    count,
    names,
    paths,
    present,
    repositories,
    seconds,
    text,
    whole,
    with_given_locale,
)
from packtivity.types import JSON

T = TypeVar("T")


class Setting(Generic[T]):
    """One setting: an attribute of :class:`Settings`.

    :ivar variable: environment variable.
    :ivar default: value when the variable is not set.
    :ivar help: what it does, for the documentation.
    :param parse: makes the value of the variable's text; raises ``ValueError``.
    :param secret: whether the value must not be shown.
    """

    name: str

    def __init__(
        self, variable: str, default: T, help: str, parse: Callable[[str], object] = text, *, secret: bool = False
    ) -> None:
        self.variable = variable
        self.default = default
        self.help = help
        self._parse: Callable[[str], Any] = parse
        self._secret = secret

    def __set_name__(self, owner: type[Settings], name: str) -> None:
        self.name = name

    @overload
    def __get__(self, settings: None, owner: type[Settings]) -> Self: ...
    @overload
    def __get__(self, settings: Settings, owner: type[Settings]) -> T: ...
    def __get__(self, settings: Settings | None, owner: type[Settings]) -> Self | T:
        if settings is None:
            return self
        if self.name in settings.chosen:
            value: T = settings.chosen[self.name]
            return value
        raw = settings.environ.get(self.variable)
        if raw is None:
            return self.default
        try:
            value = self._parse(raw)
        except (ValueError, TypeError, ArithmeticError) as error:
            shown = "the value given" if self._secret else repr(raw)
            raise ConfigurationError(
                f"environment variable {self.variable}: {shown} cannot be used: {error}",
                hint=f"Mend or unset {self.variable}.",
            ) from None
        return value


class Settings:
    """All settings as attributes; see :func:`current`.

    :param environ: environment they are read from; without it, they have their defaults.
    :param chosen: values that win over the environment, by name.
    :raises ConfigurationError: when a setting is read whose variable cannot be used; the message names the variable.
    """

    __slots__ = ("chosen", "environ")

    def __init__(self, environ: Mapping[str, str] | None = None, **chosen: Any) -> None:
        self.environ = environ or {}
        self.chosen = chosen

    async_backend = Setting[str | None](
        "PACKTIVITY_ASYNCBACKEND", None, "`module:backendclass:proxyclass` that the backend `fromenv` stands for."
    )
    async_backend_opts = Setting[str | None](
        "PACKTIVITY_ASYNCBACKEND_OPTS", None, "YAML file with keyword arguments for the backend that is made."
    )
    auth_location = Setting[str](
        "PACKTIVITY_AUTH_LOCATION", "/home/recast/recast_auth", "Directory with credentials, mounted into containers."
    )
    auth_targetdir = Setting[str](
        "PACKTIVITY_AUTH_TARGETDIR", "/recast_auth", "Where that directory appears inside a container."
    )
    celery_disable_sync = Setting[bool](
        "PACKTIVITY_CELERY_DISABLE_SYNC", True, "Forbid waiting for a Celery result inside a Celery task.", boolean
    )
    celery_global_nametag = Setting[bool](
        "PACKTIVITY_CELERY_GLOBAL_NAMETAG", False, "Name each Celery task's log files after its task id.", boolean
    )
    celery_broker = Setting[str](
        "PACKTIVITY_CELERY_REDIS_BROKER", "redis://localhost:6379", "Address of the Celery broker and result store."
    )
    celery_visibility_timeout = Setting[int](
        "PACKTIVITY_CELERY_VISIBILITY_TIMEOUT",
        10,
        "Seconds after which Redis delivers the Celery task of a lost worker again; a living worker's is left alone.",
        count,
    )
    celery_patience = Setting[float](
        "PACKTIVITY_CELERY_PATIENCE",
        3600.0,
        "Seconds for which a Celery worker, or who waits for a result, tries to reach a broker or result store that is away.",
        seconds,
    )
    celery_results = Setting[str | None](
        "PACKTIVITY_CELERY_RESULTS",
        None,
        "Address of Celery's result store, by default the broker; a broker like RabbitMQ needs one (`redis://…`).",
    )
    celery_result_expires = Setting[int](
        "PACKTIVITY_CELERY_RESULT_EXPIRES", 0, "Seconds until Celery forgets a result; 0 for never.", whole
    )
    celery_queue = Setting[str]("PACKTIVITY_CELERY_QUEUE", "celery", "Queue that tasks for Celery are put into.")
    container_runtime = Setting[str | None](
        "PACKTIVITY_CONTAINER_RUNTIME", None, "Container tool to use; by default the first one that works."
    )
    container_pull = Setting[str](
        "PACKTIVITY_PULL", "missing", "When images are pulled: `missing` (not here yet), `always` or `never`."
    )
    container_network = Setting[str | None](
        "PACKTIVITY_NETWORK", None, "Network of containers: `none`, `host` or `default` (the container tool's)."
    )
    container_user = Setting[str | None](
        "PACKTIVITY_CONTAINER_USER",
        None,
        "Who tasks are inside containers: `image` (the image's own user), `caller`, or `UID[:GID]` (`image`).",
    )
    container_cpus = Setting[str | None](
        "PACKTIVITY_CPUS", None, "CPUs a container may use, such as `1.5`; `spec`: as the spec says for Kubernetes."
    )
    container_memory = Setting[str | None](
        "PACKTIVITY_MEMORY", None, "Memory a container may use, such as `2G`, or `spec`."
    )
    container_gpus = Setting[str | None](
        "PACKTIVITY_GPUS", None, "GPUs a container may use: `all`, a number, or names separated by commas."
    )
    image_dirs = Setting[tuple[str, ...]](
        "PACKTIVITY_IMAGE_DIRS",
        (),
        "Folders (separated by `:`) with unpacked images, SIF files and image archives that a spec may name, besides `/cvmfs`.",
        paths,
    )
    cvmfs_location = Setting[str]("PACKTIVITY_CVMFS_LOCATION", "/cvmfs", "Where CVMFS is mounted on this machine.")
    cvmfs_propagation = Setting[str | None](
        "PACKTIVITY_CVMFS_PROPAGATION", None, "Mount propagation for CVMFS, such as `rslave`."
    )
    cvmfs_repos = Setting[tuple[str, ...]](
        "PACKTIVITY_CVMFS_REPOS",
        DEFAULT_CVMFS_REPOS,
        "YAML list of CVMFS repositories to mount through the volume driver.",
        repositories,
    )
    cvmfs_source = Setting[str](
        "PACKTIVITY_CVMFS_SOURCE", "external", "`external` (bind mount) or `voldriver` (Docker volume plug-in)."
    )
    datamodel_impl = Setting[str](
        "PACKTIVITY_DATAMODEL_IMPL", "typedleafs", "Class for parameter documents: `typedleafs` or `purejson`."
    )
    docker_cmd_mod = Setting[str](
        "PACKTIVITY_DOCKER_CMD_MOD", "", "Extra arguments for `docker run` and `podman run`, quoted as for a shell."
    )
    apptainer_cmd_mod = Setting[str](
        "PACKTIVITY_APPTAINER_CMD_MOD",
        "",
        "Extra arguments for `apptainer exec` and `singularity exec`, quoted as for a shell.",
    )
    docker_nopull = Setting[bool](
        "PACKTIVITY_DOCKER_NOPULL", False, "Never pull images (set to anything but `false` or `0`).", present
    )
    dry_run = Setting[bool | None]("PACKTIVITY_DRYRUN", None, "Plan everything, log the command, run nothing.", boolean)
    kube_context = Setting[str | None](
        "PACKTIVITY_KUBE_CONTEXT",
        None,
        "Context of the kubeconfig that the backend `kubernetes` uses (the current one).",
    )
    kube_namespace = Setting[str | None](
        "PACKTIVITY_KUBE_NAMESPACE", None, "Namespace that tasks on Kubernetes run in (the context's, else `default`)."
    )
    kube_patience = Setting[float | None](
        "PACKTIVITY_KUBE_PATIENCE",
        None,
        "Seconds for which the API of a Kubernetes cluster may be out of reach until that is an error (300).",
        seconds,
    )
    kube_resource_opts = Setting[str | None](
        "PACKTIVITY_KUBE_RESOURCE_OPTS",
        None,
        "JSON with the `requests` and `limits` of pods; wins over the option `resource_opts`.",
    )
    kube_state = Setting[str | None](
        "PACKTIVITY_KUBE_STATE",
        None,
        "Volume that work directories are in: `claim:NAME`, or `hostPath:DIRECTORY` of every node (`claim:yadagedata`).",
    )
    logging_disable = Setting[bool | None](
        "PACKTIVITY_LOGGING_DISABLE", None, "Write no log files and no log lines.", boolean
    )
    logging_handler = Setting[str | None](
        "PACKTIVITY_LOGGING_HANDLER",
        None,
        "`module:function` called with (log, metadata, state, topic) to add handlers.",
    )
    logging_stream_level = Setting[str | None](
        "PACKTIVITY_LOGGING_STREAM_LEVEL", None, "Level from which the step log also goes to standard error (`INFO`)."
    )
    plugins = Setting[tuple[str, ...]](
        "PACKTIVITY_PLUGINS", (), "Comma-separated modules to import, so that they can register handlers.", names
    )
    state_provider = Setting[str | None](
        "PACKTIVITY_STATEPROVIDER", None, "Module whose `load_state` makes states from their JSON."
    )
    sync_config_file = Setting[str | None](
        "PACKTIVITY_SYNCCONFIGFILE",
        None,
        "YAML file choosing handler implementations: `{kind: {type: implementation}}`.",
    )
    workdir_location = Setting[str | None](
        "PACKTIVITY_WORKDIR_LOCATION",
        None,
        "`inside:outside`: how a work directory seen in here is called by a Docker daemon outside.",
    )
    k8s_path_base = Setting[str | None](
        "YADAGE_K8S_PATHBASE",
        None,
        "Where the volume of the Kubernetes backend is mounted here; work directories are below it.",
    )
    load_token = Setting[str | None](
        "YADAGE_SCHEMA_LOAD_TOKEN",
        None,
        "Private token for the GitLab projects that you name; sent for no other, and to no other host.",
        secret=True,
    )
    gitlab_host = Setting[str](
        "PACKTIVITY_GITLAB_HOST", "https://gitlab.cern.ch", "GitLab server that `gitlab-cern:` sources come from."
    )
    github_raw_host = Setting[str](
        "PACKTIVITY_GITHUB_RAW_HOST",
        "https://raw.githubusercontent.com",
        "Server of raw files that `github:` and `from-github/` sources come from (a mirror, for example).",
    )
    trusted_sources = Setting[tuple[str, ...]](
        "PACKTIVITY_TRUSTED_SOURCES", (), "Comma-separated list of further values of `--trust-source`.", names
    )
    registry_logins = Setting[tuple[str, ...]](
        "PACKTIVITY_REGISTRY_LOGINS",
        (),
        "Comma-separated `REGISTRY=HOST`: hosts that issue a registry's tokens.",
        names,
    )
    offline = Setting[bool](
        "PACKTIVITY_OFFLINE", False, "Take remote documents from the local cache only, never from the network.", boolean
    )
    cache_dir = Setting[str | None](
        "PACKTIVITY_CACHE_DIR", None, "Directory for cached remote documents (`$XDG_CACHE_HOME/packtivity`)."
    )
    download_timeout = Setting[float](
        "PACKTIVITY_DOWNLOAD_TIMEOUT", 30.0, "Seconds a remote document may take to arrive.", seconds
    )
    download_limit = Setting[int](
        "PACKTIVITY_DOWNLOAD_LIMIT", 16_777_216, "Bytes a remote document may have (100000 always).", whole
    )
    text_limit = Setting[int](
        "PACKTIVITY_TEXT_LIMIT", 67_108_864, "Characters that a filled text may have; 100000 it always may.", whole
    )
    glob_limit = Setting[int](
        "PACKTIVITY_GLOB_LIMIT",
        1_000_000,
        "Paths that a pattern may find, with the directories on the way to them.",
        count,
    )
    strict = Setting[bool]("PACKTIVITY_STRICT", False, "Treat warnings as errors.", boolean)
    record = Setting[bool](
        "PACKTIVITY_RECORD", True, "Write a record of each task, `_packtivity/NAME.outcome.json`.", boolean
    )
    record_checksums = Setting[bool](
        "PACKTIVITY_RECORD_CHECKSUMS", True, "Put the SHA-256 of every published file into the record.", boolean
    )
    record_host = Setting[bool](
        "PACKTIVITY_RECORD_HOST", False, "Put the names of host and user into the record.", boolean
    )
    local_jobs = Setting[int | None](
        "PACKTIVITY_LOCAL_JOBS",
        None,
        "How many tasks of this user the backend `local` runs at once (the number of processors).",
        whole,
    )
    state_dir = Setting[str | None](
        "PACKTIVITY_STATE_DIR",
        None,
        "Directory for what is known of this user's submitted tasks (`$XDG_STATE_HOME/packtivity`).",
    )
    seal_key = Setting[str | None](
        "PACKTIVITY_SEAL_KEY_FILE", None, "File with the key of this user's tasks, for replicas of a service to share."
    )


SETTINGS: tuple[Setting[Any], ...] = tuple(one for one in vars(Settings).values() if isinstance(one, Setting))
"""Every setting, in the order of the documentation."""


def current() -> Settings:
    """Return the settings of this process's environment."""
    return Settings(os.environ)


def read_yaml(variable: str, file: str) -> JSON:
    """Return what a YAML file says that is the value of a variable.

    :raises ConfigurationError: it cannot be read or is not YAML; the message names the variable and the file.
    """
    import yaml

    where = f"{variable}: {file}"
    try:
        with open(file, "rb") as stream:
            return yaml.safe_load(stream)
    except OSError as error:
        raise ConfigurationError.of(error, f"{where} cannot be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{where} is not YAML: {error}") from None


def default_cache_dir() -> str:
    """Return the directory for cached documents when no setting names one (XDG Base Directory Specification)."""
    return _xdg("XDG_CACHE_HOME", ".cache")


def state_dir() -> str:
    """Return the directory for what is known of submitted tasks (XDG Base Directory Specification)."""
    chosen = os.environ.get("PACKTIVITY_STATE_DIR")
    return os.path.abspath(chosen) if chosen else _xdg("XDG_STATE_HOME", ".local/state")


def _xdg(variable: str, below_home: str) -> str:
    base = os.environ.get(variable, "")
    if not os.path.isabs(base):
        base = os.path.join(_home(), below_home)
    return os.path.join(base, "packtivity")


def _home() -> str:
    """Return the home directory; for a user without one, a temporary directory of his number, to be checked before use."""
    home = os.environ.get("HOME", "")
    if os.path.isabs(home):
        return home
    try:
        home = pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:  # a container or batch system that gives ids of the moment
        home = ""
    return home if os.path.isabs(home) else os.path.join(temporary_dir(), f"packtivity-{os.getuid()}")


def environment() -> Mapping[str, str]:
    """Return this process's environment itself, for a look at a few of its variables; not to be changed."""
    return os.environ


def caller_environment() -> dict[str, str]:
    """Return a copy of this process's environment, for the processes it starts."""
    return with_given_locale(os.environ)


def temporary_dir(*, large: bool = False) -> str:
    """Return the directory for private folders of runs: ``TMPDIR`` when it is an absolute path.

    :param large: whether gigabytes will be put there, for which ``/var/tmp`` is the usual place and not ``/tmp``.
    """
    chosen = os.environ.get("TMPDIR", "")
    return chosen if os.path.isabs(chosen) else "/var/tmp" if large else "/tmp"  # noqa: S108 - own folders inside
