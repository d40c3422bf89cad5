"""Amounts of CPU and memory as Kubernetes writes them, and what a pod requests and may use."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from packtivity.errors import EnvironmentUnavailable, ParameterError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from packtivity.types import Limits

_QUANTITY = re.compile(r"\+?([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:([numkMGTPE]|[KMGTPE]i)|[eE]([+-]?[0-9]{1,2}))?", re.ASCII)
_DECIMAL = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = "KMGTPE"
GPU = "nvidia.com/gpu"


def amount(text: str, where: str) -> Decimal:
    """Return a quantity as a number.

    :param where: how the user calls the place it stands in.
    :raises ParameterError: it is none.
    """
    found = _QUANTITY.fullmatch(text)
    if found is None:
        raise ParameterError(
            f"{where}: {text!r} is no quantity of Kubernetes", hint="Write for example 500m or 2 (CPUs), 512Mi or 4Gi."
        )
    number, suffix, exponent = found.groups()
    if suffix and suffix.endswith("i"):
        return Decimal(number) * Decimal(1024) ** (_BINARY.index(suffix[0]) + 1)
    return Decimal(number).scaleb(_DECIMAL.get(suffix or "", 0) + int(exponent or 0))


def asked(resources: list[Any]) -> dict[str, Any]:
    """Return the one-key objects of a spec's ``resources`` as one mapping."""
    found: dict[str, Any] = {}
    for resource in resources:
        if isinstance(resource, dict):
            found.update(resource)
    return found


def container_resources(base: Mapping[str, Any], spec: Mapping[str, Any], limits: Limits) -> dict[str, dict[str, str]]:
    """Return ``requests`` and ``limits`` of a container: the caller's word over the spec's, that over ``base``.

    A request that the spec did not make is lowered to a limit below it, which Kubernetes would refuse.

    :param base: the option ``resource_opts``.
    :param spec: what :func:`asked` returns.
    :raises ParameterError: an amount cannot be read, or the spec asks for more than it allows.
    :raises EnvironmentUnavailable: GPUs are asked for by name.
    """
    requests = {name: str(value) for name, value in (base.get("requests") or {}).items()}
    at_most = {name: str(value) for name, value in (base.get("limits") or {}).items()}
    for name in ("cpu", "memory"):
        for kind, target in (("request", requests), ("limit", at_most)):
            if spec.get(f"kubernetes_{name}_{kind}") is not None:
                target[name] = str(spec[f"kubernetes_{name}_{kind}"])
    told = _told(limits)
    at_most.update(told)
    for name, limit in at_most.items():
        if name in requests and amount(requests[name], f"request of {name}") > amount(limit, f"limit of {name}"):
            if name not in told and spec.get(f"kubernetes_{name}_request") is not None:
                raise ParameterError(
                    f"environment.resources: the task requests {requests[name]} of {name}, over {limit}"
                )
            requests[name] = limit
    for name, text in requests.items():
        amount(text, f"request of {name}")
    return {name: part for name, part in (("requests", requests), ("limits", at_most)) if part}


def _told(limits: Limits) -> dict[str, str]:
    """Return what the caller said, as limits."""
    found = {}
    if limits.cpus is not None:
        found["cpu"] = f"{max(1, round(limits.cpus * 1000))}m"
    if limits.memory is not None:
        found["memory"] = str(limits.memory)
    if limits.gpus is not None:
        if not limits.gpus.isdigit():
            raise EnvironmentUnavailable(
                f"Kubernetes cannot give the GPUs {limits.gpus!r} to a task", hint="Say how many: --gpus 1."
            )
        found[GPU] = limits.gpus
    return found


def deadline(timeout: float | None, spec: Mapping[str, Any]) -> int | None:
    """Return whole seconds a task may run: the caller's, else the spec's; None for no limit.

    :raises ParameterError: the spec's is no number of seconds.
    """
    if timeout is not None:
        return max(1, math.ceil(timeout))
    given = spec.get("kubernetes_job_timeout")
    if given is None:
        return None
    if not str(given).isdecimal() or int(given) < 1:
        raise ParameterError(f"environment.resources: kubernetes_job_timeout {given!r} is no whole number of seconds")
    return int(given)
