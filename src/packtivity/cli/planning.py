"""What ``packtivity-run --print-command`` and ``--dry-run`` print; neither makes nor runs anything."""

from __future__ import annotations

from typing import Any

from packtivity.cli.printing import say
from packtivity.errors import UsageError


def show_plan(spec: Any, parameters: Any, state: Any, backend: Any, *, brief: bool) -> None:
    """Print what would run, and unless ``brief`` also where, and what would be published.

    :raises UsageError: this backend does not run what it is given by itself, so what runs is not known here.
    """
    from packtivity.handlers.container import container_line
    from packtivity.runtimes.shell_lines import shell_line
    from packtivity.task import Run

    if not (hasattr(backend, "pack_config") and hasattr(backend, "exec_config")):
        raise UsageError(
            f"what a {type(backend).__name__} would run is not known here", hint="Try it with -b defaultsync."
        )
    execution = Run(spec, parameters, state, None, backend.pack_config, backend.exec_config).plan()
    line = None
    if execution is not None:
        line = shell_line(execution) if execution.image is None else container_line(execution, backend.exec_config)
    if brief:
        if line is None:
            raise UsageError(f"nothing is run by this task: {_why_nothing(spec)}")
        say(line)
        return
    say(f"would run: {line or f'nothing ({_why_nothing(spec)})'}")
    for path in state.readwrite:
        say(f"would write in: {path}")
    known = backend.prepublish(spec, parameters, state)
    say(f"would publish: {known if known is not None else 'what is only known after the run'}")


def _why_nothing(spec: Any) -> str:
    if not (spec["process"] and spec["environment"]):
        return "it only publishes"
    return f"{spec['process'].get('process_type')} in {spec['environment'].get('environment_type')}"
