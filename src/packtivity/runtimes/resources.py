"""What a spec's ``resources`` ask for, in both of their dialects (strings, and objects with one key as REANA has), and limits."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from packtivity.errors import ConfigurationError, EnvironmentUnavailable, ParameterError
from packtivity.spec.diagnostics import dotted
from packtivity.spec.resources import as_mapping, findings, is_readable, quantity
from packtivity.types import Diagnostic, Limits

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from fractions import Fraction

    from packtivity.types import Execution

_GPU = "nvidia.com/gpu"


@dataclass(frozen=True, slots=True)
class Resources:
    """The resources of a spec, whichever dialect they are written in.

    :ivar cvmfs: CVMFS is to be mounted.
    :ivar authentication: the directory of credentials is to be mounted (upstream 0.17.1).
    :ivar kerberos: a Kerberos ticket of the caller is wanted.
    :ivar voms_proxy: a grid proxy of the caller is wanted.
    :ivar rucio: Rucio will be used, which takes a grid proxy or a bearer token.
    :ivar unpacked: an unpacked image on CVMFS is to be preferred.
    :ivar uid: user id the task is to have inside, or ``None``.
    :ivar limits: what it may use on Kubernetes, and here if the caller wants that (``--memory spec``).
    """

    cvmfs: bool = False
    authentication: bool = False
    kerberos: bool = False
    voms_proxy: bool = False
    rucio: bool = False
    unpacked: bool = False
    uid: int | None = None
    limits: Limits = field(default_factory=Limits)


def understand(resources: Sequence[Any]) -> Resources:
    """Read a list of resources; hints for batch systems, unknown entries and unreadable values have no effect."""
    asked = as_mapping(resources)
    uid = asked.get("kubernetes_uid")
    return Resources(
        cvmfs=asked.get("cvmfs") is True,
        authentication="GRIDProxy" in resources or asked.get("kerberos") is True,
        kerberos=asked.get("kerberos") is True,
        voms_proxy=asked.get("voms_proxy") is True,
        rucio=asked.get("rucio") is True,
        unpacked=asked.get("unpacked_img") is True,
        uid=uid if is_readable("kubernetes_uid", uid) else None,
        limits=_limits(asked),
    )


def refuse_unreadable(resources: Sequence[Any], names: Collection[str]) -> None:
    """Refuse values that are needed here and cannot be read.

    :raises ParameterError: one of the keys ``names`` has such a value.
    """
    for finding in findings(resources):
        if finding.code == "unreadable-resource" and finding.path[-1] in names:
            raise ParameterError(
                f"{dotted(finding.path[:-1])}.{finding.message.removesuffix(', and has no effect')}",
                hint=f"Expected {finding.expected}. {finding.hint}".strip(),
            )


def _limits(asked: Mapping[str, Any]) -> Limits:
    names = ("kubernetes_cpu_limit", "kubernetes_memory_limit")
    cpus, memory = (read_quantity(asked[name]) if is_readable(name, asked.get(name)) else None for name in names)
    return Limits(cpus=None if cpus is None else float(cpus), memory=None if memory is None else int(memory))


def not_applied(resources: Resources, execution: Execution) -> Diagnostic | None:
    """Return a warning about limits that the spec has and the execution has not."""
    spec, planned = resources.limits, execution.limits
    left_out = [
        option
        for option, wanted, given in (("--cpus", spec.cpus, planned.cpus), ("--memory", spec.memory, planned.memory))
        if wanted is not None and given is None
    ]
    if not left_out:
        return None
    return Diagnostic(
        "warning",
        "limit-not-applied",
        "the spec limits what the task may use on Kubernetes; no such limit is set here",
        ("environment", "resources"),
        hint=f"To set it here as well: {' '.join(f'{option} spec' for option in left_out)}",
    )


# --- amounts, as people and Kubernetes write them --------------------------------------------------------------

SPEC = "spec"
"""The value of an option that takes the limit of the spec."""


def read_memory(text: str) -> int:
    """Read an amount of memory: bytes, or with a unit: ``512M``, ``2g``, ``1.5GiB`` (all powers of 1024, as Docker).

    :raises ConfigurationError: it is none.
    """
    number = text.strip().lower().removesuffix("b").removesuffix("i")
    factor = 1024 ** ("kmgtp".index(number[-1]) + 1) if number[-1:] and number[-1] in "kmgtp" else 1
    try:
        amount = int(float(number.rstrip("kmgtp")) * factor)
    except (ValueError, OverflowError):
        amount = 0
    if amount <= 0:
        raise ConfigurationError(f"{text!r} is not an amount of memory", hint="Write bytes, or 512M, 2G, 1.5GiB.")
    return amount


def read_limits(cpus: object, memory: object, gpus: object, spec: Limits | None = None) -> Limits:
    """Read limits as people write them; ``None`` and the empty string are no limit.

    :param spec: what is meant by ``spec``: the limits that the spec has for Kubernetes.
    :raises ConfigurationError: one of them cannot be read.
    """
    spec = spec or Limits()
    return Limits(
        cpus=spec.cpus if cpus == SPEC else None if cpus in (None, "") else _read_cpus(str(cpus)),
        memory=spec.memory if memory == SPEC else None if memory in (None, "") else read_memory(str(memory)),
        gpus=None if gpus in (None, "", "none") else _read_gpus(str(gpus)),
    )


def _read_cpus(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise ConfigurationError(f"{text!r} is not a number of CPUs", hint="Write a number such as 2 or 0.5.")
    return number


def _read_gpus(text: str) -> str:
    if text.startswith("-") or not all(c.isalnum() or c in "-_,.:/" for c in text):
        raise ConfigurationError(f"{text!r} names no GPUs", hint="Write all, a number, or names such as 0,1.")
    return text


def read_quantity(value: object) -> Fraction | None:
    """Read a quantity as Kubernetes writes it: ``500m``, ``64Mi``, ``2G``, ``1e9``; ``None`` when it is none, or 0."""
    return None if isinstance(value, bool) else quantity(str(value).strip()) or None


def amount(text: str, where: str) -> Fraction:
    """Return a quantity as a number.

    :param where: how the user calls the place it stands in.
    :raises ParameterError: it is none.
    """
    number = quantity(text)
    if number is None:
        raise ParameterError(
            f"{where}: {text!r} is no quantity of Kubernetes", hint="Write for example 500m or 2 (CPUs), 512Mi or 4Gi."
        )
    return number


# --- of a container in a pod -----------------------------------------------------------------------------------


def container_resources(base: Mapping[str, Any], spec: Mapping[str, Any], limits: Limits) -> dict[str, dict[str, str]]:
    """Return ``requests`` and ``limits`` of a container: the caller's word over the spec's, that over ``base``.

    A request that the spec did not make is lowered to a limit below it, which Kubernetes would refuse.

    :param base: the option ``resource_opts``.
    :param spec: resources, as :func:`~packtivity.spec.resources.as_mapping` returns them.
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
        found[_GPU] = limits.gpus
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
