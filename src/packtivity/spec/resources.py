"""What ``resources`` of a container environment may say, in one table: for validation, for the run, and for the reference.

There are two dialects, the words of upstream 0.17.1 and the mappings of REANA; a list may have both.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from packtivity.registry import nearest
from packtivity.spec.diagnostics import Finding, article

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from packtivity.types import JSONValue, Path

Form = Literal["word", "flag", "user", "cpus", "memory", "seconds", "other"]

FORMS: dict[Form, str] = {
    "word": "(a word)",
    "flag": "`true` or `false`",
    "user": "a whole number such as `500`",
    "cpus": "a quantity such as `2` or `500m`",
    "memory": "a quantity such as `512Mi` or `4Gi`",
    "seconds": "whole seconds such as `3600`",
    "other": "anything",
}
"""Which values there are, as the reference says it. A quantity is what Kubernetes calls so: ``m`` is a thousandth, ``k``, ``M``,
``G`` … are powers of 1000, ``Ki``, ``Mi``, ``Gi`` … powers of 1024."""


class Resource(NamedTuple):
    """A word, or the key of a mapping: which values it takes, and what it does."""

    form: Form
    meaning: str


_LIMIT = "The most the container may use, on Kubernetes; elsewhere if you say so (`--{} spec`)."
_REQUEST = "What a node must have left for the pod; on Kubernetes only."
_BATCH = "For that batch system; packtivity does nothing with it."

RESOURCES: dict[str, Resource] = {
    "CVMFS": Resource("word", "`/cvmfs` is mounted, read-only."),
    "KRB5Auth": Resource("word", "The same as `kerberos: true`."),
    "GRIDProxy": Resource("word", "The same as `voms_proxy: true`, and the directory of credentials is mounted."),
    "cvmfs": Resource("flag", "The same as `CVMFS`."),
    "kerberos": Resource("flag", "The directory of credentials is mounted, and your Kerberos ticket passed on."),
    "voms_proxy": Resource("flag", "Your grid proxy is passed on."),
    "rucio": Resource("flag", "Your grid proxy or bearer token is passed on."),
    "unpacked_img": Resource("flag", "The unpacked copy of the image on CVMFS is taken, if there is one."),
    "kubernetes_uid": Resource("user", "The user that the task is in the container."),
    "kubernetes_cpu_request": Resource("cpus", _REQUEST),
    "kubernetes_cpu_limit": Resource("cpus", _LIMIT.format("cpus")),
    "kubernetes_memory_request": Resource("memory", _REQUEST),
    "kubernetes_memory_limit": Resource("memory", _LIMIT.format("memory")),
    "kubernetes_job_timeout": Resource("seconds", "How long the task may run; on Kubernetes, unless `--timeout` says."),
    "compute_backend": Resource("other", "For REANA; packtivity does nothing with it."),
    **{
        f"{system}_{name}": Resource("other", _BATCH)
        for system, names in {
            "htcondor": "max_runtime accounting_group request_cpus request_memory request_disk requirements",
            "slurm": "partition time",
            "c4p": "cpu_cores memory_limit additional_requirements",
        }.items()
        for name in names.split()
    },
}

MEANT = {"CVMFS": "cvmfs", "KRB5Auth": "kerberos", "GRIDProxy": "voms_proxy"}
"""The key whose ``true`` a word means."""

_WORDS = tuple(name for name, each in RESOURCES.items() if each.form == "word")
_KEYS = tuple(name for name, each in RESOURCES.items() if each.form != "word")


def findings(resources: Sequence[JSONValue]) -> Iterator[Finding]:
    """Yield what in a list of resources nothing understands, or has a value that cannot be read: neither has any effect."""
    for index, resource in enumerate(resources):
        path: Path = ("environment", "resources", index)
        if isinstance(resource, str):
            if resource not in _WORDS:
                yield _unknown(resource, path)
        elif isinstance(resource, dict):
            for name, value in resource.items():
                if name not in _KEYS:
                    yield _unknown(name, (*path, name), at_key=True)
                elif not is_readable(name, value):
                    yield _unreadable(name, value, (*path, name))
        else:
            message = f"nothing understands a resource that is {article(resource)}"
            yield Finding("unknown-resource", message, path, expected="a word or a one-key mapping")


def _unknown(name: str, path: Path, *, at_key: bool = False) -> Finding:
    known = _KEYS if at_key else _WORDS
    near = nearest(name, known)
    expected, hint = near or ", ".join(known), f"Did you mean {near!r}?" if near else ""
    key = None if at_key or near else nearest(name, _KEYS)
    if key:
        expected = f"{key}: {'true' if RESOURCES[key].form == 'flag' else 'VALUE'}"
        hint = f"Write it as a mapping: [{{{expected}}}]."
    return Finding("unknown-resource", f"nothing understands the resource {name!r}", path, at_key, None, expected, hint)


def _unreadable(name: str, value: JSONValue, path: Path) -> Finding:
    expected = FORMS[RESOURCES[name].form].replace("`", "")
    meant = next((text for text in _nearly(str(value)) if is_readable(name, text)), None)
    if RESOURCES[name].form == "flag" and str(value).lower() in ("true", "false"):
        meant = str(value).lower()
    hint = f"Did you mean {meant}?" if meant else ""
    message = f"{name}: {value!r} cannot be read, and has no effect"
    return Finding("unreadable-resource", message, path, expected=expected, hint=hint)


def _nearly(text: str) -> Iterator[str]:
    """Yield a quantity without what people add to it: ``8GB``, ``2g``, ``64 MiB``."""
    bare = text.replace(" ", "").rstrip("bB")
    yield bare
    number = bare.rstrip("kmgtpeiKMGTPEI")
    unit = bare[len(number) :]
    yield number + unit[:1].upper() + unit[1:].lower()


def is_readable(name: str, value: JSONValue) -> bool:
    """Return whether the value of a key can be used."""
    form = RESOURCES[name].form
    if form == "other":
        return True
    if form == "flag" or isinstance(value, bool):
        return form == "flag" and isinstance(value, bool)
    if form == "user":
        return isinstance(value, int) and value >= 0
    if form == "seconds":
        return str(value).isdecimal() and int(str(value)) > 0
    amount = quantity(str(value).strip())
    return amount is not None and (form != "memory" or amount == 0 or amount >= 1)


_FACTORS = {
    **{suffix: (1000, power) for power, suffix in enumerate(("n", "u", "m", "", "k", "M", "G", "T", "P", "E"), -3)},
    **{f"{suffix}i": (1024, power) for power, suffix in enumerate("KMGTPE", 1)},
}
_QUANTITY = rf"\+?((?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{{1,3}})?)({'|'.join(sorted(_FACTORS, key=len, reverse=True))})"


def quantity(text: str) -> Fraction | None:
    """Read a quantity as Kubernetes writes it: ``500m``, ``64Mi``, ``2G``, ``1e9``; None when it is none."""
    match = re.fullmatch(_QUANTITY, text, re.ASCII)
    if match is None:
        return None
    base, power = _FACTORS[match[2]]
    return Fraction(match[1]) * Fraction(base) ** power


def as_mapping(resources: Sequence[Any]) -> dict[str, Any]:
    """Return both dialects as one mapping, as REANA's objects have it; what nothing understands is left out."""
    asked: dict[str, Any] = {}
    for resource in resources:
        if isinstance(resource, str) and resource in MEANT:
            asked[MEANT[resource]] = True
        elif isinstance(resource, dict):
            asked.update(resource)
    return asked
