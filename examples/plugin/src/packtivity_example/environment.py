"""The environment ``venv-env``: a plain process with the programs of a virtual environment first."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from packtivity.errors import EnvironmentUnavailable
from packtivity.handlers import execution_handlers
from packtivity.interpolate import interpolate
from packtivity.runtimes.plan import plan_local
from packtivity.settings import caller_environment


def fill(environment: dict[str, Any], parameters: Any, _state: Any) -> dict[str, Any]:
    """Put the parameters into the path of the virtual environment."""
    return {**environment, "venv": interpolate(environment["venv"], names=parameters.json())}


def execute(config: Any, environment: dict[str, Any], state: Any, job: dict[str, Any], metadata: Any) -> None:
    """Run a job, with logs, time limit and error messages as packtivity's own environments have them.

    :raises EnvironmentUnavailable: there is no virtual environment of that name.
    """
    programs = os.path.join(environment["venv"], "bin")
    if not os.path.isdir(programs):
        raise EnvironmentUnavailable(f"venv-env: there is no virtual environment at {environment['venv']}")
    plan = plan_local(job, environment, state, config, caller_environment())
    path = os.pathsep.join((programs, caller_environment().get("PATH", os.defpath)))
    plan = replace(plan, env={**plan.env, "PATH": path, "VIRTUAL_ENV": environment["venv"]})
    execution_handlers.execute(plan, config, state, metadata)
