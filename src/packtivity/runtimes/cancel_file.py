"""Ends a task when a file appears: how another process, or another machine, asks for its end."""

from __future__ import annotations

import os
import threading
from typing import Self

from packtivity.files import is_file
from packtivity.runtimes.cancellation import Cancellation

_INTERVAL = 0.25
"""Seconds between looks."""


class CancelFile(Cancellation):
    """A file as what ends a task, from its first look at it on; used with ``with``.

    :param path: the file; None for a task that nobody else can cancel.
    """

    def __init__(self, path: str | None) -> None:
        super().__init__()
        self.path = path

    @property
    def cancelled(self) -> bool:
        """Whether the end was asked for."""
        return self._asked or (self.path is not None and is_file(self.path))

    @cancelled.setter
    def cancelled(self, asked: bool) -> None:
        self._asked = asked

    def cancel(self) -> None:
        """Ask every run that watches this to end."""
        with self._lock:
            if not self._asked:
                self._asked = True
                os.close(self._write)

    def __enter__(self) -> Self:
        if self.path is not None:
            _watcher.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        _watcher.discard(self)
        self.close()


class _Watcher:
    """One thread that looks for the files of all tasks that run in this process; it sleeps while there are none."""

    def __init__(self) -> None:
        self._watched: set[CancelFile] = set()
        self._some = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, each: CancelFile) -> None:
        with self._lock:
            self._watched.add(each)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._look, name="packtivity-cancel", daemon=True)
                self._thread.start()
        self._some.set()

    def discard(self, each: CancelFile) -> None:
        with self._lock:
            self._watched.discard(each)

    def _look(self) -> None:
        idle = threading.Event()
        while self._some.wait():
            idle.wait(_INTERVAL)
            with self._lock:
                for each in [each for each in self._watched if each.cancelled]:
                    each.cancel()
                    self._watched.discard(each)
                if not self._watched:
                    self._some.clear()


_watcher = _Watcher()
