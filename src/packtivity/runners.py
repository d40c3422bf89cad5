"""Describes processes that run tasks, so that no other process is taken for them, on any machine and at any time."""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def runner(pid: int | None = None) -> dict[str, Any]:
    """Return what identifies a process: its id, when it began, the boot of the machine, and the host."""
    pid = os.getpid() if pid is None else pid
    start = began(pid) if pid != os.getpid() else _own_start(pid)
    return {"pid": pid, "began": start, "boot": _boot(), "host": _host()}


@cache
def _host() -> str:
    return os.uname().nodename


@cache
def _boot() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return os.uname().nodename


@cache
def _own_start(pid: int) -> str:
    return began(pid)


def began(pid: int) -> str:
    """Return when a process began, in ticks since the machine did; empty when there is none, or it is a zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in b"ZX" else fields[19].decode()


def is_alive(found: Any) -> bool | None:
    """Return whether a process that :func:`runner` described lives; None when it was on another machine."""
    if not isinstance(found, dict) or not isinstance(found.get("pid"), int) or found["pid"] <= 0:
        return None
    if found.get("host") != _host():
        return None
    if found.get("boot") != _boot():
        return False  # the machine has been started anew since
    start = began(found["pid"])
    return bool(start) and start == found.get("began")


def is_of_this_boot(state: Mapping[str, Any]) -> bool:
    """Return whether the runner that wrote a state file ran on this machine as it is up now."""
    found = state.get("runner")
    return isinstance(found, dict) and (found.get("host"), found.get("boot")) == (_host(), _boot())
