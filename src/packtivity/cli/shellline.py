"""The line that opens an interpreter where a task would run."""

from __future__ import annotations

import os
import shlex
from typing import Any

from packtivity.errors import UsageError


def interactive(interpreter: str, workdir: str) -> str:
    """Return one ASCII line that opens ``interpreter`` in ``workdir``.

    It can be given to a shell, and after :func:`shlex.split` to the operating system too, which is what clients of
    ``packtivity-util shell`` do with it.
    """
    from packtivity.runtimes.shell_lines import ascii_line

    return ascii_line(("sh", "-c", f"cd {shlex.quote(workdir)} && exec {interpreter}"))


def in_container(task: Any, state: Any, given: dict[str, Any]) -> str:
    """Return one ASCII line that opens the task's interpreter in its container.

    For Docker it begins as upstream 0.17.1's: ``docker run --rm -i -t --cidfile …``.

    :raises PacktivityError: the task cannot be planned, or no container tool works here.
    """
    from packtivity.cli.containers import plan_shell
    from packtivity.runtimes.choose import choose
    from packtivity.runtimes.shell_lines import argv_by_hand, ascii_line, launch_by_hand
    from packtivity.runtimes.supervise import write_files

    execution, config = plan_shell(task, state, given)
    if execution is None:
        raise UsageError("this task only publishes")
    runtime = choose(config.container_config.runtime())
    state.ensure()
    write_files(execution)
    cidfile = f"{state.metadir}/test-{os.urandom(4).hex()}.cid" if state.metadir else None
    return ascii_line(argv_by_hand(runtime, execution, launch_by_hand(runtime, execution, cidfile=cidfile)))
