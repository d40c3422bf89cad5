"""Checks what containers need on this machine, and says what to do about what is missing."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from packtivity import settings
from packtivity.runtimes import credentials
from packtivity.runtimes.choose import ORDER, TOOLS, find_program, named, probe, trouble
from packtivity.runtimes.oci import docker_endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from packtivity.runtimes.base import Runtime


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    :ivar subject: a container tool, or what else a task may need.
    :ivar status: ``works``, ``missing``, ``broken``, or ``warning``.
    :ivar version: of a tool; empty when it does not say.
    :ivar detail: why it does not work, or where it is.
    :ivar advice: what to do now; empty when nothing need be done.
    :ivar tasks: who the tasks of a tool that works are, and what their home is.
    """

    subject: str
    status: str
    version: str = ""
    detail: str = ""
    advice: str = ""
    tasks: str = ""


def examine(caller: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Look at everything.

    :returns: ``{"asked": tool that a setting asks for or None, "default": tool that works and is used or None,
        "runtimes": [Finding …], "needs": [Finding …]}``.
    """
    caller = settings.caller_environment() if caller is None else caller
    chosen = settings.current().container_runtime
    asked = None if chosen in (None, "", "auto") else str(chosen)
    kind = os.path.basename(asked or "")
    names = [asked if asked and name == kind else name for name in TOOLS]
    runtimes = [examine_runtime(named(name, caller), caller) for name in names]
    working = {finding.subject for finding in runtimes if finding.status in ("works", "warning")}
    used = next((name for name in ((kind,) if asked else ORDER) if name in working), None)
    return {
        "asked": asked,
        "default": used and (asked or used),
        "runtimes": runtimes,
        "needs": list(_needs(caller)),
    }


def examine_runtime(runtime: Runtime, caller: Mapping[str, str]) -> Finding:
    """Check one container tool, running it if it is installed."""
    name = runtime.name
    path = find_program(runtime.program, caller)
    if path is None:
        return Finding(name, "missing", "", "not installed", f"To install it: {runtime.install}")
    lines = probe((runtime.program, "--version"), 20).text.splitlines()[:3]
    words = (word.strip(",v") for line in lines for word in line.split())
    version = next((word for word in words if word[:1].isdigit() and "." in word), "")
    reason = trouble(runtime, caller) or _deep_trouble(runtime)
    if reason:
        return Finding(name, "broken", version, reason, _advice(name, reason, caller))
    doubt = runtime.doubt(caller)
    return Finding(name, "warning" if doubt else "works", version, path, doubt, runtime.who())


def _deep_trouble(runtime: Runtime) -> str:
    """Return what the tool itself, or a closer look at the machine, says is wrong."""
    if runtime.check_arguments:
        answer = probe((runtime.program, *runtime.check_arguments), 30)
        if answer.code:
            return next((line for line in reversed(answer.text.splitlines()) if line.strip()), "")
    return runtime.closer_trouble()


_ADVICE = (
    ("subordinate", "As root: usermod --add-subuids 200000-265535 --add-subgids 200000-265535 USER"),
    ("user namespaces", "Ask your administrator to allow user namespaces, or to install the setuid variant."),
    ("daemon", "Start Docker's daemon ({endpoint}), or set DOCKER_HOST, or use podman."),
    ("Cannot connect", "Start Docker's daemon ({endpoint}), or set DOCKER_HOST, or use podman."),
    ("may not use", "As root: usermod -aG docker USER; then log in anew. Or use podman."),
)


def _advice(name: str, reason: str, caller: Mapping[str, str]) -> str:
    advice = next((advice for words, advice in _ADVICE if words in reason), f"{name} says more when called by hand.")
    return advice.format(endpoint=docker_endpoint(caller))


# --- what else tasks need --------------------------------------------------------------------------------------


def _needs(caller: Mapping[str, str]) -> Iterator[Finding]:
    yield _cvmfs()
    yield _authentication()
    here = credentials.find(caller, os.getuid())
    now = time.time()
    for kind, (usual, maker) in credentials.KINDS.items():
        credential = here.get(kind)
        if credential is None:
            yield Finding(usual, "missing", "", "none found; only tasks that ask for one need it")
            continue
        left = None if credential.ends is None else credential.ends - now
        status = "works" if left is None or left > credentials.SOON else "warning" if left > 0 else "broken"
        advice = "" if status == "works" else f"Renew it: {maker}"
        where = credential.source or credential.variable
        yield Finding(usual, status, "", f"{credential.state(now)} ({where})", advice)


def _cvmfs() -> Finding:
    place = settings.current().cvmfs_location
    if not os.path.isdir(place):
        return Finding(
            "CVMFS", "missing", "", f"no {place}", "Tasks with the resource CVMFS, and unpacked images, need it."
        )
    unpacked = os.path.isdir(os.path.join(place, "unpacked.cern.ch"))
    return Finding("CVMFS", "works", "", f"{place}{', with unpacked images' if unpacked else ''}")


def _authentication() -> Finding:
    place = settings.current().auth_location
    if os.path.isdir(place):
        return Finding("credentials directory", "works", "", place)
    detail = f"no {place}; only tasks that ask for authentication need it"
    return Finding("credentials directory", "missing", "", detail, "Say where it is: PACKTIVITY_AUTH_LOCATION.")
