"""What a spec's ``resources`` ask for, in both of their dialects: strings, and objects with one key as REANA has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    """

    cvmfs: bool = False
    authentication: bool = False
    kerberos: bool = False
    voms_proxy: bool = False
    rucio: bool = False
    unpacked: bool = False
    uid: int | None = None


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
    )
