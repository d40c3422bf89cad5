"""The caller's choice of handlers (:class:`packconfig`) and of how to run (:class:`ExecutionConfig`).

Method names, the keys of the configuration dictionaries and which of environment and dictionary wins are those of
upstream 0.17.1: plug-ins call these methods. Environment variables are read anew at each call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from packtivity import settings
from packtivity.errors import ConfigurationError
from packtivity.registry import DEFAULT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from packtivity.handlers.manual import Interaction
    from packtivity.runtimes.cancellation import Cancellation
    from packtivity.types import Diagnostic, Limits, Reporter

GRACE = 10.0
"""Seconds between the signals INT, TERM and KILL when a task is ended, unless the caller says otherwise."""


class packconfig:
    """Which implementation of a handler to use: ``packconfig(publisher={"frompar-pub": "mine"})``.

    The YAML file named by ``PACKTIVITY_SYNCCONFIGFILE``, read when the object is made, replaces whole categories.

    :raises ConfigurationError: that file cannot be read or is not ``{category: {type: implementation}}``.
    """

    def __init__(self, **kwargs: Any) -> None:
        self.handler_selection: dict[str, Any] = kwargs
        file = settings.current().sync_config_file
        if not file:
            return
        selection = settings.read_yaml("PACKTIVITY_SYNCCONFIGFILE", file)
        chosen = list(selection.values()) if isinstance(selection, dict) else [None]
        if not all(isinstance(each, dict) and all(isinstance(name, str) for name in each.values()) for each in chosen):
            raise ConfigurationError(
                f"PACKTIVITY_SYNCCONFIGFILE: {file} is not a mapping of mappings of names",
                hint="Write `{category: {type: implementation}}`, as in `publisher: {frompar-pub: mine}`.",
            )
        kwargs.update(selection)

    def get_impl(self, category: str, handler: str) -> str:
        """Return the name of the implementation chosen for ``handler``, ``default`` when none was."""
        return str((self.handler_selection.get(category) or {}).get(handler, DEFAULT))

    def to_json(self) -> dict[str, Any]:
        """Return what ``packconfig(**document)`` makes again."""
        return dict(self.handler_selection)


class container_config:
    """How containers are to be run: environment variables over ``config``, except where a method says otherwise.

    :param config: upstream's keys ``pull_images``, ``auth_location``, ``auth_targetdir``, and ``runtime``, ``pull``,
        ``cpus``, ``memory``, ``gpus``, ``network``, ``user``, ``locked``, which win over the environment, and
        ``image_dir``, a list that is added to the setting's.
    """

    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        self.config: Mapping[str, Any] = config or {}

    def workdir_location(self) -> str | None:
        """Return ``inside:outside``: how a work directory seen in here is called by a daemon outside."""
        return settings.current().workdir_location

    def pull_software(self) -> bool:
        """Return whether images may be pulled."""
        return not settings.current().docker_nopull and bool(self.config.get("pull_images", True))

    def pull_policy(self) -> str:
        """Return ``missing``, ``always`` or ``never``.

        :raises ConfigurationError: something else was asked for.
        """
        policy = str(self._chosen("pull", settings.current().container_pull))
        if policy not in ("missing", "always", "never"):
            raise ConfigurationError(f"{policy!r} is no way to pull images", hint="There are: missing, always, never.")
        return policy if self.pull_software() else "never"

    def container_runtime(self) -> str:
        """Return the container tool, ``docker`` when none was chosen (upstream's default)."""
        return self.runtime() or "docker"

    def runtime(self) -> str | None:
        """Return the container tool that was chosen; ``None`` for the first that works here."""
        chosen = self._chosen("runtime", settings.current().container_runtime)
        return None if chosen in (None, "", "auto") else str(chosen)

    def limits(self, spec: Limits | None = None) -> Limits:
        """Return what a container may use.

        :param spec: what the spec says, which holds where ``spec`` was chosen.
        :raises ConfigurationError: an amount cannot be read.
        """
        from packtivity.runtimes.resources import read_limits  # which a plain process does not need

        usual = settings.current()
        return read_limits(
            self._chosen("cpus", usual.container_cpus),
            self._chosen("memory", usual.container_memory),
            self._chosen("gpus", usual.container_gpus),
            spec,
        )

    def limits_of_spec(self) -> list[str]:
        """Return the keys of the spec's resources that hold here, because ``spec`` was chosen."""
        usual = settings.current()
        chosen = {
            "cpu": self._chosen("cpus", usual.container_cpus),
            "memory": self._chosen("memory", usual.container_memory),
        }
        return [f"kubernetes_{name}_limit" for name, value in chosen.items() if value == "spec"]

    def network(self) -> str | None:
        """Return ``none``, ``host`` or a network's name; ``None`` for the container tool's default."""
        chosen = self._chosen("network", settings.current().container_network)
        return None if chosen in (None, "", "default") else str(chosen)

    def user(self) -> str | None:
        """Return ``UID``, ``UID:GID``, ``image`` or ``caller``; ``None`` for the default, the image's own user.

        :raises ConfigurationError: it is none of these.
        """
        chosen = self._chosen("user", settings.current().container_user)
        if chosen in (None, ""):
            return None
        uid, colon, gid = str(chosen).partition(":")
        if chosen in ("image", "caller") or (uid.isdecimal() and (gid.isdecimal() or not colon)):
            return str(chosen)
        raise ConfigurationError(f"{chosen!r} is no user for a container", hint="Write image, caller, UID or UID:GID.")

    def image_dirs(self) -> tuple[str, ...]:
        """Return the folders and files that may be images, besides what is below ``/cvmfs``.

        :raises ConfigurationError: what was chosen is no list of paths.
        """
        return (*_texts(self.config, "image_dir", "paths"), *settings.current().image_dirs, self.cvmfs_location())

    def locked(self) -> Mapping[str, str] | None:
        """Return the digest each image must have; ``None`` when any will do."""
        return self.config.get("locked")

    def _chosen(self, key: str, setting: str | None) -> Any:
        value = self.config.get(key)
        return setting if value is None else value

    def cvmfs_repos(self) -> list[str]:
        """Return the CVMFS repositories to mount through the volume driver."""
        return list(settings.current().cvmfs_repos)

    def cvmfs_location(self) -> str:
        """Return where CVMFS is mounted on this machine."""
        return settings.current().cvmfs_location

    def cvmfs_propagation(self) -> str | None:
        """Return the mount propagation for CVMFS."""
        return settings.current().cvmfs_propagation

    def cvmfs_source(self) -> str:
        """Return ``external`` (bind mount) or ``voldriver`` (Docker volume plug-in)."""
        return settings.current().cvmfs_source

    def container_runtime_modifier(self) -> str:
        """Return extra arguments for the container tool, quoted as for a shell."""
        return settings.current().docker_cmd_mod

    def auth_location(self) -> str:
        """Return the directory with credentials here; ``config`` wins over the environment."""
        return str(self.config.get("auth_location") or settings.current().auth_location)

    def auth_targetdir(self) -> str:
        """Return where that directory appears inside; ``config`` wins over the environment."""
        return str(self.config.get("auth_targetdir") or settings.current().auth_targetdir)


class ExecutionConfig:
    """How one task is run, apart from what its spec says.

    ``ExecutionConfig(other.to_json())`` is the same configuration without the live hooks, which stay behind
    because they cannot cross a process boundary.

    :param config: upstream's keys ``logging``, ``logging_level``, ``dry_run``, ``containers``, and the keyword
        arguments below; unknown keys are kept and ignored, as upstream does.
    :param timeout: seconds until the task is ended, ``None`` for no limit.
    :param strict: turn warnings into errors; by default ``PACKTIVITY_STRICT``.
    :param clean_env: start the task without the caller's environment.
    :param pass_env: names of variables that pass through all the same.
    :param grace: seconds between the signals INT, TERM and KILL.
    :param retries: how often a task that failed is tried again, if the failure may pass.
    :param reporter: what watches the run.
    :param warn: called with each warning; by default they go to the step log.
    :param interaction: how to talk to a person; by default the terminal.
    :param cancel: ends the run from another thread.
    :ivar seal: key by which the record of the task is sealed; it is in no document that is made of this.
    :raises ConfigurationError: a value cannot be used.
    """

    reporter: Reporter | None
    warn: Callable[[Diagnostic], None] | None
    interaction: Interaction | None
    cancel: Cancellation | None
    seal: str | None = None

    def __init__(
        self,
        config: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
        strict: bool | None = None,
        clean_env: bool | None = None,
        pass_env: Sequence[str] | None = None,
        grace: float | None = None,
        retries: int | None = None,
        reporter: Reporter | None = None,
        warn: Callable[[Diagnostic], None] | None = None,
        interaction: Interaction | None = None,
        cancel: Cancellation | None = None,
    ) -> None:
        given: dict[str, Any] = {"timeout": timeout, "strict": strict, "clean_env": clean_env, "pass_env": pass_env}
        given |= {"grace": grace, "retries": retries}
        self.config = {**(config or {}), **{key: value for key, value in given.items() if value is not None}}
        self.container_config = container_config(self.config.get("containers"))
        self.timeout: float | None = _seconds(self.config, "timeout")
        self.grace: float = GRACE if self.config.get("grace") is None else _seconds(self.config, "grace") or 0.0
        self.retries: int = self.config.get("retries") or 0
        if isinstance(self.retries, bool) or not isinstance(self.retries, int) or self.retries < 0:
            raise ConfigurationError(f"retries: expected a whole number, not {self.retries!r}")
        self.clean_env = bool(self.config.get("clean_env", False))
        self.pass_env: tuple[str, ...] = _texts(self.config, "pass_env", "names")
        self.reporter, self.warn, self.interaction, self.cancel = reporter, warn, interaction, cancel
        self.warned: set[Diagnostic] = set()

    @property
    def strict(self) -> bool:
        """Whether warnings are errors."""
        chosen = self.config.get("strict")
        return bool(settings.current().strict if chosen is None else chosen)

    def disable_logging(self) -> bool:
        """Return whether no log files are to be written."""
        disabled = settings.current().logging_disable
        return bool(not self.config.get("logging", True) if disabled is None else disabled)

    def custom_logging_handler(self) -> str | None:
        """Return ``module:function`` that adds log handlers."""
        return settings.current().logging_handler

    def stream_loglevel(self) -> str:
        """Return the level from which the step log also goes to standard error."""
        level = settings.current().logging_stream_level
        return str(self.config.get("logging_level", "INFO") if level is None else level)

    def dry_run(self) -> bool:
        """Return whether everything is planned and nothing is run; ``PACKTIVITY_DRYRUN=false`` means no."""
        dry = settings.current().dry_run
        return bool(self.config.get("dry_run", False) if dry is None else dry)

    def replace(self, **changes: Any) -> ExecutionConfig:
        """Return a copy with some of the constructor's keyword arguments changed; ``None`` puts a default back."""
        hooks = {name: getattr(self, name) for name in ("reporter", "warn", "interaction", "cancel")}
        kept = {key: value for key, value in self.config.items() if key not in changes}
        made = ExecutionConfig(kept, **{**hooks, **changes})
        made.seal = self.seal
        return made

    def to_json(self) -> dict[str, Any]:
        """Return the part that travels with a task to where it runs."""
        return {**self.config, **({"pass_env": list(self.pass_env)} if "pass_env" in self.config else {})}


def _seconds(config: Mapping[str, Any], key: str) -> float | None:
    value = config.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
        raise ConfigurationError(f"{key}: expected a number of seconds, not {value!r}")
    return float(value)


def _texts(config: Mapping[str, Any], key: str, what: str) -> tuple[str, ...]:
    value = config.get(key) or ()
    if isinstance(value, str) or not all(isinstance(name, str) for name in value):
        raise ConfigurationError(f"{key}: expected a list of {what}, not {value!r}")
    return tuple(value)
