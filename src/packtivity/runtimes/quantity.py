"""Reads quantities as Kubernetes writes them."""

from __future__ import annotations

import re
from fractions import Fraction

_FACTORS = {
    **{suffix: Fraction(1000) ** power for suffix, power in zip("num", (-3, -2, -1), strict=True)},
    **{suffix: Fraction(1000) ** power for power, suffix in enumerate(("", "k", "M", "G", "T", "P", "E"))},
    **{f"{suffix}i": Fraction(1024) ** power for power, suffix in enumerate("KMGTPE", 1)},
}
_QUANTITY = re.compile(
    rf"(\d+(?:\.\d*)?(?:[eE][+-]?\d{{1,3}})?)({'|'.join(sorted(_FACTORS, key=len, reverse=True))})", re.ASCII
)


def read_quantity(value: object) -> Fraction | None:
    """Read a quantity as Kubernetes writes it: ``500m``, ``64Mi``, ``2G``, ``1e9``; ``None`` when it is none."""
    match = _QUANTITY.fullmatch(str(value).strip()) if not isinstance(value, bool) else None
    if match is None:
        return None
    amount = Fraction(match[1]) * _FACTORS[match[2]]
    return amount if amount > 0 else None
