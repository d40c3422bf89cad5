"""Reads what people write as limits of a container."""

from __future__ import annotations

from packtivity.errors import ConfigurationError
from packtivity.types import Limits

SPEC = "spec"
"""What is written for a limit to take the one that the spec has."""


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
