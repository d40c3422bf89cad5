"""Decides how a rendered job is run: pure functions from job, environment, state and configuration to an execution."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packtivity.errors import ParameterError
from packtivity.types import Execution

if TYPE_CHECKING:
    from collections.abc import Mapping

    from packtivity.types import Job, Part, RunConfig, State

KEPT = frozenset(
    ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TERM", "TMPDIR", "TZ", "XDG_RUNTIME_DIR")
)
"""Variables a clean environment has all the same, besides those that start with ``LC_``."""


def shell_argv(job: Job, environment: Part) -> tuple[tuple[str, ...], bytes | None]:
    """Return arguments and standard input that run a job inside its environment.

    A command, and the interpreter of a script, is a line of shell, after ``source ENVSCRIPT &&`` when there is an
    environment script; the script itself is standard input (upstream 0.17.1).

    :raises ParameterError: the job cannot be run; it has a NUL character, for example.
    """
    if "command" in job:
        line, stdin = str(job["command"]), None
    elif "script" in job:
        line, stdin = str(job.get("interpreter") or "sh"), str(job["script"]).encode("utf-8", "surrogateescape") or None
    elif "interactive" in job:
        return ("sh", "-c", f"exec {job['interactive']}"), None
    else:
        raise ParameterError(
            f"a job with {', '.join(map(repr, job)) or 'nothing in it'} cannot be run",
            hint="Its process handler has to return {'command'} or {'script', 'interpreter'}.",
        )
    if "\0" in line:
        raise ParameterError("the command to run has a NUL character in it", hint="Look at the parameters it uses.")
    script = environment.get("envscript")
    return ("sh", "-c", f"source {script} && {line}" if script else line), stdin


def plan_local(
    job: Job,
    environment: Part,
    state: State | None,
    config: RunConfig,
    caller: Mapping[str, str] | None = None,
) -> Execution:
    """Plan a plain process in the first read-write directory; without one, where the caller is.

    :param config: an :class:`~packtivity.handlers.config.ExecutionConfig`.
    :param caller: the caller's environment, which a clean one takes its few variables from.
    :raises ParameterError: the job cannot be run.
    """
    argv, stdin = shell_argv(job, environment)
    kept = {
        name: value
        for name, value in (caller or {}).items()
        if name in KEPT or name in config.pass_env or name.startswith("LC_")
    }
    directories = state.readwrite if state else []
    return Execution(
        argv=argv,
        stdin=stdin,
        workdir=directories[0] if directories else None,
        env=kept if config.clean_env else {},
        inherit_env=not config.clean_env,
        timeout=config.timeout,
    )
