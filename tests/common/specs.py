"""Specs of tasks that run one command on this machine."""

from __future__ import annotations

from typing import Any


def command_spec(cmd: str, publisher: dict[str, Any], environment: str | None = "localproc-env") -> dict[str, Any]:
    """Return a spec that runs ``cmd``, a template."""
    return {
        "process": {"process_type": "string-interpolated-cmd", "cmd": cmd},
        "environment": {"environment_type": environment} if environment else None,
        "publisher": publisher,
    }


def constant(published: Any) -> dict[str, Any]:
    """Return a publisher of what is known beforehand."""
    return {"publisher_type": "constant-pub", "publish": published}


def from_parameters(outputmap: dict[str, Any]) -> dict[str, Any]:
    """Return a publisher of the values of parameters."""
    return {"publisher_type": "frompar-pub", "outputmap": outputmap}
