"""Every setting in one table: name, environment variable, default, what it does.

The only module that reads ``os.environ``. :func:`current` reads it anew at each call, because a setting belongs to
the machine the task runs on and to the moment it starts. The documentation's table is made from these fields.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

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
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def _setting(variable: str, default: Any, help: str, parse: Callable[[str], Any] = text, **more: Any) -> Any:
    metadata = {"env": variable, "help": help, "parse": parse, **more}
    return field(default=default, metadata=metadata, repr=not more.get("secret"))


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings with their values; see :func:`current`."""

    async_backend: str | None = _setting(
        "PACKTIVITY_ASYNCBACKEND", None, "`module:backendclass:proxyclass` that the backend `fromenv` stands for."
    )
    async_backend_opts: str | None = _setting(
        "PACKTIVITY_ASYNCBACKEND_OPTS", None, "YAML file with keyword arguments for the backend that is made."
    )
    auth_location: str = _setting(
        "PACKTIVITY_AUTH_LOCATION", "/home/recast/recast_auth", "Directory with credentials, mounted into containers."
    )
    auth_targetdir: str = _setting(
        "PACKTIVITY_AUTH_TARGETDIR", "/recast_auth", "Where that directory appears inside a container."
    )
    celery_disable_sync: bool = _setting(
        "PACKTIVITY_CELERY_DISABLE_SYNC", True, "Forbid waiting for a Celery result inside a Celery task.", boolean
    )
    celery_global_nametag: bool = _setting(
        "PACKTIVITY_CELERY_GLOBAL_NAMETAG", False, "Name each Celery task's log files after its task id.", boolean
    )
    celery_broker: str = _setting(
        "PACKTIVITY_CELERY_REDIS_BROKER", "redis://localhost:6379", "Address of the Celery broker and result store."
    )
    celery_visibility_timeout: int = _setting(
        "PACKTIVITY_CELERY_VISIBILITY_TIMEOUT",
        10,
        "Seconds after which Redis delivers the Celery task of a lost worker again; a living worker's is left alone.",
        count,
    )
    celery_patience: float = _setting(
        "PACKTIVITY_CELERY_PATIENCE",
        3600.0,
        "Seconds for which a Celery worker, or who waits for a result, tries to reach a broker or result store that is away.",
        seconds,
    )
    celery_results: str | None = _setting(
        "PACKTIVITY_CELERY_RESULTS",
        None,
        "Address of Celery's result store, by default the broker; a broker like RabbitMQ needs one (`redis://…`).",
    )
    celery_result_expires: int = _setting(
        "PACKTIVITY_CELERY_RESULT_EXPIRES", 0, "Seconds until Celery forgets a result; 0 for never.", whole
    )
    celery_queue: str = _setting("PACKTIVITY_CELERY_QUEUE", "celery", "Queue that tasks for Celery are put into.")
    container_runtime: str | None = _setting(
        "PACKTIVITY_CONTAINER_RUNTIME", None, "Container tool to use; by default the first one that works."
    )
    container_pull: str = _setting(
        "PACKTIVITY_PULL", "missing", "When images are pulled: `missing` (not here yet), `always` or `never`."
    )
    container_network: str | None = _setting(
        "PACKTIVITY_NETWORK", None, "Network of containers: `none`, `host` or `default` (the container tool's)."
    )
    container_user: str | None = _setting(
        "PACKTIVITY_CONTAINER_USER", None, "`UID[:GID]` inside containers, or `image` for the image's own user."
    )
    container_cpus: str | None = _setting(
        "PACKTIVITY_CPUS", None, "CPUs a container may use, such as `1.5`; `spec`: as the spec says for Kubernetes."
    )
    container_memory: str | None = _setting(
        "PACKTIVITY_MEMORY", None, "Memory a container may use, such as `2G`, or `spec`."
    )
    container_gpus: str | None = _setting(
        "PACKTIVITY_GPUS", None, "GPUs a container may use: `all`, a number, or names separated by commas."
    )
    image_dirs: tuple[str, ...] = _setting(
        "PACKTIVITY_IMAGE_DIRS",
        (),
        "Folders (separated by `:`) with unpacked images, SIF files and image archives that a spec may name, besides `/cvmfs`.",
        paths,
    )
    cvmfs_location: str = _setting("PACKTIVITY_CVMFS_LOCATION", "/cvmfs", "Where CVMFS is mounted on this machine.")
    cvmfs_propagation: str | None = _setting(
        "PACKTIVITY_CVMFS_PROPAGATION", None, "Mount propagation for CVMFS, such as `rslave`."
    )
    cvmfs_repos: tuple[str, ...] = _setting(
        "PACKTIVITY_CVMFS_REPOS",
        DEFAULT_CVMFS_REPOS,
        "YAML list of CVMFS repositories to mount through the volume driver.",
        repositories,
    )
    cvmfs_source: str = _setting(
        "PACKTIVITY_CVMFS_SOURCE", "external", "`external` (bind mount) or `voldriver` (Docker volume plug-in)."
    )
    datamodel_impl: str = _setting(
        "PACKTIVITY_DATAMODEL_IMPL", "typedleafs", "Class for parameter documents: `typedleafs` or `purejson`."
    )
    docker_cmd_mod: str = _setting(
        "PACKTIVITY_DOCKER_CMD_MOD", "", "Extra arguments for the container tool, quoted as for a shell."
    )
    docker_nopull: bool = _setting(
        "PACKTIVITY_DOCKER_NOPULL", False, "Never pull images (set to anything but `false` or `0`).", present
    )
    dry_run: bool | None = _setting(
        "PACKTIVITY_DRYRUN", None, "Plan everything, log the command, run nothing.", boolean
    )
    kube_context: str | None = _setting(
        "PACKTIVITY_KUBE_CONTEXT",
        None,
        "Context of the kubeconfig that the backend `kubernetes` uses (the current one).",
    )
    kube_namespace: str | None = _setting(
        "PACKTIVITY_KUBE_NAMESPACE", None, "Namespace that tasks on Kubernetes run in (the context's, else `default`)."
    )
    kube_patience: float | None = _setting(
        "PACKTIVITY_KUBE_PATIENCE",
        None,
        "Seconds for which the API of a Kubernetes cluster may be out of reach until that is an error (300).",
        seconds,
    )
    kube_resource_opts: str | None = _setting(
        "PACKTIVITY_KUBE_RESOURCE_OPTS",
        None,
        "JSON with the `requests` and `limits` of pods; wins over the option `resource_opts`.",
    )
    kube_state: str | None = _setting(
        "PACKTIVITY_KUBE_STATE",
        None,
        "Volume that work directories are in: `claim:NAME`, or `hostPath:DIRECTORY` of every node (`claim:yadagedata`).",
    )
    logging_disable: bool | None = _setting(
        "PACKTIVITY_LOGGING_DISABLE", None, "Write no log files and no log lines.", boolean
    )
    logging_handler: str | None = _setting(
        "PACKTIVITY_LOGGING_HANDLER",
        None,
        "`module:function` called with (log, metadata, state, topic) to add handlers.",
    )
    logging_stream_level: str | None = _setting(
        "PACKTIVITY_LOGGING_STREAM_LEVEL", None, "Level from which the step log also goes to standard error (`INFO`)."
    )
    plugins: tuple[str, ...] = _setting(
        "PACKTIVITY_PLUGINS", (), "Comma-separated modules to import, so that they can register handlers.", names
    )
    state_provider: str | None = _setting(
        "PACKTIVITY_STATEPROVIDER", None, "Module whose `load_state` makes states from their JSON."
    )
    sync_config_file: str | None = _setting(
        "PACKTIVITY_SYNCCONFIGFILE",
        None,
        "YAML file choosing handler implementations: `{kind: {type: implementation}}`.",
    )
    workdir_location: str | None = _setting(
        "PACKTIVITY_WORKDIR_LOCATION",
        None,
        "`inside:outside`: how a work directory seen in here is called by a Docker daemon outside.",
    )
    k8s_path_base: str | None = _setting(
        "YADAGE_K8S_PATHBASE",
        None,
        "Where the volume of the Kubernetes backend is mounted here; work directories are below it.",
    )
    load_token: str | None = _setting(
        "YADAGE_SCHEMA_LOAD_TOKEN",
        None,
        "Private token for the GitLab projects that you name; sent for no other, and to no other host.",
        secret=True,
    )
    gitlab_host: str = _setting(
        "PACKTIVITY_GITLAB_HOST", "https://gitlab.cern.ch", "GitLab server that `gitlab-cern:` sources come from."
    )
    github_raw_host: str = _setting(
        "PACKTIVITY_GITHUB_RAW_HOST",
        "https://raw.githubusercontent.com",
        "Server of raw files that `github:` and `from-github/` sources come from (a mirror, for example).",
    )
    trusted_sources: tuple[str, ...] = _setting(
        "PACKTIVITY_TRUSTED_SOURCES", (), "Comma-separated list of further values of `--trust-source`.", names
    )
    registry_logins: tuple[str, ...] = _setting(
        "PACKTIVITY_REGISTRY_LOGINS",
        (),
        "Comma-separated `REGISTRY=HOST`: hosts that issue a registry's tokens.",
        names,
    )
    offline: bool = _setting(
        "PACKTIVITY_OFFLINE",
        False,
        "Take remote documents from the local cache only, never from the network.",
        boolean,
    )
    cache_dir: str | None = _setting(
        "PACKTIVITY_CACHE_DIR", None, "Directory for cached remote documents (`$XDG_CACHE_HOME/packtivity`)."
    )
    download_timeout: float = _setting(
        "PACKTIVITY_DOWNLOAD_TIMEOUT", 30.0, "Seconds a remote document may take to arrive.", seconds
    )
    download_limit: int = _setting("PACKTIVITY_DOWNLOAD_LIMIT", 16_777_216, "Bytes a remote document may have.", whole)
    strict: bool = _setting("PACKTIVITY_STRICT", False, "Treat warnings as errors.", boolean)
    record: bool = _setting(
        "PACKTIVITY_RECORD", True, "Write a record of each task, `_packtivity/NAME.outcome.json`.", boolean
    )
    record_checksums: bool = _setting(
        "PACKTIVITY_RECORD_CHECKSUMS", True, "Put the SHA-256 of every published file into the record.", boolean
    )
    record_host: bool = _setting(
        "PACKTIVITY_RECORD_HOST", False, "Put the names of host and user into the record.", boolean
    )
    local_jobs: int | None = _setting(
        "PACKTIVITY_LOCAL_JOBS",
        None,
        "How many tasks of this user the backend `local` runs at once (the number of processors).",
        whole,
    )
    state_dir: str | None = _setting(
        "PACKTIVITY_STATE_DIR",
        None,
        "Directory for what is known of this user's submitted tasks (`$XDG_STATE_HOME/packtivity`).",
    )
    seal_key: str | None = _setting("PACKTIVITY_SEAL_KEY_FILE", None, "Key of this user's tasks (`seal.key` there).")


def _current_field(name: str, parse: Callable[[str], Any], raw: str, secret: bool) -> Any:
    try:
        return parse(raw)
    except (ValueError, TypeError, ArithmeticError) as error:
        shown = "the value given" if secret else repr(raw)
        raise ConfigurationError(
            f"environment variable {name}: {shown} cannot be used: {error}", hint=f"Mend or unset {name}."
        ) from None


_TABLE = tuple(
    (f.name, f.metadata["env"], f.metadata["parse"], bool(f.metadata.get("secret"))) for f in fields(Settings)
)


def current(environ: Mapping[str, str] | None = None) -> Settings:
    """Read all settings.

    :param environ: environment to read, by default that of this process.
    :raises ConfigurationError: a variable's value cannot be used; the message names the variable.
    """
    environ = os.environ if environ is None else environ
    return Settings(
        **{
            name: _current_field(variable, parse, environ[variable], secret)
            for name, variable, parse, secret in _TABLE
            if variable in environ
        }
    )


_BY_NAME = {row[0]: row for row in _TABLE}
_DEFAULTS = {f.name: f.default for f in fields(Settings)}


def value(name: str, environ: Mapping[str, str] | None = None) -> Any:
    """Read one setting by its field name: for places asked many times a second, where reading all is felt.

    :raises ConfigurationError: the variable's value cannot be used.
    """
    environ = os.environ if environ is None else environ
    _, variable, parse, secret = _BY_NAME[name]
    raw = environ.get(variable)
    return _DEFAULTS[name] if raw is None else _current_field(variable, parse, raw, secret)


def read_yaml(variable: str, file: str) -> Any:
    """Return what a YAML file says that is the value of a variable.

    :raises ConfigurationError: it cannot be read or is not YAML; the message names the variable and the file.
    """
    import yaml

    where = f"{variable}: {file}"
    try:
        with open(file, "rb") as stream:
            return yaml.safe_load(stream)
    except OSError as error:
        raise ConfigurationError(f"{where} cannot be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{where} is not YAML: {error}") from None


def default_cache_dir(environ: Mapping[str, str] | None = None) -> str:
    """Return the directory for cached documents when no setting names one (XDG Base Directory Specification)."""
    environ = os.environ if environ is None else environ
    base = environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        base = os.path.join(environ.get("HOME") or os.path.expanduser("~"), ".cache")
    return os.path.join(base, "packtivity")


def state_dir(environ: Mapping[str, str] | None = None) -> str:
    """Return the directory for what is known of submitted tasks (XDG Base Directory Specification)."""
    environ = os.environ if environ is None else environ
    chosen = environ.get("PACKTIVITY_STATE_DIR")
    if chosen:
        return os.path.abspath(chosen)
    base = environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(base):
        base = os.path.join(environ.get("HOME") or os.path.expanduser("~"), ".local", "state")
    return os.path.join(base, "packtivity")


def environment() -> Mapping[str, str]:
    """Return this process's environment itself, for a look at a few of its variables; not to be changed."""
    return os.environ


def caller_environment() -> dict[str, str]:
    """Return a copy of this process's environment, for the processes it starts."""
    return dict(os.environ)


def temporary_dir(environ: Mapping[str, str] | None = None, *, large: bool = False) -> str:
    """Return the directory for private folders of runs: ``TMPDIR`` when it is an absolute path.

    :param large: whether gigabytes will be put there, for which ``/var/tmp`` is the usual place and not ``/tmp``.
    """
    environ = os.environ if environ is None else environ
    chosen = environ.get("TMPDIR", "")
    return chosen if os.path.isabs(chosen) else "/var/tmp" if large else "/tmp"  # noqa: S108 - own folders inside
