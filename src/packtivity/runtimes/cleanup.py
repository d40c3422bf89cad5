"""Makes sure that what we start ends with us, even when we are killed by ``SIGKILL``.

Before a container tool starts, a small shell program (``reaper.sh``) in a session of its own reads
from a pipe that only we hold. When the pipe closes without a last word, it kills the tool's process group, removes the
container until it stays removed, and deletes the private folder of the run. A signal that we live through closes the
same pipe, so there is one way to the end. The tool itself starts through a short shell program that first writes
down its process id and when it began; the reaper leaves a mark in the folder before it looks, so a tool that comes too
late does not start. The folder is named beside the task's lock: :func:`await_end` lets the next runner of the task wait
until all is cleaned up.

A reaper reads that its private folder is created, and then ``done``; when its input ends in between, it cleans up.

Other users of the machine may write beside the folder, name processes as they like, and get the number of a process that
has ended. So a process is ended only if it began when the one did that has written its number into the folder, or is
of this user and was begun since.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import threading
from contextlib import suppress
from pathlib import Path
from stat import S_ISDIR
from threading import Event
from time import monotonic
from typing import Self

from packtivity import folders, notes, settings
from packtivity.errors import StateError
from packtivity.runtimes import process
from packtivity.runtimes.python_workers import Child

# Field 22 of the process's line in proc(5); where there is no such thing, what ps tells.
_STARTER = """
began() {
  { read -r line </proc/$$/stat; } 2>/dev/null || { ps -o lstart= -p $$; return; }
  set -- ${line##*) }
  echo "${20}"
}
[ -O "$0" ] && began >"$0/born" && echo "$$" >"$0/pid" && [ ! -e "$0/end" ] && exec "$@"
"""
_NAME = re.compile(r"packtivity-[0-9a-f]{16}")

_PATIENCE = 15.0
_REAPER = (Path(__file__).parent / "reaper.sh").read_text("utf-8")
_REAPER_PATIENCE = 10.0


class Cleanup:
    """Use as a context: what is started through :meth:`argv` inside the block is gone after it, whatever happens.

    :param name: of the container; no two are alike.
    :param remove: arguments that remove it; empty when killing the processes is enough.
    :param base: directory that the private folder is made in.
    :raises StateError: the private folder cannot be created, or its name not be noted beside the task's lock.
    :raises EnvironmentUnavailable: there is no ``sh``.
    """

    def __init__(self, name: str, remove: tuple[str, ...] = (), base: str | None = None) -> None:
        self.name = name
        self.folder = os.path.join(base or settings.temporary_dir(), name)
        self._remove = remove
        self._reaper: Child | None = None
        self._place = -1

    def __enter__(self) -> Self:
        base, name = os.path.split(self.folder)
        # First, so that the folder is watched from the moment it exists.
        argv = ("sh", "-c", _REAPER, base, name, *self._remove)
        self._reaper = process.start_helper(argv, settings.caller_environment())
        _living.add(self)
        try:
            self._make_folder()
            publish = notes.current().publish
            if publish is not None:
                publish(folder=self.folder)
        except BaseException:
            self.release()
            raise
        return self

    def _make_folder(self) -> None:
        try:
            self._place = folders.make_own(self.folder)
        except OSError as error:
            raise StateError.of(
                error,
                f"the private folder {self.folder} cannot be made: {error.strerror}",
                hint="Set TMPDIR to another directory.",
            ) from error
        status = os.fstat(self._place)
        self._say(f"made {status.st_ino} {status.st_uid}")

    def argv(self, argv: tuple[str, ...]) -> tuple[str, ...]:
        """Return what to start in place of ``argv``."""
        return ("sh", "-c", _STARTER, self.folder, *argv)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Dismiss the reaper when all went well; else let it clean up, and wait until nothing is left."""
        if kind is None:
            self.release()
        else:
            self.cut()

    def release(self) -> None:
        """End when nothing but the private folder is left to remove."""
        if self._reaper is None:
            return
        if self._place >= 0:
            _empty(self._place)
            with suppress(OSError):
                os.rmdir(self.folder)
        self._say("done")
        with self._let_go(self._reaper):
            pass  # until it has ended

    def cut(self) -> None:
        """Let the reaper end everything; return as soon as it finds nothing more, or after ten seconds."""
        if self._reaper is None:
            return
        reaper = self._let_go(self._reaper)
        poller = select.poll()  # which, unlike select, takes descriptors of any number
        if reaper.stdout is not None:
            poller.register(reaper.stdout, select.POLLIN)
        poller.poll(_REAPER_PATIENCE * 1000)
        # It may look a while longer for a container that a daemon was about to create; there is no need to wait for that.
        threading.Thread(target=reaper.__exit__, args=(None, None, None), daemon=True).start()

    def _say(self, word: str) -> None:
        if self._reaper is not None and self._reaper.stdin is not None:
            with suppress(BrokenPipeError):  # it has been killed
                self._reaper.stdin.write(f"{word}\n".encode())

    def _let_go(self, reaper: Child) -> Child:
        """End the reaper's input, by which it acts."""
        _living.discard(self)
        self._reaper = None
        if reaper.stdin is not None:
            reaper.stdin.close()
        if self._place >= 0:
            os.close(self._place)
            self._place = -1
        return reaper

    def disown(self) -> None:
        """Close our end of the reaper's pipe in a forked process: only the process that started it may hold it."""
        if self._reaper is not None:
            reaper = self._let_go(self._reaper)
            reaper.returncode = 0  # not our child: nothing to wait for
            reaper.__exit__(None, None, None)


_living: set[Cleanup] = set()


def _in_forked_child() -> None:
    """Close the parent's pipes, whose end no reaper would see as long as we live."""
    for cleanup in list(_living):
        cleanup.disown()


os.register_at_fork(after_in_child=_in_forked_child)


def await_end(folder: str, patience: float = _PATIENCE) -> bool:
    """Wait until what a dead runner of this machine had started is cleaned up.

    :param folder: its private folder.
    :param patience: seconds to wait at most: the reaper may have been killed as well.
    :returns: whether all is gone.
    """
    idle, until = Event(), monotonic() + patience
    while _is_private(folder):
        if monotonic() > until:
            return False
        idle.wait(0.05)
    return True


def _is_private(folder: str) -> bool:
    """Return whether there is a folder of ours with that name: the content of a lock file may be forged."""
    if not (os.path.isabs(folder) and _NAME.fullmatch(os.path.basename(folder))):
        return False
    try:
        status = os.lstat(folder)
    except (OSError, ValueError):
        return False
    return S_ISDIR(status.st_mode) and folders.is_private(status)


def new_name() -> str:
    """Return a name for a container that nothing else has."""
    return f"packtivity-{os.urandom(8).hex()}"


def _empty(place: int) -> None:
    """Remove what is in a private folder; read-only directories, such as those of Go's modules, are made writable before.

    :param place: a descriptor of it; its name may lead elsewhere.
    """
    if not os.listdir(place):
        return
    for _, names, _, above in os.fwalk(".", dir_fd=place):
        for name in names:
            with suppress(OSError):
                if S_ISDIR(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode):
                    os.chmod(name, 0o700, dir_fd=above)
    for name in os.listdir(place):
        with suppress(OSError):
            os.unlink(name, dir_fd=place)
        shutil.rmtree(name, ignore_errors=True, dir_fd=place)
