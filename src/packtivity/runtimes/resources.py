"""What a spec's ``resources`` ask for, in both of their dialects: strings, and objects with one key as REANA has."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from packtivity.types import Limits

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from packtivity.types import Diagnostic, Execution

_STRINGS = {"CVMFS": "cvmfs", "KRB5Auth": "kerberos", "GRIDProxy": "voms_proxy"}


@dataclass(frozen=True, slots=True)
class Resources:
    """Both dialects as one.

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
    """Read a list of resources; hints for batch systems and what nobody knows are left to those who do."""
    asked: dict[str, Any] = {}
    for resource in resources:
        if isinstance(resource, str):
            asked[_STRINGS.get(resource, resource)] = True
        elif isinstance(resource, dict):
            asked.update(resource)
    uid = asked.get("kubernetes_uid")
    return Resources(
        cvmfs=asked.get("cvmfs") is True,
        authentication="GRIDProxy" in resources or asked.get("kerberos") is True,
        kerberos=asked.get("kerberos") is True,
        voms_proxy=asked.get("voms_proxy") is True,
        rucio=asked.get("rucio") is True,
        unpacked=asked.get("unpacked_img") is True,
        uid=uid if isinstance(uid, int) and not isinstance(uid, bool) else None,
        limits=_limits(asked),
    )


def _limits(asked: Mapping[str, Any]) -> Limits:
    if not ("kubernetes_cpu_limit" in asked or "kubernetes_memory_limit" in asked):
        return Limits()
    from packtivity.runtimes.quantity import read_quantity

    cpus, memory = (read_quantity(asked.get(f"kubernetes_{what}_limit")) for what in ("cpu", "memory"))
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
    from packtivity.types import Diagnostic

    return Diagnostic(
        "warning",
        "limit-not-applied",
        "the spec limits what the task may use on Kubernetes; no such limit is set here",
        ("environment", "resources"),
        hint=f"To set it here as well: {' '.join(f'{option} spec' for option in left_out)}",
    )
