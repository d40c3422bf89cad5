"""What a program has given to its pool of workers: so that others know which tasks there were, and can end them.

The folder ``pools/HOST-PID-BEGAN`` among what is kept for this user has a line for each task; ``ID.cancel`` beside it
asks for the end of one. It outlives the program, because what it says is asked for later; one that cannot be written
is done without.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from packtivity import folders
from packtivity.errors import BackendError
from packtivity.files import write_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_CANCEL = ".cancel"
_INTERVAL = 0.25
_KEPT_DAYS = 30.0


class Journal:
    """The folder of one program.

    :param runner: the program, as :func:`packtivity.runners.runner` describes it.
    """

    def __init__(self, runner: Mapping[str, Any]) -> None:
        boot, parts = str(runner.get("boot"))[:8], (runner.get(name) for name in ("host", "pid", "began"))
        self._pools = folders.state("pools", make=False)
        self.folder = f"{self._pools}/" + "-".join(str(part).replace("/", "_") for part in (*parts, boot))
        self._file: int | None = None

    # --- the program itself ---

    def add(self, task_id: str) -> None:
        """Note a task."""
        try:
            if self._file is None:
                self._file = self._opened()
            os.write(self._file, f"{task_id}\n".encode())
        except OSError:
            return

    def _opened(self) -> int:
        folders.make_private(self.folder)
        self._prune()
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        descriptor = os.open(f"{self.folder}/tasks", flags, 0o600)
        weakref.finalize(self, os.close, descriptor)
        return descriptor

    def _prune(self) -> None:
        oldest = time.time() - _KEPT_DAYS * 86400
        for name in os.listdir(self._pools):
            with suppress(OSError):
                if os.stat(f"{self._pools}/{name}/tasks").st_mtime < oldest:
                    shutil.rmtree(f"{self._pools}/{name}")

    def watch(self, cancel: Callable[[str], None]) -> None:
        """Call ``cancel`` with the id of each task whose end another program asks for, as long as it lives.

        :param cancel: a method, which is held weakly.
        """
        method = weakref.WeakMethod(cancel)
        arguments = (self.folder, method)
        threading.Thread(target=_watch, args=arguments, name="packtivity-cancel", daemon=True).start()

    # --- others ---

    def has(self, task_id: str) -> bool | None:
        """Return whether the program was given a task; None when it has no journal."""
        try:
            with open(f"{self.folder}/tasks", encoding="ascii") as file:
                return any(line.rstrip() == task_id for line in file)
        except OSError:
            return None

    def ask_for_end(self, task_id: str) -> None:
        """Ask for the end of a task.

        :raises BackendError: the program cannot be asked.
        """
        if not os.path.isdir(self.folder):
            raise BackendError(
                f"the program that runs the task {task_id} cannot be asked to end it: there is no {self.folder}",
                hint="Ask as the same user, with the same PACKTIVITY_STATE_DIR.",
            )
        write_whole(f"{self.folder}/{task_id}{_CANCEL}", b"")


def _watch(folder: str, method: weakref.WeakMethod[Callable[[str], None]]) -> None:
    idle = threading.Event()
    while not idle.wait(_INTERVAL):
        cancel = method()
        if cancel is None:
            return
        for task_id in _asked(folder):
            cancel(task_id)
        del cancel


def _asked(folder: str) -> list[str]:
    try:
        names = [name for name in os.listdir(folder) if name.endswith(_CANCEL)]
    except OSError:
        return []
    for name in names:
        with suppress(OSError):
            os.unlink(f"{folder}/{name}")
    return [name.removesuffix(_CANCEL) for name in names]
